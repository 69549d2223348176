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

/// Whether the checksum that an IPv4 header without options has is right: nearly every packet's.
#[inline(always)]
pub(super) fn is_right_in(header: &[u8; 20]) -> bool {
    let (words, _) = header.as_chunks();
    // As the bytes lie: all ones stay so in either order (RFC 1071 §2(B)).
    let sum = |acc, word: &[u8; 4]| acc + u64::from(u32::from_ne_bytes(*word));
    fold(words.iter().fold(0, sum)) == u16::MAX
}

/// Adds two folded sums.
pub fn add(a: u16, b: u16) -> u16 {
    fold(u64::from(a) + u64::from(b))
}

/// The sum of the TCP or UDP pseudo-header over IPv4 (RFC 9293 §3.1, RFC 768): addresses, protocol and
/// length of header and data.
pub fn pseudo_header_v4(src: [u8; 4], dst: [u8; 4], protocol: u8, len: u32) -> u16 {
    let words = |a: [u8; 4]| {
        u64::from(u16::from_be_bytes([a[0], a[1]])) + u64::from(u16::from_be_bytes([a[2], a[3]]))
    };
    fold(
        words(src)
            + words(dst)
            + u64::from(protocol)
            + u64::from(len >> 16)
            + u64::from(len & 0xffff),
    )
}

/// The sum of the pseudo-header of a transport over IPv6, ICMPv6 included (RFC 8200 §8.1): addresses, length
/// of header and data, protocol.
pub fn pseudo_header_v6(src: [u8; 16], dst: [u8; 16], protocol: u8, len: u32) -> u16 {
    fold(
        words_v6(src)
            + words_v6(dst)
            + u64::from(protocol)
            + u64::from(len >> 16)
            + u64::from(len & 0xffff),
    )
}

/// The sum of an IPv6 address's words, not folded: two at a time, as in [`sum`].
#[inline]
const fn words_v6(address: [u8; 16]) -> u64 {
    let n = u128::from_be_bytes(address);
    let (high, low) = ((n >> 64) as u64, (n & 0xffff_ffff_ffff_ffff) as u64);
    (high >> 32) + (high & 0xffff_ffff) + (low >> 32) + (low & 0xffff_ffff)
}

/// Folds to 16 bits with end-around carry.
#[inline(always)]
pub const fn fold(acc: u64) -> u16 {
    let (high, low) = ((acc >> 32) as u32, (acc & 0xffff_ffff) as u32);
    let (sum, carry) = high.overflowing_add(low);
    let sum = sum + carry as u32;
    // Each half becomes the sum of both, and the lower one's carry enters the higher one.
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// A difference that can be applied to many checksums: what was taken away and what was put in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u64);

impl Delta {
    /// No difference.
    pub const ZERO: Self = Self(0);

    /// A 16-bit word changed from `old` to `new`.
    #[must_use]
    #[inline]
    pub const fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + (!old) as u64 + new as u64)
    }

    /// An IPv4 address changed from `old` to `new`.
    #[must_use]
    #[inline]
    pub const fn v4(self, old: [u8; 4], new: [u8; 4]) -> Self {
        // Both words at once, as in [`sum`].
        let (old, new) = (u32::from_be_bytes(old), u32::from_be_bytes(new));
        Self(self.0 + (!old) as u64 + new as u64)
    }

    /// An IPv6 address changed from `old` to `new`.
    #[must_use]
    pub const fn v6(self, old: [u8; 16], new: [u8; 16]) -> Self {
        // The complement of an address has the complements of its words.
        let without = (!u128::from_be_bytes(old)).to_be_bytes();
        Self(self.0 + words_v6(without) + words_v6(new))
    }

    /// The finished checksum `field` after the change: HC' = ~(~HC + ~m + m').
    pub const fn apply(self, field: u16) -> u16 {
        !fold((!field) as u64 + self.0)
    }

    /// The unfinished checksum `field` (a plain sum, as offloads leave it) after the change.
    pub const fn apply_partial(self, field: u16) -> u16 {
        fold(field as u64 + self.0)
    }

    /// Both differences together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

/// CRC32c (Castagnoli, reflected polynomial 0x82f63b78) as SCTP uses it (RFC 9260 appendix A).
pub fn crc32c(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0u32; 256];
        let mut i = 0;
        while i < 256 {
            let mut crc = i;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 != 0 {
                    (crc >> 1) ^ 0x82f6_3b78
                } else {
                    crc >> 1
                };
                bit += 1;
            }
            table[i as usize] = crc;
            i += 1;
        }
        table
    };
    !data.iter().fold(!0u32, |crc, b| {
        (crc >> 8) ^ TABLE[((crc ^ u32::from(*b)) & 0xff) as usize]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(
            sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            0xddf2
        );
    }

    #[test]
    fn the_check_value_of_crc32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn the_example_of_rfc_1624() {
        // §4: HC 0xDD2F, m 0x5555 becomes 0x3285; eqn. 3 gives 0x0000.
        assert_eq!(Delta::ZERO.word(0x5555, 0x3285).apply(0xdd2f), 0x0000);
    }

    proptest! {
        #[test]
        fn an_address_is_a_difference_as_its_words_are(old in any::<[u8; 16]>(), new in any::<[u8; 16]>(), field in any::<u16>()) {
            let words = |a: [u8; 16]| a.chunks(2).map(|w| u16::from_be_bytes([w[0], w[1]])).collect::<Vec<_>>();
            let each = words(old).into_iter().zip(words(new));
            let by_word = each.fold(Delta::ZERO, |delta, (old, new)| delta.word(old, new));
            let whole = Delta::ZERO.v6(old, new);
            prop_assert_eq!(whole.apply(field) % 0xffff, by_word.apply(field) % 0xffff);
            prop_assert_eq!(whole.apply_partial(field) % 0xffff, by_word.apply_partial(field) % 0xffff);
        }

        #[test]
        fn a_pseudo_header_is_the_sum_of_its_bytes(src in any::<[u8; 16]>(), dst in any::<[u8; 16]>(), protocol in any::<u8>(), len in any::<u32>()) {
            let bytes = [&src[..], &dst, &len.to_be_bytes(), &[0, 0, 0, protocol]].concat();
            prop_assert_eq!(pseudo_header_v6(src, dst, protocol, len) % 0xffff, sum(&bytes) % 0xffff);
        }

        #[test]
        fn incremental_equals_full(mut data in proptest::collection::vec(any::<u8>(), 4..200), at in 0usize..100, new in any::<u16>()) {
            let at = (at * 2) % (data.len() - data.len() % 2);
            let before = of(&data);
            let old = u16::from_be_bytes([data[at], data[at + 1]]);
            data[at..at + 2].copy_from_slice(&new.to_be_bytes());
            let after = Delta::ZERO.word(old, new).apply(before);
            // 0 and 0xffff are the same number in ones' complement.
            prop_assert!(after == of(&data) || (after == 0xffff && of(&data) == 0) || (after == 0 && of(&data) == 0xffff));
        }
    }
}
