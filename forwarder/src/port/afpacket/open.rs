//! Opens the receiving sockets of a port: options, buffer, ring, filter, bind.

use std::io;
use std::os::fd::AsFd as _;

use libc::sock_filter;
use socket2::{SockFilter, Socket};

use super::geometry::RESERVE;
use super::receive::{Before, RingReceiver};
use super::receiver::Receiver;
use super::ring::Ring;
use super::{Geometry, Interface, PortOptions, kernel, packet_socket};
use crate::guard::LOOPBACK;
use crate::port::fan_out::Group;
use crate::port::filter::Program;
use crate::port::{Coverage, HandedRing, InletKind, PortError, RingPlace, Sight};
use crate::sys;

/// ARP comes one by one: as many slots as there are in a block.
const ARP_SLOTS: usize = 512;
const ARP_SLOT_BYTES: usize = 2048;

/// A receiver and what the kernel granted it, where it has several sockets, the first of them.
pub(super) struct Opened {
    pub(super) receiver: Receiver,
    pub(super) geometry: Geometry,
    pub(super) receive_buffer: usize,
    pub(super) coverage: Coverage,
}

/// Whose port is opened: which of how many workers', in which group of an interface's sockets.
#[derive(Debug)]
pub(super) struct Seat {
    number: u32,
    of: u32,
    group: Group,
}

impl Seat {
    /// The first of so many.
    pub(super) fn first(of: u32) -> Self {
        Self {
            number: 0,
            of,
            group: Group::default(),
        }
    }

    /// The next one's.
    pub(super) const fn go_on(&mut self) {
        self.number += 1;
    }

    /// A socket joins the others, where there are several.
    fn take(&mut self, interface: &Interface, opened: &OpenedInlet) -> Result<(), PortError> {
        if self.of == 1 {
            return Ok(());
        }
        let joined = self.group.join(opened.inlet.socket());
        joined.map_err(|source| PortError::NoFanOut {
            name: interface.name.clone(),
            workers: self.of,
            source,
        })
    }
}

/// One socket's part of an [`Opened`].
struct OpenedInlet {
    inlet: RingReceiver,
    geometry: Geometry,
    receive_buffer: usize,
    coverage: Coverage,
}

/// What a socket is to take.
struct Wanted<'a> {
    protocol: i32,
    options: PortOptions,
    filter: &'a Program,
    kind: InletKind,
}

/// Opens the receiving side of one worker's port. Of several workers each has a socket in the group, in the order of
/// their numbers, and the first alone what comes to none in particular.
pub(super) fn receiver(
    interface: &Interface,
    options: &PortOptions,
    filter: &Program,
    seat: &mut Seat,
) -> Result<Opened, PortError> {
    let everything = |protocol| Wanted {
        protocol,
        options: *options,
        filter,
        kind: InletKind::Everything,
    };
    let Sight::Marked(bit) = options.sight else {
        let only = open_inlet(interface, &everything(libc::ETH_P_ALL))?;
        seat.take(interface, &only)?;
        return Ok(together(only, Vec::new()));
    };
    let marked = Wanted {
        protocol: i32::from(uvs_hook::HIDDEN),
        options: *options,
        filter: &Program::marked(bit),
        kind: InletKind::Marked,
    };
    let hidden = open_inlet(interface, &marked)?;
    seat.take(interface, &hidden)?;
    let mut others = Vec::new();
    if interface.name != LOOPBACK && seat.number == 0 {
        let arp = Wanted {
            options: PortOptions {
                slots: ARP_SLOTS,
                slot_bytes: Some(ARP_SLOT_BYTES),
                ..*options
            },
            kind: InletKind::Protocol,
            ..everything(libc::ETH_P_ARP)
        };
        others.push(open_inlet(interface, &arp)?);
    }
    Ok(together(hidden, others))
}

/// All sockets, as what was opened with the first.
fn together(first: OpenedInlet, others: Vec<OpenedInlet>) -> Opened {
    let OpenedInlet {
        inlet,
        geometry,
        receive_buffer,
        ..
    } = first;
    // What a filter says that never changes is not what the addresses' says.
    let changing = others.last().map_or(first.coverage, |last| last.coverage);
    let others = others.into_iter().map(|other| other.inlet);
    Opened {
        receiver: Receiver::new([inlet].into_iter().chain(others).collect()),
        geometry,
        receive_buffer,
        coverage: changing,
    }
}

