//! IPIP: the packet is wrapped in an outer IP header addressed to the real server: IPv4 in IPv4 (RFC 2003), IPv6 in
//! IPv6 and IPv4 in IPv6 (RFC 2473), IPv6 in IPv4 (RFC 4213).
//!
//! The engine has cut super-frames before this.

use uvs_core::flow::Family;
use uvs_core::frame::Frame;
use uvs_core::mode::{Inside, Mode, ModeDef, Path};
use uvs_core::offload::Change;
use uvs_core::packet::Packet;
use uvs_core::service::TunnelKind;
use uvs_core::verdict::DropReason;

use crate::outer;

/// `ipvsadm -i`, `--tun-type ipip`.
pub(crate) const DEF: ModeDef = ModeDef::tunnel(TunnelKind::Ipip, &Ipip);

struct Ipip;

impl Mode for Ipip {
    fn forward(
        &self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        path: &Path,
    ) -> Result<(), DropReason> {
        let protocol = outer::protocol_of(packet.family);
        outer::wrap(frame, packet, path, protocol).map(|_| ())
    }

    fn change(&self, path: &Path, forward: bool) -> Option<Change> {
        let one_family = path.ends.client.addr.is_v4() == path.ends.server.addr.is_v4();
        (forward && one_family).then_some(Change::Wrap {
            src: path.tunnel_source,
            dst: path.ends.server.addr,
            copy_df: path.copy_df,
        })
    }

    fn inside(&self, protocol: u8, _: &[u8]) -> Option<Inside> {
        let mut families = Family::ALL.into_iter();
        let family = families.find(|family| outer::protocol_of(*family) == protocol)?;
        Some(Inside {
            offset: 0,
            family,
            port: 0,
        })
    }
}
