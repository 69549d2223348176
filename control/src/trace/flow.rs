//! A packet made from a flow, as a client's host would send it: what `uvs trace CLIENT VIP` looks at.

use std::net::SocketAddr;
use std::str::FromStr;

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::wire::ethernet::{self, ethertype};
use uvs_core::wire::tcp::flag;
use uvs_core::wire::{ipv4, ipv6, sctp, tcp, udp};

/// Bytes of an INIT chunk without parameters (RFC 9260 §3.3.2).
const INIT: usize = 20;
/// TTL of a host that sends (net.ipv4.ip_default_ttl).
const TTL: u8 = 64;

/// TCP flags by name: `syn`, `syn,ack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u8);

impl FromStr for Flags {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bit = |name: &str| match name {
            "syn" => Ok(flag::SYN),
            "ack" => Ok(flag::ACK),
            "fin" => Ok(flag::FIN),
            "rst" => Ok(flag::RST),
            "psh" => Ok(flag::PSH),
            other => Err(format!(
                "`{other}` is not a TCP flag; say syn, ack, fin, rst or psh, several with commas"
            )),
        };
        let mut bits = text.split(',').map(|word| bit(&word.to_lowercase()));
        bits.try_fold(0, |all, one| one.map(|one| all | one))
            .map(Flags)
    }
}

/// `ADDRESS:PORT`, an IPv6 address in brackets.
///
/// # Errors
/// It is something else.
pub fn endpoint(text: &str) -> Result<Endpoint, String> {
    text.parse::<SocketAddr>()
        .map(|socket| Endpoint::new(Addr::from(socket.ip()), socket.port()))
        .map_err(|_| {
            format!("`{text}` is not ADDRESS:PORT, such as 10.0.0.5:4711 or [2001:db8::5]:4711")
        })
}

/// A frame with this packet; its MAC addresses are zeros. It is of the family of its destination, of which its source
/// has to be too.
pub fn frame(protocol: Protocol, from: Endpoint, to: Endpoint, flags: Flags) -> Vec<u8> {
    let length = match protocol {
        Protocol::Tcp => tcp::MIN_LEN,
        Protocol::Udp => udp::LEN,
        Protocol::Sctp => sctp::LEN + INIT,
    };
    let (header, ethertype) = match to.addr.as_v4() {
        Some(_) => (ipv4::MIN_LEN, ethertype::IPV4),
        None => (ipv6::LEN, ethertype::IPV6),
    };
    let mut frame = vec![0u8; ethernet::LEN + header + length];
    ethernet::Header::new_mut(&mut frame).set_ethertype(ethertype);
    let (ip, l4) = frame[ethernet::LEN..].split_at_mut(header);
    let pseudo = emit_ip(ip, protocol, (from.addr, to.addr), length);
    emit_transport(l4, protocol, (from.port, to.port), flags, pseudo);
    frame
}

/// Writes the IP header in front of `length` bytes; the sum of the transport's pseudo-header.
fn emit_ip(packet: &mut [u8], protocol: Protocol, ends: (Addr, Addr), length: usize) -> u16 {
    let (from, to) = ends;
    if let Some(dst) = to.as_v4() {
        let header = ipv4::Repr {
            tos: 0,
            total_len: short(ipv4::MIN_LEN + length),
            id: 0,
            dont_fragment: true,
            ttl: TTL,
            protocol: protocol as u8,
            src: from.as_v4().unwrap_or_default(),
            dst,
        };
        header.emit(packet);
        return header.pseudo_header();
    }
    let header = ipv6::Repr {
        traffic_class: 0,
        flow_label: 0,
        payload_len: short(length),
        next_header: protocol as u8,
        hop_limit: TTL,
        src: from.v6_octets(),
        dst: to.v6_octets(),
    };
    header.emit(packet);
    header.pseudo_header()
}

fn emit_transport(
    l4: &mut [u8],
    protocol: Protocol,
    (src_port, dst_port): (u16, u16),
    flags: Flags,
    pseudo: u16,
) {
    match protocol {
        Protocol::Tcp => {
            let segment = tcp::Repr {
                src_port,
                dst_port,
                seq: 0,
                ack: 0,
                flags: flags.0,
                window: 0,
            };
            segment.emit(l4);
            tcp::seal(l4, pseudo);
        }
        Protocol::Udp => {
            let datagram = udp::Repr {
                src_port,
                dst_port,
                length: short(l4.len()),
            };
            datagram.emit(l4);
            udp::seal(l4, pseudo);
        }
        Protocol::Sctp => {
            let mut header = sctp::Header::new_mut(l4);
            header.set_src_port(src_port);
            header.set_dst_port(dst_port);
            let mut init = sctp::Chunk::new_mut(&mut l4[sctp::LEN..]);
            init.set_kind(sctp::chunk::INIT);
            init.set_length(short(INIT));
            sctp::seal(l4);
        }
    }
}

/// A length as headers have it: none here is near the end of the 16 bits.
fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::glance::Glance;

    #[test]
    fn every_packet_is_sound() {
        let ends = [
            ("10.0.0.5:4711", "192.168.0.38:80"),
            ("[2001:db8::5]:4711", "[2001:db8:1::38]:80"),
        ];
        for (from, to) in ends {
            let [from, to] = [from, to].map(|text| endpoint(text).expect(text));
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                let bytes = frame(protocol, from, to, Flags(flag::SYN));
                uvs_core::testing::packets::check(&bytes).expect("what a receiver accepts");
                let seen = Glance::of_frame(&bytes).expect("a packet");
                assert_eq!((seen.src, seen.dst), (from.addr, to.addr));
                assert_eq!(seen.ports, Some((from.port, to.port)));
            }
        }
    }

    #[test]
    fn flags_and_endpoints_are_read_or_explained() {
        assert_eq!("syn,ACK".parse(), Ok(Flags(flag::SYN | flag::ACK)));
        let error = "sin".parse::<Flags>().expect_err("no flag");
        assert!(error.contains("syn, ack, fin"), "{error}");
        for wrong in ["10.0.0.5", "2001:db8::5:80", "[2001:db8::5]"] {
            assert!(endpoint(wrong).is_err_and(|e| e.contains("ADDRESS:PORT")));
        }
    }
}
