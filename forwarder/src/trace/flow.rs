//! A packet made from a flow, as a client's host would send it: what `uvs trace CLIENT VIP` looks at.

use std::str::FromStr;

use clap::ValueEnum;
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::packet::tcp_flags;
use uvs_core::wire::checksum;

/// Bytes of the headers of Ethernet, IPv4, TCP, UDP.
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const TCP: usize = 20;
const UDP: usize = 8;
/// SCTP's common header with an INIT chunk without parameters (RFC 9260 §3.3.2).
const SCTP: usize = 12 + 20;
/// TTL of a host that sends (net.ipv4.ip_default_ttl).
const TTL: u8 = 64;

/// The protocols that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Proto {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl From<Proto> for Protocol {
    fn from(proto: Proto) -> Self {
        match proto {
            Proto::Tcp => Self::Tcp,
            Proto::Udp => Self::Udp,
            Proto::Sctp => Self::Sctp,
        }
    }
}

/// TCP flags by name: `syn`, `syn,ack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags(pub(crate) u8);

impl FromStr for Flags {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bit = |name: &str| match name {
            "syn" => Ok(tcp_flags::SYN),
            "ack" => Ok(tcp_flags::ACK),
            "fin" => Ok(tcp_flags::FIN),
            "rst" => Ok(tcp_flags::RST),
            "psh" => Ok(tcp_flags::PSH),
            other => Err(format!(
                "`{other}` is no TCP flag; say syn, ack, fin, rst or psh, several with commas"
            )),
        };
        let mut bits = text.split(',').map(|word| bit(&word.to_lowercase()));
        bits.try_fold(0, |all, one| one.map(|one| all | one))
            .map(Flags)
    }
}

/// `ADDRESS:PORT`, IPv4.
pub(crate) fn endpoint(text: &str) -> Result<Endpoint, String> {
    text.parse::<std::net::SocketAddrV4>()
        .map(|socket| Endpoint::new(Addr::from(*socket.ip()), socket.port()))
        .map_err(|_| {
            format!("`{text}` is not ADDRESS:PORT with an IPv4 address, such as 10.0.0.5:4711")
        })
}

/// A frame with this packet; its MAC addresses are zeros.
pub(crate) fn frame(protocol: Protocol, from: Endpoint, to: Endpoint, flags: Flags) -> Vec<u8> {
    let transport = match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
        Protocol::Sctp => SCTP,
    };
    let mut frame = vec![0u8; ETHERNET + IPV4 + transport];
    frame[12] = 0x08;
    let (src, dst) = (
        from.addr.as_v4().unwrap_or_default(),
        to.addr.as_v4().unwrap_or_default(),
    );
    let ip = &mut frame[ETHERNET..];
    ip[0] = 0x45;
    put(ip, 2, (IPV4 + transport) as u16);
    ip[6] = 0x40;
    ip[8] = TTL;
    ip[9] = protocol as u8;
    ip[12..16].copy_from_slice(&src);
    ip[16..20].copy_from_slice(&dst);
    let sum = checksum::of(&ip[..IPV4]);
    put(ip, 10, sum);
    let l4 = &mut ip[IPV4..];
    put(l4, 0, from.port);
    put(l4, 2, to.port);
    let sum_at = match protocol {
        Protocol::Tcp => {
            l4[12] = 5 << 4;
            l4[13] = flags.0;
            16
        }
        Protocol::Udp => {
            put(l4, 4, UDP as u16);
            6
        }
        Protocol::Sctp => {
            l4[12] = uvs_core::sctp::chunk::INIT;
            put(l4, 14, 20);
            let crc = uvs_core::wire::checksum::crc32c(l4);
            l4[8..12].copy_from_slice(&crc.to_le_bytes());
            return frame;
        }
    };
    let pseudo = checksum::pseudo_header_v4(src, dst, protocol as u8, l4.len() as u32);
    let sum = !checksum::add(pseudo, checksum::sum(l4));
    put(l4, sum_at, sum);
    frame
}

fn put(bytes: &mut [u8], at: usize, n: u16) {
    bytes[at..at + 2].copy_from_slice(&n.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_is_sound() {
        let (from, to) = (endpoint("10.0.0.5:4711"), endpoint("192.168.0.38:80"));
        let (from, to) = (from.expect("an endpoint"), to.expect("an endpoint"));
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            let bytes = frame(protocol, from, to, Flags(tcp_flags::SYN));
            uvs_core::testing::packets::check(&bytes).expect("what a receiver accepts");
        }
    }

    #[test]
    fn flags_and_endpoints_are_read_or_explained() {
        assert_eq!(
            "syn,ACK".parse(),
            Ok(Flags(tcp_flags::SYN | tcp_flags::ACK))
        );
        let error = "sin".parse::<Flags>().expect_err("no flag");
        assert!(error.contains("syn, ack, fin"), "{error}");
        assert!(endpoint("10.0.0.5").is_err_and(|e| e.contains("ADDRESS:PORT")));
    }
}
