//! NAT: the destination becomes the real server's address and port, and back.
//!
//! The director is the servers' gateway, so replies pass it.

use uvs_core::frame::Frame;
use uvs_core::mode::{Mode, ModeDef, Path};
use uvs_core::offload::Change;
use uvs_core::packet::Packet;
use uvs_core::rewrite::{self, Ends};
use uvs_core::service::Forwarding;
use uvs_core::verdict::DropReason;

/// `ipvsadm -m`.
pub(crate) const DEF: ModeDef = ModeDef::plain(Forwarding::Nat, &Nat);

struct Nat;

impl Nat {
    /// The ends that packets to the server get,
    const fn forwards(path: &Path) -> Ends {
        Ends {
            src: None,
            dst: Some(path.ends.server),
        }
    }

    /// and those that its replies get.
    const fn reverses(path: &Path) -> Ends {
        Ends {
            src: Some(path.ends.vip),
            dst: None,
        }
    }
}

impl Mode for Nat {
    fn forward(
        &self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        path: &Path,
    ) -> Result<(), DropReason> {
        rewrite::set_ends(frame, packet, Self::forwards(path));
        Ok(())
    }

    fn reverse(
        &self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        path: &Path,
    ) -> Result<(), DropReason> {
        rewrite::set_ends(frame, packet, Self::reverses(path));
        Ok(())
    }

    fn change(&self, path: &Path, forward: bool) -> Option<Change> {
        let one_family = path.ends.client.addr.is_v4() == path.ends.server.addr.is_v4();
        one_family.then(|| {
            Change::Ends(match forward {
                true => Self::forwards(path),
                false => Self::reverses(path),
            })
        })
    }
}
