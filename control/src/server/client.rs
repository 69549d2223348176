//! One client of the control socket: its unread input, its unwritten output, and whose turn it is.
//!
//! A client has one request in progress at most. Nothing is read from it until the answer is written, and
//! the next part of a listing is not asked for until the last one is; so what one client can make the
//! daemon hold is one line in and one reply out, however it behaves.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use serde::Deserialize;

use crate::author::Author;
use crate::protocol::{Answer, Command, Encoded, Errno, Refusal, Reply, Request, Rest, VERSION};

/// Bytes of a request line. The longest command, a service with its servers, is a few hundred.
pub(super) const MAX_LINE: usize = 1 << 20;
/// Bytes read at a time.
const CHUNK: usize = 16 << 10;
/// How long a client may take for the rest of a line, or for making room for its answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may keep its place without asking anything.
pub(super) const REST: Duration = Duration::from_secs(300);

/// What one step with a client came to.
pub(super) enum Step {
    /// Nothing to do until its socket, or the daemon, reports.
    Wait,
    /// It has been served and may have more: step again in the next turn.
    Again,
    /// It asks for something.
    Ask(Command),
    /// A part of its listing is written: it wants the next.
    More(Rest),
    /// It is gone, or to be disconnected.
    Gone,
}

/// Whose move it is.
#[derive(Debug)]
enum State {
    /// The client's: a line is to come.
    Listening,
    /// The daemon's: request `id` is to be answered.
    Asked { id: u64 },
    /// The client's: a part is to be read, then the next one is due.
    Listing { id: u64, rest: Rest },
    /// The client's: a last reply is to be read.
    Leaving,
}

/// What it is waited for; each has its own limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    Request,
    RestOfLine,
    Daemon,
    RoomForOutput,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: UnixStream,
    pub(super) author: Author,
    /// Told apart from earlier clients in the same slot by this.
    pub(super) serial: u64,
    state: State,
    input: Vec<u8>,
    /// Bytes of `input` that hold no line's end.
    scanned: usize,
    output: Vec<u8>,
    written: usize,
    pause: Pause,
    since: Instant,
}

/// The part of a request that every version has.
#[derive(Deserialize)]
struct Head {
    version: u32,
    id: u64,
}

impl Client {
    pub(super) fn new(stream: UnixStream, author: Author, serial: u64, now: Instant) -> Self {
        Self {
            stream,
            author,
            serial,
            state: State::Listening,
            input: Vec::new(),
            scanned: 0,
            output: Vec::new(),
            written: 0,
            pause: Pause::Request,
            since: now,
        }
    }

