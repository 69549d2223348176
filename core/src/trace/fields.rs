//! A frame's header fields by name, and how two frames differ in them: the rewrite as people read it.

use serde::{Deserialize, Serialize};

use crate::flow::{Addr, Protocol};
use crate::frame::{ETH_LEN, Offload};
use crate::packet::{IPV4_MIN_HEADER, tcp_flags};
use crate::rewrite::{read2, read4};
use crate::sctp::chunk;

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
    let Some((header, l4)) = split(ip) else {
        return String::new();
    };
    if read2(header, 6) & 0x3fff != 0 {
        let offset = usize::from(read2(header, 6) & 0x1fff) * 8;
        return format!("fragment at {offset}");
    }
    match header[9] {
        1 if l4.len() >= 2 => format!("type {} code {}", l4[0], l4[1]),
        6 if l4.len() >= 14 => flags(l4[13]),
        132 if l4.len() >= 13 => chunk_name(l4[12]),
        _ => String::new(),
    }
}

/// A protocol's name, or its number.
pub fn protocol_name(number: u8) -> String {
    match (number, Protocol::from_number(number)) {
        (_, Some(protocol)) => protocol.name().to_owned(),
        (1, None) => "ICMP".to_owned(),
        (n, None) => n.to_string(),
    }
}

