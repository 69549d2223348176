//! IPv6 packets that nobody sends by mistake: chains of extension headers, headers cut anywhere, jumbograms, addresses
//! that cannot be. Each has a verdict with a name, and what is answered is limited.

use uvs_core::flow::{Addr, Endpoint, Family, Protocol};
use uvs_core::service::{Forwarding, Tunnel};
use uvs_core::testing::bed::{Bed, CLIENTS};
use uvs_core::testing::net::{client, vip};
use uvs_core::testing::packets::{ACK, PacketBuilder, SYN, TestFrame, check, fragments, tcp};
use uvs_core::verdict::{DropReason, Verdict};
use uvs_core::wire::protocol::{AH, DESTINATION_OPTIONS, HOP_BY_HOP, ROUTING};
use uvs_core::wire::{ethernet, icmp, icmpv6, ipv6};

const VIP: Endpoint = vip(Family::V6);
const CLIENT: Endpoint = client(Family::V6);
/// Padding that fills an extension header of 8 bytes.
const PADDING: [u8; 6] = [1, 4, 0, 0, 0, 0];

fn bed() -> Bed {
    let families = (Family::V6, Family::V6);
    let modes = uvs_modes::BUILTIN;
    let tunnel = Tunnel::default();
    Bed::between(modes, Protocol::Tcp, Forwarding::Nat, tunnel, families)
}

fn syn() -> PacketBuilder {
    tcp(CLIENT, VIP, SYN)
}

fn receive(bed: &mut Bed, packet: &PacketBuilder) -> Verdict {
    bed.receive(CLIENTS, TestFrame::finished(&packet.frame()))
}

fn is_sent(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Send(_))
}

fn chain(headers: usize) -> PacketBuilder {
    (0..headers).fold(syn(), |packet, _| {
        packet.extension(DESTINATION_OPTIONS, &PADDING)
    })
}

#[test]
fn a_chain_of_a_hundred_headers_is_walked_and_one_without_end_is_not() {
    let mut bed = bed();
    assert!(is_sent(receive(&mut bed, &chain(100))));
    assert_eq!(check(&bed.sent[0].bytes), Ok(()));
    let endless = receive(&mut bed, &chain(300));
    assert_eq!(endless, Verdict::Drop(DropReason::BadIpHeader));
}

/// A packet with every kind of header, cut off after each of its bytes, its own length with it or not.
#[test]
fn headers_that_are_cut_anywhere_are_truncated() {
    let packet = syn()
        .extension(HOP_BY_HOP, &PADDING)
        .extension(ROUTING, &[0; 6])
        .extension(AH, &[0; 6])
        .extension(DESTINATION_OPTIONS, &PADDING);
    let whole = packet.frame();
    let (fragmented, headers) = (fragments(&whole, 7, &[8, 44]), ethernet::LEN + ipv6::LEN);
    let mut bed = bed();
    for frame in [&whole, &fragmented[0], &fragmented[1]] {
        for len in headers..frame.len() {
            let mut cut = frame[..len].to_vec();
            let verdict = bed.receive(CLIENTS, TestFrame::finished(&cut));
            assert_eq!(verdict, Verdict::Drop(DropReason::Truncated), "{len} bytes");
            let said = uvs_core::narrow::to_u16(len - headers);
            ipv6::Header::new_mut(&mut cut[ethernet::LEN..]).set_payload_len(said);
            let verdict = bed.receive(CLIENTS, TestFrame::finished(&cut));
            assert!(
                matches!(verdict, Verdict::Drop(_) | Verdict::Held | Verdict::Pass),
                "{len} bytes: {verdict:?}"
            );
        }
    }
    assert!(bed.engine.connections().is_empty());
}

/// A connection is by the destination in the IPv6 header, as in IPVS, whatever the routing header says.
#[test]
fn a_routing_header_of_type_0_leads_nowhere_else() {
    let mut bed = bed();
    let elsewhere = [[0, 1, 0, 0, 0, 0].as_slice(), &[0xfe; 16]].concat();
    let routed = syn().extension(ROUTING, &elsewhere);
    assert!(is_sent(receive(&mut bed, &routed)));
    let ip = ipv6::Header::new(&bed.sent[0].bytes[ethernet::LEN..]);
    assert_eq!(
        ip.dst(),
        uvs_core::testing::net::server(Family::V6).v6_octets()
    );
}

