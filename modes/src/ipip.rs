//! IPIP: the packet is wrapped in an outer IP header addressed to the real server (RFC 2003).
//!
//! The outer header is as Linux's `ip_vs_tunnel_xmit` makes it: TTL and TOS of the inner one, but CE
//! becomes ECT(0) outside (RFC 6040 §4.1, compatibility of the encapsulator aside); DF copied, and then no
//! identification. The engine has cut super-frames before this.

use uvs_core::checksum;
use uvs_core::flow::Flow;
use uvs_core::frame::{ETH_LEN, Frame};
use uvs_core::mode::{Mode, Path};
use uvs_core::packet::Packet;
use uvs_core::service::{Forwarding, TunnelKind};
use uvs_core::verdict::DropReason;

/// Bytes of the outer header.
const OUTER: usize = 20;
/// Protocol number of IP in IP.
const IPIP: u8 = 4;
/// ECN's bits in the TOS (RFC 3168 §5).
const ECN: u8 = 0x03;
const CE: u8 = 0x03;
const ECT_0: u8 = 0x02;

/// `ipvsadm -i`.
pub(crate) struct Ipip;

impl Mode for Ipip {
    fn forwarding(&self) -> Forwarding {
        Forwarding::Tunnel
    }

    fn encapsulation(&self) -> Option<TunnelKind> {
        Some(TunnelKind::Ipip)
    }

    fn name(&self) -> &'static str {
        "Tunnel"
    }

    fn reply_flow(&self, _: &Flow, _: &Path) -> Option<Flow> {
        None
    }

    fn overhead(&self, _: &Path) -> usize {
        OUTER
    }

    fn forward(&self, frame: &mut Frame<'_>, _: &Packet, path: &Path) -> Result<(), DropReason> {
        let (Some(src), Some(dst)) = (path.tunnel_source.as_v4(), path.server.addr.as_v4()) else {
            return Err(DropReason::NoRoute);
        };
        frame.open_gap(OUTER)?;
        let len = u16::try_from(frame.len() - ETH_LEN).map_err(|_| DropReason::Oversized)?;
        let (outer, inner) = frame.bytes_mut()[ETH_LEN..].split_at_mut(OUTER);
        let dont_fragment = path.copy_df && inner[6] & 0x40 != 0;
        outer[0] = 0x45;
        outer[1] = outer_tos(inner[1]);
        outer[2..4].copy_from_slice(&len.to_be_bytes());
        outer[4..6].copy_from_slice(&if dont_fragment { 0 } else { path.ip_id }.to_be_bytes());
        outer[6..8].copy_from_slice(&if dont_fragment { [0x40, 0] } else { [0, 0] });
        outer[8] = inner[8];
        outer[9] = IPIP;
        outer[10..12].fill(0);
        outer[12..16].copy_from_slice(&src);
        outer[16..20].copy_from_slice(&dst);
        let sum = checksum::of(outer);
        outer[10..12].copy_from_slice(&sum.to_be_bytes());
        Ok(())
    }

    fn reverse(&self, _: &mut Frame<'_>, _: &Packet, _: &Path) -> Result<(), DropReason> {
        Ok(())
    }
}

fn outer_tos(inner: u8) -> u8 {
    match inner & ECN {
        CE => inner & !ECN | ECT_0,
        _ => inner,
    }
}
