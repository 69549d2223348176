//! The socket between two daemons: datagrams of text, with descriptors beside them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Bytes of a word, with what belongs to it: a sentence.
const LONGEST: usize = 4096;
/// Descriptors beside a word, the kernel's limit (SCM_MAX_FD).
pub(super) const MOST: usize = 253;

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// What was said, and the descriptors that came with it.
#[derive(Debug)]
pub(crate) struct Heard {
    /// The word.
    pub(crate) word: String,
    /// What belongs to it.
    pub(crate) rest: String,
    /// The descriptors.
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// Two ends.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(ours), theirs))
    }

    /// The end that somebody else has made.
    pub(super) const fn of(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Says a word with what belongs to it.
    pub(super) fn say(&self, word: &str, rest: &str) -> io::Result<()> {
        self.hand(word, rest, &[])
    }

    /// As [`Channel::say`], with descriptors.
    pub(super) fn hand(
        &self,
        word: &str,
        rest: &str,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        if descriptors.len() > MOST {
            return Err(io::Error::other(format!(
                "more than {MOST} sockets cannot be handed on at once"
            )));
        }
        let mut said = format!("{word} {rest}").into_bytes();
        said.truncate(LONGEST);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("no room for the descriptors"));
        }
        let flags = SendFlags::NOSIGNAL;
        sendmsg(&self.0, &[IoSlice::new(&said)], &mut beside, flags)?;
        Ok(())
    }

    /// Waits for the next word; `None` = the other end is closed.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] where none comes by then; the host's.
    pub(super) fn hear(&self, by: Instant) -> io::Result<Option<Heard>> {
        self.wait(by)?;
        let mut said = [0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let into = &mut [IoSliceMut::new(&mut said)];
        let mut received = recvmsg(&self.0, into, &mut beside, flags);
        if matches!(received, Err(Errno::CONNRESET)) {
            // The other end was closed with a word unread: that is told once, and before what it had said itself.
            received = recvmsg(&self.0, into, &mut beside, flags);
        }
        let received = received?;
        let descriptors = beside
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        if received.bytes == 0 {
            return Ok(None);
        }
        let said = String::from_utf8_lossy(&said[..received.bytes]);
        let (word, rest) = said.split_once(' ').unwrap_or((&said, ""));
        Ok(Some(Heard {
            word: word.trim().to_owned(),
            rest: rest.trim().to_owned(),
            descriptors,
        }))
    }

    fn wait(&self, by: Instant) -> io::Result<()> {
        loop {
            let left = by.saturating_duration_since(Instant::now());
            let left =
                Timespec::try_from(left.max(Duration::from_millis(1))).map_err(io::Error::other)?;
            let mut readable = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut readable, Some(&left)) {
                Err(Errno::INTR) => {}
                Ok(0) if Instant::now() >= by => return Err(io::ErrorKind::TimedOut.into()),
                Ok(0) => {}
                Ok(_) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn words_come_with_what_belongs_to_them() {
        let (old, new) = Channel::pair().expect("a pair");
        let new = Channel::of(new);
        new.say("ready", "1").expect("said");
        let (a, b) = rustix::pipe::pipe().expect("a pipe");
        new.hand("estate", "", &[a.as_fd(), b.as_fd()])
            .expect("handed");
        let heard = old.hear(soon()).expect("heard").expect("a word");
        assert_eq!((heard.word.as_str(), heard.rest.as_str()), ("ready", "1"));
        let heard = old.hear(soon()).expect("heard").expect("a word");
        assert_eq!(
            (heard.word.as_str(), heard.descriptors.len()),
            ("estate", 2)
        );
        let late = old.hear(Instant::now() + Duration::from_millis(5));
        assert_eq!(late.expect_err("nothing").kind(), io::ErrorKind::TimedOut);
        drop(new);
        assert!(old.hear(soon()).expect("an end").is_none());
    }

    #[test]
    fn the_last_words_are_heard_of_an_end_that_is_closed_without_having_read_all() {
        let (old, new) = Channel::pair().expect("a pair");
        let new = Channel::of(new);
        old.say("hook", "none").expect("said");
        new.say("refused", "why").expect("said");
        drop(new);
        let heard = old.hear(soon()).expect("heard").expect("a word");
        assert_eq!(
            (heard.word.as_str(), heard.rest.as_str()),
            ("refused", "why")
        );
        assert!(old.hear(soon()).expect("an end").is_none());
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let (old, _new) = Channel::pair().expect("a pair");
        let many = vec![old.as_fd(); MOST + 1];
        old.hand("estate", "", &many).expect_err("too many");
        old.hand("estate", "", &many[..MOST]).expect("just as many");
    }
}
