//! The Internet checksum: whole (RFC 1071) and by difference (RFC 1624 eqn. 3).
//!
//! Sums are kept as host-order words of network-order data, folded at the end.

/// The ones' complement sum of `data`, folded to 16 bits, an odd last byte padded with zero.
pub fn sum(data: &[u8]) -> u16 {
    // Four bytes at a time: the ones' complement sum does not care about the word size (RFC 1071 §2(B)).
    let mut words = data.chunks_exact(4);
    let mut acc: u64 = 0;
    for w in &mut words {
        acc += u64::from(u32::from_be_bytes([w[0], w[1], w[2], w[3]]));
    }
    let rest = words.remainder();
    let mut last = [0u8; 4];
    last[..rest.len()].copy_from_slice(rest);
    acc += u64::from(u32::from_be_bytes(last));
    fold(acc)
}

/// The checksum of `data`: the complement of its [`sum`]. Over data that contains a right checksum it is 0.
pub fn of(data: &[u8]) -> u16 {
    !sum(data)
}

/// Adds two folded sums.
pub fn add(a: u16, b: u16) -> u16 {
    fold(u64::from(a) + u64::from(b))
}

/// The sum of the TCP or UDP pseudo-header over IPv4 (RFC 9293 §3.1, RFC 768): addresses, protocol and
/// length of header and data.
pub fn pseudo_header_v4(src: [u8; 4], dst: [u8; 4], protocol: u8, len: u32) -> u16 {
    let words = |a: [u8; 4]| u64::from(u16::from_be_bytes([a[0], a[1]])) + u64::from(u16::from_be_bytes([a[2], a[3]]));
    fold(words(src) + words(dst) + u64::from(protocol) + u64::from(len >> 16) + u64::from(len & 0xffff))
}

/// Folds to 16 bits with end-around carry.
pub const fn fold(mut acc: u64) -> u16 {
    while acc >> 16 != 0 {
        acc = (acc >> 16) + (acc & 0xffff);
    }
    acc as u16
}

/// A difference that can be applied to many checksums: what was taken away and what was put in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u64);

impl Delta {
    /// No difference.
    pub const ZERO: Self = Self(0);

    /// A 16-bit word changed from `old` to `new`.
    #[must_use]
    pub const fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + (!old) as u64 + new as u64)
    }

    /// An IPv4 address changed from `old` to `new`.
    #[must_use]
    pub const fn v4(self, old: [u8; 4], new: [u8; 4]) -> Self {
        self.word(u16::from_be_bytes([old[0], old[1]]), u16::from_be_bytes([new[0], new[1]]))
            .word(u16::from_be_bytes([old[2], old[3]]), u16::from_be_bytes([new[2], new[3]]))
    }

    /// The finished checksum `field` after the change: HC' = ~(~HC + ~m + m').
    pub const fn apply(self, field: u16) -> u16 {
        !fold((!field) as u64 + self.0)
    }

    /// The unfinished checksum `field` (a plain sum, as offloads leave it) after the change.
    pub const fn apply_partial(self, field: u16) -> u16 {
        fold(field as u64 + self.0)
    }
}
