//! The connection table's hash: SipHash-1-3 with a secret key, since clients choose the tuples.
//!
//! A flow's bytes are as many as its family says, so that the message is whole words when this is compiled: no buffer, no
//! loop over bytes, no length to ask for. The outcome is SipHash-1-3's (Aumasson, Bernstein: "SipHash: a fast short-input
//! PRF"), of an IPv4 flow's 14 bytes or an IPv6 flow's 38: addresses as in the packet, ports with their low byte first,
//! protocol, the byte that tells a template.

use crate::flow::{Addr, Family, Flow};

/// Bytes of an IPv4 flow, and of another: a message's last word ends with its length.
const LEN_V4: u64 = 14;
const LEN_V6: u64 = 38;

/// The keyed hash of a flow.
#[inline(always)]
pub(super) fn hash(keys: (u64, u64), flow: &Flow) -> u64 {
    let rest = u64::from(flow.src_port)
        | u64::from(flow.dst_port) << 16
        | u64::from(flow.protocol) << 32
        | u64::from(flow.reserved[0]) << 40;
    let ([s0, s1], [d0, d1]) = (words(&flow.src), words(&flow.dst));
    match flow.family() {
        // The address is in the higher half of the second word.
        Family::V4 => {
            let addresses = s1 >> 32 | (d1 >> 32) << 32;
            siphash(keys, [addresses, rest | LEN_V4 << 56])
        }
        Family::V6 => siphash(keys, [s0, s1, d0, d1, rest | LEN_V6 << 56]),
    }
}

fn words(address: &Addr) -> [u64; 2] {
    let n = u128::from_le_bytes(address.0);
    [(n & 0xffff_ffff_ffff_ffff) as u64, (n >> 64) as u64]
}

/// SipHash with one round a word and three at the end.
#[inline(always)]
fn siphash<const WORDS: usize>((k0, k1): (u64, u64), message: [u64; WORDS]) -> u64 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    for word in message {
        v[3] ^= word;
        v = round(v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    let [v0, v1, v2, v3] = round(round(round(v)));
    v0 ^ v1 ^ v2 ^ v3
}

#[inline(always)]
const fn round([mut v0, mut v1, mut v2, mut v3]: [u64; 4]) -> [u64; 4] {
    v0 = v0.wrapping_add(v1);
    v2 = v2.wrapping_add(v3);
    v1 = v1.rotate_left(13) ^ v0;
    v3 = v3.rotate_left(16) ^ v2;
    v0 = v0.rotate_left(32);
    v2 = v2.wrapping_add(v1);
    v0 = v0.wrapping_add(v3);
    v1 = v1.rotate_left(17) ^ v2;
    v3 = v3.rotate_left(21) ^ v0;
    v2 = v2.rotate_left(32);
    [v0, v1, v2, v3]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use siphasher::sip::SipHasher13;

    use super::*;

    proptest! {
        #[test]
        fn it_is_siphash_1_3(keys in any::<(u64, u64)>(), addresses in any::<[[u8; 16]; 2]>(), v4 in any::<bool>(), ports in any::<(u16, u16)>(), protocol in any::<u8>(), template in 0..2_u8) {
            let [src, dst] = addresses.map(|a| if v4 { Addr::v4([a[0], a[1], a[2], a[3]]) } else { Addr::v6(a) });
            let flow = Flow { src, dst, src_port: ports.0, dst_port: ports.1, protocol, reserved: [template, 0, 0] };
            let bytes = |a: Addr| a.as_v4().map_or_else(|| a.0.to_vec(), |a| a.to_vec());
            let message = [
                &bytes(src)[..],
                &bytes(dst),
                &ports.0.to_le_bytes(),
                &ports.1.to_le_bytes(),
                &[protocol, template],
            ]
            .concat();
            let reference = SipHasher13::new_with_keys(keys.0, keys.1);
            prop_assert_eq!(hash(keys, &flow), reference.hash(&message));
        }
    }
}
