//! FULLNAT: the destination becomes the real server's, the source a local address and port of the
//! director's, and both back.
//!
//! A server needs only a route to the local address, so it can be anywhere, and of the other address family: then
//! the packet becomes one of that (RFC 7915).

use uvs_core::flow::Endpoint;
use uvs_core::frame::Frame;
use uvs_core::mode::{Mode, ModeDef, Path};
use uvs_core::offload::Change;
use uvs_core::packet::Packet;
use uvs_core::rewrite::{self, Ends};
use uvs_core::service::Forwarding;
use uvs_core::translate::{self, Target};
use uvs_core::verdict::DropReason;

/// `--fullnat`, which ipvsadm does not know.
pub(crate) const DEF: ModeDef = ModeDef::plain(Forwarding::FullNat, &FullNat);

struct FullNat;

impl FullNat {
    /// The ends that packets to the server get,
    const fn forwards(path: &Path) -> Ends {
        Ends {
            src: Some(path.ends.local),
            dst: Some(path.ends.server),
        }
    }

    /// and those that its replies get.
    const fn reverses(path: &Path) -> Ends {
        Ends {
            src: Some(path.ends.vip),
            dst: Some(path.ends.client),
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
        set_both(frame, packet, path.ends.local, path.ends.server, path)
    }

    fn reverse(
        &self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        path: &Path,
    ) -> Result<(), DropReason> {
        set_both(frame, packet, path.ends.vip, path.ends.client, path)
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

fn set_both(
    frame: &mut Frame<'_>,
    packet: &Packet,
    src: Endpoint,
    dst: Endpoint,
    path: &Path,
) -> Result<(), DropReason> {
    if packet.family == dst.addr.family() {
        let ends = Ends {
            src: Some(src),
            dst: Some(dst),
        };
        rewrite::set_ends(frame, packet, ends);
        return Ok(());
    }
    let id = path.ip_id;
    translate::packet(frame, packet, &Target { src, dst, id })
}
