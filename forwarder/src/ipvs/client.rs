//! One client of the socket: what it asked, and what it has not read yet. Nothing is read from it until its answer
//! is written, so that what it can make the daemon hold is one datagram in and one request's answer out.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use uvs_control::author::Author;
use uvs_ipvs_abi::conversation::Conversation;
use uvs_ipvs_carried::MAX_DATAGRAM;

use super::Served;

/// How long a client may take to make room for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one step with a client came to.
pub(super) enum Step {
    /// Nothing to do until its socket reports.
    Wait,
    /// It may have more: step again in the next turn.
    Again,
}

pub(super) struct Client {
    stream: UnixStream,
    pub(super) author: Author,
    conversation: Conversation,
    /// Datagrams that are to be sent.
    output: VecDeque<Vec<u8>>,
    /// Since when it has no room for the first of them.
    stuck: Option<Instant>,
}

impl Client {
    pub(super) const fn new(stream: UnixStream, author: Author, permitted: bool) -> Self {
        Self {
            stream,
            author,
            conversation: Conversation::new(permitted),
            output: VecDeque::new(),
            stuck: None,
        }
    }

    /// Whether part of an answer has found no room yet.
    pub(super) fn has_unread(&self) -> bool {
        !self.output.is_empty()
    }

    /// When it is dropped unless it reads.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.stuck.map(|since| since + PATIENCE)
    }

    /// Goes as far as its socket allows, one request at most.
    ///
    /// # Errors
    /// It is gone, or to be let go.
    pub(super) fn step(
        &mut self,
        buffer: &mut [u8],
        director: &mut impl Served,
        now: Instant,
    ) -> io::Result<Step> {
        if !self.flush(now)? {
            return Ok(Step::Wait);
        }
        director.asked_by(&self.author);
        let answers = self.conversation.answer(director);
        if let Some(wanted) = self.conversation.take_forbidden() {
            director.forbidden(&wanted);
        }
        if let Some(answers) = answers {
            self.output = answers.into();
            self.flush(now)?;
            return Ok(Step::Again);
        }
        match self.stream.read(buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) if length > MAX_DATAGRAM => {
                let message = format!("it sent more than {MAX_DATAGRAM} bytes at once");
                Err(io::Error::other(message))
            }
            Ok(length) => {
                self.conversation.hear(buffer[..length].to_vec());
                Ok(Step::Again)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Step::Wait),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Step::Again),
            Err(error) => Err(error),
        }
    }

    /// Sends what is to be sent; whether all of it is.
    pub(super) fn flush(&mut self, now: Instant) -> io::Result<bool> {
        while let Some(datagram) = self.output.front() {
            match self.stream.write(datagram) {
                Ok(_) => {
                    self.output.pop_front();
                    self.stuck = None;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.stuck.get_or_insert(now);
                    return Ok(false);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
