//! The control socket from the asking side: connects at the first command, one request at a time.
//!
//! Both command lines speak to a daemon through [`Daemon`], so that tests can put a table in its place, and
//! ask it by [`Asking`], which is where an answer gets the type of its question. A reply that has not got it
//! can come from a daemon of another release alone, and ends there as [`CallError::Unexpected`].

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use super::protocol::{Change, Command, Question, Refusal, Reply, Request, VERSION};
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
        take: &mut Take<'_>,
    ) -> Result<Result<(), Refusal>, CallError> {
        let unexpected = |e: serde_json::Error| self.unexpected(e.to_string());
        let mut line = serde_json::to_vec(request).map_err(unexpected)?;
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
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread::{self, JoinHandle};

    use super::*;
    use crate::protocol::{Errno, SysctlRequest, ask};

    #[test]
    fn a_reply_comes_back_and_the_connection_is_kept() {
        let (dir, server) = serve(2, |request| {
            let refusal = Refusal {
                errno: Errno::NotFound,
                message: "TCP 10.0.0.1:80: no such service".into(),
            };
            let result = if request.id == 1 {
                Ok("done")
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
        client.change(Change::Clear).expect("done");
        let error = client.change(Change::Clear).expect_err("refused");
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
        let all = Client::new(dir.path().join("s")).ask(ask::ListConnections);
        assert_eq!(all.expect("a listing").len(), 2);
    }

    #[test]
    fn an_answer_in_parts_to_what_is_answered_whole_is_unexpected() {
        let (dir, _server) = serve(1, |_| {
            let part = r#"{"id":1,"result":{"Ok":{"sysctl":1}},"more":true}"#;
            format!("{part}\n{part}")
        });
        let error = Client::new(dir.path().join("s"))
            .ask(ask::Sysctl(SysctlRequest {
                name: "drop_entry".to_owned(),
                value: None,
            }))
            .expect_err("one value");
        assert!(matches!(error, CallError::Unexpected { .. }), "{error}");
    }

    const CONNECTION: &str = r#"{"protocol":"tcp","client":{"addr":"10.0.0.9","port":1},"vip":{"addr":"10.0.0.1","port":80},"server":{"addr":"10.0.0.2","port":80},"local":null,"state":"ESTABLISHED","expires":900}"#;

    #[test]
    fn a_daemon_that_refuses_the_client_itself_is_understood() {
        let (dir, _server) = serve(1, |_| {
            r#"{"id":0,"result":{"Err":{"errno":"failed","message":"too many clients"}}}"#
                .to_owned()
        });
        let error = Client::new(dir.path().join("s"))
            .ask(ask::Info)
            .expect_err("refused");
        assert_eq!(error.to_string(), "too many clients");
    }

    #[test]
    fn nobody_there_is_told_with_the_socket_and_the_command_that_helps() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("nothing.sock");
        let error = Client::new(socket.clone())
            .ask(ask::Info)
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
        Client::new(path).change(Change::Clear).expect("done");
        server.join().expect("it was asked");
        drop(lock);
    }

    #[test]
    fn another_protocol_or_a_hang_up_is_told() {
        for reply in [
            r#"{"id":1,"result":{"Ok":"something_new"}}"#,
            r#"{"id":1,"result":{"Ok":{"timeouts":{"tcp":900,"tcp_fin":120,"udp":300}}}}"#,
            r#"{"id":2,"result":{"Ok":"done"}}"#,
            "HTTP/1.1 400 Bad Request",
        ] {
            let (dir, _server) = serve(1, move |_| reply.to_owned());
            let mut client = Client::new(dir.path().join("s"));
            let error = client.ask(ask::Info).expect_err("no answer to that");
            assert!(matches!(error, CallError::Unexpected { .. }), "{error}");
            let text = error.to_string();
            assert!(
                text.contains("unexpected reply") && text.contains("restart"),
                "{text}"
            );
        }
        let (dir, _server) = serve(0, |_| String::new());
        let error = Client::new(dir.path().join("s"))
            .ask(ask::Info)
            .expect_err("hung up");
        assert!(matches!(error, CallError::Broken { .. }), "{error}");
    }

    /// Answers `count` requests of one connection, then hangs up.
    fn serve(
        count: usize,
        answer: impl Fn(Request) -> String + Send + 'static,
    ) -> (tempfile::TempDir, JoinHandle<()>) {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join("s")).expect("a socket");
        let server = thread::spawn(move || answer_all(&listener, count, answer));
        (dir, server)
    }

    fn answer_all(listener: &UnixListener, count: usize, answer: impl Fn(Request) -> String) {
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
