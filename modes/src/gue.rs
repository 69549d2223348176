//! GUE: the packet in UDP (draft-ietf-intarea-gue), so that networks spread the load by its source port,
//! which is the flow's.
//!
//! Remote checksum offload (`--tun-remcsum`) only differs for packets whose checksum the sender left to
//! an offload; UVS finishes those, so it differs in nothing from `--tun-csum`.

use uvs_core::flow::{Family, Flow};
use uvs_core::frame::Frame;
use uvs_core::mode::{Inside, Mode, ModeDef, Path};
use uvs_core::narrow;
use uvs_core::packet::Packet;
use uvs_core::random::Random;
use uvs_core::rewrite;
use uvs_core::service::{TunnelChecksum, TunnelKind};
use uvs_core::verdict::DropReason;
use uvs_core::wire::{gue, protocol, udp};

use crate::outer;

/// Source ports (net.ipv4.ip_local_port_range): the first, and how many.
const PORTS: (u16, u32) = (32768, 28231);

/// `ipvsadm -i --tun-type gue`.
pub(crate) const DEF: ModeDef = ModeDef::tunnel(TunnelKind::Gue, &Gue);

struct Gue;

impl Mode for Gue {
    fn forward(
        &self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        path: &Path,
    ) -> Result<(), DropReason> {
        let summed = path.tunnel.checksum != TunnelChecksum::None;
        if summed {
            rewrite::finish_checksum(frame);
        }
        let wrapped = outer::wrap(frame, packet, path, protocol::UDP)?;
        let datagram = &mut *wrapped.payload;
        let header = udp::Repr {
            src_port: source_port(&packet.flow),
            dst_port: path.tunnel.port,
            // No longer than the IP packet, which fits 16 bits.
            length: narrow::to_u16(datagram.len()),
        };
        header.emit(datagram);
        let within = gue::Repr {
            protocol: outer::protocol_of(packet.family),
        };
        within.emit(&mut datagram[udp::LEN..]);
        if summed {
            let pseudo_header = wrapped.pseudo_header();
            udp::seal(wrapped.payload, pseudo_header);
        }
        Ok(())
    }

    fn inside(&self, protocol: u8, payload: &[u8]) -> Option<Inside> {
        let datagram = udp::Header::new_checked(payload).ok()?;
        let header = gue::Header::new_checked(&payload[udp::LEN..]).ok()?;
        let mut families = Family::ALL.into_iter();
        let family = families.find(|family| outer::protocol_of(*family) == header.protocol())?;
        (protocol == protocol::UDP && header.is_data()).then(|| Inside {
            family,
            offset: udp::LEN + header.header_len(),
            port: datagram.dst_port(),
        })
    }
}

/// A port that is the same for all packets of a flow.
fn source_port(flow: &Flow) -> u16 {
    let addresses =
        u128::from_be_bytes(flow.src.0) ^ u128::from_be_bytes(flow.dst.0).rotate_left(64);
    let ports = u64::from(flow.src_port) << 16 | u64::from(flow.dst_port);
    let key = ((addresses ^ addresses << 64) >> 64) as u64 ^ ports << 24 ^ u64::from(flow.protocol);
    PORTS.0 + (Random::new(key).below(u64::from(PORTS.1)) & 0xffff) as u16
}
