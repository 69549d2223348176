//! Commands as typed: the shell's own words on a host, with `uvs` and an `ipvsadm` that is a
//! symlink to it, and how they ended.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::{Daemon, Error, Host, Lab, Result, tools};

/// Seconds after which a script is ended (and its exit code is 124).
const LIMIT: &str = "60";

/// A shell that reaches a lab's daemon.
#[derive(Debug)]
pub struct Shell {
    bin: PathBuf,
    socket: PathBuf,
    state_dir: PathBuf,
}

/// How a script ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Shell {
    /// Makes the symlinks in the lab's directory.
    pub fn new(lab: &Lab, uvs: &Path) -> Result<Self> {
        let bin = lab.dir().join("bin");
        let furnish = || {
            fs::create_dir_all(&bin)?;
            for name in ["ipvsadm", "uvs"] {
                if !bin.join(name).exists() {
                    symlink(uvs, bin.join(name))?;
                }
            }
            Ok(())
        };
        furnish()
            .map_err(|e: std::io::Error| Error::io(format!("furnish {}", bin.display()))(e))?;
        Ok(Self {
            bin,
            socket: Daemon::socket_of(lab),
            state_dir: lab.state_dir(),
        })
    }

    /// Runs a script to its end, whatever that is.
    pub fn run(&self, host: &Host, script: &str) -> Result<Ended> {
        let path = [self.bin.clone().into_os_string(), tools::path_variable()];
        let path: OsString = path.join(OsStr::new(":"));
        let mut command = tools::command("timeout", [LIMIT, "sh", "-c", script])?;
        command
            .env("PATH", path)
            .env("UVS_SOCKET", &self.socket)
            .env("UVS_STATE_DIR", &self.state_dir);
        let ran: std::io::Result<Output> = host.enter(|| command.output())?;
        let ran = ran.map_err(Error::io("run a shell"))?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ended {
            code: ran.status.code(),
            stdout: text(&ran.stdout),
            stderr: text(&ran.stderr),
        })
    }

    /// Runs a script whose every command must succeed, and returns what it printed.
    pub fn succeed(&self, host: &Host, script: &str) -> Result<String> {
        let ended = self.run(host, &format!("set -e\n{script}"))?;
        match ended.code {
            Some(0) => Ok(ended.stdout),
            code => Err(Error::Failed {
                command: script.to_owned(),
                status: format!("exit code {code:?}"),
                output: ended.stderr + &ended.stdout,
            }),
        }
    }
}
