//! NAT: the destination becomes the real server's address and port, and back.
//!
//! The director is the servers' gateway, so replies pass it.

use uvs_core::frame::Frame;
use uvs_core::mode::{Mode, ModeDef, Path};
use uvs_core::packet::Packet;
use uvs_core::rewrite::{self, Ends};
use uvs_core::service::Forwarding;
use uvs_core::verdict::DropReason;

/// `ipvsadm -m`.
pub(crate) const DEF: ModeDef = ModeDef::plain(Forwarding::Nat, &Nat);

struct Nat;

impl Mode for Nat {
    fn forward(
        &self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        path: &Path,
    ) -> Result<(), DropReason> {
        rewrite::set_ends(
            frame,
            packet,
            Ends {
                src: None,
                dst: Some(path.server),
            },
        );
        Ok(())
    }

    fn reverse(
        &self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        path: &Path,
    ) -> Result<(), DropReason> {
        rewrite::set_ends(
            frame,
            packet,
            Ends {
                src: Some(path.vip),
                dst: None,
            },
        );
        Ok(())
    }
}
