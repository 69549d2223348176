//! Direct routing: the destination MAC becomes the real server's, and nothing else changes.
//!
//! The engine sets MAC addresses in every mode, so there is nothing left to do here. The server has the
//! VIP on its loopback and answers the client itself.

use uvs_core::frame::Frame;
use uvs_core::mode::{Mode, ModeDef, Path};
use uvs_core::offload::Change;
use uvs_core::packet::Packet;
use uvs_core::service::Forwarding;
use uvs_core::verdict::DropReason;

/// `ipvsadm -g`.
pub(crate) const DEF: ModeDef = ModeDef::plain(Forwarding::Dr, &Dr);

struct Dr;

impl Mode for Dr {
    fn forward(&self, _: &mut Frame<'_>, _: &Packet, _: &Path) -> Result<(), DropReason> {
        Ok(())
    }

    fn change(&self, _: &Path, _: bool) -> Option<Change> {
        Some(Change::Nothing)
    }
}
