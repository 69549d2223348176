//! Root's privileges for the lab: had already, or in a user namespace of our own.
//!
//! Without root the program starts itself anew under `unshare` as root of a user namespace with its own
//! mounts and network; a private `/run` there makes `ip netns` work. A standing lab's namespace is entered
//! again through one of its processes.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, mount, mount_bind};

use crate::process::{SOON, output};
use crate::{Error, Result, tools};

/// Set for the program inside: the state directory, whose place depends on who called from outside.
const INSIDE: &str = "UVS_LAB_ROOTLESS";
/// Set where the private `/run` is there already.
const JOINED: &str = "UVS_LAB_JOINED";

/// Whether this is the program inside a user namespace of its own making.
pub fn is_rootless() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Where a standing lab is written down.
pub fn state_dir() -> PathBuf {
    if let Some(dir) = env::var_os(INSIDE) {
        return dir.into();
    }
    if is_root() {
        return "/run/uvs-lab".into();
    }
    let own = || env::temp_dir().join(format!("uvs-state-{}", rustix::process::getuid().as_raw()));
    env::var_os("XDG_RUNTIME_DIR").map_or_else(own, |dir| Path::new(&dir).join("uvs-lab"))
}

/// Makes sure that this program may build a lab. Returns as root; without root it returns only with an
/// error, since the program starts anew with the same arguments.
pub fn enter() -> Result<()> {
    if env::var_os(JOINED).is_some() {
        return Ok(());
    }
    if is_rootless() {
        return private_run(&state_dir());
    }
    if is_root() {
        return root_suffices();
    }
    probe()?;
    let state_dir = state_dir();
    private_dir(&state_dir)?;
    let mut command = tools::command("unshare", UNSHARE)?;
    Err(start_anew(command.env(INSIDE, state_dir)))
}

/// As [`enter`], but into the user namespace of a process of a standing lab.
pub fn join(process: u32) -> Result<()> {
    if is_root() || is_rootless() {
        return Ok(());
    }
    let process = process.to_string();
    let words = [
        "--preserve-credentials",
        "--user",
        "--mount",
        "--target",
        &process,
        "--",
    ];
    let mut command = tools::command("nsenter", words)?;
    Err(start_anew(
        command.env(INSIDE, state_dir()).env(JOINED, "1"),
    ))
}

/// Replaces this program by another, which must not take itself for the lab's.
pub fn replace_by(
    program: &OsStr,
    args: &[OsString],
    environment: &[(OsString, OsString)],
) -> Error {
    let mut command = Command::new(program);
    command
        .args(args)
        .envs(environment.iter().cloned())
        .env_remove(INSIDE)
        .env_remove(JOINED);
    let error = command.exec();
    Error::io(format!("run {}", program.display()))(error)
}

const UNSHARE: [&str; 5] = ["--user", "--map-root-user", "--mount", "--net", "--"];

/// Asks the system for exactly what will be needed, so that a refusal can be explained.
fn probe() -> Result<()> {
    let mut command = tools::command("unshare", UNSHARE)?;
    command.args(["mount", "-t", "tmpfs", "tmpfs", "/run"]);
    let refused = |error: Error| {
        Error::Privileges(format!(
            "the lab needs root, or a system that lets users make user namespaces, which this one does not:\n  \
             {error}\nrun it as root (sudo), or allow them: user.max_user_namespaces > 0, and where they exist \
             kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0"
        ))
    };
    output(command, "", SOON).map(drop).map_err(refused)
}

fn root_suffices() -> Result<()> {
    let status =
        fs::read_to_string("/proc/self/status").map_err(Error::io("read /proc/self/status"))?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let needed = [
        ("CAP_NET_ADMIN", 12),
        ("CAP_NET_RAW", 13),
        ("CAP_SYS_ADMIN", 21),
    ];
    let lacking: Vec<_> = needed
        .iter()
        .filter(|(_, bit)| effective >> bit & 1 == 0)
        .map(|(name, _)| *name)
        .collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let lacking = lacking.join(", ");
    Err(Error::Privileges(format!(
        "the lab needs {lacking}, which this root lacks (in a container: --privileged)"
    )))
}

/// A `/run` of our own, in which the state directory, if it was under the old one, still is.
fn private_run(state_dir: &Path) -> Result<()> {
    let outside = open(state_dir, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
        .map_err(Error::io(format!("open {}", state_dir.display())))?;
    mount(
        "tmpfs",
        "/run",
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        None,
    )
    .map_err(Error::io("mount a private /run"))?;
    if !state_dir.starts_with("/run") {
        return Ok(());
    }
    let doing = || format!("keep {} in the private /run", state_dir.display());
    fs::create_dir_all(state_dir).map_err(Error::io(doing()))?;
    let outside = format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&outside)
    );
    mount_bind(outside, state_dir).map_err(Error::io(doing()))
}

/// A directory that nobody else can write to; one of another user's in its place is refused by the mode's
/// change.
fn private_dir(dir: &Path) -> Result<()> {
    let made = fs::create_dir_all(dir)
        .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o700)));
    made.map_err(Error::io(format!("create {}", dir.display())))
}

fn start_anew(command: &mut Command) -> Error {
    match env::current_exe() {
        Ok(program) => {
            Error::io("start anew")(command.arg(program).args(env::args_os().skip(1)).exec())
        }
        Err(error) => Error::io("find this program's path")(error),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