/// The names of TCP's flags, as `tcpdump -v` has them.
fn flags(bits: u8) -> String {
    let names = [
        (tcp_flags::SYN, "SYN"),
        (tcp_flags::FIN, "FIN"),
        (tcp_flags::RST, "RST"),
        (tcp_flags::PSH, "PSH"),
        (tcp_flags::ACK, "ACK"),
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

/// The header's bytes, and what follows it.
fn split(ip: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(ip.first()? & 0x0f) * 4;
    let sound = ip[0] >> 4 == 4 && length >= IPV4_MIN_HEADER && length <= ip.len();
    sound.then(|| ip.split_at(length))
}

/// Bytes in front of the packet that `before` has not: where the same packet lies further in.
fn overhead(before: &[u8], after: &[u8]) -> Option<usize> {
    let packet = before.get(ETH_LEN..)?;
    let (header, _) = split(packet)?;
    let total = usize::from(read2(header, 2)).clamp(header.len(), packet.len());
    let gap = after.len().checked_sub(ETH_LEN + total)?;
    let inner = after.get(ETH_LEN + gap..)?;
    let same = gap >= IPV4_MIN_HEADER && inner.get(12..20) == header.get(12..20);
    same.then_some(gap)
}

fn outer_fields(frame: &[u8], gap: usize) -> Vec<Field> {
    let outer = &frame[ETH_LEN..ETH_LEN + gap];
    let Some((header, rest)) = split(outer) else {
        return Vec::new();
    };
    let mut all = vec![
        ("outer source", Addr::v4(read4(header, 12)).to_string()),
        ("outer destination", Addr::v4(read4(header, 16)).to_string()),
        ("outer protocol", outer_protocol(header[9])),
        ("outer TTL", header[8].to_string()),
        ("outer DF", (header[6] & 0x40 != 0).to_string()),
        ("outer length", read2(header, 2).to_string()),
        ("outer checksum", hex(read2(header, 10))),
    ];
    if header[9] == 17 && rest.len() >= 8 {
        all.push(("outer source port", read2(rest, 0).to_string()));
        all.push(("outer destination port", read2(rest, 2).to_string()));
        all.push(("outer UDP checksum", hex(read2(rest, 6))));
    }
    all
}

fn outer_protocol(number: u8) -> String {
    match number {
        4 => "4 (IPIP)".to_owned(),
        17 => "17 (UDP: GUE)".to_owned(),
        47 => "47 (GRE)".to_owned(),
        other => protocol_name(other),
    }
}

/// The fields that forwarding may change, of a frame whose packet lies `gap` bytes further in.
fn fields(frame: &[u8], gap: usize, offload: Offload) -> Vec<Field> {
    let Some(packet) = frame.get(ETH_LEN + gap..) else {
        return Vec::new();
    };
    let mut all = vec![
        ("destination MAC", mac(&frame[..6])),
        ("source MAC", mac(&frame[6..12])),
    ];
    let Some((header, l4)) = split(packet) else {
        return all;
    };
    all.push(("source", Addr::v4(read4(header, 12)).to_string()));
    all.push(("destination", Addr::v4(read4(header, 16)).to_string()));
    all.push(("TTL", header[8].to_string()));
    all.push(("length", read2(header, 2).to_string()));
    all.push(("IP checksum", hex(read2(header, 10))));
    all.push(("DF", (header[6] & 0x40 != 0).to_string()));
    if read2(header, 6) & 0x1fff == 0 {
        all.extend(transport_fields(header[9], l4, offload));
    }
    all
}

fn transport_fields(protocol: u8, l4: &[u8], offload: Offload) -> Vec<Field> {
    if l4.len() < 8 {
        return Vec::new();
    }
    let ports = [
        ("source port", read2(l4, 0).to_string()),
        ("destination port", read2(l4, 2).to_string()),
    ];
    let checksum = |at: usize| {
        let sum = l4.get(at..at + 2).map_or(0, |b| read2(b, 0));
        let unfinished = if offload.is_partial() {
            " (unfinished)"
        } else {
            ""
        };
        hex(sum) + unfinished
    };
    let sum = match protocol {
        6 => ("TCP checksum", checksum(16)),
        17 => ("UDP checksum", checksum(6)),
        132 => {
            let crc = u32::from_be_bytes(l4.get(8..12).map_or([0; 4], |b| read4(b, 0)));
            ("SCTP checksum", format!("0x{crc:08x}"))
        }
        1 => return vec![("ICMP checksum", hex(read2(l4, 2)))],
        _ => return Vec::new(),
    };
    ports.into_iter().chain([sum]).collect()
}

fn hex(n: u16) -> String {
    format!("0x{n:04x}")
}

/// A MAC address, or that it is not known yet.
fn mac(bytes: &[u8]) -> String {
    if bytes.iter().all(|b| *b == 0) {
        return "not known yet".to_owned();
    }
    let pairs: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    pairs.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Endpoint;
    use crate::testing::packets::{tcp, udp};

    const CLIENT: Endpoint = Endpoint::new(Addr::v4([192, 0, 2, 7]), 4711);
    const VIP: Endpoint = Endpoint::new(Addr::v4([10, 0, 1, 100]), 80);
    const SERVER: Endpoint = Endpoint::new(Addr::v4([10, 0, 2, 11]), 8080);

    fn names(all: &[Change]) -> Vec<&str> {
        all.iter().map(|c| c.field.as_str()).collect()
    }

    #[test]
    fn only_what_differs_is_told() {
        let syn = tcp(CLIENT, VIP, tcp_flags::SYN).frame();
        let nat = tcp(CLIENT, SERVER, tcp_flags::SYN).ttl(63).frame();
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
        let mut wrapped = query[..ETH_LEN].to_vec();
        let mut outer = vec![0u8; IPV4_MIN_HEADER];
        outer[0] = 0x45;
        outer[8] = 63;
        outer[9] = 4;
        outer[16..20].copy_from_slice(&[10, 0, 2, 11]);
        wrapped.extend_from_slice(&outer);
        wrapped.extend_from_slice(&query[ETH_LEN..]);
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
        let of = |frame: Vec<u8>| kind(&frame[ETH_LEN..]);
        assert_eq!(of(tcp(CLIENT, VIP, tcp_flags::SYN).frame()), "SYN");
        assert_eq!(of(tcp(CLIENT, VIP, 0x14).frame()), "RST ACK");
        assert_eq!(of(udp(CLIENT, VIP).frame()), "");
        assert_eq!(kind(&[]), "");
    }
}
