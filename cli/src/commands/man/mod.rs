//! `uvs man DIR`, for those who make packages: the manual pages, made of the command line and of the configuration's keys,
//! so that a build needs nothing but the program. Not among the commands that `uvs --help` lists.

mod commands;
mod file;
mod text;
mod words;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::FAILED;

/// Where to.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The directory that gets them; it is made where it is not there
    directory: PathBuf,
    /// The day that the pages bear
    #[arg(long, value_name = "YYYY-MM-DD", default_value = "")]
    date: String,
}

/// A page: its file's name and its text.
struct Page {
    file: String,
    text: String,
}

/// Writes them.
pub(crate) fn main(args: &Args) -> ExitCode {
    match write(&args.directory, &args.date) {
        Ok(()) => ExitCode::SUCCESS,
        Err((path, error)) => {
            eprintln!("uvs man: {}: {error}", path.display());
            ExitCode::from(FAILED)
        }
    }
}

fn write(directory: &Path, date: &str) -> Result<(), (PathBuf, io::Error)> {
    fs::create_dir_all(directory).map_err(|error| (directory.to_owned(), error))?;
    for page in pages(date) {
        let path = directory.join(&page.file);
        fs::write(&path, page.text).map_err(|error| (path, error))?;
    }
    Ok(())
}

fn pages(date: &str) -> Vec<Page> {
    let mut pages = commands::pages(date);
    pages.push(file::page(date));
    pages
}

#[cfg(test)]
mod tests;
