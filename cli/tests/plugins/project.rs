//! Building plugins, and running `uvs plugin` without a daemon.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) const UVS: &str = env!("CARGO_BIN_EXE_uvs");

/// The repository.
pub(crate) fn repository() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    path.canonicalize().expect("the repository")
}

/// The Rust example, built by cargo.
pub(crate) fn rust_example() -> PathBuf {
    let mut cargo = cargo("build", &repository());
    run(cargo.args(["--package", "uvs-example-hrw"]));
    target().join("debug/libhrw.so")
}

/// The C example, built by its Makefile's compiler in a directory of the caller's.
pub(crate) fn c_example(dir: &Path) -> PathBuf {
    let example = repository().join("plugin/examples/c-wrandom/wrandom.c");
    compile(&example, &dir.join("libwrandom.so"))
}

/// A C plugin with this body of `pick`.
pub(crate) fn c_plugin(dir: &Path, file: &str, name: &str, version: &str, pick: &str) -> PathBuf {
    c_plugin_with("", dir, file, (name, version), pick)
}

/// The same, with lines before all others.
pub(crate) fn c_plugin_with(
    before: &str,
    dir: &Path,
    file: &str,
    (name, version): (&str, &str),
    pick: &str,
) -> PathBuf {
    let source = dir.join("plugin.c");
    let text = format!(
        "{before}#include <stdlib.h>\n#include <unistd.h>\n#include \"uvs_scheduler.h\"\n\
         static int64_t pick(void *state, const struct uvs_flow *flow, const struct uvs_backend *backends, size_t count)\n\
         {{ (void)state; (void)flow; (void)backends; (void)count; {pick} }}\n\
         const struct uvs_scheduler_table *uvs_scheduler(void)\n\
         {{ static const struct uvs_scheduler_table table = {{ UVS_SCHEDULER_HEAD, .name = \"{name}\",\n\
           .version = \"{version}\", .about = \"a test\", .pick = pick }}; return &table; }}\n"
    );
    std::fs::write(&source, text).expect("written");
    compile(&source, &dir.join(file))
}

/// A Rust plugin made by `uvs plugin new`, with its source changed by `edit`, built by cargo.
pub(crate) fn rust_plugin(dir: &Path, name: &str, edit: impl Fn(&str) -> String) -> PathBuf {
    plugin_new(dir, name, "rust");
    let project = dir.join(name);
    let source = project.join("src/lib.rs");
    let text = std::fs::read_to_string(&source).expect("its source");
    std::fs::write(&source, edit(&text)).expect("written");
    run(&mut offline_cargo("build", &project));
    let library = format!("plugins/debug/lib{}.so", name.replace('-', "_"));
    target().join(library)
}

/// `uvs plugin new NAME --lang LANG`.
pub(crate) fn plugin_new(dir: &Path, name: &str, lang: &str) -> String {
    let mut uvs = Command::new(UVS);
    run(uvs
        .current_dir(dir)
        .args(["plugin", "new", name, "--lang", lang]))
}

/// What a command printed, which must end well.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// `uvs plugin check FILE`.
pub(crate) fn check(file: &Path) -> Output {
    let mut uvs = Command::new(UVS);
    let checked = uvs.args(["plugin", "check"]).arg(file);
    checked.output().expect("uvs runs")
}

fn compile(source: &Path, library: &Path) -> PathBuf {
    let include = repository().join("plugin/include");
    let flags = [
        "-std=c11", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror",
    ];
    let mut cc = Command::new("cc");
    cc.args(flags)
        .arg("-I")
        .arg(include)
        .arg("-o")
        .args([library, source]);
    run(&mut cc);
    library.to_owned()
}

/// Cargo, in a directory. Projects outside the repository share a target directory of their own in it.
fn cargo(command: &str, dir: &Path) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.arg(command).current_dir(dir);
    if !dir.starts_with(repository()) {
        cargo.env("CARGO_TARGET_DIR", target().join("plugins"));
    }
    cargo
}

/// Cargo in a project, with the versions that are there already, so that nothing has to be fetched.
pub(crate) fn offline_cargo(command: &str, project: &Path) -> Command {
    std::fs::copy(repository().join("Cargo.lock"), project.join("Cargo.lock")).expect("copied");
    let mut cargo = cargo(command, project);
    cargo.arg("--offline");
    cargo
}

/// Where cargo builds: the directory that has `debug/uvs` or `release/uvs`.
pub(crate) fn target() -> PathBuf {
    let of_profile = Path::new(UVS).parent().and_then(Path::parent);
    of_profile.expect("target/PROFILE/uvs").to_owned()
}