/// Opens a receiving socket. The order matters: the options before the ring that they shape, the filter
/// before the bind that starts the flow.
fn open_inlet(interface: &Interface, wanted: &Wanted<'_>) -> Result<OpenedInlet, PortError> {
    let (name, options) = (&interface.name, &wanted.options);
    let socket = packet_socket(name)?;
    for (option, value, step) in [
        (
            libc::PACKET_VERSION,
            libc::tpacket_versions::TPACKET_V2 as i32,
            "PACKET_VERSION",
        ),
        (libc::PACKET_VNET_HDR, 1, "PACKET_VNET_HDR"),
        (libc::PACKET_RESERVE, i32::from(RESERVE), "PACKET_RESERVE"),
        (libc::PACKET_COPY_THRESH, 1, "PACKET_COPY_THRESH"),
        (libc::PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING"),
    ] {
        sys::set_option(socket.as_fd(), libc::SOL_PACKET, option, value)
            .map_err(kernel(name, step))?;
    }
    let receive_buffer = size_buffer(&socket, options).map_err(kernel(name, "SO_RCVBUF"))?;
    let geometry = Geometry::choose(options, interface.mtu, receive_buffer);
    let ring = sys::set_rx_ring(socket.as_fd(), &geometry.request())
        .and_then(|()| Ring::map(socket.as_fd(), geometry))
        .map_err(|source| PortError::RingMemory {
            name: name.clone(),
            mib: geometry.bytes() >> 20,
            source,
        })?;
    let before = Before::of(wanted.kind, interface.index);
    let coverage = attach(&socket, before.instructions(interface.mtu), wanted.filter)
        .map_err(kernel(name, "SO_ATTACH_FILTER"))?;
    sys::bind_packet(&socket, interface.index, ethertype(wanted.protocol))
        .map_err(kernel(name, "bind"))?;
    Ok(OpenedInlet {
        inlet: RingReceiver::new(socket, ring, before),
        geometry,
        receive_buffer,
        coverage,
    })
}

/// The receiving side of a port, of the rings that another process hands down.
pub(super) fn handed_down(
    interface: &Interface,
    rings: Vec<HandedRing>,
) -> Result<Receiver, PortError> {
    let inlet = |handed: HandedRing| {
        let RingPlace {
            slot_bytes,
            slots,
            head,
            inlet,
        } = handed.place;
        let geometry = Geometry { slot_bytes, slots };
        let ring = Ring::map(handed.socket.as_fd(), geometry)?;
        let before = Before::of(inlet, interface.index);
        let socket = Socket::from(handed.socket);
        Ok(RingReceiver::succeed(socket, ring, before, head))
    };
    let inlets = rings.into_iter().map(inlet).collect::<io::Result<_>>();
    let name = &interface.name;
    let inlets = inlets.map_err(kernel(name, "mapping the ring that was handed down"))?;
    Ok(Receiver::new(inlets))
}

/// A packet socket's protocol, as `bind` takes it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an EtherType has 16 bits"
)]
const fn ethertype(protocol: i32) -> u16 {
    protocol as u16
}

/// Asks for the receive buffer and returns what there is now. The kernel counts its own overhead too and
/// therefore doubles what is asked for.
fn size_buffer(socket: &Socket, options: &PortOptions) -> io::Result<usize> {
    let wanted = i32::try_from(options.receive_buffer).unwrap_or(i32::MAX / 2);
    // Beyond net.core.rmem_max this needs CAP_NET_ADMIN in the initial namespace.
    if sys::set_option(
        socket.as_fd(),
        libc::SOL_SOCKET,
        libc::SO_RCVBUFFORCE,
        wanted,
    )
    .is_err()
    {
        socket.set_recv_buffer_size(wanted.cast_unsigned() as usize)?;
    }
    socket.recv_buffer_size()
}

/// Attaches the program, behind these instructions, or the one that needs no memory to speak of where the kernel has none for it
/// (net.core.optmem_max).
pub(super) fn attach(
    socket: &Socket,
    before: Vec<sock_filter>,
    program: &Program,
) -> io::Result<Coverage> {
    let attach = |program: &Program| {
        let code: Vec<SockFilter> = before
            .iter()
            .chain(&program.code)
            .map(|i| SockFilter::new(i.code, i.jt, i.jf, i.k))
            .collect();
        socket.attach_filter(&code)
    };
    match attach(program) {
        Ok(()) if program.exact => Ok(Coverage::Exact),
        Ok(()) => Ok(Coverage::Everything),
        Err(e) if e.raw_os_error() == Some(libc::ENOMEM) => {
            attach(&program.without_addresses()).map(|()| Coverage::Everything)
        }
        Err(e) => Err(e),
    }
}
