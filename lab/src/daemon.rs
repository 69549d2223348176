//! `uvs run` on the director, and the commands that drive it.

use std::mem;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;

use crate::frames::Frames;
use crate::options::VipOwner;
use crate::process::{Output, Process, SOON};
use crate::{Error, Host, Lab, Result, tools, twin};

/// A running daemon; ended when dropped. Before it ends it must account for every frame: no test can forget
/// that.
#[derive(Debug)]
pub struct Daemon<'lab> {
    process: Process,
    director: &'lab Host,
    uvs: PathBuf,
    socket: PathBuf,
    state_dir: PathBuf,
    accounted: bool,
}

impl<'lab> Daemon<'lab> {
    /// Starts it on the plan's interfaces and waits until its control socket answers.
    pub(crate) fn start(lab: &'lab Lab, uvs: &Path) -> Result<Self> {
        Self::start_with(lab, uvs, &run_line(lab))
    }

    /// Starts it with these words after `uvs`, split at spaces: `run --config FILE`.
    pub fn start_with(lab: &'lab Lab, uvs: &Path, line: &str) -> Result<Self> {
        let (socket, state_dir) = (Self::socket_of(lab), lab.state_dir());
        let mut command = tools::program(uvs, line.split(' '));
        command
            .env("UVS_SOCKET", &socket)
            .env("UVS_STATE_DIR", &state_dir);
        let mut process = lab.director.spawn(command, &lab.dir().join("uvs.log"))?;
        process.wait_ready(SOON, |_| UnixStream::connect(&socket).is_ok())?;
        Ok(Self {
            process,
            director: &lab.director,
            uvs: uvs.to_owned(),
            socket,
            state_dir,
            accounted: false,
        })
    }

    /// The control socket of a daemon on a lab's director.
    pub(crate) fn socket_of(lab: &Lab) -> PathBuf {
        lab.dir().join("control.sock")
    }

    /// Runs `uvs ipvsadm` with these words, split at spaces, and returns what it printed.
    pub fn ipvsadm(&self, words: &str) -> Result<String> {
        self.uvs(&format!("ipvsadm {words}"))
            .map(|output| output.stdout)
    }

    /// Runs `uvs` with these words on the director.
    pub fn uvs(&self, words: &str) -> Result<Output> {
        self.director.output(self.command(words), SOON)
    }

    /// `uvs` with these words and the environment that reaches this daemon.
    pub fn command(&self, words: &str) -> Command {
        let mut command = tools::program(&self.uvs, words.split(' '));
        command
            .env("UVS_SOCKET", &self.socket)
            .env("UVS_STATE_DIR", &self.state_dir);
        command
    }

    /// The control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until its log has `text`.
    pub fn wait_log(&mut self, text: &str) -> Result<()> {
        self.process
            .wait_ready(SOON, |process| process.log().contains(text))
    }

    /// Its process: to signal it, or to wait for its end.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Lets it run when this program ends.
    pub(crate) fn leave_standing(self) {
        mem::forget(self);
    }

    /// Where its frames went; an error where it cannot account for one. `None` where it does not run.
    pub fn frames(&mut self) -> Result<Option<Frames>> {
        if !self.process.is_running() {
            return Ok(None);
        }
        let told = self.uvs("show drops -o json")?;
        Frames::read(&told.stdout).map(Some)
    }

    /// Ends it by SIGTERM; anything but exit status 0 is an error.
    pub fn stop(mut self) -> Result<()> {
        self.account()?;
        let status: ExitStatus = self.process.stop()?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Failed {
            command: "uvs run".to_owned(),
            status: status.to_string(),
            output: self.log(),
        })
    }
}

impl Daemon<'_> {
    /// Once: what it tells is added to the suite's sum.
    fn account(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.accounted, true) {
            return Ok(());
        }
        match self.frames()? {
            Some(frames) => frames.record(),
            None => Ok(()),
        }
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        // A test that has failed already says why.
        if !thread::panicking()
            && let Err(error) = self.account()
        {
            panic!("{error}");
        }
    }
}

/// The words after `uvs` that start the daemon on a lab's director.
pub(crate) fn run_line(lab: &Lab) -> String {
    let interfaces = lab
        .plan
        .interfaces
        .iter()
        .map(|name| format!(" --interface {name}"));
    let own = match lab.vip {
        VipOwner::Uvs => {
            let vip = *lab.plan.vip.ip();
            format!(" --own-vip {vip} --own-vip {}", twin(vip))
        }
        VipOwner::Host | VipOwner::Nobody => String::new(),
    };
    format!("run{}{own}", interfaces.collect::<String>())
}
