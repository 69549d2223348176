//! The demo without root: as a user who has nothing but the right to make user namespaces.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use uvs_lab::install;

/// Debian's `nobody`.
const NOBODY: &str = "65534";

#[test]
fn the_demo_runs_without_root() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = demo(&dir);
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    // Where user namespaces are forbidden this fails, and the message says which setting allows them.
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains("\n  nat      every share exact"), "{said}");
    assert!(said.contains(" s; 0 namespaces left behind."), "{said}");
}

/// As root, another user's; otherwise one's own.
fn demo(dir: &tempfile::TempDir) -> Output {
    let uvs = env!("CARGO_BIN_EXE_uvs");
    let mut command = if rustix::process::geteuid().is_root() {
        // A checkout may lie where nobody else can look.
        let program = dir.path().join("uvs");
        install::program(Path::new(uvs), &program).expect("copied");
        let for_all = Permissions::from_mode(0o755);
        fs::set_permissions(dir.path(), for_all).expect("everybody may run it");
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
        command.arg(program);
        command
    } else {
        Command::new(uvs)
    };
    command
        .args(["lab", "demo", "--mode", "nat"])
        .current_dir("/")
        .env("HOME", "/nonexistent")
        .env("TMPDIR", "/tmp")
        .env_remove("XDG_RUNTIME_DIR")
        // A suite may insist on the hook, which no user namespace can have.
        .env_remove("UVS_HOOK")
        .output()
        .expect("it runs")
}
