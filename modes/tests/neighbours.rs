//! IPv6 VIPs that the host does not have: one that UVS owns is told of by neighbour discovery and answered for as a host
//! would, unless another host claims it; of any other nothing is said.

use std::time::Duration;

use uvs_core::engine::Claim;
use uvs_core::flow::{Addr, Endpoint, Family, Protocol};
use uvs_core::service::{Forwarding, Tunnel};
use uvs_core::testing::bed::{Bed, CLIENTS, SERVERS_MAC, Sent};
use uvs_core::testing::net::{client, vip};
use uvs_core::testing::packets::{
    self, ACK, DIRECTOR_MAC, PacketBuilder, SYN, TestFrame, check, icmp, tcp, udp,
};
use uvs_core::verdict::{DropReason, Verdict};
use uvs_core::wire::ethernet::{self, Mac};
use uvs_core::wire::{icmp as wire_icmp, icmpv6, ipv6, ndp, protocol};

const OTHER: Mac = [2, 0, 0, 0, 1, 0x99];
const ASKER: Mac = [2, 0, 0, 0, 1, 7];
const VIP: Endpoint = vip(Family::V6);
const CLIENT: Endpoint = client(Family::V6);

/// A bed with a TCP service of the VIP, owned or not.
fn bed(owned: bool) -> Bed {
    let families = (Family::V6, Family::V6);
    let tunnel = Tunnel::default();
    let modes = uvs_modes::BUILTIN;
    let mut bed = Bed::between(modes, Protocol::Tcp, Forwarding::Dr, tunnel, families);
    if owned {
        bed.snapshot.owned_vips = vec![VIP.addr];
    }
    bed.apply();
    bed
}

fn frame(packet: &PacketBuilder) -> TestFrame {
    TestFrame::finished(&packet.frame())
}

/// Who has an address, asked by a client of the link.
fn solicitation(target: Addr) -> PacketBuilder {
    let group = ndp::solicited_node(&target.v6_octets());
    let option = [&[1, 1][..], &ASKER].concat();
    let asked = [&target.v6_octets()[..], &option].concat();
    let asker = VIP.addr.masked(64);
    icmp(asker, Addr::v6(group), ndp::SOLICITATION, 0, 0)
        .ttl(255)
        .to_mac(ndp::group_mac(&group))
        .payload(&asked)
}

fn probe() -> TestFrame {
    TestFrame::finished(&ndp::probe(VIP.addr.v6_octets(), ASKER))
}

fn announcement(mac: Mac) -> TestFrame {
    TestFrame::finished(&ndp::announcement(VIP.addr.v6_octets(), mac, false))
}

fn claim() -> Claim {
    Claim {
        vip: VIP.addr,
        mac: OTHER,
        port: CLIENTS,
    }
}

#[test]
fn an_owned_vip_is_told_of_and_defended() {
    let mut bed = bed(true);
    let ours = Some((VIP.addr.v6_octets(), DIRECTOR_MAC));
    let answer = bed.from_client(frame(&solicitation(VIP.addr)));
    assert_eq!(check(&answer[0].bytes), Ok(()));
    assert_eq!(ndp::reply(&answer[0].bytes), ours);
    assert_eq!(answer[0].bytes[..6], ASKER);
    let defence = bed.from_client(probe());
    assert_eq!(ndp::reply(&defence[0].bytes), ours);
    assert_eq!(defence[0].bytes[..6], [0x33, 0x33, 0, 0, 0, 1], "to all");
}

#[test]
fn of_an_address_that_is_not_owned_nothing_is_said() {
    let others = [
        ("the host's", bed(false)),
        ("a stand-by's", {
            let mut bed = bed(false);
            bed.snapshot.absent_vips = vec![VIP.addr];
            bed.apply();
            bed
        }),
    ];
    for (whose, mut bed) in others {
        for asked in [frame(&solicitation(VIP.addr)), probe(), announcement(OTHER)] {
            assert_eq!(bed.receive(CLIENTS, asked), Verdict::Pass, "{whose}");
        }
        assert_eq!((bed.sent.len(), bed.engine.take_claims()), (0, Vec::new()));
    }
    let mut bed = bed(true);
    let other = solicitation(CLIENT.addr);
    assert_eq!(bed.receive(CLIENTS, frame(&other)), Verdict::Pass);
}

#[test]
fn another_hosts_claim_is_noted_once_a_second_and_yielded_to() {
    let mut bed = bed(true);
    for mac in [DIRECTOR_MAC, SERVERS_MAC] {
        bed.receive(CLIENTS, announcement(mac));
    }
    assert_eq!(bed.engine.take_claims(), [], "our own words");
    for _ in 0..30 {
        let verdict = bed.receive(CLIENTS, announcement(OTHER));
        assert_eq!(verdict, Verdict::Pass, "the host hears it, too");
        bed.jump(Duration::from_millis(100));
    }
    assert_eq!(bed.engine.take_claims(), [claim(); 3]);
    bed.snapshot.yielded_vips = vec![VIP.addr];
    bed.apply();
    assert_eq!(bed.receive(CLIENTS, probe()), Verdict::Pass);
    let verdict = bed.receive(CLIENTS, frame(&tcp(CLIENT, VIP, SYN)));
    assert!(matches!(verdict, Verdict::Send(_)), "{verdict:?}");
}

