//! The old daemon's end: it starts the new one, hands over, and takes all back where nothing comes of it.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::channel::{Channel, Heard, MOST};
use super::estate::{Descriptors, Estate, borrowed, packed};
use super::{NO_HOOK, READY_WITHIN, SERVES_WITHIN, TAKES_WITHIN, VARIABLE, VERSION, word};
use crate::confinement::starter;
use crate::hook::Offer;
use crate::worker::HandedDown;

/// How long the end of a process whose socket is closed already is waited for, to tell how it ended.
const ENDS_WITHIN: Duration = Duration::from_millis(500);

/// A daemon that is to take over; killed when dropped before it has.
#[derive(Debug)]
pub(crate) struct Successor {
    binary: PathBuf,
    child: Option<Child>,
    channel: Channel,
}

/// Why nothing has come of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoSuccessor {
    /// It cannot be started.
    #[error("{}: it cannot be started: {source}", .binary.display())]
    Start {
        /// The program.
        binary: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// It says why itself.
    #[error("{}: it refuses: {why}", .binary.display())]
    Refused {
        /// The program.
        binary: PathBuf,
        /// Its reason.
        why: String,
    },
    /// Its release takes over another state.
    #[error("{}: it takes over state of version {theirs}, and this daemon has version {ours}; restart the daemon instead", .binary.display(), ours = VERSION)]
    Version {
        /// The program.
        binary: PathBuf,
        /// What it says.
        theirs: String,
    },
    /// It has ended.
    #[error("{}: it ended ({how}) before it {what}; its log says why", .binary.display())]
    Ended {
        /// The program.
        binary: PathBuf,
        /// Its exit status or signal.
        how: String,
        /// What it was to do.
        what: &'static str,
    },
    /// It says nothing.
    #[error("{}: nothing was heard of it for {} s before it {what}; it was killed", .binary.display(), .waited.as_secs())]
    Silent {
        /// The program.
        binary: PathBuf,
        /// For how long.
        waited: Duration,
        /// What it was to do.
        what: &'static str,
    },
    /// It speaks otherwise.
    #[error("{}: it says `{said}` and is no daemon that could take over", .binary.display())]
    Strange {
        /// The program.
        binary: PathBuf,
        /// What it says.
        said: String,
    },
    /// This daemon cannot hand over.
    #[error("handing over: {0}")]
    Here(String),
}

impl Successor {
    /// Starts a program with the words that this process was started with.
    pub(crate) fn start(binary: &Path) -> Result<Self, NoSuccessor> {
        let binary = binary.to_owned();
        let failed = |source| NoSuccessor::Start {
            binary: binary.clone(),
            source,
        };
        let (channel, theirs) = Channel::pair().map_err(failed)?;
        let mut command = Command::new(&binary);
        command
            .args(std::env::args_os().skip(1))
            .env(VARIABLE, "1")
            // It has another process id.
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(theirs));
        let child = starter::start(command).map_err(failed)?;
        Ok(Self {
            binary,
            child: Some(child),
            channel,
        })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Waits until it could begin. This daemon serves meanwhile.
    pub(crate) fn wait_ready(&mut self) -> Result<(), NoSuccessor> {
        let heard = self.expect(word::READY, READY_WITHIN, "was ready")?;
        if heard.rest.parse() != Ok(VERSION) {
            return Err(NoSuccessor::Version {
                binary: self.binary.clone(),
                theirs: heard.rest,
            });
        }
        Ok(())
    }

    /// Shows it the hook that is in force, and waits until it could go on with that. This daemon serves meanwhile.
    pub(crate) fn show(&mut self, hook: Option<Offer>) -> Result<(), NoSuccessor> {
        let words = hook.as_ref().map(Offer::words);
        let maps = hook.map_or_else(Vec::new, |hook| hook.maps);
        let words = words.as_deref().unwrap_or(NO_HOOK);
        self.give(word::HOOK, words, &borrowed(&maps))?;
        self.expect(word::FITS, READY_WITHIN, "was ready").map(drop)
    }

    /// Hands all down, and waits until it is taken up. Nobody serves meanwhile.
    pub(crate) fn hand(
        &mut self,
        estate: Estate,
        descriptors: Descriptors,
        workers: Vec<HandedDown>,
    ) -> Result<(), NoSuccessor> {
        let packed = packed(estate, descriptors, workers);
        let packed = packed.map_err(|e| NoSuccessor::Here(format!("{e:#}")))?;
        let mut rest = borrowed(&packed);
        while rest.len() > MOST {
            let last = rest.split_off(MOST);
            self.give(word::MORE, "", &rest)?;
            rest = last;
        }
        self.give(word::ESTATE, "", &rest)?;
        self.expect(word::TAKES, TAKES_WITHIN, "took over")
            .map(drop)
    }

    /// From now on all is the new daemon's. Waits until it says that it serves; where it does not, there is nobody to
    /// take it back.
    pub(crate) fn leave(&mut self) -> Result<(), NoSuccessor> {
        let said = self.channel.say(word::YOURS, "");
        said.map_err(|e| NoSuccessor::Here(e.to_string()))?;
        let serves = self.expect(word::SERVES, SERVES_WITHIN, "served");
        // Whatever has become of it, it has what there is.
        self.child = None;
        serves.map(drop)
    }

    /// Says a word with descriptors. That nobody hears it is found out by the answer.
    fn give(
        &self,
        word: &str,
        rest: &str,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), NoSuccessor> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        match self.channel.hand(word, rest, descriptors) {
            Err(e) if !matches!(e.kind(), BrokenPipe | ConnectionReset) => {
                Err(NoSuccessor::Here(e.to_string()))
            }
            _ => Ok(()),
        }
    }

    fn expect(
        &mut self,
        word: &str,
        waited: Duration,
        what: &'static str,
    ) -> Result<Heard, NoSuccessor> {
        let binary = self.binary.clone();
        match self.channel.hear(Instant::now() + waited) {
            Ok(Some(heard)) if heard.word == word => Ok(heard),
            Ok(Some(heard)) if heard.word == word::REFUSED => Err(NoSuccessor::Refused {
                binary,
                why: heard.rest,
            }),
            Ok(Some(heard)) => Err(NoSuccessor::Strange {
                binary,
                said: heard.word,
            }),
            Ok(None) => Err(NoSuccessor::Ended {
                binary,
                how: self.ending(),
                what,
            }),
            Err(_) => Err(NoSuccessor::Silent {
                binary,
                waited,
                what,
            }),
        }
    }

    /// How it has ended.
    fn ending(&mut self) -> String {
        let end = Instant::now() + ENDS_WITHIN;
        while let Some(child) = &mut self.child {
            match child.try_wait() {
                Ok(Some(status)) => return status.to_string(),
                Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
                _ => break,
            }
        }
        "it closed the socket".to_owned()
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
