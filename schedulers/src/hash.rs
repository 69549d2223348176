//! The hash that sh and dh share: an address and a port to one of 256 buckets, as Linux's `hash_32` does it.

use uvs_core::flow::Addr;

/// Buckets of sh and dh, as in the kernel's default configuration.
pub(crate) const BUCKETS: usize = 256;

/// Linux's multiplier for hashing: 2^32 over the golden ratio, negated.
const GOLDEN_RATIO_32: u32 = 0x61c8_8647;

/// The bucket of `folded` address plus port: the top 8 bits of the product.
pub(crate) const fn bucket(key: u32) -> usize {
    (key.wrapping_mul(GOLDEN_RATIO_32) >> 24) as usize
}

/// An address in 32 bits: IPv4 as it is, IPv6 as the exclusive or of its four words.
pub(crate) fn fold(addr: &Addr) -> u32 {
    match addr.as_v4() {
        Some(bytes) => u32::from_be_bytes(bytes),
        None => {
            let octets = addr.v6_octets();
            let (words, _) = octets.as_chunks();
            words
                .iter()
                .fold(0, |n, word| n ^ u32::from_be_bytes(*word))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn bucket_of(addr: &str, port: u16) -> usize {
        let addr = Addr::from(addr.parse::<IpAddr>().expect("an address"));
        bucket(fold(&addr).wrapping_add(u32::from(port)))
    }

    #[test]
    fn buckets_are_those_the_definition_gives() {
        let table = [
            ("192.0.2.1", 50, 214),
            ("192.0.2.2", 148, 56),
            ("192.0.2.3", 246, 154),
            ("10.0.0.1", 39, 203),
        ];
        for (addr, without_port, with_port_40000) in table {
            assert_eq!(bucket_of(addr, 0), without_port, "{addr}");
            assert_eq!(bucket_of(addr, 40_000), with_port_40000, "{addr}");
        }
        assert_eq!(bucket_of("203.0.113.7", 0), 124);
        assert_eq!(bucket_of("2001:db8::1", 0), 63);
        assert_eq!(bucket_of("2001:db8::2", 0), 160);
    }
}