#[test]
fn hop_by_hop_options_are_judged_as_the_hosts_stack_judges_them() {
    let with = |options: &[u8; 6]| syn().extension(HOP_BY_HOP, options);
    let discarded = [
        [0x40, 0, 0, 0, 0, 0],
        [5, 3, 0, 0, 0, 0],
        [1, 9, 0, 0, 0, 0],
    ];
    let mut bed = bed();
    for options in discarded {
        let verdict = receive(&mut bed, &with(&options));
        assert_eq!(
            verdict,
            Verdict::Drop(DropReason::HopByHopOptions),
            "{options:?}"
        );
    }
    let jumbo = |len: u32| {
        let [a, b, c, d] = len.to_be_bytes();
        with(&[0xc2, 4, a, b, c, d])
    };
    let mut true_one = jumbo(70_000).frame();
    ipv6::Header::new_mut(&mut true_one[ethernet::LEN..]).set_payload_len(0);
    // Nothing follows a header that says so.
    let verdict = bed.receive(CLIENTS, TestFrame::finished(&true_one));
    assert_eq!(verdict, Verdict::Drop(DropReason::Truncated));
    for (packet, code, at) in [
        (jumbo(70_000), icmpv6::ERRONEOUS_FIELD, 42),
        (jumbo(1000), icmpv6::ERRONEOUS_FIELD, 44),
        (with(&[0x80, 4, 0, 0, 0, 0]), icmpv6::UNKNOWN_OPTION, 42),
    ] {
        assert_eq!(receive(&mut bed, &packet), Verdict::Answered);
        let sent = bed.sent.pop().unwrap();
        assert_eq!(check(&sent.bytes), Ok(()));
        let message = icmp::Header::new(&sent.bytes[ethernet::LEN + ipv6::LEN..]);
        let said = (message.kind(), message.code(), message.rest());
        assert_eq!(said, (icmpv6::PARAMETER_PROBLEM, code, at));
    }
    assert!(bed.engine.connections().is_empty());
}

#[test]
fn a_flood_of_options_is_answered_as_often_as_errors_may_be() {
    let mut bed = bed();
    let packet = syn().extension(HOP_BY_HOP, &[0x80, 4, 0, 0, 0, 0]);
    let verdicts: Vec<Verdict> = (0..200).map(|_| receive(&mut bed, &packet)).collect();
    let answered = verdicts.iter().filter(|v| **v == Verdict::Answered).count();
    assert_eq!(answered, 50);
    assert_eq!(verdicts[199], Verdict::Drop(DropReason::IcmpRateLimited));
}

#[test]
fn sources_that_cannot_be_are_martians_and_odd_ones_are_clients() {
    let from = |text: &str| {
        let addr: std::net::Ipv6Addr = text.parse().unwrap();
        tcp(Endpoint::new(Addr::v6(addr.octets()), 40_000), VIP, SYN)
    };
    let mut bed = bed();
    for text in ["::1", "ff02::1", "ff0e::7"] {
        let verdict = receive(&mut bed, &from(text));
        assert_eq!(verdict, Verdict::Drop(DropReason::MartianSource), "{text}");
    }
    for text in [
        "::",
        "::ffff:192.0.2.1",
        "::192.0.2.1",
        "fec0::7",
        "fe80::7",
        "2002:7f00:1::1",
    ] {
        assert!(is_sent(receive(&mut bed, &from(text))), "{text}");
        let told = bed.engine.report_connections(bed.now, 0, 1000).0;
        let client = format!("[{}]:40000", text.parse::<std::net::Ipv6Addr>().unwrap());
        assert!(
            told.iter().any(|c| c.client.to_string() == client),
            "{text}"
        );
    }
    // A mapped client is not the IPv4 client of that address.
    let mapped = Endpoint::new(Addr::v4([192, 0, 2, 1]), 40_000);
    let of_ipv4 = tcp(mapped, vip(Family::V4), ACK);
    assert_eq!(receive(&mut bed, &of_ipv4), Verdict::Pass);
}
