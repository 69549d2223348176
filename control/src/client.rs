//! The control socket from the asking side: connects at the first command, one request at a time.
//!
//! Both command lines speak to a daemon through [`Daemon`], so that tests can put a table in its place.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::protocol::{Command, Data, Refusal, Reply, Request, VERSION};
use super::starting::is_locked;

/// Where a daemon listens unless `$UVS_SOCKET` says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/uvs/control.sock";

/// A daemon answers from memory; one that takes longer is stuck.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a daemon that is starting is waited for.
const START: Duration = Duration::from_secs(1);
/// How long one that was started at the same moment as this command may take to be seen at all.
const FIRST_SIGN: Duration = Duration::from_millis(50);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// Something that carries out commands.
pub trait Daemon {
    /// Carries out one command.
    fn call(&mut self, command: Command) -> Result<Data, CallError>;
}

/// Why a command brought no data.
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
    /// The answer is not of our protocol.
    #[error(
        "{}: the daemon does not speak control protocol {VERSION} ({reason}); restart `uvs run` after an upgrade",
        .socket.display()
    )]
    Foreign {
        /// The socket.
        socket: PathBuf,
        /// What was not understood.
        reason: String,
    },
}

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

    fn exchange(
        &self,
        stream: &mut BufReader<UnixStream>,
        request: &Request,
    ) -> Result<Reply, CallError> {
        let foreign = |e: serde_json::Error| self.foreign(e.to_string());
        let mut line = serde_json::to_vec(request).map_err(foreign)?;
        line.push(b'\n');
        stream
            .get_mut()
            .write_all(&line)
            .map_err(|e| self.explain(e))?;
        let mut reply = self.receive(stream, request.id)?;
        while reply.more {
            let next = self.receive(stream, request.id)?;
            match (&mut reply.result, next.result) {
                (Ok(all), Ok(part)) => all.append(part),
                (result, end) => *result = end,
            }
            reply.more = next.more;
        }
        Ok(reply)
    }

    /// One reply line. Where a daemon could not take the request at all, it refuses request 0.
    fn receive(&self, stream: &mut BufReader<UnixStream>, id: u64) -> Result<Reply, CallError> {
        let mut line = Vec::new();
        let length = stream
            .read_until(b'\n', &mut line)
            .map_err(|e| self.explain(e))?;
        if length == 0 {
            return Err(self.explain(ErrorKind::UnexpectedEof.into()));
        }
        let reply: Reply =
            serde_json::from_slice(&line).map_err(|e| self.foreign(e.to_string()))?;
        if reply.id != id && !(reply.id == 0 && reply.result.is_err()) {
            let what = format!("request {id} was answered as {}", reply.id);
            return Err(self.foreign(what));
        }
        Ok(reply)
    }

    fn foreign(&self, reason: String) -> CallError {
        CallError::Foreign {
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
    fn call(&mut self, command: Command) -> Result<Data, CallError> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        self.last_id += 1;
        let reply = self.exchange(
            &mut stream,
            &Request {
                version: VERSION,
                id: self.last_id,
                command,
            },
        )?;
        self.stream = Some(stream);
        reply.result.map_err(CallError::Refused)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread::{self, JoinHandle};

    use super::*;
    use crate::protocol::Errno;

    #[test]
    fn a_reply_comes_back_and_the_connection_is_kept() {
        let (dir, server) = serve(2, |request| {
            let refusal = Refusal {
                errno: Errno::NotFound,
                message: "TCP 10.0.0.1:80: no such service".into(),
            };
            let result = if request.id == 1 {
                Ok(Data::Done)
            } else {
                Err(refusal)
            };
            serde_json::to_string(&Reply {
                id: request.id,
                result,
                more: false,
            })
            .expect("json")
        });
        let mut client = Client::new(dir.path().join("s"));
        assert!(matches!(client.call(Command::Clear), Ok(Data::Done)));
        let error = client.call(Command::Clear).expect_err("refused");
        assert_eq!(error.to_string(), "TCP 10.0.0.1:80: no such service");
        server
            .join()
            .expect("both requests came over one connection");
    }

    #[test]
    fn a_listing_in_parts_is_joined() {
        let (dir, _server) = serve(1, |_| {
            let part = |more| {
                format!(
                    "{{\"id\":1,\"result\":{{\"Ok\":{{\"connections\":[{CONNECTION}]}}}}{more}}}"
                )
            };
            part(",\"more\":true") + "\n" + &part("")
        });
        let data = Client::new(dir.path().join("s")).call(Command::ListConnections);
        assert!(matches!(data, Ok(Data::Connections(all)) if all.len() == 2));
    }

    const CONNECTION: &str = r#"{"protocol":"tcp","client":{"addr":"10.0.0.9","port":1},"vip":{"addr":"10.0.0.1","port":80},"server":{"addr":"10.0.0.2","port":80},"local":null,"state":"ESTABLISHED","expires":900}"#;

    #[test]
    fn a_daemon_that_refuses_the_client_itself_is_understood() {
        let (dir, _server) = serve(1, |_| {
            r#"{"id":0,"result":{"Err":{"errno":"failed","message":"too many clients"}}}"#
                .to_owned()
        });
        let error = Client::new(dir.path().join("s"))
            .call(Command::Info)
            .expect_err("refused");
        assert_eq!(error.to_string(), "too many clients");
    }

    #[test]
    fn nobody_there_is_told_with_the_socket_and_the_command_that_helps() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("nothing.sock");
        let error = Client::new(socket.clone())
            .call(Command::Info)
            .expect_err("no daemon")
            .to_string();
        assert!(
            error.contains(&socket.display().to_string()) && error.contains("uvs run"),
            "{error}"
        );
        assert!(!error.contains('\n'));
    }

    #[test]
    fn a_daemon_that_is_starting_is_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        let lock = std::fs::File::create(dir.path().join("s.lock")).expect("a lock");
        lock.try_lock().expect("locked");
        let at = path.clone();
        let server = thread::spawn(move || {
            sleep(4 * FIRST_SIGN);
            let listener = UnixListener::bind(at).expect("a socket");
            answer_all(&listener, 1, |_| {
                r#"{"id":1,"result":{"Ok":"done"}}"#.to_owned()
            });
        });
        let answer = Client::new(path).call(Command::Clear);
        assert!(matches!(answer, Ok(Data::Done)), "{answer:?}");
        server.join().expect("it was asked");
        drop(lock);
    }

    #[test]
    fn another_protocol_or_a_hang_up_is_told() {
        let (dir, _server) = serve(1, |_| {
            r#"{"id":1,"result":{"Ok":"something_new"}}"#.to_owned()
        });
        let mut client = Client::new(dir.path().join("s"));
        let error = client.call(Command::Info).expect_err("not our protocol");
        assert!(matches!(error, CallError::Foreign { .. }), "{error}");
        let (dir, _server) = serve(0, |_| String::new());
        let error = Client::new(dir.path().join("s"))
            .call(Command::Info)
            .expect_err("hung up");
        assert!(matches!(error, CallError::Broken { .. }), "{error}");
    }

    /// Answers `count` requests of one connection, then hangs up.
    fn serve(count: usize, answer: fn(Request) -> String) -> (tempfile::TempDir, JoinHandle<()>) {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join("s")).expect("a socket");
        let server = thread::spawn(move || answer_all(&listener, count, answer));
        (dir, server)
    }

    fn answer_all(listener: &UnixListener, count: usize, answer: fn(Request) -> String) {
        let (stream, _) = listener.accept().expect("a client");
        let mut reader = BufReader::new(stream);
        for _ in 0..count {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a request");
            let request = serde_json::from_str(&line).expect("json");
            reader
                .get_mut()
                .write_all((answer(request) + "\n").as_bytes())
                .expect("sent");
        }
    }
}
