//! Receiving until a moment, which is all that doctor's questions to the network have in common.

use std::io::{self, ErrorKind, Read};
use std::time::Instant;

use socket2::Socket;

/// The length of the next packet, `None` once it is too late.
pub(super) fn before(
    end: Instant,
    socket: &Socket,
    buffer: &mut [u8],
) -> io::Result<Option<usize>> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(None);
    }
    socket.set_read_timeout(Some(left))?;
    match Read::read(&mut &*socket, buffer) {
        Ok(length) => Ok(Some(length)),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(e) => Err(e),
    }
}
