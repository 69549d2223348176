//! The socket for programs that were written for IPVS in the kernel: what they say to the kernel, the preload
//! library sends here. Many clients, no threads, nothing that one client could block, as on the control socket;
//! but whoever asks is answered within the same turn, since all that is asked is asked of this daemon alone.
//!
//! Changes are for root and the daemon's own user, and so is looking, as generic netlink has it (GENL_ADMIN_PERM).

mod client;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use socket2::Type;
use uvs_control::author::Author;
use uvs_control::peer::Peer;
use uvs_control::server::{BindError, HandedDown, Listener, Style};
use uvs_ipvs_abi::director::Director;
use uvs_ipvs_carried::MAX_DATAGRAM;

use client::{Client, Step};

const STYLE: Style = Style {
    kind: Type::SEQPACKET,
    choice: "$UVS_IPVS_SOCKET",
};
/// Clients at a time: keepalived has two for its whole life, ipvsadm one for a moment.
const MAX_CLIENTS: usize = 64;
/// After which accepting goes on, where the host had no descriptor for another client or too many came
/// at once.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Whoever serves programs, and is told which of them asks.
pub(crate) trait Served: Director {
    /// This is who asks from now on.
    fn asked_by(&mut self, author: &Author);
    /// It was refused this change, as it may make none.
    fn forbidden(&mut self, wanted: &str);
}

/// The socket and its clients.
pub(crate) struct IpvsSocket {
    listener: Listener,
    registry: Option<Registry>,
    first: Token,
    clients: Vec<Option<Client>>,
    /// Clients that may have something still, in the next turn.
    later: VecDeque<usize>,
    accept_again: bool,
    /// Where datagrams are received; one byte more than they may have.
    buffer: Box<[u8]>,
    /// The daemon's user.
    uid: u32,
}

impl IpvsSocket {
    /// Makes the socket. It has its name, and can be connected to, from [`IpvsSocket::register`] on.
    pub(crate) fn bind(path: &Path) -> Result<Self, BindError> {
        Listener::bind(path, STYLE).map(Self::on)
    }

    /// Takes the socket over from another process, whose clients connect again.
    pub(crate) fn succeed(path: &Path, from: HandedDown) -> Result<Self, BindError> {
        Listener::succeed(path, STYLE, from).map(Self::on)
    }

    fn on(listener: Listener) -> Self {
        Self {
            listener,
            registry: None,
            first: Token(0),
            clients: Vec::new(),
            later: VecDeque::new(),
            accept_again: false,
            buffer: vec![0; MAX_DATAGRAM + 1].into(),
            uid: rustix::process::geteuid().as_raw(),
        }
    }

    /// For another process to take it over.
    pub(crate) fn hand_down(&self) -> io::Result<HandedDown> {
        self.listener.hand_down()
    }

    /// Another process has taken it over, and its clients connect to that: what they have asked for since the last turn they
    /// ask again. Those that have not read their answer yet are left to be [finished](Self::finish).
    pub(crate) fn leave(&mut self) {
        self.listener.leave();
        for slot in &mut self.clients {
            slot.take_if(|client| !client.has_unread());
        }
    }

    /// After that, sends what room there is for; whether clients are left that have not read all.
    pub(crate) fn finish(&mut self, now: Instant) -> bool {
        for slot in &mut self.clients {
            slot.take_if(|client| client.flush(now).unwrap_or(true));
        }
        self.clients.iter().any(Option::is_some)
    }

    /// Registers with a poll, of whose tokens `first` and the [`MAX_CLIENTS`] behind it are this socket's from
    /// now on.
    pub(crate) fn register(&mut self, registry: &Registry, first: Token) -> anyhow::Result<()> {
        registry.register(&mut self.listener.socket, first, Interest::READABLE)?;
        self.registry = Some(registry.try_clone()?);
        self.first = first;
        Ok(self.listener.listen()?)
    }

    /// Takes up the events of a poll, those of others being left alone: answers one request of each client.
    pub(crate) fn turn<'a>(
        &mut self,
        events: impl IntoIterator<Item = &'a Event>,
        director: &mut impl Served,
        now: Instant,
    ) {
        let mut ready = std::mem::take(&mut self.later);
        let mut accept = self.accept_again;
        for event in events {
            match event.token().0.checked_sub(self.first.0) {
                Some(0) => accept = true,
                Some(n) if n <= MAX_CLIENTS => ready.push_back(n - 1),
                _ => {}
            }
        }
        for slot in ready {
            self.serve(slot, director, now);
        }
        for slot in &mut self.clients {
            if let Some(client) = slot.take_if(|c| c.deadline().is_some_and(|at| at <= now)) {
                let pid = client.author.peer.pid;
                tracing::warn!(pid, "IPVS client dropped: it does not read its answer");
            }
        }
        if accept {
            self.accept();
        }
    }

    /// How long the next poll may block.
    pub(crate) fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.later.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadlines = self.clients.iter().flatten().filter_map(Client::deadline);
        let left = deadlines.map(|at| at.saturating_duration_since(now));
        left.chain(self.accept_again.then_some(ACCEPT_AGAIN)).min()
    }

    fn serve(&mut self, slot: usize, director: &mut impl Served, now: Instant) {
        let Some(client) = self.clients.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        match client.step(&mut self.buffer, director, now) {
            Ok(Step::Wait) => {}
            Ok(Step::Again) => self.later.push_back(slot),
            Err(error) => {
                if error.kind() != ErrorKind::UnexpectedEof {
                    tracing::debug!(pid = client.author.peer.pid, "IPVS client left: {error}");
                }
                self.clients[slot] = None;
            }
        }
    }

    fn accept(&mut self) {
        self.accept_again = false;
        for _ in 0..MAX_CLIENTS {
            match self.listener.socket.accept() {
                Ok((stream, _)) => {
                    if let Err(error) = self.admit(stream) {
                        tracing::warn!("IPVS client not served: {error}");
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!("IPVS socket: accept: {error}");
                    break;
                }
            }
        }
        self.accept_again = true;
    }

    fn admit(&mut self, mut stream: UnixStream) -> io::Result<()> {
        let peer = Peer::of(&stream)?;
        let free = self.clients.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.clients.len());
        if slot == MAX_CLIENTS {
            return Err(io::Error::other(format!(
                "{MAX_CLIENTS} programs are connected already; end one of them"
            )));
        }
        if let Some(registry) = &self.registry {
            let token = Token(self.first.0 + 1 + slot);
            registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        }
        let permitted = peer.uid == 0 || peer.uid == self.uid;
        tracing::debug!(pid = peer.pid, uid = peer.uid, permitted, "IPVS client");
        let author = Author::of(peer, permitted);
        let client = Some(Client::new(stream, author, permitted));
        match free {
            Some(slot) => self.clients[slot] = client,
            None => self.clients.push(client),
        }
        Ok(())
    }
}
