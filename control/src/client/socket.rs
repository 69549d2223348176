//! The control socket from the asking side: connects at the first command, one request at a time.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use super::{CallError, Daemon, Take};
use crate::protocol::{Command, Refusal, Reply, Request, VERSION};
use crate::starting::is_locked;

/// Where a daemon listens unless `$UVS_SOCKET` says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/uvs/control.sock";

/// A daemon answers from memory; one that takes longer is stuck.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a daemon that is starting is waited for.
const START: Duration = Duration::from_secs(1);
/// How long one that was started at the same moment as this command may take to be seen at all.
const FIRST_SIGN: Duration = Duration::from_millis(50);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// A connection to a daemon's control socket, opened when it is first needed.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    stream: Option<BufReader<UnixStream>>,
    last_id: u64,
}

impl Client {
    /// A client of the daemon at `$UVS_SOCKET`, or at [`DEFAULT_SOCKET`].
    pub fn from_env() -> Self {
        Self::new(
            std::env::var_os("UVS_SOCKET")
                .filter(|s| !s.is_empty())
                .map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from),
        )
    }

    /// A client of the daemon at `socket`.
    pub fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            stream: None,
            last_id: 0,
        }
    }

    fn connect(&self) -> Result<BufReader<UnixStream>, CallError> {
        let stream = self.reach().map_err(|e| self.explain(e))?;
        let limited = stream
            .set_read_timeout(Some(TIMEOUT))
            .and_then(|()| stream.set_write_timeout(Some(TIMEOUT)));
        limited.map_err(|e| self.explain(e))?;
        Ok(BufReader::new(stream))
    }

    /// Waits for a daemon that is starting; where there is none, that is known at once.
    fn reach(&self) -> io::Result<UnixStream> {
        let begun = Instant::now();
        loop {
            let error = match UnixStream::connect(&self.socket) {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            let patience = if is_locked(&self.socket) {
                START
            } else {
                FIRST_SIGN
            };
            if !is_absence(&error) || begun.elapsed() >= patience {
                return Err(error);
            }
            sleep(LOOK);
        }
    }

    /// Sends a request and hands what is answered to `take`; the inner error is the daemon's own.
    fn exchange(
        &self,
        stream: &mut BufReader<UnixStream>,
        request: &Request,
        take: &mut Take<'_>,
    ) -> Result<Result<(), Refusal>, CallError> {
        let unexpected = |e: serde_json::Error| self.unexpected(e.to_string());
        let mut line = serde_json::to_vec(request).expect("a request is plain data");
        line.push(b'\n');
        stream
            .get_mut()
            .write_all(&line)
            .map_err(|e| self.explain(e))?;
        loop {
            self.receive(stream, &mut line)?;
            let reply: Reply<&RawValue> = serde_json::from_slice(&line).map_err(unexpected)?;
            // Where a daemon could not take the request at all, it refuses request 0.
            if reply.id != request.id && !(reply.id == 0 && reply.result.is_err()) {
                let what = format!("request {} was answered as {}", request.id, reply.id);
                return Err(self.unexpected(what));
            }
            match reply.result {
                Ok(part) => take(part).map_err(unexpected)?,
                Err(refusal) => return Ok(Err(refusal)),
            }
            if !reply.more {
                return Ok(Ok(()));
            }
        }
    }

    /// Replaces `line` by the next one.
    fn receive(
        &self,
        stream: &mut BufReader<UnixStream>,
        line: &mut Vec<u8>,
    ) -> Result<(), CallError> {
        line.clear();
        match stream.read_until(b'\n', line) {
            Ok(0) => Err(self.explain(ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(()),
            Err(error) => Err(self.explain(error)),
        }
    }

    fn unexpected(&self, reason: String) -> CallError {
        CallError::Unexpected {
            socket: self.socket.clone(),
            reason,
        }
    }

    fn explain(&self, error: io::Error) -> CallError {
        let socket = self.socket.clone();
        match error.kind() {
            _ if is_absence(&error) => CallError::Absent(socket),
            ErrorKind::PermissionDenied => CallError::Denied(socket),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => CallError::Silent(socket),
            _ => CallError::Broken {
                socket,
                reason: error,
            },
        }
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused
    )
}

impl Daemon for Client {
    /// After a failed exchange the connection is given up, as a late answer would be taken for the next.
    fn call(&mut self, command: Command, take: &mut Take<'_>) -> Result<(), CallError> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        self.last_id += 1;
        let request = Request {
            version: VERSION,
            id: self.last_id,
            command,
        };
        let outcome = self.exchange(&mut stream, &request, take)?;
        self.stream = Some(stream);
        outcome.map_err(CallError::Refused)
    }
}

#[cfg(test)]
mod tests;
