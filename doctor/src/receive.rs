//! Receiving until a moment, which is all that doctor's questions to the network have in common.

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, UdpSocket};
use std::time::Instant;

use socket2::Socket;

/// The length of the next packet, `None` once it is too late.
pub(super) fn before(
    end: Instant,
    socket: &Socket,
    buffer: &mut [u8],
) -> io::Result<Option<usize>> {
    in_time(end, socket, || Read::read(&mut &*socket, buffer))
}

/// As [`before`], and who sent it.
pub(super) fn from_before(
    end: Instant,
    socket: &Socket,
    buffer: &mut [u8],
) -> io::Result<Option<(usize, IpAddr)>> {
    // The standard library names the sender of any datagram socket of the two families, if it is told that this
    // is one of UDP.
    let datagrams = UdpSocket::from(socket.try_clone()?);
    let received = in_time(end, socket, || datagrams.recv_from(buffer))?;
    Ok(received.map(|(length, from)| (length, from.ip())))
}

fn in_time<T>(
    end: Instant,
    socket: &Socket,
    receive: impl FnOnce() -> io::Result<T>,
) -> io::Result<Option<T>> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(None);
    }
    socket.set_read_timeout(Some(left))?;
    match receive() {
        Ok(received) => Ok(Some(received)),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(e) => Err(e),
    }
}
