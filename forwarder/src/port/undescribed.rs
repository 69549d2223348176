//! Super-frames that a virtio_net_hdr cannot describe: of UDP datagrams on kernels before 6.2, of SCTP on all.
//!
//! A ring whose frames have that header loses such a frame whole. Kernels without a fix of 2026 lose all that come
//! after it too: tpacket_rcv (af_packet.c) marks the ring's next slot as being filled, finds that it cannot describe
//! the frame, and never takes the mark back. So these frames are kept out of the ring by its filter, as far as a
//! filter can tell: it does not see whether a frame is a super-frame, but one that is longer than the link allows
//! is; and in IPv6 it sees the transport only where no extension header comes before. What slips through is the matter of the ring's `StallWatch`.

use libc::sock_filter;
use uvs_core::wire::ethernet;

use super::filter::{
    Assembler, ETHER_TYPE, IF_AT_LEAST, IF_EQUAL, IP_PROTOCOL, LOAD_U8, LOAD_U16, NEXT_HEADER,
    REJECT, RETURN, code, place,
};
use crate::kernel::Version;

pub(super) const LOAD_LENGTH: u16 = code(libc::BPF_LD | libc::BPF_W | libc::BPF_LEN);
/// What may come on top of the MTU: the Ethernet header and a VLAN tag.
const LINK_HEADERS: u32 = place(ethernet::LEN) + 4;
/// Instructions that [`Undescribed::rejecting`] takes at most.
pub(super) const INSTRUCTIONS: usize = 14;

/// What this kernel cannot describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Undescribed {
    udp: bool,
}

impl Undescribed {
    /// What a kernel cannot; one of no known version is taken for an old one.
    pub(super) fn by(kernel: Option<Version>) -> Self {
        let udp = !kernel.is_some_and(Version::describes_udp_segments);
        Self { udp }
    }

    /// Instructions that reject such frames where a link has this MTU, and let all others go on to what is
    /// behind them.
    pub(super) fn rejecting(self, mtu: u32) -> Vec<sock_filter> {
        let mut a = Assembler::default();
        a.emit(LOAD_LENGTH, 0);
        a.branch(IF_AT_LEAST, mtu.saturating_add(LINK_HEADERS + 1), 1, 0);
        let fits = a.jump();
        a.emit(LOAD_U16, ETHER_TYPE);
        a.branch(IF_EQUAL, libc::ETH_P_IP as u32, 0, 2);
        a.emit(LOAD_U8, IP_PROTOCOL);
        let read = a.jump();
        a.branch(IF_EQUAL, libc::ETH_P_IPV6 as u32, 1, 0);
        let other = a.jump();
        a.emit(LOAD_U8, NEXT_HEADER);
        a.land(read);
        a.reject_if(libc::IPPROTO_SCTP as u32);
        if self.udp {
            a.reject_if(libc::IPPROTO_UDP as u32);
        }
        a.land(fits);
        a.land(other);
        a.code
    }
}

impl Assembler {
    /// Rejects if the accumulator is `value`.
    fn reject_if(&mut self, value: u32) {
        self.branch(IF_EQUAL, value, 0, 1);
        self.emit(RETURN, REJECT);
    }
}
