//! TCP (RFC 9293).

use std::borrow::{Borrow, BorrowMut};

use super::checksum;
use crate::narrow;

pub mod options;

/// Bytes of the header without options.
pub const MIN_LEN: usize = 20;
/// Bytes of the header with as many options as it can have.
pub const MAX_LEN: usize = 60;

/// The flags by their bits (RFC 9293 §3.1).
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 0x10;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;
}

header! {
    /// A TCP header without its options.
    pub struct Header[MIN_LEN], offset;
    /// Source port.
    pub SRC_PORT => src_port, set_src_port: u16 = 0;
    /// Destination port.
    pub DST_PORT => dst_port, set_dst_port: u16 = 2;
    /// Sequence number of the first byte of data, or of the SYN.
    pub SEQ => seq, set_seq: u32 = 4;
    /// The number that the sender expects next, where ACK is set.
    pub ACK => ack, set_ack: u32 = 8;
    /// The data offset's byte: the upper four bits, in units of 4 bytes.
    pub(super) DATA_OFFSET => data_offset, set_data_offset: u8 = 12;
    /// Of `flag`.
    pub FLAGS => flags, set_flags: u8 = 13;
    /// Receive window.
    pub WINDOW => window, set_window: u16 = 14;
    /// Checksum over pseudo-header, header and data.
    pub CHECKSUM => checksum, set_checksum: u16 = 16;
    /// Where urgent data end.
    pub URGENT => urgent, set_urgent: u16 = 18;
}

impl<B: Borrow<[u8; MIN_LEN]>> Header<B> {
    /// Bytes of the header with its options, as it says: 0 to 60, of which only 20 and more can be.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.data_offset() >> 4) * 4
    }
}

impl<B: BorrowMut<[u8; MIN_LEN]>> Header<B> {
    /// Sets the bytes of the header with its options: a multiple of 4, 20 to 60.
    pub fn set_header_len(&mut self, len: usize) {
        self.set_data_offset((narrow::to_u8(len) / 4) << 4);
    }
}

/// What a TCP header without options says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number, 0 without ACK.
    pub ack: u32,
    /// Of [`flag`].
    pub flags: u8,
    /// Receive window.
    pub window: u16,
}

impl Repr {
    /// Writes it to the beginning of `segment`, without a checksum.
    ///
    /// # Panics
    /// Where that is shorter than [`MIN_LEN`].
    pub fn emit(&self, segment: &mut [u8]) {
        let mut header = Header::new_mut(segment);
        header.set_src_port(self.src_port);
        header.set_dst_port(self.dst_port);
        header.set_seq(self.seq);
        header.set_ack(self.ack);
        header.set_header_len(MIN_LEN);
        header.set_flags(self.flags);
        header.set_window(self.window);
        header.set_checksum(0);
        header.set_urgent(0);
    }
}

/// Writes the checksum of a whole segment, whose pseudo-header has the sum `pseudo`.
///
/// # Panics
/// Where it is shorter than [`MIN_LEN`].
pub fn seal(segment: &mut [u8], pseudo: u16) {
    Header::new_mut(segment).set_checksum(0);
    let sum = !checksum::add(pseudo, checksum::sum(segment));
    Header::new_mut(segment).set_checksum(sum);
}

/// How many sequence numbers the flags take, beside the data (RFC 9293 §3.4).
pub const fn controls(bits: u8) -> u32 {
    (bits & flag::SYN != 0) as u32 + (bits & flag::FIN != 0) as u32
}
