//! `uvs upgrade`: a new process takes over from the daemon under traffic, or the daemon goes on as it was and it is said
//! why.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use uvs_control::client::{Asking, CallError, Client};
use uvs_control::protocol::{Upgrade, ask};

use super::{FAILED, daemon, output};

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// How often a daemon is asked again that has just been succeeded.
const TRIES: u32 = 50;

/// Start the daemon's program anew, as it is installed now and with the words that the daemon was started with, and let
/// it take over: connections, counters and what commands have changed go on, and frames wait for some milliseconds.
/// Where the new process refuses, crashes or hangs, the running one goes on. What has changed in the configuration file
/// comes with the next `uvs reload`
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Program to run [default: the daemon's own, by the path that it was started from]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

/// How it can end.
enum Ended {
    Done {
        pid: u32,
        paused_ms: u64,
    },
    /// The daemon that was asked is gone, and another answers.
    Unheard {
        pid: u32,
    },
    Lost(String),
    Failed(String),
}

/// Has it done, and says what has become of it.
pub(crate) fn main(args: &Args) -> ExitCode {
    let binary = match args.binary.as_ref().map(std::path::absolute).transpose() {
        Ok(binary) => binary.map(|path| path.display().to_string()),
        Err(e) => {
            eprintln!("--binary: {e}");
            return ExitCode::from(FAILED);
        }
    };
    match upgraded(binary) {
        Ok(Ended::Done { pid, paused_ms }) => output::print(&format!(
            "the daemon with pid {pid} has taken over; frames waited for {paused_ms} ms\n"
        )),
        Ok(Ended::Unheard { pid }) => output::print(&format!(
            "the daemon with pid {pid} has taken over; the one before ended before it could say how long frames waited\n"
        )),
        Ok(Ended::Lost(why)) => {
            eprintln!("a new daemon has taken over and does not serve: {why}; start it again");
            ExitCode::from(FAILED)
        }
        Ok(Ended::Failed(why)) => {
            eprintln!("the running daemon goes on: {why}");
            ExitCode::from(FAILED)
        }
        Err(e) => daemon::failed(&e),
    }
}

/// Has the running daemon upgraded. One connection for all: the daemon that was asked is the one that knows.
fn upgraded(binary: Option<String>) -> Result<Ended, CallError> {
    let (mut client, pid) = running()?;
    match begun(&mut client, binary) {
        Err(broken @ CallError::Broken { .. }) => match running() {
            Ok((_, heir)) if heir != pid => Ok(Ended::Unheard { pid: heir }),
            _ => Err(broken),
        },
        ended => ended,
    }
}

/// A connection to the daemon that serves, and its process id. One that has just been succeeded sends askers on, or is
/// gone by the time they ask.
fn running() -> Result<(Client, u32), CallError> {
    let mut tries = 0;
    loop {
        let mut client = Client::from_env();
        match client.ask(ask::Info) {
            Ok(info) => return Ok((client, info.pid)),
            Err(CallError::Broken { .. } | CallError::Refused(_)) if tries < TRIES => {
                tries += 1;
                sleep(LOOK);
            }
            Err(e) => return Err(e),
        }
    }
}

/// Begins an upgrade, and waits for its end.
fn begun(client: &mut Client, binary: Option<String>) -> Result<Ended, CallError> {
    client.ask(ask::Upgrade(binary))?;
    loop {
        match client.ask(ask::UpgradeState)? {
            Upgrade::None | Upgrade::Starting => sleep(LOOK),
            Upgrade::Done { pid, paused_ms } => return Ok(Ended::Done { pid, paused_ms }),
            Upgrade::Lost(why) => return Ok(Ended::Lost(why)),
            Upgrade::Failed(why) => return Ok(Ended::Failed(why)),
        }
    }
}
