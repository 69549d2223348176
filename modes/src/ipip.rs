//! IPIP: the packet is wrapped in an outer IP header addressed to the real server (RFC 2003).
//!
//! The engine has cut super-frames before this.

use uvs_core::frame::Frame;
use uvs_core::mode::{Inside, Mode, ModeDef, Path};
use uvs_core::offload::Change;
use uvs_core::packet::Packet;
use uvs_core::service::TunnelKind;
use uvs_core::verdict::DropReason;
use uvs_core::wire::protocol;

use crate::outer;

/// `ipvsadm -i`, `--tun-type ipip`.
pub(crate) const DEF: ModeDef = ModeDef::tunnel(TunnelKind::Ipip, &Ipip);

struct Ipip;

impl Mode for Ipip {
    fn forward(&self, frame: &mut Frame<'_>, _: &Packet, path: &Path) -> Result<(), DropReason> {
        outer::wrap(frame, path, protocol::IPIP).map(|_| ())
    }

    fn change(&self, path: &Path, forward: bool) -> Option<Change> {
        let one_family = path.client.addr.is_v4() == path.server.addr.is_v4();
        (forward && one_family).then_some(Change::Wrap {
            src: path.tunnel_source,
            dst: path.server.addr,
            copy_df: path.copy_df,
        })
    }

    fn inside(&self, protocol: u8, _: &[u8]) -> Option<Inside> {
        (protocol == protocol::IPIP).then_some(Inside { offset: 0, port: 0 })
    }
}