    /// When it is disconnected unless something happens first.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.pause {
            Pause::Daemon => None,
            Pause::Request => Some(self.since + REST),
            Pause::RestOfLine | Pause::RoomForOutput => Some(self.since + PATIENCE),
        }
    }

    /// What it was waited for, for the log.
    pub(super) fn complaint(&self) -> &'static str {
        match self.pause {
            Pause::Request => "asked nothing for too long",
            Pause::RestOfLine => "sent half a line and no more",
            Pause::Daemon => "left",
            Pause::RoomForOutput => "does not read its answer",
        }
    }

    /// Whether it waits for an answer.
    pub(super) const fn is_asking(&self) -> bool {
        matches!(self.state, State::Asked { .. })
    }

    /// Goes as far as its socket allows, one request at most.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        match self.flush(now) {
            Ok(true) => {}
            Ok(false) => return Step::Wait,
            Err(_) => return Step::Gone,
        }
        match self.state {
            State::Leaving => Step::Gone,
            State::Asked { .. } => self.wait(Pause::Daemon, now),
            State::Listing { id, ref rest } => {
                let rest = rest.clone();
                self.state = State::Asked { id };
                self.wait(Pause::Daemon, now);
                Step::More(rest)
            }
            State::Listening => self.listen(now),
        }
    }

    /// Puts the answer to what it asked into its output.
    pub(super) fn answer(&mut self, answer: Answer) {
        let State::Asked { id } = self.state else {
            return;
        };
        match answer {
            Answer::Last(result) => {
                self.state = State::Listening;
                self.reply(id, result, false);
            }
            Answer::Part(part, rest) => {
                self.state = State::Listing { id, rest };
                self.reply(id, Ok(part), true);
            }
        }
    }

    /// Sends a last message; it is disconnected when it has read that.
    pub(super) fn dismiss(&mut self, errno: Errno, message: String) {
        self.state = State::Leaving;
        self.reply(0, Err(Refusal { errno, message }), false);
    }

    fn reply(&mut self, id: u64, result: Result<Encoded, Refusal>, more: bool) {
        let reply = serde_json::to_writer(&mut self.output, &Reply { id, result, more });
        debug_assert!(
            reply.is_ok(),
            "replies are plain data and a vector takes every byte"
        );
        self.output.push(b'\n');
    }

    /// Writes what is to be written; whether all of it is.
    pub(super) fn flush(&mut self, now: Instant) -> io::Result<bool> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.written += n;
                    (self.pause, self.since) = (Pause::RoomForOutput, now);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait(Pause::RoomForOutput, now);
                    return Ok(false);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // Given back whole: a listing's part may have been large.
        (self.output, self.written) = (Vec::new(), 0);
        Ok(true)
    }

    fn listen(&mut self, now: Instant) -> Step {
        match self.read_line(now) {
            Ok(Some(line)) => self.hear(&line),
            Ok(None) if self.input.len() > MAX_LINE => {
                let message = format!("a request is one line of at most {MAX_LINE} bytes");
                self.dismiss(Errno::Invalid, message);
                Step::Again
            }
            Ok(None) if self.input.is_empty() => self.wait(Pause::Request, now),
            Ok(None) => self.wait(Pause::RestOfLine, now),
            Err(_) => Step::Gone,
        }
    }

    /// The next line without its end; `None` where it is not all there, or too long.
    fn read_line(&mut self, now: Instant) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.input[self.scanned..].iter().position(|&b| b == b'\n') {
                let mut line: Vec<u8> = self.input.drain(..=self.scanned + end).collect();
                line.pop();
                self.scanned = 0;
                self.wait(Pause::Daemon, now);
                return Ok(Some(line));
            }
            self.scanned = self.input.len();
            if self.scanned > MAX_LINE {
                return Ok(None);
            }
            let mut chunk = [0; CHUNK];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.input.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn hear(&mut self, line: &[u8]) -> Step {
        match understand(line) {
            Ok(request) => {
                self.state = State::Asked { id: request.id };
                Step::Ask(request.command)
            }
            Err((id, message)) => {
                self.reply(
                    id,
                    Err(Refusal {
                        errno: Errno::Invalid,
                        message,
                    }),
                    false,
                );
                Step::Again
            }
        }
    }

    fn wait(&mut self, pause: Pause, now: Instant) -> Step {
        if self.pause != pause {
            (self.pause, self.since) = (pause, now);
        }
        Step::Wait
    }
}

/// The request in a line, or the `id` to answer to (0 where there is none) and what is wrong.
fn understand(line: &[u8]) -> Result<Request, (u64, String)> {
    let head: Head = serde_json::from_slice(line).map_err(|error| {
        (
            0,
            format!("not a request of uvs's control protocol: {error}"),
        )
    })?;
    if head.version != VERSION {
        let message = format!(
            "protocol version {} is not spoken here, this daemon speaks {VERSION}; use the uvs of the \
             daemon's release",
            head.version
        );
        return Err((head.id, message));
    }
    request(line).map_err(|what| (head.id, format!("not a known command: {what}")))
}

/// The request in a line, in which nothing is unknown: a setting that is left out silently would be taken for set. What is wrong
/// is told with its place in the line: `command.add_server[1].weight: …`.
fn request(line: &[u8]) -> Result<Request, String> {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let mut json = serde_json::Deserializer::from_slice(line);
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let read = serde_ignored::deserialize(tracked, |path| unknown.push(path.to_string()));
    let request: Request = read.map_err(|error| match track.path() {
        path if path.iter().next().is_none() => error.to_string(),
        path => format!("{path}: {error}"),
    })?;
    match unknown.as_slice() {
        [] => Ok(request),
        unknown => Err(format!(
            "{}: unknown; docs/api.md says what there is",
            unknown.join(", ")
        )),
    }
}
