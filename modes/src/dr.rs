//! Direct routing: the destination MAC becomes the real server's, and nothing else changes.
//!
//! The engine sets MAC addresses in every mode, so there is nothing left to do here. The server has the
//! VIP on its loopback and answers the client itself.

use uvs_core::flow::Flow;
use uvs_core::frame::Frame;
use uvs_core::mode::{Mode, Path};
use uvs_core::packet::Packet;
use uvs_core::service::Forwarding;
use uvs_core::verdict::DropReason;

/// `ipvsadm -g`.
pub(crate) struct Dr;

impl Mode for Dr {
    fn forwarding(&self) -> Forwarding {
        Forwarding::Dr
    }

    fn name(&self) -> &'static str {
        "Route"
    }

    fn reply_flow(&self, _: &Flow, _: &Path) -> Option<Flow> {
        None
    }

    fn forward(&self, _: &mut Frame<'_>, _: &Packet, _: &Path) -> Result<(), DropReason> {
        Ok(())
    }

    fn reverse(&self, _: &mut Frame<'_>, _: &Packet, _: &Path) -> Result<(), DropReason> {
        Ok(())
    }
}
