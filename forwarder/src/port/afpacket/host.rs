//! The port into the host's own stack, which is on the loopback interface.
//!
//! Out of it: what the host's programs send to a VIP, and what they answer as a real server; both travel
//! by that interface. Into it: what is for them. That goes by a raw socket, whose packets the kernel routes
//! as its own, so that they may come from any address: from outside a packet with one of the host's own
//! addresses as its source is a martian, and strict rp_filter wants it on the interface it would be
//! answered by. What the host is to forward goes by a packet socket instead, and through all of its
//! netfilter and routing. All of it carries [`HOST_MARK`], by which the guard lets it pass.

use std::io;
use std::net::SocketAddr;

use rustix::net::netdevice;
use socket2::{Domain, Protocol, Socket, Type};
use std::os::fd::AsFd as _;
use uvs_core::flow::{Addr, Family};
use uvs_core::frame::{Frame, Offload};
use uvs_core::rewrite;
use uvs_core::verdict::DropReason;
use uvs_core::wire::{ethernet, ipv4, ipv6};

use super::open::Seat;
use super::receiver::Receiver;
use super::send::PacketSender;
use super::{Interface, PortOptions, kernel, open, packet_socket};
use crate::guard::{HOST_MARK, LOOPBACK};
use crate::netlink::Locality;
use crate::port::filter::Program;
use crate::port::{Ends, Flushed, FrameRef, HandedRing, PortError, Receive, Sight, Transmit};
use crate::sys;

/// Slots of an Ethernet frame's size; what is larger waits in the receive buffer.
const SLOTS: usize = 1024;
const SLOT_BYTES: usize = 2048;
/// Bytes that may wait for a flush.
const MAX_WAITING: usize = 4 << 20;
/// What may be on its way in the kernel, bytes (SO_SNDBUF).
const SEND_BUFFER: usize = 4 << 20;

/// The host's own stack as a port.
pub(crate) struct HostPort {
    /// What its programs send.
    pub(crate) receive: Receiver,
    /// What is for its programs.
    pub(crate) deliver: RawSender,
    /// What it is to forward.
    pub(crate) reinject: Reinject,
}

impl HostPort {
    /// Opens it for each of so many workers.
    ///
    /// # Errors
    /// [`PortError`], as for a port.
    pub(crate) fn open_all(
        filter: &Program,
        sight: Sight,
        workers: u32,
    ) -> Result<Vec<Self>, PortError> {
        let mut seat = Seat::first(workers);
        let open = |_| {
            let port = Self::open_at(filter, sight, &mut seat);
            seat.go_on();
            port
        };
        (0..workers).map(open).collect()
    }

    /// What its programs send and are sent, and the way by which it forwards.
    pub(crate) fn into_ends(self) -> (Ends, Box<dyn Transmit>) {
        let ends: Ends = (Box::new(self.receive), Box::new(self.deliver));
        (ends, Box::new(self.reinject))
    }

    fn open_at(filter: &Program, sight: Sight, seat: &mut Seat) -> Result<Self, PortError> {
        let options = PortOptions {
            slots: SLOTS,
            slot_bytes: Some(SLOT_BYTES),
            sight,
            ..PortOptions::default()
        };
        let receiver =
            |interface: &Interface| Ok(open::receiver(interface, &options, filter, seat)?.receiver);
        Self::with(receiver)
    }

    /// With the rings that another process hands down.
    ///
    /// # Errors
    /// As [`HostPort::open_all`].
    pub(crate) fn succeed(rings: Vec<HandedRing>) -> Result<Self, PortError> {
        Self::with(|interface| open::handed_down(interface, rings))
    }

    fn with(
        receiver: impl FnOnce(&Interface) -> Result<Receiver, PortError>,
    ) -> Result<Self, PortError> {
        let sending = packet_socket(LOOPBACK)?;
        let no_such = |_| PortError::NoSuchInterface {
            name: LOOPBACK.to_owned(),
        };
        let index = netdevice::name_to_index(sending.as_fd(), LOOPBACK).map_err(no_such)?;
        sys::bind_packet(&sending, index, 0).map_err(kernel(LOOPBACK, "bind"))?;
        sending
            .set_mark(HOST_MARK)
            .map_err(kernel(LOOPBACK, "SO_MARK"))?;
        let interface = Interface {
            name: LOOPBACK.to_owned(),
            index,
            mac: [0; 6],
            mtu: 0,
        };
        Ok(Self {
            receive: receiver(&interface)?,
            deliver: RawSender::new()
                .map_err(kernel(LOOPBACK, "socket(AF_INET or AF_INET6, SOCK_RAW)"))?,
            reinject: Reinject {
                sender: PacketSender::new(sending)
                    .map_err(kernel(LOOPBACK, "setting up the send socket"))?,
                locality: Locality::new().map_err(kernel(LOOPBACK, "socket(NETLINK_ROUTE)"))?,
            },
        })
    }
}

