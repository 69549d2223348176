//! The control socket's serving side: many clients, no threads, nothing that one client could block.
//!
//! It is driven from outside: [`Server::turn`] is handed the poll's events, [`Server::next`] hands out
//! what clients ask, [`Server::answer`] takes the answers, at once or later. Time is an argument.
//! Reading is for everyone who can open the socket; changes are for root and the daemon's own user.

mod client;
mod listen;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};

use self::client::{Client, Step};
pub use self::listen::{BindError, HandedDown, Listener, Style};
use super::author::{Author, printable};
use super::peer::Peer;
use super::protocol::{Answer, Command, Errno, Refusal, Rest, Right};

/// The control socket's.
const STYLE: Style = Style {
    kind: socket2::Type::STREAM,
    choice: "$UVS_SOCKET or `socket = …`",
};

/// Clients at a time. Commands take milliseconds; this many at once is a mistake or an attack.
const MAX_CLIENTS: usize = 64;
/// After which accepting goes on, where the host had no descriptor for another client or too many came
/// at once.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Characters of a line about a refusal.
const MAX_TOLD: usize = 600;

/// Names a request until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    slot: usize,
    serial: u64,
}

/// Something asked for.
#[derive(Debug)]
pub struct Call {
    /// What [`Server::answer`] wants to see again.
    pub ticket: Ticket,
    /// Who asks.
    pub author: Author,
    /// What for.
    pub task: Task,
}

/// What a client waits for.
#[derive(Debug)]
pub enum Task {
    /// A command's answer; the peer may give it.
    Command(Command),
    /// The next part of a listing, as [`Answer::Part`] named it.
    Rest(Rest),
}

/// The control socket.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    registry: Option<Registry>,
    first: Token,
    clients: Vec<Option<Client>>,
    /// Clients that may have something, in this turn and in the next: one request a turn each.
    ready: VecDeque<usize>,
    later: VecDeque<usize>,
    accept_again: bool,
    last_serial: u64,
    /// The daemon's user.
    uid: u32,
}

impl Server {
    /// Tokens it uses from the first one on.
    pub const TOKENS: usize = 1 + MAX_CLIENTS;

