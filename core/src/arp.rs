//! ARP for VIPs that are on none of the host's interfaces (RFC 826).

use crate::fib::Mac;
use crate::flow::Addr;

/// Bytes of an ARP packet in an Ethernet frame.
pub const FRAME_LEN: usize = 42;

/// Writes the answer to an ARP request for an owned address into `out`; its length.
pub fn answer(frame: &[u8], is_owned: impl Fn(Addr) -> bool, mac: Mac, out: &mut [u8]) -> Option<usize> {
    let _ = (frame, is_owned(Addr::UNSPECIFIED), mac, out);
    None
}