/// What a router has passed on, or was changed on the way, proves nothing of a neighbour (RFC 4861 §7.1.2).
#[test]
fn a_forged_claim_from_afar_is_not_believed() {
    let mut bed = bed(true);
    let told = ndp::announcement(VIP.addr.v6_octets(), OTHER, false);
    let with = |at: usize, byte: u8| {
        let mut frame = told.clone();
        frame[at] = byte;
        TestFrame::finished(&frame)
    };
    let hop_limit = ethernet::LEN + ipv6::offset::HOP_LIMIT;
    let checksum = ethernet::LEN + ipv6::LEN + wire_icmp::offset::CHECKSUM;
    for forged in [with(hop_limit, 254), with(checksum, told[checksum] ^ 1)] {
        assert_eq!(bed.receive(CLIENTS, forged), Verdict::Pass);
    }
    assert_eq!(bed.engine.take_claims(), []);
    bed.receive(CLIENTS, announcement(OTHER));
    assert_eq!(bed.engine.take_claims(), [claim()]);
}

/// The only frame that left: an ICMPv6 message, its type, code and the rest of its header.
fn message(sent: &[Sent]) -> (u8, u8, u32) {
    let [sent] = sent else {
        panic!("{} frames", sent.len());
    };
    assert_eq!(check(&sent.bytes), Ok(()));
    let ip = ipv6::Header::new(&sent.bytes[ethernet::LEN..]);
    assert_eq!(ip.next_header(), protocol::ICMPV6);
    assert_eq!(
        (ip.src(), ip.dst()),
        (VIP.addr.v6_octets(), CLIENT.addr.v6_octets())
    );
    let icmp = wire_icmp::Header::new(&sent.bytes[ethernet::LEN + ipv6::LEN..]);
    (icmp.kind(), icmp.code(), icmp.rest())
}

#[test]
fn an_owned_vip_answers_as_a_host_does() {
    let mut bed = bed(true);
    let ping = icmp(CLIENT.addr, VIP.addr, icmpv6::ECHO, 0, 0x1234_0007).payload(b"abc");
    let pong = (icmpv6::ECHO_REPLY, 0, 0x1234_0007);
    assert_eq!(message(&bed.from_client(frame(&ping))), pong);
    let to_81 = Endpoint::new(VIP.addr, 81);
    let closed = bed.from_client(frame(&udp(CLIENT, to_81)));
    assert_eq!(
        message(&closed),
        (icmpv6::UNREACHABLE, icmpv6::PORT_UNREACHABLE, 0)
    );
    let reset = bed.from_client(frame(&tcp(CLIENT, to_81, ACK).seq(5, 77)));
    assert_eq!(check(&reset[0].bytes), Ok(()));
    let unknown = packets::other(CLIENT.addr, VIP.addr, 200).payload(&[0; 8]);
    let parameter = |at| (icmpv6::PARAMETER_PROBLEM, icmpv6::UNKNOWN_NEXT_HEADER, at);
    assert_eq!(message(&bed.from_client(frame(&unknown))), parameter(6));
    let padding = [1, 4, 0, 0, 0, 0];
    let behind = unknown.extension(protocol::DESTINATION_OPTIONS, &padding);
    assert_eq!(message(&bed.from_client(frame(&behind))), parameter(40));
    let nothing = packets::other(CLIENT.addr, VIP.addr, protocol::NO_NEXT_HEADER);
    let verdict = bed.receive(CLIENTS, frame(&nothing));
    assert_eq!(verdict, Verdict::Drop(DropReason::UnsupportedProtocol));
}

#[test]
fn what_an_owned_vip_does_not_know_of_is_dropped_by_name() {
    let mut bed = bed(true);
    let about = tcp(VIP, CLIENT, ACK).packet();
    let error = |kind| icmp(CLIENT.addr, VIP.addr, kind, 0, 1280).payload(&about);
    for (kind, reason) in [
        (icmpv6::TOO_BIG, DropReason::UnknownFragNeeded),
        (icmpv6::UNREACHABLE, DropReason::NoConnection),
        (icmpv6::TIME_EXCEEDED, DropReason::NoConnection),
        (icmpv6::PARAMETER_PROBLEM, DropReason::NoConnection),
        (ndp::REDIRECT, DropReason::UnsupportedProtocol),
    ] {
        let verdict = bed.receive(CLIENTS, frame(&error(kind)));
        assert_eq!(verdict, Verdict::Drop(reason), "type {kind}");
    }
}
