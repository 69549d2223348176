//! The lab that stays: `up` leaves it running, `shell` enters a host of it, `down` removes it.
//!
//! There is one at a time; its hosts are `uvs-lab-client` and so on, and a file says the rest.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::daemon::run_line;
use crate::demo::WEIGHTS;
use crate::host::started_at;
use crate::screen::Screen;
use crate::sweep::{NETNS_DIR, remove_namespace};
use crate::{Error, Lab, Mode, Names, Options, Plan, Result, rootless, tools};

/// A standing lab.
#[derive(Serialize, Deserialize)]
struct Session {
    plan: Plan,
    /// Files of the lab.
    dir: PathBuf,
    /// What a shell's `uvs` and `ipvsadm` need to reach the daemon.
    environment: Vec<(String, PathBuf)>,
    /// The daemon: process id and start time, which together are no other process's.
    holder: (u32, u64),
}

impl Session {
    fn file() -> PathBuf {
        rootless::state_dir().join("session.json")
    }

    fn load() -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::file()).ok()?).ok()
    }

    fn store(&self) -> Result<()> {
        let file = Self::file();
        let text = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::Wrong(format!("cannot write a session: {e}")))?;
        fs::create_dir_all(rootless::state_dir())
            .and_then(|()| fs::write(&file, text))
            .map_err(Error::io(format!("write {}", file.display())))
    }

    fn is_alive(&self) -> bool {
        started_at(self.holder.0).is_ok_and(|start| start == self.holder.1)
    }
}

/// Builds a lab with the demo's services and leaves it running, unless `interrupted` is raised meanwhile.
pub fn up(screen: &mut Screen, uvs: &Path, mode: Mode, interrupted: &AtomicBool) -> Result<()> {
    if let Some(standing) = Session::load().filter(Session::is_alive) {
        return Err(Error::Wrong(format!(
            "a lab is up already, mode {}; remove it with: uvs lab down",
            standing.plan.mode
        )));
    }
    rootless::enter()?;
    remove_standing()?;
    let lab = Lab::build_as(&Names::standing(), mode, Options::default())?;
    lab.content("100M", 100 << 20)?;
    lab.prepare_servers(uvs)?;
    let daemon = lab.start_daemon(uvs)?;
    daemon.ipvsadm(&lab.plan.add_service("wrr"))?;
    for (server, weight) in WEIGHTS.into_iter().enumerate() {
        daemon.ipvsadm(&lab.plan.add_server(server, weight))?;
    }
    install_shell_commands(lab.dir(), uvs)?;
    let started = started_at(daemon.id()).map_err(Error::io("read the daemon's start time"))?;
    let session = Session {
        plan: lab.plan.clone(),
        dir: lab.dir().to_owned(),
        environment: vec![
            ("UVS_SOCKET".to_owned(), daemon.socket().to_owned()),
            ("UVS_STATE_DIR".to_owned(), lab.state_dir()),
        ],
        holder: (daemon.id(), started),
    };
    if interrupted.load(Ordering::Relaxed) {
        return Err(Error::Interrupted);
    }
    session.store()?;
    describe(screen, &lab, mode);
    daemon.leave_standing();
    lab.leave_standing();
    Ok(())
}

/// Becomes a shell on a host, or a command there. Returns only with an error.
pub fn shell(host: &str, command: &[OsString]) -> Error {
    enter_host(host).map_or_else(|error| error, |session| session.become_shell(host, command))
}

/// Removes the standing lab, also what is left of one. Returns whether there was anything.
pub fn down() -> Result<bool> {
    let session = Session::load();
    if let Some(session) = session.as_ref().filter(|session| session.is_alive()) {
        rootless::join(session.holder.0)?;
    }
    let had_namespaces = remove_standing()?;
    Ok(had_namespaces || session.is_some())
}

/// An `ipvsadm` that is `uvs`, and a prompt that names the host.
fn install_shell_commands(dir: &Path, uvs: &Path) -> Result<()> {
    let bin = dir.join("bin");
    let rc = "PS1='\\[\\e[1m\\]uvs-lab $UVS_LAB_HOST\\[\\e[0m\\] \\w # '\n";
    fs::create_dir_all(&bin)
        .and_then(|()| symlink(uvs, bin.join("ipvsadm")))
        .and_then(|()| symlink(uvs, bin.join("uvs")))
        .and_then(|()| fs::write(dir.join("bashrc"), rc))
        .map_err(Error::io(format!("furnish {}", dir.display())))
}

