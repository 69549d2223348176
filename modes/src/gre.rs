//! GRE: the packet behind a GRE header (RFC 2784), with a checksum where asked for.

use uvs_core::flow::Family;
use uvs_core::frame::Frame;
use uvs_core::mode::{Inside, Mode, ModeDef, Path};
use uvs_core::packet::Packet;
use uvs_core::rewrite;
use uvs_core::service::{TunnelChecksum, TunnelKind};
use uvs_core::verdict::DropReason;
use uvs_core::wire::ethernet::ethertype;
use uvs_core::wire::{gre, protocol};

use crate::outer;

/// `ipvsadm -i --tun-type gre`.
pub(crate) const DEF: ModeDef = ModeDef::tunnel(TunnelKind::Gre, &Gre);

struct Gre;

impl Mode for Gre {
    fn forward(
        &self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        path: &Path,
    ) -> Result<(), DropReason> {
        let header = gre::Repr {
            protocol: ethertype::of(packet.family == Family::V6),
            // Remote checksum offload is GUE's; GRE has none, as in the kernel.
            summed: path.tunnel.checksum == TunnelChecksum::Full,
        };
        if header.summed {
            rewrite::finish_checksum(frame);
        }
        let wrapped = outer::wrap(frame, packet, path, protocol::GRE)?;
        header.emit(wrapped.payload);
        Ok(())
    }

    fn inside(&self, protocol: u8, payload: &[u8]) -> Option<Inside> {
        let header = gre::Header::new_checked(payload).ok()?;
        let offset = header.header_len()?;
        let family = match header.protocol() {
            ethertype::IPV4 => Family::V4,
            ethertype::IPV6 => Family::V6,
            _ => return None,
        };
        (protocol == protocol::GRE).then_some(Inside {
            offset,
            family,
            port: 0,
        })
    }
}
