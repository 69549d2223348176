//! `uvs plugin new` from a binary that was copied to an empty directory: no sources are near, and none are needed.

use std::path::Path;
use std::process::{Command, Output};

use uvs_lab::{Mode, install};

use crate::project::{UVS, offline_cargo, run, target};
use crate::traffic::{Director, alone, lab};

/// Nothing but the program.
fn installed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    install::program(Path::new(UVS), &dir.path().join("uvs")).expect("copied");
    dir
}

fn uvs(dir: &Path, words: &[&str]) -> Output {
    let mut uvs = Command::new(dir.join("uvs"));
    let output = uvs.current_dir(dir).args(words).output().expect("it runs");
    assert!(output.status.success(), "{words:?}: {output:?}");
    output
}

#[test]
fn a_c_project_needs_a_compiler_and_balances() {
    let _alone = alone();
    let dir = installed();
    let next = uvs(dir.path(), &["plugin", "new", "mine", "--lang", "c"]);
    let next = String::from_utf8_lossy(&next.stdout).into_owned();
    // The command for those without make is to be typed as it is printed.
    let line = next
        .lines()
        .find_map(|line| line.trim().strip_prefix("cc "));
    let line = line.unwrap_or_else(|| panic!("{next}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    run(Command::new("cc")
        .args(words)
        .current_dir(dir.path().join("mine")));
    let checked = uvs(dir.path(), &["plugin", "check", "mine/libmine.so"]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("mine conforms."), "{said}");

    let lab = lab(Mode::Nat);
    let director = Director::start(&lab);
    director.install(&dir.path().join("mine/libmine.so"), "libmine.so");
    director.serve("mine", [1, 0, 1]);
    let answers = director.answers(60);
    let servers: Vec<&str> = answers.keys().map(String::as_str).collect();
    assert_eq!(servers, ["rs1", "rs3"], "{answers:?}");
    director.daemon.stop().expect("a clean end");
}

#[test]
fn a_rust_project_has_what_it_is_built_from() {
    let dir = installed();
    uvs(dir.path(), &["plugin", "new", "my-lb", "--lang", "rust"]);
    let project = dir.path().join("my-lb");
    let built = offline_cargo("build", &project)
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "{built:?}");
    let said = String::from_utf8_lossy(&built.stderr).into_owned();
    assert!(!said.contains("warning"), "{said}");
    run(&mut offline_cargo("test", &project));
    let library = target().join("plugins/debug/libmy_lb.so");
    let library = library.to_str().expect("UTF-8");
    let checked = uvs(dir.path(), &["plugin", "check", library]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("my-lb conforms."), "{said}");
}
