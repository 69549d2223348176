//! GRE: the packet behind a GRE header (RFC 2784), with a checksum where asked for.

use uvs_core::checksum;
use uvs_core::frame::{ETH_LEN, Frame};
use uvs_core::mode::{Inside, Mode, ModeDef, Path};
use uvs_core::packet::Packet;
use uvs_core::rewrite;
use uvs_core::service::{OUTER_HEADER, TunnelChecksum, TunnelKind};
use uvs_core::verdict::DropReason;

use crate::outer;

/// Protocol number of GRE.
const GRE: u8 = 47;
/// Flag "checksum present", and IPv4's protocol type.
const CHECKSUM: [u8; 2] = [0x80, 0];
const IPV4: [u8; 2] = [0x08, 0];

/// `ipvsadm -i --tun-type gre`.
pub(crate) const DEF: ModeDef = ModeDef::tunnel(TunnelKind::Gre, &Gre);

struct Gre;

/// Remote checksum offload is GUE's; GRE has none, as in the kernel.
fn is_summed(path: &Path) -> bool {
    path.tunnel.checksum == TunnelChecksum::Full
}

impl Mode for Gre {
    fn forward(&self, frame: &mut Frame<'_>, _: &Packet, path: &Path) -> Result<(), DropReason> {
        let summed = is_summed(path);
        if summed {
            rewrite::finish_checksum(frame);
        }
        outer::wrap(frame, path, GRE)?;
        let gre = &mut frame.bytes_mut()[ETH_LEN + OUTER_HEADER..];
        gre[..path.tunnel.header()].fill(0);
        gre[2..4].copy_from_slice(&IPV4);
        if summed {
            gre[..2].copy_from_slice(&CHECKSUM);
            let sum = checksum::of(gre);
            gre[4..6].copy_from_slice(&sum.to_be_bytes());
        }
        Ok(())
    }

    fn inside(&self, protocol: u8, payload: &[u8]) -> Option<Inside> {
        if protocol != GRE || payload.len() < 4 {
            return None;
        }
        let offset = match [payload[0], payload[1]] {
            [0, 0] => 4,
            CHECKSUM => 8,
            _ => return None,
        };
        (payload[2..4] == IPV4).then_some(Inside { offset, port: 0 })
    }
}