    /// Makes the socket. It has its name, and can be connected to, from [`Server::register`] on.
    ///
    /// # Errors
    /// A daemon serves it already, the path is taken, or the host refuses.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        Listener::bind(path, STYLE).map(Self::on)
    }

    /// Takes the socket over from another process, whose clients stay its own.
    ///
    /// # Errors
    /// As [`Listener::succeed`].
    pub fn succeed(path: &Path, from: HandedDown) -> Result<Self, BindError> {
        Listener::succeed(path, STYLE, from).map(Self::on)
    }

    fn on(listener: Listener) -> Self {
        Self {
            listener,
            registry: None,
            first: Token(0),
            clients: Vec::new(),
            ready: VecDeque::new(),
            later: VecDeque::new(),
            accept_again: false,
            last_serial: 0,
            uid: rustix::process::geteuid().as_raw(),
        }
    }

    /// For another process to take it over.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub fn hand_down(&self) -> io::Result<HandedDown> {
        self.listener.hand_down()
    }

    /// Another process has taken it over: only those that are connected are served still.
    pub fn leave(&mut self) {
        self.listener.leave();
        self.accept_again = false;
        if let Some(registry) = &self.registry {
            let _ = registry.deregister(&mut self.listener.socket);
        }
    }

    /// Registers with a poll, whose tokens `first..first + TOKENS` are this server's from now on.
    ///
    /// # Errors
    /// The host's, or somebody has taken the path meanwhile.
    pub fn register(&mut self, registry: &Registry, first: Token) -> anyhow::Result<()> {
        registry.register(&mut self.listener.socket, first, Interest::READABLE)?;
        self.registry = Some(registry.try_clone()?);
        self.first = first;
        Ok(self.listener.listen()?)
    }

    /// Begins a turn with the events of a poll; those of others are left alone.
    pub fn turn<'a>(&mut self, events: impl IntoIterator<Item = &'a Event>, now: Instant) {
        self.ready.append(&mut self.later);
        let mut accept = self.accept_again;
        for event in events {
            match event.token().0.checked_sub(self.first.0) {
                Some(0) => accept = true,
                Some(n) if n < Self::TOKENS => self.ready.push_back(n - 1),
                _ => {}
            }
        }
        self.expire(now);
        if accept {
            self.accept(now);
        }
    }

    /// What is asked next in this turn.
    pub fn next(&mut self, now: Instant) -> Option<Call> {
        while let Some(slot) = self.ready.pop_front() {
            let Some(client) = self.clients.get_mut(slot).and_then(Option::as_mut) else {
                continue;
            };
            let ticket = Ticket {
                slot,
                serial: client.serial,
            };
            let step = client.step(now);
            let author = client.author.clone();
            match step {
                Step::Wait => {}
                Step::Again => self.later.push_back(slot),
                Step::Gone => self.clients[slot] = None,
                Step::More(rest) => {
                    return Some(Call {
                        ticket,
                        author,
                        task: Task::Rest(rest),
                    });
                }
                Step::Ask(command) => match self.authorise(&command, author.peer) {
                    Ok(()) => {
                        return Some(Call {
                            ticket,
                            author,
                            task: Task::Command(command),
                        });
                    }
                    Err(refusal) => {
                        tell_refused(&command, &refusal, &author);
                        self.answer(ticket, Answer::Last(Err(refusal)), now);
                    }
                },
            }
        }
        None
    }

    /// Answers a [`Call`], in its turn or in any later one. Where the client has gone, nothing happens.
    pub fn answer(&mut self, ticket: Ticket, answer: Answer, now: Instant) {
        let client = self.clients.get_mut(ticket.slot).and_then(Option::as_mut);
        let Some(client) = client.filter(|c| c.serial == ticket.serial && c.is_asking()) else {
            return;
        };
        client.answer(answer);
        match client.flush(now) {
            Ok(_) => self.later.push_back(ticket.slot),
            Err(_) => self.clients[ticket.slot] = None,
        }
    }

    /// How long the next poll may block.
    pub fn timeout(&self, now: Instant) -> Option<Duration> {
        if !(self.ready.is_empty() && self.later.is_empty()) {
            return Some(Duration::ZERO);
        }
        let deadlines = self.clients.iter().flatten().filter_map(Client::deadline);
        let deadline = deadlines
            .min()
            .map(|deadline| deadline.saturating_duration_since(now));
        let accept = self.accept_again.then_some(ACCEPT_AGAIN);
        deadline.into_iter().chain(accept).min()
    }

    fn expire(&mut self, now: Instant) {
        for slot in &mut self.clients {
            if let Some(client) = slot.take_if(|c| c.deadline().is_some_and(|at| at <= now)) {
                let (pid, why) = (client.author.peer.pid, client.complaint());
                tracing::warn!(pid, "control client dropped: it {why}");
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        self.accept_again = false;
        for _ in 0..MAX_CLIENTS {
            match self.listener.socket.accept() {
                Ok((stream, _)) => {
                    if let Err(error) = self.admit(stream, now) {
                        tracing::warn!("control client not served: {error}");
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!("control socket: accept: {error}");
                    break;
                }
            }
        }
        self.accept_again = true;
    }

    fn admit(&mut self, mut stream: UnixStream, now: Instant) -> io::Result<()> {
        let peer = Peer::of(&stream)?;
        let author = Author::of(peer, self.trusts(peer));
        self.last_serial += 1;
        let free = self.clients.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.clients.len());
        if slot == MAX_CLIENTS {
            let mut client = Client::new(stream, author, self.last_serial, now);
            let message = format!("{MAX_CLIENTS} clients are connected already; end one of them");
            client.dismiss(Errno::Failed, message);
            return client.flush(now).map(|_| ());
        }
        if let Some(registry) = &self.registry {
            let token = Token(self.first.0 + 1 + slot);
            registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        }
        let client = Some(Client::new(stream, author, self.last_serial, now));
        match free {
            Some(slot) => self.clients[slot] = client,
            None => self.clients.push(client),
        }
        Ok(())
    }

    fn authorise(&self, command: &Command, peer: Peer) -> Result<(), Refusal> {
        if command.right() == Right::Read || self.trusts(peer) {
            return Ok(());
        }
        let message = format!(
            "user {} may look but not change anything; that is for root and the daemon's user, {}",
            peer.uid, self.uid
        );
        Err(Refusal {
            errno: Errno::Permission,
            message,
        })
    }

    /// Whether it may change anything.
    const fn trusts(&self, peer: Peer) -> bool {
        peer.uid == 0 || peer.uid == self.uid
    }
}

/// What nobody but the log would hear of.
fn tell_refused(command: &Command, refusal: &Refusal, author: &Author) {
    let line = format!("refused: to {command}: {}, by {author}", refusal.message);
    tracing::info!("{}", printable(&line, MAX_TOLD));
}
