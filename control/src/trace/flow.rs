//! A packet made from a flow, as a client's host would send it: what `uvs trace CLIENT VIP` looks at.

use std::str::FromStr;

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::wire::tcp::flag;
use uvs_core::wire::{ethernet, ipv4, sctp, tcp, udp};

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

/// `ADDRESS:PORT`, IPv4.
pub fn endpoint(text: &str) -> Result<Endpoint, String> {
    text.parse::<std::net::SocketAddrV4>()
        .map(|socket| Endpoint::new(Addr::from(*socket.ip()), socket.port()))
        .map_err(|_| {
            format!("`{text}` is not ADDRESS:PORT with an IPv4 address, such as 10.0.0.5:4711")
        })
}

/// A frame with this packet; its MAC addresses are zeros.
pub fn frame(protocol: Protocol, from: Endpoint, to: Endpoint, flags: Flags) -> Vec<u8> {
    let length = match protocol {
        Protocol::Tcp => tcp::MIN_LEN,
        Protocol::Udp => udp::LEN,
        Protocol::Sctp => sctp::LEN + INIT,
    };
    let mut frame = vec![0u8; ethernet::LEN + ipv4::MIN_LEN + length];
    ethernet::Header::new_mut(&mut frame).set_ethertype(ethernet::ethertype::IPV4);
    let header = ipv4::Repr {
        tos: 0,
        total_len: short(ipv4::MIN_LEN + length),
        id: 0,
        dont_fragment: true,
        ttl: TTL,
        protocol: protocol as u8,
        src: from.addr.as_v4().unwrap_or_default(),
        dst: to.addr.as_v4().unwrap_or_default(),
    };
    header.emit(&mut frame[ethernet::LEN..]);
    let l4 = &mut frame[ethernet::LEN + ipv4::MIN_LEN..];
    let pseudo = header.pseudo_header();
    match protocol {
        Protocol::Tcp => {
            let segment = tcp::Repr {
                src_port: from.port,
                dst_port: to.port,
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
                src_port: from.port,
                dst_port: to.port,
                length: short(length),
            };
            datagram.emit(l4);
            udp::seal(l4, pseudo);
        }
        Protocol::Sctp => {
            let mut header = sctp::Header::new_mut(l4);
            header.set_src_port(from.port);
            header.set_dst_port(to.port);
            let mut init = sctp::Chunk::new_mut(&mut l4[sctp::LEN..]);
            init.set_kind(sctp::chunk::INIT);
            init.set_length(short(INIT));
            sctp::seal(l4);
        }
    }
    frame
}

/// A length as headers have it: none here is near the end of the 16 bits.
fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_is_sound() {
        let (from, to) = (endpoint("10.0.0.5:4711"), endpoint("192.168.0.38:80"));
        let (from, to) = (from.expect("an endpoint"), to.expect("an endpoint"));
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            let bytes = frame(protocol, from, to, Flags(flag::SYN));
            uvs_core::testing::packets::check(&bytes).expect("what a receiver accepts");
        }
    }

    #[test]
    fn flags_and_endpoints_are_read_or_explained() {
        assert_eq!("syn,ACK".parse(), Ok(Flags(flag::SYN | flag::ACK)));
        let error = "sin".parse::<Flags>().expect_err("no flag");
        assert!(error.contains("syn, ack, fin"), "{error}");
        assert!(endpoint("10.0.0.5").is_err_and(|e| e.contains("ADDRESS:PORT")));
    }
}
