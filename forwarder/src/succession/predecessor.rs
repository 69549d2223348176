//! The new daemon's end: it is told what the old one has, and says how far it has come.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{Mode, OFlags, open};

use super::channel::{Channel, Heard};
use super::estate::{Descriptors, Estate, unpacked};
use super::{NO_HOOK, VARIABLE, VERSION, word};
use crate::hook::Offer;
use crate::worker::HandedDown;

/// How long a word of the old daemon's is waited for: it has but to write down what it knows.
const PATIENCE: Duration = Duration::from_secs(30);

/// The daemon that this one takes over from.
#[derive(Debug)]
pub struct Predecessor {
    channel: Mutex<Channel>,
    has_taken: AtomicBool,
    serves: AtomicBool,
}

impl Predecessor {
    /// Whether a daemon has started this one to take over.
    pub fn is_there() -> bool {
        std::env::var_os(VARIABLE).is_some_and(|v| !v.is_empty())
    }

    /// The daemon that has started this one to take over, where one has. The process's standard input, which is the
    /// way to it, is empty from then on.
    ///
    /// # Errors
    /// The host's.
    pub fn from_env() -> io::Result<Option<Self>> {
        if !Self::is_there() {
            return Ok(None);
        }
        let stdin = rustix::stdio::stdin();
        let socket = rustix::io::fcntl_dupfd_cloexec(stdin, 3)?;
        let nothing: OwnedFd = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::stdio::dup2_stdin(nothing.as_fd())?;
        Ok(Some(Self {
            channel: Mutex::new(Channel::of(socket)),
            has_taken: AtomicBool::new(false),
            serves: AtomicBool::new(false),
        }))
    }

    /// Says that nothing comes of it, and why.
    pub fn refuse(&self, why: &str) {
        // The old daemon sees as well that this one ends.
        let _ = self.channel().say(word::REFUSED, why);
    }

    /// Says that this daemon has read its configuration, and waits for the hook that it would have to go on with; `None` =
    /// the other daemon has none.
    pub(crate) fn hook(&self) -> Result<Option<Offer>> {
        let channel = self.channel();
        channel
            .say(word::READY, &VERSION.to_string())
            .context("the daemon to take over from")?;
        let Heard {
            rest, descriptors, ..
        } = expected(&channel, word::HOOK)?;
        if rest == NO_HOOK {
            return Ok(None);
        }
        let offer = Offer::of(&rest, descriptors);
        let unknown = || format!("the daemon to take over from has a hook that is `{rest}`");
        offer.with_context(unknown).map(Some)
    }

    /// Says that this daemon could begin, and waits for what it is handed.
    pub(crate) fn begin(&self) -> Result<(Estate, Descriptors, Vec<HandedDown>)> {
        let channel = self.channel();
        channel
            .say(word::FITS, "")
            .context("the daemon to take over from")?;
        let mut descriptors = Vec::new();
        loop {
            let heard = heard(&channel)?;
            descriptors.extend(heard.descriptors);
            match heard.word.as_str() {
                word::MORE => {}
                word::ESTATE => return unpacked(descriptors),
                other => bail!("the daemon to take over from says `{other}`"),
            }
        }
    }

    /// Whether all is this daemon's.
    pub(crate) fn has_taken(&self) -> bool {
        self.has_taken.load(Ordering::Relaxed)
    }

    /// Says that all is taken up, and waits until it is this daemon's, once.
    pub(crate) fn take(&self) -> Result<()> {
        if self.has_taken() {
            return Ok(());
        }
        let channel = self.channel();
        channel
            .say(word::TAKES, "")
            .context("the daemon to take over from")?;
        expected(&channel, word::YOURS)?;
        self.has_taken.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Says that this daemon serves, once.
    pub(crate) fn serve(&self) {
        if !self.serves.swap(true, Ordering::Relaxed) {
            let _ = self.channel().say(word::SERVES, "");
        }
    }

    fn channel(&self) -> std::sync::MutexGuard<'_, Channel> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn expected(channel: &Channel, word: &str) -> Result<Heard> {
    let heard = heard(channel)?;
    ensure!(
        heard.word == word,
        "the daemon to take over from says `{}`",
        heard.word
    );
    Ok(heard)
}

fn heard(channel: &Channel) -> Result<Heard> {
    let heard = channel.hear(Instant::now() + PATIENCE);
    let heard = heard.context("the daemon to take over from says nothing")?;
    heard.context("the daemon to take over from does not want it any more")
}