/// What the host is to forward, and in no case to take for itself: to a VIP that has come since, it would answer as who
/// knows nothing of the service, and end its clients' connections.
pub(crate) struct Reinject {
    sender: PacketSender,
    locality: Locality,
}

impl Transmit for Reinject {
    fn queue(&mut self, frame: FrameRef) {
        self.sender.queue(frame);
    }

    fn queue_copy(&mut self, bytes: &[u8], offload: &Offload) -> Result<(), DropReason> {
        let to = destination(bytes.get(ethernet::LEN..).unwrap_or_default());
        if to.is_some_and(|to| self.locality.has(to)) {
            return Err(DropReason::VipArriving);
        }
        self.sender.queue_copy(bytes, offload)
    }

    fn flush(&mut self, sources: &[Box<dyn Receive>]) -> Flushed {
        self.sender.flush(sources)
    }

    fn errors(&self) -> &[(i32, u64)] {
        self.sender.errors()
    }
}

/// Where an IP packet goes.
pub(crate) fn destination(packet: &[u8]) -> Option<Addr> {
    if packet.first()? >> 4 == 6 {
        let header = ipv6::Header::new_checked(packet).ok()?;
        return Some(Addr::v6(header.dst()));
    }
    let header = ipv4::Header::new_checked(packet).ok()?;
    Some(Addr::v4(header.dst()))
}

/// Sends whole IP packets as the host's own.
#[derive(Debug)]
pub(crate) struct RawSender {
    ipv4: Socket,
    /// `None` where the kernel has no IPv6.
    ipv6: Option<Socket>,
    waiting: Vec<Vec<u8>>,
    bytes: usize,
    errors: Vec<(i32, u64)>,
}

impl RawSender {
    fn new() -> io::Result<Self> {
        let ipv6 = match raw_socket(Domain::IPV6) {
            Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            socket => Some(socket?),
        };
        Ok(Self {
            ipv4: raw_socket(Domain::IPV4)?,
            ipv6,
            waiting: Vec::new(),
            bytes: 0,
            errors: Vec::new(),
        })
    }

    fn send(&self, packet: &[u8]) -> io::Result<usize> {
        let to = destination(packet).ok_or(io::ErrorKind::InvalidData)?;
        let socket = match to.family() {
            Family::V4 => Some(&self.ipv4),
            Family::V6 => self.ipv6.as_ref(),
        };
        let socket = socket.ok_or(io::ErrorKind::Unsupported)?;
        let to = SocketAddr::new(to.into(), 0);
        socket.send_to(packet, &to.into())
    }

    fn note(&mut self, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or(0);
        match self.errors.iter_mut().find(|(e, _)| *e == errno) {
            Some((_, count)) => *count += 1,
            None => self.errors.push((errno, 1)),
        }
    }
}

impl Transmit for RawSender {
    /// Only copies are sent: [`Worker::send_to_host`](crate::worker::Worker) changes them.
    fn queue(&mut self, _: FrameRef) {
        unreachable!("a frame for the host is copied");
    }

    fn queue_copy(&mut self, bytes: &[u8], offload: &Offload) -> Result<(), DropReason> {
        if self.bytes + bytes.len() > MAX_WAITING {
            return Err(DropReason::SendQueueFull);
        }
        let mut own = bytes.to_vec();
        let end = own.len();
        let mut frame = Frame::new(&mut own, 0, end, *offload);
        rewrite::finish_checksum(&mut frame);
        own.drain(..ethernet::LEN);
        self.bytes += own.len();
        self.waiting.push(own);
        Ok(())
    }

    fn flush(&mut self, _: &[Box<dyn Receive>]) -> Flushed {
        let mut flushed = Flushed::default();
        self.bytes = 0;
        for packet in std::mem::take(&mut self.waiting) {
            let sent = self.send(&packet);
            match sent {
                Ok(_) => {
                    flushed.sent += 1;
                    flushed.bytes += packet.len() as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => flushed.queue_full += 1,
                Err(e) => {
                    self.note(&e);
                    flushed.failed += 1;
                }
            }
        }
        flushed
    }

    fn errors(&self) -> &[(i32, u64)] {
        &self.errors
    }
}

/// A socket that takes packets with their IP headers (IPPROTO_RAW, raw(7)), in IPv6 too.
fn raw_socket(domain: Domain) -> io::Result<Socket> {
    let protocol = Protocol::from(libc::IPPROTO_RAW);
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.set_mark(HOST_MARK)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    Ok(socket)
}
