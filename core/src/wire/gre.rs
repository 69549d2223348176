//! GRE (RFC 2784): flags, a protocol and, where asked for, a checksum.

use std::borrow::Borrow;

use super::checksum;

/// Bytes of the header without a checksum.
pub const MIN_LEN: usize = 4;
/// Bytes of the header with a checksum.
pub const SUMMED_LEN: usize = 8;
/// Flag: a checksum follows.
pub const CHECKSUM_PRESENT: u16 = 0x8000;

header! {
    /// A GRE header without its checksum.
    pub struct Header[MIN_LEN], offset;
    /// Flags and version.
    pub FLAGS => flags, set_flags: u16 = 0;
    /// What lies within, of [`ethertype`](crate::wire::ethernet::ethertype).
    pub PROTOCOL => protocol, set_protocol: u16 = 2;
}

header! {
    /// A GRE header with a checksum.
    pub struct Summed[SUMMED_LEN], summed_offset;
    /// Checksum over the header and what lies within.
    pub CHECKSUM => checksum, set_checksum: u16 = 4;
    /// Always 0.
    pub RESERVED => reserved, set_reserved: u16 = 6;
}

impl<B: Borrow<[u8; MIN_LEN]>> Header<B> {
    /// Bytes of the header, `None` where it has flags other than that for a checksum, or another version.
    pub fn header_len(&self) -> Option<usize> {
        match self.flags() {
            0 => Some(MIN_LEN),
            CHECKSUM_PRESENT => Some(SUMMED_LEN),
            _ => None,
        }
    }
}

/// Bytes of a header with or without a checksum.
pub const fn header_len(summed: bool) -> usize {
    if summed { SUMMED_LEN } else { MIN_LEN }
}

/// What a GRE header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// What lies within, of [`ethertype`](super::ethernet::ethertype).
    pub protocol: u16,
    /// Whether it has a checksum.
    pub summed: bool,
}

impl Repr {
    /// Writes it to the beginning of `packet`, all of which the checksum covers.
    ///
    /// # Panics
    /// Where that is shorter than [`header_len`].
    pub fn emit(&self, packet: &mut [u8]) {
        let mut header = Header::new_mut(packet);
        header.set_flags(if self.summed { CHECKSUM_PRESENT } else { 0 });
        header.set_protocol(self.protocol);
        if self.summed {
            let mut header = Summed::new_mut(packet);
            header.set_checksum(0);
            header.set_reserved(0);
            let sum = checksum::of(packet);
            Summed::new_mut(packet).set_checksum(sum);
        }
    }
}
