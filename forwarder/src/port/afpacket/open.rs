//! Opens the receiving socket of a port: options, buffer, ring, filter, bind.

use std::io;
use std::os::fd::AsFd as _;

use socket2::{SockFilter, Socket};

use super::geometry::RESERVE;
use super::ring::Ring;
use super::{Geometry, Interface, PortOptions, RingReceiver, kernel, packet_socket};
use crate::port::filter::Program;
use crate::port::{Coverage, PortError};
use crate::sys;

/// A receiver and what the kernel granted it.
pub(super) struct Opened {
    pub(super) receiver: RingReceiver,
    pub(super) geometry: Geometry,
    pub(super) receive_buffer: usize,
    pub(super) coverage: Coverage,
}

/// Opens the receiving socket. The order matters: the options before the ring that they shape, the filter
/// before the bind that starts the flow.
pub(super) fn receiver(
    interface: &Interface,
    options: &PortOptions,
    filter: &Program,
) -> Result<Opened, PortError> {
    let name = &interface.name;
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
    let coverage = attach(&socket, filter).map_err(kernel(name, "SO_ATTACH_FILTER"))?;
    sys::bind_packet(&socket, interface.index, (libc::ETH_P_ALL & 0xffff) as u16)
        .map_err(kernel(name, "bind"))?;
    let receiver = RingReceiver::new(socket, ring);
    Ok(Opened {
        receiver,
        geometry,
        receive_buffer,
        coverage,
    })
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

/// Attaches the program, or the one that needs no memory to speak of where the kernel has none for it
/// (net.core.optmem_max).
pub(super) fn attach(socket: &Socket, program: &Program) -> io::Result<Coverage> {
    let attach = |program: &Program| {
        let code: Vec<SockFilter> = program
            .code
            .iter()
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
