//! A frame's header fields by name, and how two frames differ in them: the rewrite as people read it.

use serde::{Deserialize, Serialize};

use super::ip::Ip;
use crate::flow::Protocol;
use crate::frame::Offload;
use crate::wire::ethernet::{self, Mac};
use crate::wire::ports::Ports;
use crate::wire::sctp::{self, chunk};
use crate::wire::tcp::{self, flag};
use crate::wire::{icmp, ipv4, protocol, udp};

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The field.
    pub field: String,
    /// As it came; `None` = there was no such field.
    pub before: Option<String>,
    /// As it leaves.
    pub after: String,
}

/// Name and value.
type Field = (&'static str, String);

/// Field by field, what `after` has otherwise than `before`. A header that was put in front of the packet
/// is told by its fields as the `outer` ones.
pub fn changes(before: (&[u8], Offload), after: (&[u8], Offload)) -> Vec<Change> {
    let wrapped = overhead(before.0, after.0);
    let known = fields(before.0, 0, before.1);
    let outer = wrapped.map_or_else(Vec::new, |gap| outer_fields(after.0, gap));
    let same = fields(after.0, wrapped.unwrap_or(0), after.1);
    let new = outer.into_iter().map(|(field, after)| Change {
        field: field.to_owned(),
        before: None,
        after,
    });
    let changed = same.into_iter().filter_map(|(field, after)| {
        let before = known.iter().find(|(name, _)| *name == field);
        let before = before.map(|(_, value)| value.clone());
        (before.as_ref() != Some(&after)).then(|| Change {
            field: field.to_owned(),
            before,
            after,
        })
    });
    new.chain(changed).collect()
}

/// What a packet is, beside its addresses: `SYN`, `type 3 code 1`, `INIT`, `fragment`.
pub fn kind(ip: &[u8]) -> String {
    let Some(packet) = Ip::of(ip) else {
        return String::new();
    };
    if let Some(offset) = packet.fragment {
        return format!("fragment at {offset}");
    }
    let l4 = packet.payload;
    let kind = match packet.protocol {
        protocol::ICMP | protocol::ICMPV6 => {
            let icmp = icmp::Header::new_checked(l4);
            icmp.map(|icmp| format!("type {} code {}", icmp.kind(), icmp.code()))
                .ok()
        }
        protocol::TCP => tcp::Header::new_checked(l4)
            .ok()
            .map(|tcp| flags(tcp.flags())),
        protocol::SCTP => sctp::chunks(l4)
            .next()
            .map(|chunk| chunk_name(chunk.kind())),
        _ => None,
    };
    kind.unwrap_or_default()
}

/// A protocol's name, or its number.
pub fn protocol_name(number: u8) -> String {
    match (number, Protocol::from_number(number)) {
        (_, Some(protocol)) => protocol.name().to_owned(),
        (protocol::ICMP, None) => "ICMP".to_owned(),
        (protocol::ICMPV6, None) => "ICMPv6".to_owned(),
        (n, None) => n.to_string(),
    }
}

/// The names of TCP's flags, as `tcpdump -v` has them.
fn flags(bits: u8) -> String {
    let names = [
        (flag::SYN, "SYN"),
        (flag::FIN, "FIN"),
        (flag::RST, "RST"),
        (flag::PSH, "PSH"),
        (flag::ACK, "ACK"),
    ];
    let set = names.iter().filter(|(bit, _)| bits & bit != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
}

/// The name of an SCTP chunk that opens or ends an association; others by their number.
fn chunk_name(number: u8) -> String {
    let name = match number {
        chunk::DATA => "DATA",
        chunk::INIT => "INIT",
        chunk::INIT_ACK => "INIT ACK",
        chunk::ABORT => "ABORT",
        chunk::SHUTDOWN => "SHUTDOWN",
        chunk::COOKIE_ECHO => "COOKIE ECHO",
        chunk::COOKIE_ACK => "COOKIE ACK",
        other => return format!("chunk {other}"),
    };
    name.to_owned()
}

/// Bytes in front of the packet that `before` has not: where the same packet lies further in.
fn overhead(before: &[u8], after: &[u8]) -> Option<usize> {
    let bytes = before.get(ethernet::LEN..)?;
    let packet = Ip::of(bytes)?;
    let total = packet.len.clamp(packet.header_len(bytes), bytes.len());
    let gap = after.len().checked_sub(ethernet::LEN + total)?;
    let inner = Ip::of(after.get(ethernet::LEN + gap..)?)?;
    let same = gap >= ipv4::MIN_LEN && (inner.src, inner.dst) == (packet.src, packet.dst);
    same.then_some(gap)
}

fn outer_fields(frame: &[u8], gap: usize) -> Vec<Field> {
    let outer = &frame[ethernet::LEN..ethernet::LEN + gap];
    let Some(packet) = Ip::of(outer) else {
        return Vec::new();
    };
    let mut all = vec![
        ("outer source", packet.src.to_string()),
        ("outer destination", packet.dst.to_string()),
        ("outer protocol", outer_protocol(packet.protocol)),
        ("outer TTL", packet.ttl.to_string()),
        ("outer length", packet.len.to_string()),
    ];
    if let Some((dont_fragment, checksum)) = packet.ipv4 {
        all.push(("outer DF", dont_fragment.to_string()));
        all.push(("outer checksum", hex(checksum)));
    }
    if packet.protocol == protocol::UDP
        && let Ok(udp) = udp::Header::new_checked(packet.payload)
    {
        all.push(("outer source port", udp.src_port().to_string()));
        all.push(("outer destination port", udp.dst_port().to_string()));
        all.push(("outer UDP checksum", hex(udp.checksum())));
    }
    all
}

fn outer_protocol(number: u8) -> String {
    match number {
        protocol::IPIP => "4 (IPIP)".to_owned(),
        protocol::IPV6 => "41 (IPv6)".to_owned(),
        protocol::UDP => "17 (UDP: GUE)".to_owned(),
        protocol::GRE => "47 (GRE)".to_owned(),
        other => protocol_name(other),
    }
}

/// The fields that forwarding may change, of a frame whose packet lies `gap` bytes further in.
fn fields(frame: &[u8], gap: usize, offload: Offload) -> Vec<Field> {
    let Some(packet) = frame.get(ethernet::LEN + gap..) else {
        return Vec::new();
    };
    let eth = ethernet::Header::new(frame);
    let mut all = vec![
        ("destination MAC", mac(eth.dst())),
        ("source MAC", mac(eth.src())),
    ];
    let Some(packet) = Ip::of(packet) else {
        return all;
    };
    all.push(("IP", packet.family().to_string()));
    all.push(("source", packet.src.to_string()));
    all.push(("destination", packet.dst.to_string()));
    all.push(("TTL", packet.ttl.to_string()));
    all.push(("length", packet.len.to_string()));
    if let Some((dont_fragment, checksum)) = packet.ipv4 {
        all.push(("IP checksum", hex(checksum)));
        all.push(("DF", dont_fragment.to_string()));
    }
    if packet.fragment.is_none_or(|offset| offset == 0) {
        all.extend(transport_fields(packet.protocol, packet.payload, offload));
    }
    all
}

/// Of what is cut off within a header, nothing.
fn transport_fields(number: u8, l4: &[u8], offload: Offload) -> Vec<Field> {
    let Ok(ports) = Ports::new_checked(l4) else {
        return Vec::new();
    };
    let unfinished = if offload.is_partial() {
        " (unfinished)"
    } else {
        ""
    };
    let sum = match number {
        protocol::TCP => tcp::Header::new_checked(l4)
            .map(|tcp| ("TCP checksum", hex(tcp.checksum()) + unfinished)),
        protocol::UDP => udp::Header::new_checked(l4)
            .map(|udp| ("UDP checksum", hex(udp.checksum()) + unfinished)),
        protocol::SCTP => sctp::Header::new_checked(l4).map(|sctp| {
            let crc = u32::from_be_bytes(sctp.checksum());
            ("SCTP checksum", format!("0x{crc:08x}"))
        }),
        protocol::ICMP | protocol::ICMPV6 => {
            let icmp = icmp::Header::new_checked(l4);
            let sum = icmp.map(|icmp| ("ICMP checksum", hex(icmp.checksum())));
            return sum.into_iter().collect();
        }
        _ => return Vec::new(),
    };
    let ports = [
        ("source port", ports.src().to_string()),
        ("destination port", ports.dst().to_string()),
    ];
    sum.map_or_else(
        |_| Vec::new(),
        |sum| ports.into_iter().chain([sum]).collect(),
    )
}

fn hex(n: u16) -> String {
    format!("0x{n:04x}")
}

/// A MAC address, or that it is not known yet.
fn mac(address: Mac) -> String {
    if address == [0; 6] {
        return "not known yet".to_owned();
    }
    let pairs: Vec<String> = address.iter().map(|b| format!("{b:02x}")).collect();
    pairs.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Addr, Endpoint};
    use crate::narrow;
    use crate::testing::packets::{tcp, udp};

    const CLIENT: Endpoint = Endpoint::new(Addr::v4([192, 0, 2, 7]), 4711);
    const VIP: Endpoint = Endpoint::new(Addr::v4([10, 0, 1, 100]), 80);
    const SERVER: Endpoint = Endpoint::new(Addr::v4([10, 0, 2, 11]), 8080);

    fn names(all: &[Change]) -> Vec<&str> {
        all.iter().map(|c| c.field.as_str()).collect()
    }

    #[test]
    fn only_what_differs_is_told() {
        let syn = tcp(CLIENT, VIP, flag::SYN).frame();
        let nat = tcp(CLIENT, SERVER, flag::SYN).ttl(63).frame();
        let none = Offload::default();
        assert_eq!(changes((&syn, none), (&syn, none)), []);
        let all = changes((&syn, none), (&nat, none));
        assert_eq!(
            names(&all),
            [
                "destination",
                "TTL",
                "IP checksum",
                "destination port",
                "TCP checksum"
            ]
        );
        assert_eq!(all[0].before.as_deref(), Some("10.0.1.100"));
        assert_eq!(all[0].after, "10.0.2.11");
    }

    #[test]
    fn an_outer_header_is_told_apart_from_the_packet() {
        let query = udp(CLIENT, VIP).frame();
        let mut wrapped = query[..ethernet::LEN].to_vec();
        let mut outer = [0; ipv4::MIN_LEN];
        let header = ipv4::Repr {
            tos: 0,
            total_len: narrow::to_u16(outer.len() + query.len() - ethernet::LEN),
            id: 0,
            dont_fragment: false,
            ttl: 63,
            protocol: protocol::IPIP,
            src: [10, 0, 2, 1],
            dst: [10, 0, 2, 11],
        };
        header.emit(&mut outer);
        wrapped.extend_from_slice(&outer);
        wrapped.extend_from_slice(&query[ethernet::LEN..]);
        let none = Offload::default();
        let all = changes((&query, none), (&wrapped, none));
        assert!(all.iter().all(|c| c.field.starts_with("outer ")), "{all:?}");
        let value = |name: &str| {
            all.iter()
                .find(|c| c.field == name)
                .map(|c| c.after.as_str())
        };
        assert_eq!(value("outer destination"), Some("10.0.2.11"));
        assert_eq!(value("outer protocol"), Some("4 (IPIP)"));
    }

    #[test]
    fn a_packet_is_told_by_what_it_does() {
        let of = |frame: Vec<u8>| kind(&frame[ethernet::LEN..]);
        assert_eq!(of(tcp(CLIENT, VIP, flag::SYN).frame()), "SYN");
        assert_eq!(of(tcp(CLIENT, VIP, 0x14).frame()), "RST ACK");
        assert_eq!(of(udp(CLIENT, VIP).frame()), "");
        assert_eq!(kind(&[]), "");
    }
}
