//! GRE: the packet behind a GRE header (RFC 2784), with a checksum where asked for.

use uvs_core::frame::Frame;
use uvs_core::mode::{Inside, Mode, ModeDef, Path};
use uvs_core::packet::Packet;
use uvs_core::rewrite;
use uvs_core::service::{OUTER_HEADER, TunnelChecksum, TunnelKind};
use uvs_core::verdict::DropReason;
use uvs_core::wire::ethernet::{self, ethertype};
use uvs_core::wire::{gre, protocol};

use crate::outer;

/// `ipvsadm -i --tun-type gre`.
pub(crate) const DEF: ModeDef = ModeDef::tunnel(TunnelKind::Gre, &Gre);

struct Gre;

impl Mode for Gre {
    fn forward(&self, frame: &mut Frame<'_>, _: &Packet, path: &Path) -> Result<(), DropReason> {
        let header = gre::Repr {
            protocol: ethertype::IPV4,
            // Remote checksum offload is GUE's; GRE has none, as in the kernel.
            summed: path.tunnel.checksum == TunnelChecksum::Full,
        };
        if header.summed {
            rewrite::finish_checksum(frame);
        }
        outer::wrap(frame, path, protocol::GRE)?;
        header.emit(&mut frame.bytes_mut()[ethernet::LEN + OUTER_HEADER..]);
        Ok(())
    }

    fn inside(&self, protocol: u8, payload: &[u8]) -> Option<Inside> {
        let header = gre::Header::new_checked(payload).ok()?;
        let offset = header.header_len()?;
        let ours = protocol == protocol::GRE && header.protocol() == ethertype::IPV4;
        ours.then_some(Inside { offset, port: 0 })
    }
}
