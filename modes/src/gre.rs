//! GRE: the packet behind a GRE header (RFC 2784), with a checksum where asked for.

use uvs_core::flow::Flow;
use uvs_core::frame::Frame;
use uvs_core::mode::{Mode, Path};
use uvs_core::packet::Packet;
use uvs_core::rewrite;
use uvs_core::service::{Forwarding, TunnelChecksum, TunnelKind};
use uvs_core::verdict::DropReason;
use uvs_core::wire::ethernet::{self, ethertype};
use uvs_core::wire::{gre, protocol};

use crate::outer;

/// `ipvsadm -i --tun-type gre`.
pub(crate) struct Gre;

/// The GRE header on this path. Remote checksum offload is GUE's; GRE has none, as in the kernel.
fn header(path: &Path) -> gre::Repr {
    gre::Repr {
        protocol: ethertype::IPV4,
        summed: path.tunnel.checksum == TunnelChecksum::Full,
    }
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
        outer::IP + header(path).header_len()
    }

    fn forward(&self, frame: &mut Frame<'_>, _: &Packet, path: &Path) -> Result<(), DropReason> {
        let header = header(path);
        if header.summed {
            rewrite::finish_checksum(frame);
        }
        outer::wrap(frame, path, protocol::GRE, header.header_len())?;
        header.emit(&mut frame.bytes_mut()[ethernet::LEN + outer::IP..]);
        Ok(())
    }

    fn reverse(&self, _: &mut Frame<'_>, _: &Packet, _: &Path) -> Result<(), DropReason> {
        Ok(())
    }
}
