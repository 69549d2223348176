//! `uvs plugin new NAME --lang rust|c`: a project of a scheduler that builds, conforms and works.
//!
//! The projects are the repository's two examples, under another name, and this program has all that they are built
//! from. A C project gets the header. A Rust project gets the crate `uvs-plugin`, which is not on crates.io, as the few of
//! its files and of `uvs-core`'s that a plugin needs ([`crates`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use uvs_plugin::abi::NAME_MAX;

use super::crates;
use crate::commands::{USAGE, output};

const RUST: &str = include_str!("../../../../plugin/examples/rust-hrw/src/lib.rs");
const C: &str = include_str!("../../../../plugin/examples/c-wrandom/wrandom.c");
const C_MAKEFILE: &str = include_str!("../../../../plugin/examples/c-wrandom/Makefile");
const HEADER: &str = include_str!("../../../../plugin/include/uvs_scheduler.h");

/// What the C project's Makefile gives the compiler too.
const CC_FLAGS: &str = "-O2 -g -Wall -Wextra -std=c11 -fPIC -fvisibility=hidden -shared -I.";

/// The folder of a Rust project that has its copies.
const CRATES: &str = "uvs";

#[derive(clap::Args)]
pub(super) struct Args {
    /// The scheduler's name, for `ipvsadm -s NAME`, and the directory's
    name: String,
    /// The language
    #[arg(long, value_enum, default_value = "rust")]
    lang: Language,
    /// UVS's sources, for Rust, instead of the copies that the project gets
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
            let sources = args.sources.as_deref().map(sources).transpose()?;
            let library = format!("target/release/lib{}.so", name.replace('-', "_"));
            (rust(name, sources.as_deref()), library)
        }
        Language::C => (c(name), format!("lib{name}.so")),
    };
    for (path, text) in &files {
        write(&dir.join(path), text)?;
    }
    let build = match args.lang {
        Language::Rust => "cargo build --release".to_owned(),
        Language::C => format!(
            "make     # or without make, in {name}/:\n  cc {CC_FLAGS} -o {library} {name}.c"
        ),
    };
    Ok(format!(
        "{name}/ is a scheduler that works. Next:\n\
         \n  cd {name} && {build}\n  uvs plugin check ./{library}\n  \
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

/// UVS's sources, checked.
fn sources(said: &Path) -> Result<PathBuf> {
    if !said.join("plugin/src/guest.rs").is_file() || !said.join("core/src/scheduler.rs").is_file()
    {
        bail!(
            "{}: these are not UVS's sources: there is no plugin/ and core/",
            said.display()
        );
    }
    said.canonicalize().context(said.display().to_string())
}

/// Built against these sources, or else against copies of its own.
fn rust(name: &str, sources: Option<&Path>) -> Vec<File> {
    let plugin = sources.map_or_else(
        || format!("{CRATES}/uvs-plugin"),
        |sources| sources.join("plugin").display().to_string(),
    );
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
    let mut files = vec![
        ("Cargo.toml".to_owned(), manifest),
        ("src/lib.rs".to_owned(), source),
        (".gitignore".to_owned(), "/target\n".to_owned()),
    ];
    if sources.is_none() {
        let copies = crates::files().into_iter();
        files.extend(copies.map(|(path, text)| (format!("{CRATES}/{path}"), text)));
    }
    files
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
        let files = rust("mine", Some(Path::new("/src/uvs")))
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
    fn without_sources_it_has_all_that_it_names() {
        let files = rust("mine", None);
        let manifest = &files[0].1;
        assert!(
            manifest.contains("uvs-plugin = { path = \"uvs/uvs-plugin\" }"),
            "{manifest}"
        );
        for file in ["uvs/uvs-plugin/Cargo.toml", "uvs/uvs-core/src/scheduler.rs"] {
            assert!(files.iter().any(|(path, _)| path == file), "{file}");
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
