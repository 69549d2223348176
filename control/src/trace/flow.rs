//! A packet made from a flow, as a client's host would send it: what `uvs trace CLIENT VIP` looks at.

use std::net::SocketAddr;
use std::str::FromStr;

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::wire::ethernet::{self, ethertype};
use uvs_core::wire::sip::CALL_ID_MAX;
use uvs_core::wire::tcp::flag;
use uvs_core::wire::{ipv4, ipv6, sctp, sip, tcp, udp};

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

/// A call of SIP's, by its Call-ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call(String);

impl FromStr for Call {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let call = Self(text.to_owned());
        match sip::call_id(&call.message()) {
            Some(read) if read == text => Ok(call),
            _ => Err(format!(
                "`{text}` is not a Call-ID: at most {CALL_ID_MAX} letters, digits and signs, such as \
                 a84b4c76e66710@pc33.example.com"
            )),
        }
    }
}

impl Call {
    /// A message of it.
    fn message(&self) -> Vec<u8> {
        let Self(id) = self;
        format!("OPTIONS sip:uvs SIP/2.0\r\nCall-ID: {id}\r\n\r\n").into_bytes()
    }
}

/// What a packet is, beside where it comes from and goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A segment with these flags.
    Tcp(Flags),
    /// A datagram: of a call, or empty.
    Udp(Option<Call>),
    /// An INIT.
    Sctp,
}

impl Content {
    /// The least that there is of a protocol.
    pub const fn bare(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp(Flags(0)),
            Protocol::Udp => Self::Udp(None),
            Protocol::Sctp => Self::Sctp,
        }
    }

    const fn protocol(&self) -> Protocol {
        match self {
            Self::Tcp(_) => Protocol::Tcp,
            Self::Udp(_) => Protocol::Udp,
            Self::Sctp => Protocol::Sctp,
        }
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
pub fn frame(content: &Content, from: Endpoint, to: Endpoint) -> Vec<u8> {
    let data = match content {
        Content::Udp(Some(call)) => call.message(),
        Content::Udp(None) | Content::Tcp(_) | Content::Sctp => Vec::new(),
    };
    let header = match content {
        Content::Tcp(_) => tcp::MIN_LEN,
        Content::Udp(_) => udp::LEN,
        Content::Sctp => sctp::LEN + INIT,
    };
    let length = header + data.len();
    let (ip_header, ethertype) = match to.addr.as_v4() {
        Some(_) => (ipv4::MIN_LEN, ethertype::IPV4),
        None => (ipv6::LEN, ethertype::IPV6),
    };
    let mut frame = vec![0u8; ethernet::LEN + ip_header + length];
    ethernet::Header::new_mut(&mut frame).set_ethertype(ethertype);
    let (ip, l4) = frame[ethernet::LEN..].split_at_mut(ip_header);
    l4[header..].copy_from_slice(&data);
    let pseudo = emit_ip(ip, content.protocol(), (from.addr, to.addr), length);
    emit_transport(l4, content, (from.port, to.port), pseudo);
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

fn emit_transport(l4: &mut [u8], content: &Content, (src_port, dst_port): (u16, u16), pseudo: u16) {
    match content {
        Content::Tcp(flags) => {
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
        Content::Udp(_) => {
            let datagram = udp::Repr {
                src_port,
                dst_port,
                length: short(l4.len()),
            };
            datagram.emit(l4);
            udp::seal(l4, pseudo);
        }
        Content::Sctp => {
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
            let call = Some("a@h".parse().expect("a Call-ID"));
            for content in [
                Content::Tcp(Flags(flag::SYN)),
                Content::Udp(None),
                Content::Udp(call),
                Content::Sctp,
            ] {
                let bytes = frame(&content, from, to);
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
        for wrong in ["", "two words", "a;b", &"x".repeat(256)] {
            let error = wrong.parse::<Call>().expect_err("no Call-ID");
            assert!(error.contains("at most 255"), "{error}");
        }
        for wrong in ["10.0.0.5", "2001:db8::5:80", "[2001:db8::5]"] {
            assert!(endpoint(wrong).is_err_and(|e| e.contains("ADDRESS:PORT")));
        }
    }
}
