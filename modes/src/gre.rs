//! GRE: the packet behind a GRE header (RFC 2784), with a checksum where asked for.

use uvs_core::flow::Flow;
use uvs_core::frame::{ETH_LEN, Frame};
use uvs_core::mode::{Mode, Path};
use uvs_core::packet::Packet;
use uvs_core::rewrite;
use uvs_core::service::{Forwarding, TunnelChecksum, TunnelKind};
use uvs_core::verdict::DropReason;
use uvs_core::wire::checksum;

use crate::outer;

/// Protocol number of GRE.
const GRE: u8 = 47;
/// Flag "checksum present", and IPv4's protocol type.
const CHECKSUM: [u8; 2] = [0x80, 0];
const IPV4: [u8; 2] = [0x08, 0];

/// `ipvsadm -i --tun-type gre`.
pub(crate) struct Gre;

/// Bytes of the GRE header.
fn header(path: &Path) -> usize {
    if is_summed(path) { 8 } else { 4 }
}

/// Remote checksum offload is GUE's; GRE has none, as in the kernel.
fn is_summed(path: &Path) -> bool {
    path.tunnel.checksum == TunnelChecksum::Full
}

impl Mode for Gre {
    fn forwarding(&self) -> Forwarding {
        Forwarding::Tunnel
    }

    fn encapsulation(&self) -> Option<TunnelKind> {
        Some(TunnelKind::Gre)
    }

    fn name(&self) -> &'static str {
        "Tunnel"
    }

    fn reply_flow(&self, _: &Flow, _: &Path) -> Option<Flow> {
        None
    }

    fn overhead(&self, path: &Path) -> usize {
        outer::IP + header(path)
    }

    fn forward(&self, frame: &mut Frame<'_>, _: &Packet, path: &Path) -> Result<(), DropReason> {
        let summed = is_summed(path);
        if summed {
            rewrite::finish_checksum(frame);
        }
        outer::wrap(frame, path, GRE, header(path))?;
        let gre = &mut frame.bytes_mut()[ETH_LEN + outer::IP..];
        gre[..header(path)].fill(0);
        gre[2..4].copy_from_slice(&IPV4);
        if summed {
            gre[..2].copy_from_slice(&CHECKSUM);
            let sum = checksum::of(gre);
            gre[4..6].copy_from_slice(&sum.to_be_bytes());
        }
        Ok(())
    }

    fn reverse(&self, _: &mut Frame<'_>, _: &Packet, _: &Path) -> Result<(), DropReason> {
        Ok(())
    }
}
