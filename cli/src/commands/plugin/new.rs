//! `uvs plugin new NAME --lang rust|c`: a project of a scheduler that builds, conforms and works.
//!
//! The projects are the repository's two examples, under another name. A C project gets the header. A Rust
//! project gets the path of `uvs-plugin` in UVS's sources, as the crate is not on crates.io.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use uvs_plugin::abi::NAME_MAX;

use crate::commands::{USAGE, output};

const RUST: &str = include_str!("../../../../plugin/examples/rust-hrw/src/lib.rs");
const C: &str = include_str!("../../../../plugin/examples/c-wrandom/wrandom.c");
const C_MAKEFILE: &str = include_str!("../../../../plugin/examples/c-wrandom/Makefile");
const HEADER: &str = include_str!("../../../../plugin/include/uvs_scheduler.h");

/// Where a package may put the sources that a Rust plugin is built against.
const PACKAGED: &str = "/usr/share/uvs/src";

#[derive(clap::Args)]
pub(super) struct Args {
    /// The scheduler's name, for `ipvsadm -s NAME`, and the directory's
    name: String,
    /// The language
    #[arg(long, value_enum, default_value = "rust")]
    lang: Language,
    /// UVS's sources, for Rust [default: those this program was built from, or /usr/share/uvs/src]
    #[arg(long, value_name = "DIR")]
    sources: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Language {
    Rust,
    C,
}

/// A file of the project: its path within and its text.
type File = (String, String);

pub(super) fn main(args: &Args) -> ExitCode {
    match make(args) {
        Ok(next) => output::print(&next),
        Err(error) => {
            eprintln!("uvs plugin new: {error:#}");
            ExitCode::from(USAGE)
        }
    }
}

fn make(args: &Args) -> Result<String> {
    let name = args.name.as_str();
    check_name(name)?;
    let dir = Path::new(name);
    if dir.exists() {
        bail!("{name} exists already; choose another name or remove it");
    }
    let (files, library) = match args.lang {
        Language::Rust => {
            let sources = sources(args.sources.as_deref())?;
            let library = format!("target/release/lib{}.so", name.replace('-', "_"));
            (rust(name, &sources), library)
        }
        Language::C => (c(name), format!("lib{name}.so")),
    };
    for (path, text) in &files {
        write(&dir.join(path), text)?;
    }
    let build = match args.lang {
        Language::Rust => "cargo build --release",
        Language::C => "make",
    };
    Ok(format!(
        "{name}/ is a scheduler that works. Next:\n\
         \n  cd {name} && {build}\n  uvs plugin check {library}\n  \
         sudo install -D -m 644 {library} -t /usr/lib/uvs/schedulers\n  \
         ipvsadm -A -t VIP:PORT -s {name}\n"
    ))
}

fn check_name(name: &str) -> Result<()> {
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if !begins || name.len() > NAME_MAX || !name.chars().all(letters) {
        bail!(
            "{name:?} cannot be a scheduler's name: use 1 to {NAME_MAX} letters, digits, '-' and '_', a letter first"
        );
    }
    if uvs_schedulers::find(name).is_some() {
        bail!("{name:?} is a built-in scheduler; choose another name");
    }
    Ok(())
}

/// The directory that has `plugin/` and `core/`: as said, or above this program, or above the working directory.
fn sources(said: Option<&Path>) -> Result<PathBuf> {
    let is_it = |dir: &Path| {
        dir.join("plugin/src/guest.rs").is_file() && dir.join("core/src/scheduler.rs").is_file()
    };
    if let Some(said) = said {
        if !is_it(said) {
            bail!(
                "{}: these are not UVS's sources: there is no plugin/ and core/",
                said.display()
            );
        }
        return said.canonicalize().context(said.display().to_string());
    }
    let program = std::env::current_exe().unwrap_or_default();
    let here = std::env::current_dir().unwrap_or_default();
    let above = program.ancestors().chain(here.ancestors());
    let mut places = above.chain([Path::new(PACKAGED)]);
    match places.find(|dir| is_it(dir)) {
        Some(dir) => Ok(dir.to_owned()),
        None => bail!(
            "a Rust plugin is built against UVS's sources, which are not found: name their directory with --sources DIR (or write it in C: --lang c)"
        ),
    }
}

fn rust(name: &str, sources: &Path) -> Vec<File> {
    let plugin = sources.join("plugin");
    let plugin = plugin.display();
    let manifest = format!(
        "[package]\nname = \"{name}\"\ndescription = \"weighted rendezvous hashing, to be changed into your own\"\n\
         version = \"0.1.0\"\nedition = \"2024\"\n\n\
         [lib]\ncrate-type = [\"cdylib\"]\n\n\
         [dependencies]\nuvs-plugin = {{ path = \"{plugin}\" }}\n\n\
         [dev-dependencies]\nuvs-plugin = {{ path = \"{plugin}\", features = [\"testing\"] }}\n\n\
         # A workspace of its own, also within another's directory.\n[workspace]\n"
    );
    let source = RUST.replace("//! hrw,", &format!("//! {name},")).replace(
        "export_scheduler!(\"hrw\"",
        &format!("export_scheduler!(\"{name}\""),
    );
    vec![
        ("Cargo.toml".to_owned(), manifest),
        ("src/lib.rs".to_owned(), source),
        (".gitignore".to_owned(), "/target\n".to_owned()),
    ]
}

fn c(name: &str) -> Vec<File> {
    let named = |text: &str| text.replace("wrandom", name);
    let makefile = named(C_MAKEFILE).replace("INCLUDE ?= ../../include", "INCLUDE ?= .");
    vec![
        (format!("{name}.c"), named(C)),
        ("uvs_scheduler.h".to_owned(), HEADER.to_owned()),
        ("Makefile".to_owned(), makefile),
        (".gitignore".to_owned(), "*.so\n".to_owned()),
    ]
}

fn write(path: &Path, text: &str) -> Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_bears_its_own_name_everywhere() {
        let files = rust("mine", Path::new("/src/uvs"))
            .into_iter()
            .chain(c("mine"));
        let texts: Vec<File> = files.collect();
        for (path, text) in &texts {
            assert!(
                !text.contains("hrw") && !text.contains("wrandom"),
                "{path}:\n{text}"
            );
        }
        let all: String = texts.iter().map(|(_, text)| text.as_str()).collect();
        for part in [
            "uvs-plugin = { path = \"/src/uvs/plugin\" }",
            "export_scheduler!(\"mine\", Rendezvous",
            ".name = \"mine\"",
            "libmine.so: mine.c",
            "INCLUDE ?= .\n",
        ] {
            assert!(all.contains(part), "{part}");
        }
    }

    #[test]
    fn names_that_cannot_be_are_refused_with_the_reason() {
        for (name, said) in [
            ("wrr", "is a built-in scheduler"),
            ("sixteen-letters-", "1 to 15 letters"),
            ("../x", "a letter first"),
            ("9lives", "a letter first"),
            ("", "a letter first"),
        ] {
            let error = check_name(name).expect_err(name).to_string();
            assert!(error.contains(said), "{name}: {error}");
        }
        assert!(check_name("my-lb_2").is_ok());
    }
}
