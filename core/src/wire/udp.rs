//! UDP (RFC 768).

use super::checksum;

/// Bytes of the header.
pub const LEN: usize = 8;

header! {
    /// A UDP header.
    pub struct Header[LEN], offset;
    /// Source port.
    pub SRC_PORT => src_port, set_src_port: u16 = 0;
    /// Destination port.
    pub DST_PORT => dst_port, set_dst_port: u16 = 2;
    /// Bytes of header and data.
    pub LENGTH => length, set_length: u16 = 4;
    /// Checksum over pseudo-header, header and data; 0 = none.
    pub CHECKSUM => checksum, set_checksum: u16 = 6;
}

/// What a UDP header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Bytes of header and data.
    pub length: u16,
}

impl Repr {
    /// Writes it to the beginning of `datagram`, without a checksum.
    ///
    /// # Panics
    /// Where that is shorter than [`LEN`].
    pub fn emit(&self, datagram: &mut [u8]) {
        let mut header = Header::new_mut(datagram);
        header.set_src_port(self.src_port);
        header.set_dst_port(self.dst_port);
        header.set_length(self.length);
        header.set_checksum(0);
    }
}

/// Writes the checksum of a whole datagram, whose pseudo-header has the sum `pseudo`.
///
/// # Panics
/// Where it is shorter than [`LEN`].
pub fn seal(datagram: &mut [u8], pseudo: u16) {
    Header::new_mut(datagram).set_checksum(0);
    let sum = !checksum::add(pseudo, checksum::sum(datagram));
    Header::new_mut(datagram).set_checksum(present(sum));
}

/// A checksum as it is sent: one of zero as all ones, for zero says that there is none.
#[inline]
pub const fn present(sum: u16) -> u16 {
    if sum == 0 { 0xffff } else { sum }
}
