//! Programs with an end: every one has a deadline, and none outlives the value that stands for it.
//!
//! Each runs in a process group of its own, so that Ctrl-C reaches only us and we clean up in order.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

use crate::{Error, Result};

/// Enough for any set-up command, also on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);
/// How long a program may take to follow SIGTERM before it gets SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// What a program that succeeded printed.
#[derive(Clone, Debug)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a command to its end; anything but success within `deadline` is an error.
pub fn output(mut command: Command, input: &str, deadline: Duration) -> Result<Output> {
    let line = command_line(&command);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = command
        .spawn()
        .map_err(Error::io(format!("run `{line}`")))?;
    let stdout = child.stdout.take().map(reader);
    let stderr = child.stderr.take().map(reader);
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading its input says why by its exit status.
        let _ = stdin.write_all(input.as_bytes());
    }
    let ended = wait(&mut child, deadline);
    if !matches!(ended, Ok(Some(_))) {
        kill_group(&mut child)?;
    }
    let status = ended?;
    let output = Output {
        stdout: text(stdout),
        stderr: text(stderr),
    };
    let said = || format!("{}{}", output.stderr, output.stdout);
    match status {
        Some(status) if status.success() => Ok(output),
        Some(status) => Err(Error::Failed {
            command: line,
            status: status.to_string(),
            output: said(),
        }),
        None => Err(Error::Deadline {
            command: line,
            seconds: deadline.as_secs(),
            output: said(),
        }),
    }
}

/// A program in the background; ended when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    line: String,
    log: PathBuf,
}

impl Process {
    /// Starts a command; what it prints goes to the file `log`.
    pub fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let line = command_line(&command);
        let open = || File::create(log).and_then(|file| Ok((file.try_clone()?, file)));
        let (stdout, stderr) = open().map_err(Error::io(format!("create {}", log.display())))?;
        command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0);
        let child = command
            .spawn()
            .map_err(Error::io(format!("run `{line}`")))?;
        Ok(Self {
            child,
            line,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Polls until `ready` says so; an error with its log if it ends before, or after `deadline`.
    pub fn wait_ready(
        &mut self,
        deadline: Duration,
        mut ready: impl FnMut(&Self) -> bool,
    ) -> Result<()> {
        const STEP: Duration = Duration::from_millis(5);
        let end = Instant::now() + deadline;
        while !ready(self) {
            if let Some(status) = wait(&mut self.child, Duration::ZERO)? {
                return Err(self.failed(status));
            }
            if Instant::now() > end {
                return Err(self.late(deadline));
            }
            thread::sleep(STEP);
        }
        Ok(())
    }

    /// Waits for its end by itself; anything but success within `deadline` is an error.
    pub fn wait(&mut self, deadline: Duration) -> Result<()> {
        match wait(&mut self.child, deadline)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.failed(status)),
            None => Err(self.late(deadline)),
        }
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal, if it still runs.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        let doing = || format!("signal `{}`", self.line);
        kill_process(pid(&self.child), signal).map_err(Error::io(doing()))
    }

    /// SIGTERM, and SIGKILL where that is not followed; how it ended.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        match wait(&mut self.child, GRACE) {
            Ok(Some(status)) => Ok(status),
            // Also where waiting fails: nothing may stay behind.
            Ok(None) | Err(_) => kill_group(&mut self.child),
        }
    }

    fn failed(&self, status: ExitStatus) -> Error {
        Error::Failed {
            command: self.line.clone(),
            status: status.to_string(),
            output: self.log(),
        }
    }

    fn late(&self, deadline: Duration) -> Error {
        Error::Deadline {
            command: self.line.clone(),
            seconds: deadline.as_secs(),
            output: self.log(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and it was not what the caller wanted to know.
        let _ = self.stop();
    }
}

/// A command as one would type it: the program by its bare name.
pub fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Waits without polling. `None`: still running.
fn wait(child: &mut Child, deadline: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + deadline;
    let pidfd: OwnedFd = match child.try_wait().map_err(Error::io("wait for a process"))? {
        Some(status) => return Ok(Some(status)),
        None => {
            pidfd_open(pid(child), PidfdFlags::empty()).map_err(Error::io("watch a process"))?
        }
    };
    loop {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now()));
        let left = left.map_err(|_| Error::Wrong("deadline out of range".to_owned()))?;
        let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(_) => return child.try_wait().map_err(Error::io("wait for a process")),
            // A signal is for whoever looks at its flag between two commands: each is short, and what it
            // makes must not be forgotten half-way.
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::io("wait for a process")(errno)),
        }
    }
}

fn kill_group(child: &mut Child) -> Result<ExitStatus> {
    // Gone already is as good.
    let _ = kill_process_group(pid(child), Signal::KILL);
    child.wait().map_err(Error::io("wait for a killed process"))
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn reader(mut pipe: impl Read + Send + 'static) -> JoinHandle<io::Result<Vec<u8>>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes)?;
        Ok(bytes)
    })
}

fn text(reader: Option<JoinHandle<io::Result<Vec<u8>>>>) -> String {
    let bytes = reader
        .and_then(|r| r.join().ok())
        .and_then(io::Result::ok)
        .unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::command;

    #[test]
    fn output_is_returned_and_input_is_read() {
        let cat = command("cat", ["-"]).expect("cat");
        assert_eq!(output(cat, "hello", SOON).expect("runs").stdout, "hello");
    }

    #[test]
    fn a_failure_shows_command_status_and_words() {
        let sh = command("sh", ["-c", "echo why >&2; exit 3"]).expect("sh");
        let error = output(sh, "", SOON).expect_err("exit 3").to_string();
        assert_eq!(
            error,
            "`sh -c echo why >&2; exit 3` failed (exit status: 3):\n    why"
        );
    }

    #[test]
    fn a_deadline_ends_the_whole_group() {
        let sh = command("sh", ["-c", "sleep 60 & echo started; wait"]).expect("sh");
        let error = output(sh, "", Duration::from_millis(300)).expect_err("too long");
        assert!(matches!(error, Error::Deadline { output, .. } if output == "started\n"));
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let sleep = command("sleep", ["60"]).expect("sleep");
        let process = Process::spawn(sleep, &dir.path().join("log")).expect("spawn");
        let proc = PathBuf::from(format!("/proc/{}", process.id()));
        assert!(proc.exists());
        drop(process);
        assert!(!proc.exists());
    }
}
