//! The four modes' topologies: client, director and three real servers, wired as the mode needs them.
//!
//! ```text
//! dr       client ─┬─ director        one switch is the broadcast domain
//!                  ├─ rs1 rs2 rs3
//! nat      client ─── director ─┬─ rs1 rs2 rs3     default route of the real servers: the director
//! fullnat  client ─── director ─┬─ rs1 rs2 rs3     the real servers have no default route
//! ipip     client ─── router ─── director
//!                       └─┬─ rs1 rs2 rs3           a subnet of their own
//! ```

use std::fs;
use std::mem;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::daemon::run_line;
use crate::http::{Content, HttpServer};
use crate::options::{Options, VipOwner};
use crate::process::SOON;
use crate::wiring::{Hosts, ROUTED_CLIENT};
use crate::{Daemon, Error, Host, Mode, Names, Plan, Result, rootless, tools, twin};

const WEB_ROOT: &str = "www";

/// A host with an HTTP server.
#[derive(Debug)]
pub struct RealServer {
    http: HttpServer,
    /// The namespace.
    pub host: Host,
}

/// A topology that stands; gone when dropped.
// Fields are dropped in order: programs first, namespaces next, files last.
#[derive(Debug)]
pub struct Lab {
    /// Addresses and ipvsadm's words.
    pub plan: Plan,
    /// The real servers, `rs1` to `rs3`.
    pub servers: Vec<RealServer>,
    /// The director.
    pub director: Host,
    /// The client.
    pub client: Host,
    /// Who owns the VIP.
    pub vip: VipOwner,
    /// The `switch` or, where it has addresses, `router`; its port to a host bears the host's role as name.
    pub fabric: Host,
    dir: TempDir,
}

impl Lab {
    /// Builds a mode's topology and starts the HTTP servers.
    pub fn build(mode: Mode, options: Options) -> Result<Self> {
        Self::build_as(&Names::unique(), mode, options)
    }

    pub(crate) fn build_as(names: &Names, mode: Mode, options: Options) -> Result<Self> {
        rootless::check()?;
        tools::require(tools::BASIC)?;
        let dir = tempfile::Builder::new().prefix(names.prefix()).tempdir();
        let dir = dir.map_err(Error::io("create a temporary directory"))?;
        let mut plan = Plan::of(mode);
        if mode == Mode::Dr && options.client_behind_router {
            plan.client = ROUTED_CLIENT;
        }
        let hosts = Hosts::wire(names, &plan, options)?;
        let web_root = dir.path().join(WEB_ROOT);
        fs::create_dir(&web_root).map_err(Error::io("create the web root"))?;
        let serve = |host: Host| {
            let http = HttpServer::start(&host, &dir.path().join(host.role()), &web_root)?;
            Ok(RealServer { http, host })
        };
        let servers = hosts
            .servers
            .into_iter()
            .map(serve)
            .collect::<Result<_>>()?;
        Ok(Self {
            plan,
            servers,
            director: hosts.director,
            client: hosts.client,
            vip: options.vip,
            fabric: hosts.fabric,
            dir,
        })
    }

    /// Where files of this lab can be put; removed with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file of `length` random bytes on every real server, at `/NAME`.
    pub fn content(&self, name: &str, length: u64) -> Result<Content> {
        Content::create(&self.dir().join(WEB_ROOT), name, length)
    }

    /// Does on each real server what its mode needs there, with `uvs rs up`.
    pub fn prepare_servers(&self, uvs: &Path) -> Result<()> {
        let Some(line) = self.prepare_line() else {
            return Ok(());
        };
        for server in &self.servers {
            let mut command = tools::program(uvs, line.split(' '));
            command.env("UVS_STATE_DIR", self.state_dir());
            server.host.output(command, SOON)?;
        }
        Ok(())
    }

    /// The words after `uvs` that prepare a real server; none for NAT and FULLNAT, which need routes only.
    pub fn prepare_line(&self) -> Option<String> {
        match self.plan.mode {
            Mode::Dr | Mode::Ipip => {
                let (mode, vip) = (self.plan.mode, *self.plan.vip.ip());
                // A tunnel may come in either family.
                let outer = if mode == Mode::Ipip {
                    " --outer ipv4,ipv6"
                } else {
                    ""
                };
                let twin = twin(vip);
                Some(format!("rs up --mode {mode} --vip {vip},{twin}{outer}"))
            }
            Mode::Nat | Mode::FullNat => None,
        }
    }

    /// Starts `uvs run` on the director and waits until it answers.
    pub fn start_daemon(&self, uvs: &Path) -> Result<Daemon<'_>> {
        Daemon::start(self, uvs)
    }

    /// The same, with these further words for `uvs run`, split at spaces.
    pub fn start_daemon_with(&self, uvs: &Path, words: &str) -> Result<Daemon<'_>> {
        Daemon::start_with(self, uvs, &format!("{} {words}", run_line(self)))
    }

    /// All hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        [&self.client, &self.director]
            .into_iter()
            .chain(self.servers.iter().map(|s| &s.host))
            .chain([&self.fabric])
    }

    /// Where `uvs` keeps what it changed on hosts of this lab.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// Lets everything stand when this program ends. Returns the directory, which stays too.
    pub(crate) fn leave_standing(self) -> PathBuf {
        let dir = self.dir().to_owned();
        mem::forget(self);
        dir
    }
}

impl RealServer {
    /// Its name: `rs1` …, which is also what it answers at `/`.
    pub fn name(&self) -> &str {
        self.host.role()
    }

    /// Where the body of `PUT /upload/NAME` lies, if this server got it.
    pub fn uploaded(&self, name: &str) -> PathBuf {
        self.http.uploaded(name)
    }

    /// The HTTP server's process.
    pub fn http_process(&self) -> u32 {
        self.http.process.id()
    }
}
