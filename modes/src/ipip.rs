//! IPIP: the packet is wrapped in an outer IP header addressed to the real server (RFC 2003).
//!
//! The engine has cut super-frames before this.

use uvs_core::flow::Flow;
use uvs_core::frame::Frame;
use uvs_core::mode::{Mode, Path};
use uvs_core::packet::Packet;
use uvs_core::service::{Forwarding, TunnelKind};
use uvs_core::verdict::DropReason;
use uvs_core::wire::protocol;

use crate::outer;

/// `ipvsadm -i`, `--tun-type ipip`.
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
        outer::IP
    }

    fn forward(&self, frame: &mut Frame<'_>, _: &Packet, path: &Path) -> Result<(), DropReason> {
        outer::wrap(frame, path, protocol::IPIP, 0).map(|_| ())
    }

    fn reverse(&self, _: &mut Frame<'_>, _: &Packet, _: &Path) -> Result<(), DropReason> {
        Ok(())
    }
}
