//! ICMPv6 (RFC 4443). The header is ICMP's ([`icmp::Header`]), types and codes are not, and the
//! checksum covers a pseudo-header.

use super::{checksum, icmp};

/// Bytes of the header.
pub const LEN: usize = icmp::LEN;

/// Type: the packet cannot reach its destination.
pub const UNREACHABLE: u8 = 1;
/// Type: longer than the next link takes; the header's rest is what that takes.
pub const TOO_BIG: u8 = 2;
/// Type: the packet travelled too far, or a fragment waited too long.
pub const TIME_EXCEEDED: u8 = 3;
/// Type: a field cannot be, or is not known; the header's rest is where it is.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Type: echo request.
pub const ECHO: u8 = 128;
/// Type: answer to an echo request.
pub const ECHO_REPLY: u8 = 129;

/// The types that are errors about the packet that they quote, which the quote follows. Others below
/// [`FIRST_INFORMATIONAL`] are not assigned.
pub const ERRORS: [u8; 4] = [UNREACHABLE, TOO_BIG, TIME_EXCEEDED, PARAMETER_PROBLEM];
/// The first type that is no error (RFC 4443 §2.1).
pub const FIRST_INFORMATIONAL: u8 = 128;

/// Code of [`UNREACHABLE`]: no route.
pub const NO_ROUTE: u8 = 0;
/// Code of [`UNREACHABLE`]: administratively prohibited.
pub const PROHIBITED: u8 = 1;
/// Code of [`UNREACHABLE`]: the last hop does not answer.
pub const ADDRESS_UNREACHABLE: u8 = 3;
/// Code of [`UNREACHABLE`]: nobody listens on the port.
pub const PORT_UNREACHABLE: u8 = 4;
/// Code of [`TIME_EXCEEDED`]: on the way.
pub const HOP_LIMIT_EXCEEDED: u8 = 0;
/// Code of [`PARAMETER_PROBLEM`]: the value of a header's field cannot be.
pub const ERRONEOUS_FIELD: u8 = 0;
/// Code of [`PARAMETER_PROBLEM`]: what the next header is.
pub const UNKNOWN_NEXT_HEADER: u8 = 1;
/// Code of [`PARAMETER_PROBLEM`]: an option that asks for an error from who does not know it.
pub const UNKNOWN_OPTION: u8 = 2;

/// Writes the checksum of a whole message, whose pseudo-header has the sum `pseudo`.
///
/// # Panics
/// Where it is shorter than [`LEN`].
pub fn seal(message: &mut [u8], pseudo: u16) {
    icmp::Header::new_mut(message).set_checksum(0);
    let sum = !checksum::add(pseudo, checksum::sum(message));
    icmp::Header::new_mut(message).set_checksum(sum);
}
