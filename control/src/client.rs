//! The asking side: whatever carries out commands is a [`Daemon`], the [`Client`] of a control socket or, in tests, a
//! table in memory. It is asked by [`Asking`], where an answer gets the type of its question. A reply that has not got it can
//! come from a daemon of another release alone, and ends there as [`CallError::Unexpected`].

mod socket;

use std::io;
use std::path::PathBuf;

use serde_json::value::RawValue;

use crate::protocol::{Change, Command, Question, Refusal};

use socket::TIMEOUT;
pub use socket::{Client, DEFAULT_SOCKET};

/// Takes an answer's parts as they come; an error is that of a part which is no answer to the question.
pub type Take<'a> = dyn FnMut(&RawValue) -> serde_json::Result<()> + 'a;

/// Something that carries out commands.
pub trait Daemon {
    /// Carries out one command and hands the answer to `take`, in one part at least.
    ///
    /// # Errors
    /// There is no answer, or `take` refuses it.
    fn call(&mut self, command: Command, take: &mut Take<'_>) -> Result<(), CallError>;
}

/// Questions to a daemon, each answered by what it asks for.
pub trait Asking: Daemon {
    /// Asks one question.
    ///
    /// # Errors
    /// There is no answer.
    fn ask<Q: Question>(&mut self, question: Q) -> Result<Q::Answer, CallError> {
        let mut answer = None;
        self.call(question.into(), &mut |part| {
            let part = Q::decode(part)?;
            match &mut answer {
                None => answer = Some(part),
                Some(all) => Q::append(all, part)?,
            }
            Ok(())
        })?;
        Ok(answer.expect("a call that succeeds hands over an answer"))
    }

    /// Asks one question and hands over the answer's parts as they come, until one is refused: what a listing of any
    /// length takes is one part.
    ///
    /// # Errors
    /// There is no answer; inside, that of `each`.
    fn ask_in_parts<Q: Question, E>(
        &mut self,
        question: Q,
        mut each: impl FnMut(Q::Answer) -> Result<(), E>,
    ) -> Result<Result<(), E>, CallError> {
        let mut outcome = Ok(());
        let called = self.call(question.into(), &mut |part| {
            outcome = each(Q::decode(part)?);
            let refused = || serde::de::Error::custom("the part is refused");
            outcome
                .as_ref()
                .map_or_else(|_| Err(refused()), |()| Ok(()))
        });
        match outcome {
            Ok(()) => called.map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Has one change made.
    ///
    /// # Errors
    /// It was not made.
    fn change(&mut self, change: Change) -> Result<(), CallError> {
        self.ask(change)
    }
}

impl<D: Daemon + ?Sized> Asking for D {}

/// Why a command brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The daemon said no; nothing was changed.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// Nobody listens on the socket.
    #[error("{}: no daemon answers here; start one with `uvs run`, or name its socket in $UVS_SOCKET", .0.display())]
    Absent(PathBuf),
    /// The socket may not be opened.
    #[error("{}: permission denied; the daemon `uvs run` on this socket takes commands from root only", .0.display())]
    Denied(PathBuf),
    /// The daemon keeps silent.
    #[error("{}: the daemon did not answer within {} s; is its `uvs run` stuck?", .0.display(), TIMEOUT.as_secs())]
    Silent(PathBuf),
    /// The daemon hung up, or the socket failed.
    #[error("{}: the connection to the daemon broke ({reason}); is `uvs run` still there?", .socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What the host says.
        reason: io::Error,
    },
    /// The daemon is of another release: its reply is none of our protocol, or no answer to what was asked.
    #[error("{}: unexpected reply ({reason}); restart `uvs run` after an upgrade", .socket.display())]
    Unexpected {
        /// The socket.
        socket: PathBuf,
        /// What was not understood.
        reason: String,
    },
}
