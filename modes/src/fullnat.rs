//! FULLNAT: the destination becomes the real server's, the source a local address and port of the
//! director's, and both back.
//!
//! A server needs only a route to the local address, so it can be anywhere.

use uvs_core::frame::Frame;
use uvs_core::mode::{Mode, ModeDef, Path};
use uvs_core::offload::Change;
use uvs_core::packet::Packet;
use uvs_core::rewrite::{self, Ends};
use uvs_core::service::Forwarding;
use uvs_core::verdict::DropReason;

/// `--fullnat`, which ipvsadm does not know.
pub(crate) const DEF: ModeDef = ModeDef::plain(Forwarding::FullNat, &FullNat);

struct FullNat;

impl FullNat {
    /// The ends that packets to the server get,
    const fn forwards(path: &Path) -> Ends {
        Ends {
            src: Some(path.local),
            dst: Some(path.server),
        }
    }

    /// and those that its replies get.
    const fn reverses(path: &Path) -> Ends {
        Ends {
            src: Some(path.vip),
            dst: Some(path.client),
        }
    }
}

impl Mode for FullNat {
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
        let one_family = path.client.addr.is_v4() == path.server.addr.is_v4();
        one_family.then(|| {
            Change::Ends(match forward {
                true => Self::forwards(path),
                false => Self::reverses(path),
            })
        })
    }
}
