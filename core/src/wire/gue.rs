//! GUE, version 0 (draft-ietf-intarea-gue §3.2): what follows the UDP header.

use std::borrow::Borrow;

/// Bytes of the header without options.
pub const MIN_LEN: usize = 4;

/// The bits of version and "control message" in the first byte.
const NOT_DATA: u8 = 0xe0;
/// The bits of the options' length there, in units of 4 bytes.
const OPTIONS: u8 = 0x1f;

header! {
    /// A GUE header without its options.
    pub struct Header[MIN_LEN], offset;
    /// Version, "control message" and the options' length.
    pub(super) FIRST => first, set_first: u8 = 0;
    /// What lies within, of [`protocol`](crate::wire::protocol).
    pub PROTOCOL => protocol, set_protocol: u8 = 1;
    /// Flags: which options there are.
    pub FLAGS => flags, set_flags: u16 = 2;
}

impl<B: Borrow<[u8; MIN_LEN]>> Header<B> {
    /// Whether it is of version 0 and carries a packet, no control message.
    pub fn is_data(&self) -> bool {
        self.first() & NOT_DATA == 0
    }

    /// Bytes of the header with its options.
    pub fn header_len(&self) -> usize {
        MIN_LEN + usize::from(self.first() & OPTIONS) * 4
    }
}

/// What a GUE header of version 0 without options says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// What lies within, of [`protocol`](super::protocol).
    pub protocol: u8,
}

impl Repr {
    /// Writes it to the beginning of `packet`.
    ///
    /// # Panics
    /// Where that is shorter than [`MIN_LEN`].
    pub fn emit(&self, packet: &mut [u8]) {
        let mut header = Header::new_mut(packet);
        header.set_first(0);
        header.set_protocol(self.protocol);
        header.set_flags(0);
    }
}
