//! VIPs that the host does not have: one that UVS owns is answered for, unless another host claims it; of one
//! that it does not own, a stand-by's, nothing is said and everything is the host's.

use std::time::Duration;

use uvs_core::engine::Claim;
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::service::{Forwarding, OnExpiry, OnRemoval, TeardownPolicy, Tunnel};
use uvs_core::testing::bed::{
    Bed, CLIENT, CLIENTS, SERVER, SERVER_PORT, SERVERS, SERVERS_MAC, VIP,
};
use uvs_core::testing::packets::{
    ACK, DIRECTOR_MAC, PacketBuilder, SYN, TestFrame, icmp, tcp, udp,
};
use uvs_core::verdict::Verdict;
use uvs_core::wire::arp;
use uvs_core::wire::ethernet::Mac;

const OTHER: Mac = [2, 0, 0, 0, 1, 0x99];
const ASKER: Mac = [2, 0, 0, 0, 1, 7];

fn bed(protocol: Protocol, forwarding: Forwarding) -> Bed {
    Bed::with_service(uvs_modes::BUILTIN, protocol, forwarding, Tunnel::default())
}

fn frame(p: &PacketBuilder) -> TestFrame {
    TestFrame::finished(&p.frame())
}

fn absent(bed: &mut Bed, absent: bool) {
    bed.change_fib(|fib| match absent {
        true => fib.remove_local(VIP.addr),
        false => fib.add_local(2, VIP.addr),
    });
    bed.snapshot.absent_vips = if absent { vec![VIP.addr] } else { Vec::new() };
    bed.apply();
}

/// Who has the VIP, asked by somebody who has no address yet.
fn probe() -> TestFrame {
    TestFrame::finished(&arp::probe(vip(), ASKER))
}

/// An announcement of the VIP at a MAC address.
fn announcement(mac: Mac) -> TestFrame {
    TestFrame::finished(&arp::announcement(vip(), mac))
}

fn vip() -> [u8; 4] {
    VIP.addr.as_v4().expect("IPv4")
}

fn end(addr: Addr, port: u16) -> Endpoint {
    Endpoint::new(addr, port)
}

#[test]
fn what_a_stand_by_gets_for_the_vip_is_the_hosts() {
    for (protocol, forwarding) in [
        (Protocol::Tcp, Forwarding::Dr),
        (Protocol::Tcp, Forwarding::Nat),
        (Protocol::Udp, Forwarding::FullNat),
    ] {
        let mut bed = bed(protocol, forwarding);
        absent(&mut bed, true);
        let to_service = match protocol {
            Protocol::Udp => udp(CLIENT, VIP),
            _ => tcp(CLIENT, VIP, SYN),
        };
        // The guard has kept these from the host, and none of what follows.
        assert_eq!(bed.receive(CLIENTS, frame(&to_service)), Verdict::Local);
        let strange = tcp(CLIENT, end(VIP.addr, 81), SYN);
        let ping = icmp(CLIENT.addr, VIP.addr, 8, 0, 1);
        for other in [strange, ping] {
            assert_eq!(bed.receive(CLIENTS, frame(&other)), Verdict::Pass);
        }
        assert_eq!(bed.receive(CLIENTS, probe()), Verdict::Pass);
        assert_eq!(bed.receive(CLIENTS, announcement(OTHER)), Verdict::Pass);
        assert_eq!(bed.engine.connections().len(), 0);
        assert_eq!((bed.sent.len(), bed.engine.take_claims()), (0, Vec::new()));
    }
}

/// The kernel has told of the address, and the table that is in force does not know yet.
#[test]
fn a_vip_that_comes_is_served_from_when_the_host_has_it() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Dr);
    absent(&mut bed, true);
    bed.change_fib(|fib| fib.add_local(2, VIP.addr));
    let verdict = bed.receive(CLIENTS, frame(&tcp(CLIENT, VIP, SYN)));
    assert!(matches!(verdict, Verdict::Send(_)), "{verdict:?}");
}

#[test]
fn what_belongs_to_no_connection_is_not_reset_in_the_masters_name() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Dr);
    absent(&mut bed, true);
    let stray = frame(&tcp(CLIENT, VIP, ACK));
    assert_eq!(bed.receive(CLIENTS, stray), Verdict::Local);
    assert_eq!(bed.sent, []);
}

