//! ICMP (RFC 792).

use super::checksum;

/// Bytes of the header.
pub const LEN: usize = 8;

/// Type: answer to an echo request.
pub const ECHO_REPLY: u8 = 0;
/// Type: the packet cannot reach its destination.
pub const UNREACHABLE: u8 = 3;
/// Type: send slower; not sent any more (RFC 6633).
pub const SOURCE_QUENCH: u8 = 4;
/// Type: echo request.
pub const ECHO: u8 = 8;
/// Type: the packet travelled too far, or a fragment waited too long.
pub const TIME_EXCEEDED: u8 = 11;
/// Type: the header cannot be.
pub const PARAMETER_PROBLEM: u8 = 12;
/// The types that are errors about the packet that they quote, which the quote follows.
pub const ERRORS: [u8; 4] = [UNREACHABLE, SOURCE_QUENCH, TIME_EXCEEDED, PARAMETER_PROBLEM];

/// Code of [`UNREACHABLE`]: no route.
pub const NET_UNREACHABLE: u8 = 0;
/// Code of [`UNREACHABLE`]: the last hop does not answer.
pub const HOST_UNREACHABLE: u8 = 1;
/// Code of [`UNREACHABLE`]: the host does not speak the protocol.
pub const PROTOCOL_UNREACHABLE: u8 = 2;
/// Code of [`UNREACHABLE`]: nobody listens on the port.
pub const PORT_UNREACHABLE: u8 = 3;
/// Code of [`UNREACHABLE`]: too long for the next link, and not to be cut (RFC 1191).
pub const FRAGMENTATION_NEEDED: u8 = 4;
/// Code of [`UNREACHABLE`]: administratively prohibited (RFC 1812 §5.2.7.1).
pub const PROHIBITED: u8 = 13;
/// Code of [`TIME_EXCEEDED`]: on the way.
pub const TTL_EXCEEDED: u8 = 0;

header! {
    /// An ICMP header.
    pub struct Header[LEN], offset;
    /// Type.
    pub KIND => kind, set_kind: u8 = 0;
    /// Code, by type.
    pub CODE => code, set_code: u8 = 1;
    /// Checksum over the whole message.
    pub CHECKSUM => checksum, set_checksum: u16 = 2;
    /// The rest of the header, by type.
    pub REST => rest, set_rest: u32 = 4;
    /// Whose echo it is, of an echo or its reply.
    pub IDENTIFIER => identifier, set_identifier: u16 = 4;
    /// Which echo it is, of an echo or its reply.
    pub SEQUENCE => sequence, set_sequence: u16 = 6;
    /// What fits the next link, with `FRAGMENTATION_NEEDED` (RFC 1191 §4); 0 = not
    /// told.
    pub NEXT_HOP_MTU => next_hop_mtu, set_next_hop_mtu: u16 = 6;
}

/// What an ICMP header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The rest of the header.
    pub rest: u32,
}

impl Repr {
    /// Writes it to the beginning of `message`, without a checksum.
    ///
    /// # Panics
    /// Where that is shorter than [`LEN`].
    pub fn emit(&self, message: &mut [u8]) {
        let mut header = Header::new_mut(message);
        header.set_kind(self.kind);
        header.set_code(self.code);
        header.set_checksum(0);
        header.set_rest(self.rest);
    }
}

/// Writes the checksum of a whole message.
///
/// # Panics
/// Where it is shorter than [`LEN`].
pub fn seal(message: &mut [u8]) {
    Header::new_mut(message).set_checksum(0);
    let sum = checksum::of(message);
    Header::new_mut(message).set_checksum(sum);
}