fn describe(screen: &mut Screen, lab: &Lab, mode: Mode) {
    let plan = &lab.plan;
    screen.title(format!("the lab is up: {mode}"));
    screen.say(format!("client    {}", plan.client));
    screen.say(format!(
        "director  {:<15}  VIP {} (wrr), uvs {}",
        plan.director,
        plan.vip,
        run_line(lab)
    ));
    for ((server, address), weight) in lab.servers.iter().zip(plan.servers).zip(WEIGHTS) {
        screen.say(format!(
            "{}       {address:<20}  weight {weight}, nginx with / and /100M",
            server.name()
        ));
    }
    screen.say(format!("logs in   {}", lab.dir().display()));
    screen.title("try");
    let url = plan.url("/");
    screen.say(format!(
        "uvs lab shell client -- sh -c 'for i in $(seq 6); do curl -s {url}; done'"
    ));
    screen.say("uvs lab shell director -- ipvsadm -ln");
    screen.say(format!(
        "uvs lab shell director -- ipvsadm {}",
        plan.edit_server(0, 0)
    ));
    screen.say("uvs lab shell rs1          # a shell there; also client, director, rs2, rs3");
    screen.say("uvs lab down               # removes everything");
}

fn enter_host(host: &str) -> Result<Session> {
    let standing = Session::load().filter(Session::is_alive);
    let session = standing
        .ok_or_else(|| Error::Wrong("no lab is up; make one with: uvs lab up".to_owned()))?;
    rootless::join(session.holder.0)?;
    let names = Names::standing();
    let path = Path::new(NETNS_DIR).join(names.of(host));
    let namespace = File::open(&path).map_err(|_| {
        let all = names.namespaces();
        let mut roles: Vec<_> = all
            .iter()
            .filter_map(|name| name.strip_prefix(names.prefix()))
            .collect();
        roles.sort_unstable();
        Error::Wrong(format!(
            "the lab has no host {host:?}; its hosts are {}",
            roles.join(", ")
        ))
    })?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(Error::io(format!("enter {}", path.display())))?;
    Ok(session)
}

impl Session {
    fn become_shell(&self, host: &str, command: &[OsString]) -> Error {
        let search = [
            self.dir.join("bin").into_os_string(),
            tools::path_variable(),
        ]
        .join(OsStr::new(":"));
        let variables = [
            (OsString::from("PATH"), search),
            ("UVS_LAB_HOST".into(), host.into()),
        ];
        let reach = self
            .environment
            .iter()
            .map(|(name, path)| (name.into(), path.into()));
        let environment: Vec<(OsString, OsString)> = variables.into_iter().chain(reach).collect();
        let rc = self.dir.join("bashrc").into_os_string();
        match command {
            [] => rootless::replace_by(
                OsStr::new("bash"),
                &["--rcfile".into(), rc, "-i".into()],
                &environment,
            ),
            [program, args @ ..] => rootless::replace_by(program, args, &environment),
        }
    }
}

/// Removes what bears the standing lab's names. Returns whether there was anything.
fn remove_standing() -> Result<bool> {
    let names = Names::standing();
    // What can be seen without privileges is root's lab: a user's own is in a /run of its own.
    let ours = if rootless::check().is_ok() {
        names.namespaces()
    } else {
        Vec::new()
    };
    ours.iter().try_for_each(|name| remove_namespace(name))?;
    names.directories().iter().try_for_each(|dir| {
        fs::remove_dir_all(dir).map_err(Error::io(format!("remove {}", dir.display())))
    })?;
    match fs::remove_file(Session::file()) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            let doing = format!("remove {}", Session::file().display());
            return Err(Error::io(doing)(error));
        }
        _ => {}
    }
    // Stays where it is a mount or has something else in it, and does no harm.
    let _ = fs::remove_dir(rootless::state_dir());
    Ok(!ours.is_empty())
}
