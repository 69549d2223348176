//! The control socket from the asking side: one request at a time, blocking.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::protocol::{Command, Data, Refusal, Reply, Request, VERSION};

/// Where a daemon listens unless `$UVS_SOCKET` says otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/uvs/control.sock";

/// A daemon answers from memory; one that takes longer is stuck.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Something that carries out commands.
pub(crate) trait Daemon {
    /// Carries out one command.
    fn call(&mut self, command: Command) -> Result<Data, CallError>;
}

/// Why a command brought no data.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The daemon said no; nothing was changed.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// Nobody listens on the socket.
    #[error("{}: no daemon answers here; start one with `uvs run`, or name its socket in $UVS_SOCKET", .0.display())]
    Absent(PathBuf),
    /// The socket failed, or what came is not of our protocol.
    #[error("{}: {reason}", .socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What happened.
        reason: io::Error,
    },
}

/// A daemon's control socket.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon at `$UVS_SOCKET`, or at [`DEFAULT_SOCKET`].
    pub(crate) fn from_env() -> Self {
        let named = std::env::var_os("UVS_SOCKET").filter(|s| !s.is_empty());
        Self {
            socket: named.map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from),
        }
    }

    fn exchange(&self, command: Command) -> io::Result<Result<Data, Refusal>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let mut line = serde_json::to_vec(&Request {
            version: VERSION,
            id: 1,
            command,
        })?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut lines = BufReader::new(stream);
        let mut all = None;
        loop {
            line.clear();
            if lines.read_until(b'\n', &mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let reply: Reply = serde_json::from_slice(&line)?;
            match (reply.result, &mut all) {
                (Err(refusal), _) => return Ok(Err(refusal)),
                (Ok(part), None) => all = Some(part),
                (Ok(part), Some(all)) => all.append(part),
            }
            if let Some(all) = all.take_if(|_| !reply.more) {
                return Ok(Ok(all));
            }
        }
    }
}

impl Daemon for Client {
    fn call(&mut self, command: Command) -> Result<Data, CallError> {
        let socket = self.socket.clone();
        match self.exchange(command) {
            Ok(result) => result.map_err(CallError::Refused),
            Err(error) => Err(match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => CallError::Absent(socket),
                _ => CallError::Broken {
                    socket,
                    reason: error,
                },
            }),
        }
    }
}
