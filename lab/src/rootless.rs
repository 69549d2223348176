//! The capabilities a lab needs: had already, or in a user namespace of our own.
//!
//! Without them the program starts itself again under `unshare`, with all capabilities over a user namespace
//! with its own mounts and network; a private `/run` there makes `ip netns` work. The user stays who it is:
//! tcpdump and nginx would want to leave a root behind, and a user namespace knows nobody else.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, mount, mount_bind};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{
    CapabilitySet, ThreadNameSpaceType, capabilities, configure_capability_in_ambient_set,
    move_into_thread_name_spaces, set_capabilities,
};

use crate::process::{SOON, output};
use crate::{Error, Result, tools};

/// Set for the program inside: the state directory, as it is called outside.
const INSIDE: &str = "UVS_LAB_ROOTLESS";
const UNSHARE: [&str; 6] = [
    "--user",
    "--map-current-user",
    "--keep-caps",
    "--mount",
    "--net",
    "--",
];
const NEEDED: [(CapabilitySet, &str); 3] = [
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
];

/// Whether this is the program inside a user namespace of its own making.
pub fn is_rootless() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Where a standing lab is written down.
pub fn state_dir() -> PathBuf {
    if let Some(dir) = env::var_os(INSIDE) {
        return dir.into();
    }
    let user = rustix::process::geteuid();
    if user.is_root() {
        return "/run/uvs-lab".into();
    }
    let own = || env::temp_dir().join(format!("uvs-state-{user}"));
    env::var_os("XDG_RUNTIME_DIR").map_or_else(own, |dir| Path::new(&dir).join("uvs-lab"))
}

/// Refuses where a capability lacks; [`enter`] is how to get them.
pub fn check() -> Result<()> {
    let lacking = lacking();
    if lacking.is_empty() {
        return Ok(());
    }
    let lacking = lacking.join(", ");
    Err(Error::Privileges(format!(
        "the lab needs {lacking}: run this as root, or through `uvs lab exec`"
    )))
}

/// Returns where this program may build a lab. Otherwise it starts again, with the same arguments, where it
/// may; it returns with an error where the system does not let it.
pub fn enter() -> Result<()> {
    if is_rootless() {
        return private_run(&state_dir());
    }
    if lacking().is_empty() {
        return Ok(());
    }
    probe()?;
    let state_dir = state_dir();
    private_dir(&state_dir)?;
    let program = env::current_exe().map_err(Error::io("find this program's path"))?;
    let mut command = tools::command("unshare", UNSHARE)?;
    command
        .env(INSIDE, state_dir)
        .arg(program)
        .args(env::args_os().skip(1));
    Err(Error::io("restart")(command.exec()))
}

/// Moves this program, which must have one thread only, to where a standing lab's process is.
pub fn join(process: u32) -> Result<()> {
    if lacking().is_empty() {
        return Ok(());
    }
    let here = env::current_dir();
    let doing = || format!("enter the user namespace of process {process}");
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Error::Wrong(format!("no process can have the id {process}")))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(Error::io(doing()))?;
    let spaces = ThreadNameSpaceType::USER | ThreadNameSpaceType::MOUNT;
    move_into_thread_name_spaces(pidfd.as_fd(), spaces).map_err(Error::io(doing()))?;
    hand_down_capabilities().map_err(Error::io(doing()))?;
    // Entering another's mounts leads to their root; a directory that is not there stays left.
    let _ = here.and_then(env::set_current_dir);
    Ok(())
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
        .env_remove(INSIDE);
    Error::io(format!("run {}", program.display()))(command.exec())
}

fn lacking() -> Vec<&'static str> {
    let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    NEEDED
        .iter()
        .filter(|(one, _)| !effective.contains(*one))
        .map(|(_, name)| *name)
        .collect()
}

/// Asks the system for what will be needed, so that a refusal can be explained. Some let anyone make a user
/// namespace and then give no power in it.
fn probe() -> Result<()> {
    let mut command = tools::command("unshare", UNSHARE)?;
    command
        .arg(tools::find("ip")?)
        .args(["link", "set", "lo", "up"]);
    let refused = |error: Error| {
        let names = NEEDED.map(|(_, name)| name).join(", ");
        Error::Privileges(format!(
            "the lab needs {names}, or a system that lets users make user namespaces, which this one does \
             not:\n  {error}\nrun it as root, or allow them: user.max_user_namespaces > 0 and, where they \
             exist, kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0"
        ))
    };
    output(command, "", SOON).map(drop).map_err(refused)
}

/// A `/run` of our own, in which the state directory, if it was under the old one, still is.
fn private_run(state_dir: &Path) -> Result<()> {
    let outside = open(
        state_dir,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
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
    let outside = format!("/proc/self/fd/{}", outside.as_raw_fd());
    mount_bind(outside, state_dir).map_err(Error::io(doing()))
}

/// A directory that nobody else can write to; another user's in its place is refused by the mode's change.
fn private_dir(dir: &Path) -> Result<()> {
    let private = fs::Permissions::from_mode(0o700);
    let made = fs::create_dir_all(dir).and_then(|()| fs::set_permissions(dir, private));
    made.map_err(Error::io(format!("create {}", dir.display())))
}

/// A user other than root loses its capabilities at exec unless they are ambient.
fn hand_down_capabilities() -> rustix::io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.inheritable = sets.permitted;
    set_capabilities(None, sets)?;
    sets.permitted
        .iter()
        .try_for_each(|one| configure_capability_in_ambient_set(one, true))
}
