//! The socket to nf_tables. The kernel carries a transaction out, and has answered, when the call that
//! sends it returns.

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use rustix::io::Errno;
use rustix::net::sockopt;

use super::message::{Attributes, Batch, Kind, Message, messages, request};
use super::table::{CHAIN_NAME, NAME, TABLE};

/// NLMSG_ERROR and NLMSG_DONE (linux/netlink.h).
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The kernel cuts its answers into datagrams of at most 32 KiB.
const DATAGRAM: usize = 64 << 10;
/// Times that a dump is repeated because the ruleset changed under it.
const DUMP_TRIES: u32 = 100;

/// Why the kernel did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(in crate::guard) enum Fault {
    /// It refused a message of a transaction, and so all of them.
    #[error("{what}: {source}")]
    Refused {
        /// What the message was about, e.g. `chain ours`.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It refused to begin, or the socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Fault {
    /// The kernel's word.
    pub(in crate::guard) fn errno(&self) -> Option<i32> {
        let (Self::Refused { source, .. } | Self::Io(source)) = self;
        source.raw_os_error()
    }
}

/// A socket to nf_tables in the network namespace where it was opened.
pub(in crate::guard) struct Link {
    socket: Socket,
    port: u32,
    buffer: Vec<u8>,
}

impl Link {
    /// # Errors
    /// The kernel has no nfnetlink.
    pub(in crate::guard) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let port = socket.bind_auto()?.port_number();
        Ok(Self {
            socket,
            port,
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    /// The port id in the events of this socket's transactions.
    pub(in crate::guard) fn port(&self) -> u32 {
        self.port
    }

    /// Carries a transaction out. One that the socket cannot be made large enough for, which takes
    /// CAP_NET_ADMIN in the first user namespace, is carried out as several.
    ///
    /// # Errors
    /// The kernel refused it, or one of its pieces.
    pub(in crate::guard) fn commit(&mut self, batch: &Batch) -> Result<(), Fault> {
        let room = self.make_room(batch.bytes().len())?;
        if batch.bytes().len() <= room {
            return self.commit_at_once(batch);
        }
        let mut pieces = batch.pieces(room).into_iter();
        pieces.try_for_each(|piece| self.commit_at_once(&piece))
    }

    fn commit_at_once(&mut self, batch: &Batch) -> Result<(), Fault> {
        // What an earlier, failed call may have left.
        while self.receive(libc::MSG_DONTWAIT).is_ok() {}
        self.socket.send(batch.bytes(), 0)?;
        let mut acknowledged = false;
        loop {
            match self.receive(libc::MSG_DONTWAIT) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && acknowledged => return Ok(()),
                Err(e) => return Err(e.into()),
            }
            for answer in messages(&self.buffer) {
                let Some(verdict) = verdict(&answer) else {
                    continue;
                };
                verdict.map_err(|source| match describe(batch, answer.sequence()) {
                    Some(what) => Fault::Refused { what, source },
                    None => source.into(),
                })?;
                acknowledged = true;
            }
        }
    }

    /// Bytes that one message may have now, after trying for so many.
    fn make_room(&self, wanted: usize) -> io::Result<usize> {
        // What the kernel keeps of the buffer for itself (netlink_sendmsg).
        const OVERHEAD: usize = 32;
        let room = || sockopt::socket_send_buffer_size(&self.socket).map(|n| n - OVERHEAD);
        if room()? < wanted {
            // The kernel doubles it.
            let size = wanted.div_ceil(2) + OVERHEAD;
            if sockopt::set_socket_send_buffer_size_force(&self.socket, size) == Err(Errno::PERM) {
                sockopt::set_socket_send_buffer_size(&self.socket, size)?;
            }
        }
        Ok(room()?)
    }

    /// All that the kernel has of a kind, a message each, as it was at one moment.
    ///
    /// # Errors
    /// The kernel's; `ENOENT` where the table or the set is not there.
    pub(in crate::guard) fn dump(&mut self, kind: Kind, of: &Attributes) -> io::Result<Vec<u8>> {
        for _ in 0..DUMP_TRIES {
            if let Some(all) = self.dump_once(kind, of)? {
                return Ok(all);
            }
        }
        Err(io::Error::other("nft's rules change without a pause"))
    }

    /// `None` where the ruleset changed meanwhile.
    fn dump_once(&mut self, kind: Kind, of: &Attributes) -> io::Result<Option<Vec<u8>>> {
        while self.receive(libc::MSG_DONTWAIT).is_ok() {}
        self.socket.send(&request(kind, NLM_F_DUMP, of), 0)?;
        let mut all = Vec::new();
        let mut is_consistent = true;
        loop {
            self.receive(0)?;
            for message in messages(&self.buffer) {
                is_consistent &= message.flags() & NLM_F_DUMP_INTR == 0;
                if let Some(verdict) = verdict(&message) {
                    verdict?;
                }
                if message.raw_kind() == DONE {
                    return Ok(is_consistent.then_some(all));
                }
            }
            all.extend_from_slice(&self.buffer);
        }
    }

    /// One thing that there is; `None` where it is not there.
    ///
    /// # Errors
    /// The kernel's.
    pub(in crate::guard) fn get(
        &mut self,
        kind: Kind,
        which: &Attributes,
    ) -> io::Result<Option<Vec<u8>>> {
        while self.receive(libc::MSG_DONTWAIT).is_ok() {}
        self.socket.send(&request(kind, 0, which), 0)?;
        self.receive(0)?;
        match messages(&self.buffer).find_map(|m| verdict(&m)) {
            Some(Err(e)) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Some(Err(e)) => Err(e),
            _ => Ok(Some(self.buffer.clone())),
        }
    }

    fn receive(&mut self, flags: i32) -> io::Result<()> {
        self.buffer.clear();
        self.socket.recv(&mut self.buffer, flags).map(drop)
    }
}

/// What an NLMSG_ERROR says: 0 is an acknowledgement.
fn verdict(message: &Message<'_>) -> Option<io::Result<()>> {
    if message.raw_kind() != ERROR {
        return None;
    }
    let errno = i32::from_ne_bytes(*message.payload().first_chunk()?);
    Some(match errno {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(-errno)),
    })
}

/// What the message of that place is about; `None` where it is about all of them.
fn describe(batch: &Batch, place: u32) -> Option<String> {
    let message = batch.messages().find(|m| m.sequence() == place)?;
    let (what, name) = match message.kind() {
        Some(Kind::NEW_CHAIN) => ("chain", message.text(CHAIN_NAME)),
        Some(Kind::NEW_RULE) => ("a rule of the chain", message.text(NAME)),
        Some(Kind::NEW_SET) => ("set", message.text(NAME)),
        Some(Kind::NEW_ELEMENTS | Kind::DELETE_ELEMENTS) => {
            ("elements of the set", message.text(NAME))
        }
        Some(Kind::NEW_OBJECT) => ("counter", message.text(NAME)),
        _ => ("table", message.text(TABLE)),
    };
    Some(format!("{what} {}", name.unwrap_or_default()))
}
