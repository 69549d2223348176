//! The AF_PACKET port: a TPACKET_V2 receive ring and a separate send-only socket per interface.
//!
//! Why these and not others (measured on veth, 2 CPUs): TPACKET_V3 holds packets back for a millisecond at
//! least, a TX ring is slower than sendmmsg, AF_XDP knows neither super-frames nor unfinished checksums.
//! PACKET_VNET_HDR on both sides is not an optimisation: without it not even a handshake passes between
//! hosts with default offloads.

mod copies;
mod geometry;
mod host;
mod open;
mod outlet;
mod receive;
mod receiver;
mod ring;
mod send;
mod stall;

use std::io;
use std::os::fd::AsFd as _;

use rustix::net::netdevice;
use socket2::{Domain, Socket, Type};

use super::filter::Program;
use super::{Coverage, Ends, HandedRing, PortError, Sight};
use crate::sys;
use open::Seat;

pub(crate) use geometry::Geometry;
pub(crate) use host::{HostPort, destination};
pub(crate) use receiver::Receiver;
pub(crate) use send::PacketSender;

/// What a port may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortOptions {
    /// Ring slots for an Ethernet MTU; 1024 lose 0.3 % of 250 000 packets/s beside busy neighbours,
    /// 4096 none.
    pub(crate) slots: usize,
    /// Bytes of a slot; `None` fits it to the MTU and the receive buffer.
    pub(crate) slot_bytes: Option<usize>,
    /// Bytes that frames larger than a slot may take while they wait (SO_RCVBUF).
    pub(crate) receive_buffer: usize,
    /// Which frames it gets.
    pub(crate) sight: Sight,
}

impl Default for PortOptions {
    fn default() -> Self {
        Self {
            slots: 8192,
            slot_bytes: None,
            receive_buffer: 16 << 20,
            sight: Sight::Copies,
        }
    }
}

/// The interface behind a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Its name.
    pub(crate) name: String,
    /// Its index in its namespace.
    pub(crate) index: u32,
    /// Its MAC address, the source of all that leaves.
    pub(crate) mac: [u8; 6],
    /// Its MTU when the port was opened.
    pub(crate) mtu: u32,
}

/// An open port.
#[derive(Debug)]
pub(crate) struct Port {
    /// The interface.
    pub(crate) interface: Interface,
    /// Frames in.
    pub(crate) receive: Receiver,
    /// Frames out.
    pub(crate) transmit: PacketSender,
    /// The ring that was made, of several the first.
    pub(crate) geometry: Geometry,
    /// The receive buffer that the kernel granted, bytes; less than asked for without CAP_NET_ADMIN
    /// (then the limit is `net.core.rmem_max`).
    pub(crate) receive_buffer: usize,
    /// What the filter lets through.
    pub(crate) coverage: Coverage,
}

impl Port {
    /// Opens a port on the interface `name`, which may be down, for each of so many workers; frames flow once it is up.
    ///
    /// # Errors
    /// [`PortError`], each naming the interface and the fix.
    pub(crate) fn open_all(
        name: &str,
        options: &PortOptions,
        filter: &Program,
        workers: u32,
    ) -> Result<Vec<Self>, PortError> {
        let mut seat = Seat::first(workers);
        let open = |_| {
            let port = Self::open_at(name, options, filter, &mut seat);
            seat.go_on();
            port
        };
        (0..workers).map(open).collect()
    }

    /// Its two ends.
    pub(crate) fn into_ends(self) -> Ends {
        (Box::new(self.receive), Box::new(self.transmit))
    }

    fn open_at(
        name: &str,
        options: &PortOptions,
        filter: &Program,
        seat: &mut Seat,
    ) -> Result<Self, PortError> {
        let sending = packet_socket(name)?;
        let interface = identify(name, &sending)?;
        let transmit =
            PacketSender::new(sending).map_err(kernel(name, "setting up the send socket"))?;
        let opened = open::receiver(&interface, options, filter, seat)?;
        Ok(Self {
            interface,
            receive: opened.receiver,
            transmit,
            geometry: opened.geometry,
            receive_buffer: opened.receive_buffer,
            coverage: opened.coverage,
        })
    }
}

/// The two ends of a port on the interface `name` whose rings another process hands down.
///
/// # Errors
/// As [`Port::open_all`].
pub(crate) fn succeed(
    name: &str,
    rings: Vec<HandedRing>,
) -> Result<(Receiver, PacketSender), PortError> {
    let sending = packet_socket(name)?;
    let interface = identify(name, &sending)?;
    let transmit =
        PacketSender::new(sending).map_err(kernel(name, "setting up the send socket"))?;
    Ok((open::handed_down(&interface, rings)?, transmit))
}

/// A packet socket that receives nothing yet: with a protocol it would at once, from every interface.
fn packet_socket(name: &str) -> Result<Socket, PortError> {
    Socket::new(Domain::PACKET, Type::RAW, None).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => PortError::NotPermitted {
            name: name.to_owned(),
        },
        _ => PortError::Kernel {
            name: name.to_owned(),
            step: "socket(AF_PACKET)",
            source,
        },
    })
}

/// Binds the send socket, which then knows the interface's kind and MAC address.
fn identify(name: &str, socket: &Socket) -> Result<Interface, PortError> {
    let no_such = || PortError::NoSuchInterface {
        name: name.to_owned(),
    };
    // The ioctl would cut a longer name and find another interface.
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Err(no_such());
    }
    let index = netdevice::name_to_index(socket.as_fd(), name).map_err(|_| no_such())?;
    sys::bind_packet(socket, index, 0).map_err(kernel(name, "bind"))?;
    let address = sys::packet_address(socket).map_err(kernel(name, "getsockname"))?;
    if address.sll_hatype != libc::ARPHRD_ETHER || address.sll_halen != 6 {
        return Err(PortError::NotEthernet {
            name: name.to_owned(),
            kind: address.sll_hatype,
        });
    }
    let [m0, m1, m2, m3, m4, m5, _, _] = address.sll_addr;
    let mtu = sys::interface_mtu(socket.as_fd(), name).map_err(kernel(name, "SIOCGIFMTU"))?;
    Ok(Interface {
        name: name.to_owned(),
        index,
        mac: [m0, m1, m2, m3, m4, m5],
        mtu,
    })
}

fn kernel(name: &str, step: &'static str) -> impl FnOnce(io::Error) -> PortError {
    move |source| PortError::Kernel {
        name: name.to_owned(),
        step,
        source,
    }
}
