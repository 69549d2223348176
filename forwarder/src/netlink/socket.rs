//! The two rtnetlink sockets: one asks and waits for the answer, the other only listens.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// The kernel cuts its dumps into datagrams of at most 32 KiB and its notifications into less.
const DATAGRAM: usize = 64 << 10;
/// Room for a burst of notifications; the kernel clamps it to net.core.rmem_max.
const LISTEN_BUFFER: usize = 1 << 20;
/// Times that a dump is repeated because the table changed under it, before the last one is taken.
const DUMP_TRIES: u32 = 5;

/// RTNLGRP_* (linux/rtnetlink.h): links, neighbours, next hop objects; addresses, routes, rules and per-device
/// settings (of which rp_filter and forwarding are two) of IPv4, and of IPv6.
const GROUPS: [u32; 11] = [1, 3, NEXT_HOPS, 5, 7, 8, 24, 9, 11, 19, 25];

/// RTNLGRP_NEXTHOP.
const NEXT_HOPS: u32 = 32;

/// Asks the kernel and waits for its answer, which rtnetlink gives within the call.
pub(super) struct Requests {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requests {
    pub(super) fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    /// A whole table.
    pub(super) fn dump(
        &mut self,
        what: &RouteNetlinkMessage,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut tries = 1;
        loop {
            let (answer, consistent) = self.dump_once(what)?;
            if consistent || tries == DUMP_TRIES {
                return Ok(answer);
            }
            tries += 1;
        }
    }

    /// The one thing that answers; `None` where the kernel acknowledges alone.
    pub(super) fn one(
        &mut self,
        what: &RouteNetlinkMessage,
    ) -> io::Result<Option<RouteNetlinkMessage>> {
        self.send(what, NLM_F_REQUEST)?;
        loop {
            self.receive()?;
            for message in split(&self.buffer) {
                let Some(message) = self.ours(message) else {
                    continue;
                };
                match message.payload {
                    NetlinkPayload::InnerMessage(m) => return Ok(Some(m)),
                    NetlinkPayload::Error(e) => return e.code.map_or(Ok(None), |_| Err(e.to_io())),
                    _ => {}
                }
            }
        }
    }

    /// A change, acknowledged.
    pub(super) fn change(&mut self, what: &RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(what, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        loop {
            self.receive()?;
            for message in split(&self.buffer) {
                let Some(message) = self.ours(message) else {
                    continue;
                };
                if let NetlinkPayload::Error(e) = message.payload {
                    return e.code.map_or(Ok(()), |_| Err(e.to_io()));
                }
            }
        }
    }

    fn dump_once(
        &mut self,
        what: &RouteNetlinkMessage,
    ) -> io::Result<(Vec<RouteNetlinkMessage>, bool)> {
        self.send(what, NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut answer = Vec::new();
        let mut consistent = true;
        loop {
            self.receive()?;
            for message in split(&self.buffer) {
                let Some(message) = self.ours(message) else {
                    continue;
                };
                consistent &= message.header.flags & NLM_F_DUMP_INTR == 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(m) => answer.push(m),
                    NetlinkPayload::Done(_) => return Ok((answer, consistent)),
                    NetlinkPayload::Error(e) => return Err(e.to_io()),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, what: &RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(what.clone()));
        message.finalize();
        self.buffer.resize(message.buffer_len(), 0);
        message.serialize(&mut self.buffer);
        self.socket.send(&self.buffer, 0).map(drop)
    }

    fn receive(&mut self) -> io::Result<()> {
        self.buffer.clear();
        self.socket.recv(&mut self.buffer, 0).map(drop)
    }

    /// The message, where it answers the last request and can be read.
    fn ours(&self, message: &[u8]) -> Option<NetlinkMessage<RouteNetlinkMessage>> {
        decode(message).filter(|m| m.header.sequence_number == self.sequence)
    }
}

/// Listens for changes.
pub(super) struct Listener {
    socket: Socket,
    buffer: Vec<u8>,
}

/// What one read of the listener gave.
pub(super) enum Heard<'a> {
    /// Messages.
    Messages(&'a [u8]),
    /// The kernel dropped some.
    Overrun,
    /// There is no more.
    Nothing,
}

impl Listener {
    pub(super) fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        socket.set_rx_buf_sz(i32::try_from(LISTEN_BUFFER).unwrap_or(i32::MAX))?;
        for group in GROUPS {
            match socket.add_membership(group) {
                // A kernel before 5.3 has no next hop objects.
                Err(e) if group == NEXT_HOPS && e.raw_os_error() == Some(libc::EINVAL) => {}
                joined => joined?,
            }
        }
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub(super) fn hear(&mut self) -> io::Result<Heard<'_>> {
        self.buffer.clear();
        match self.socket.recv(&mut self.buffer, 0) {
            Ok(_) => Ok(Heard::Messages(&self.buffer)),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(Heard::Overrun),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Heard::Nothing),
            Err(e) => Err(e),
        }
    }
}

/// The messages of a datagram, each with its header.
pub(super) fn split(mut datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = NetlinkBuffer::new_checked(datagram).ok()?.length() as usize;
        let message = datagram.get(..length)?;
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
        Some(message)
    })
}

/// A message's type, from its header alone.
pub(super) fn message_type(message: &[u8]) -> Option<u16> {
    NetlinkBuffer::new_checked(message)
        .ok()
        .map(|b| b.message_type())
}

/// Decodes a message. One that a newer kernel writes in a way that the library does not know is
/// logged and left out: UVS then knows less, but goes on.
pub(super) fn decode(message: &[u8]) -> Option<NetlinkMessage<RouteNetlinkMessage>> {
    match NetlinkMessage::deserialize(message) {
        Ok(message) => Some(message),
        Err(error) => {
            tracing::warn!(%error, "a netlink message could not be read and is left out");
            None
        }
    }
}