/// As where keepalived takes the address away: replies on their way are translated, as the kernel does where
/// it forwards them; the client's packets are for who has the VIP now, and nothing is said in its name.
#[test]
fn connections_of_the_time_before_are_given_back_with_the_vip() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat);
    let mut service = (*bed.snapshot.services[0]).clone();
    service.teardown = TeardownPolicy {
        on_removal: OnRemoval::Keep,
        on_expiry: OnExpiry::Tell,
        drain_timeout: 0,
    };
    bed.snapshot.services[0] = service.into();
    bed.apply();
    let server = end(SERVER, SERVER_PORT);
    bed.from_client(frame(&tcp(CLIENT, VIP, SYN).seq(9_000, 0)));
    bed.from_server(frame(
        &tcp(server, CLIENT, SYN | ACK)
            .seq(5_000, 9_001)
            .to_mac(SERVERS_MAC),
    ));
    bed.from_client(frame(&tcp(CLIENT, VIP, ACK).seq(9_001, 5_001)));
    absent(&mut bed, true);
    let segment = || tcp(CLIENT, VIP, ACK).seq(9_001, 5_001).payload(b"x");
    assert_eq!(bed.receive(CLIENTS, frame(&segment())), Verdict::Local);
    let reply = tcp(server, CLIENT, ACK)
        .seq(5_001, 9_001)
        .to_mac(SERVERS_MAC);
    assert!(matches!(
        bed.receive(SERVERS, frame(&reply)),
        Verdict::Send(_)
    ));
    absent(&mut bed, false);
    let verdict = bed.receive(CLIENTS, frame(&segment()));
    assert!(
        matches!(verdict, Verdict::Send(_)),
        "it is back: {verdict:?}"
    );
    absent(&mut bed, true);
    bed.sent.clear();
    bed.jump(Duration::from_secs(1000));
    assert!(bed.engine.connections().is_empty());
    let ports: Vec<_> = bed.sent.iter().map(|s| s.port).collect();
    assert_eq!(ports, [SERVERS], "the server is told, the client is not");
}

#[test]
fn fragments_are_given_back_whole() {
    let mut bed = bed(Protocol::Udp, Forwarding::Nat);
    absent(&mut bed, true);
    let whole = udp(CLIENT, VIP).payload(&[7; 64]).id(9).frame();
    let cut = |from: usize, to: usize, more: bool| {
        let mut part = whole[..34].to_vec();
        part.extend(&whole[34 + from..34 + to]);
        let len = u16::try_from(20 + to - from).unwrap();
        part[16..18].copy_from_slice(&len.to_be_bytes());
        let place = u16::try_from(from / 8).unwrap() | if more { 0x2000 } else { 0 };
        part[20..22].copy_from_slice(&place.to_be_bytes());
        part[24..26].copy_from_slice(&[0, 0]);
        let sum = uvs_core::wire::checksum::of(&part[14..34]);
        part[24..26].copy_from_slice(&sum.to_be_bytes());
        TestFrame::finished(&part)
    };
    assert_eq!(bed.receive(CLIENTS, cut(0, 40, true)), Verdict::Held);
    assert_eq!(bed.receive(CLIENTS, cut(40, 72, false)), Verdict::Local);
    assert_eq!(bed.sent, []);
}

#[test]
fn an_owned_vip_is_answered_for_until_another_host_claims_it() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Dr);
    bed.snapshot.owned_vips = vec![VIP.addr];
    bed.apply();
    let answer = bed.from_client(probe());
    assert_eq!(arp::reply(&answer[0].bytes), Some((vip(), DIRECTOR_MAC)));
    for mac in [DIRECTOR_MAC, SERVERS_MAC] {
        bed.receive(CLIENTS, announcement(mac));
    }
    assert_eq!(bed.engine.take_claims(), [], "our own words");
    let claim = Claim {
        vip: VIP.addr,
        mac: OTHER,
        port: CLIENTS,
    };
    // A flood of claims is told once a second.
    for _ in 0..30 {
        let verdict = bed.receive(CLIENTS, announcement(OTHER));
        assert_eq!(verdict, Verdict::Pass, "the host hears it, too");
        bed.jump(Duration::from_millis(100));
    }
    assert_eq!(bed.engine.take_claims(), [claim; 3]);

    bed.snapshot.yielded_vips = vec![VIP.addr];
    bed.apply();
    assert_eq!(bed.receive(CLIENTS, probe()), Verdict::Pass);
    // Whoever still sends here is served, and answered as by a host.
    let verdict = bed.receive(CLIENTS, frame(&tcp(CLIENT, VIP, SYN)));
    assert!(matches!(verdict, Verdict::Send(_)), "{verdict:?}");
    let ping = icmp(CLIENT.addr, VIP.addr, 8, 0, 1);
    assert_eq!(bed.receive(CLIENTS, frame(&ping)), Verdict::Answered);
    bed.jump(Duration::from_secs(2));
    bed.receive(CLIENTS, announcement(OTHER));
    assert_eq!(bed.engine.take_claims(), [claim], "it is still there");
}
