//! `uvs plugin new` and `uvs plugin check`, without a daemon.

use std::path::Path;
use std::process::{Command, Output};

use crate::project::{
    UVS, c_example, c_plugin, check, plugin_new, repository, run, rust_example, rust_plugin,
};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What is said of a plugin that must not pass.
fn finding(file: &Path) -> String {
    let output = check(file);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    said(&output)
}

#[test]
fn both_examples_conform() {
    let dir = tempfile::tempdir().expect("a directory");
    for (file, name) in [(rust_example(), "hrw"), (c_example(dir.path()), "wrandom")] {
        let output = check(&file);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let said = said(&output);
        assert!(
            said.contains(&format!("ok  {name} 0.1.0, ABI 1: weighted r")),
            "{said}"
        );
        assert!(
            said.contains(&format!(
                "{name} conforms. Install it, as root's own file: install -D"
            )),
            "{said}"
        );
        for part in [
            "empty set",
            "random operations",
            "a million picks",
            "ten thousand instances",
        ] {
            let line = said.lines().find(|line| line.starts_with(part));
            assert!(
                line.is_some_and(|line| line.contains("ok")),
                "{part}: {said}"
            );
        }
    }
}

#[test]
fn a_new_rust_project_builds_and_conforms() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = rust_plugin(dir.path(), "my-lb", str::to_owned);
    let output = check(&file);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(said(&output).contains("my-lb conforms."));
}

#[test]
fn a_new_c_project_builds_by_make_and_conforms() {
    let dir = tempfile::tempdir().expect("a directory");
    let next = plugin_new(dir.path(), "mine", "c");
    assert!(next.contains("cd mine && make "), "{next}");
    run(Command::new("make").current_dir(dir.path().join("mine")));
    let output = check(&dir.path().join("mine/libmine.so"));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let again = Command::new(UVS)
        .current_dir(dir.path())
        .args(["plugin", "new", "mine", "--lang", "c"])
        .output()
        .expect("uvs runs");
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("mine exists already"));
}

#[test]
fn a_plugin_that_crashes_hangs_or_panics_is_a_finding() {
    let dir = tempfile::tempdir().expect("a directory");
    let c = |pick| c_plugin(dir.path(), "libbad.so", "bad", "1", pick);
    let crash = finding(&c("if (count > 3) abort(); return UVS_NONE;"));
    assert!(crash.contains("it crashed: signal: 6 (SIGABRT)"), "{crash}");
    assert!(
        crash.contains("ok\nno server available               FAILED"),
        "where it crashed: {crash}"
    );

    let hang = c("for (;;) sleep(1); return UVS_NONE;");
    let output = Command::new(UVS)
        .args(["plugin", "check", "--timeout", "3"])
        .arg(hang)
        .output()
        .expect("uvs runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("it does not return (given up after 3 s)"),
        "{output:?}"
    );
    // It was said before, that and for how long the part was running.
    assert!(said(&output).contains("… 1 s "), "{output:?}");

    let taken = finding(&c_plugin(
        dir.path(),
        "libbad.so",
        "wrr",
        "1",
        "return UVS_NONE;",
    ));
    assert!(
        taken.contains("\"wrr\" is a built-in scheduler: give it another name"),
        "{taken}"
    );
    let panicking = rust_plugin(dir.path(), "panicky", |source| {
        source.replace(
            "let client = hash(",
            "assert!(backends.len() < 3, \"too many for me\"); let client = hash(",
        )
    });
    let panic = finding(&panicking);
    assert!(
        panic.contains("FAILED\n      it panicked (its message is below)"),
        "{panic}"
    );
    assert!(panic.contains("too many for me"), "{panic}");
}

#[test]
fn a_fifo_or_a_device_is_refused_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let fifo = dir.path().join("libfifo.so");
    run(Command::new("mkfifo").arg(&fifo));
    let link = dir.path().join("liblink.so");
    std::os::unix::fs::symlink("/dev/zero", &link).expect("linked");
    for file in [fifo.as_path(), &link, Path::new("/dev/zero"), dir.path()] {
        let refused = finding(file);
        assert!(refused.contains("it is not a regular file"), "{refused}");
    }
}

#[test]
fn what_is_no_plugin_is_refused_in_words() {
    let refused = finding(&repository().join("Cargo.toml"));
    assert!(
        refused.contains("Cargo.toml is not a shared library"),
        "{refused}"
    );
    let refused = finding(Path::new(UVS));
    assert!(
        refused
            .contains("cannot be loaded: cannot dynamically load position-independent executable"),
        "{refused}"
    );
}
