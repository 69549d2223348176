//! FULLNAT where a server still has an old connection of the local port: it answers the SYN with an ACK of
//! that connection. The old one is reset and the SYN sent again at once, once, and for nothing else.

#![allow(clippy::unwrap_used)]

use uvs_core::flow::{Endpoint, Protocol};
use uvs_core::service::{Forwarding, Tunnel};
use uvs_core::testing::bed::{
    Bed, CLIENT, CLIENTS, SERVER, SERVER_PORT, SERVERS, SERVERS_MAC, Sent, VIP,
};
use uvs_core::testing::packets::{PacketBuilder, TestFrame, check, tcp};
use uvs_core::verdict::Verdict;
use uvs_core::wire::ethernet;
use uvs_core::wire::tcp::flag::{ACK, FIN, RST, SYN};

const REAL: Endpoint = Endpoint::new(SERVER, SERVER_PORT);
/// The client's initial sequence number.
const ISN: u32 = 5_000;
/// What the server has sent, and wants to be sent, in its old connection.
const OLD: (u32, u32) = (777_000, 888_000);

fn bed(forwarding: Forwarding) -> Bed {
    Bed::with_service(
        uvs_modes::BUILTIN,
        Protocol::Tcp,
        forwarding,
        Tunnel::default(),
    )
}

/// A SYN with options, as it comes from a veth device: the checksum is left to an offload.
fn syn() -> PacketBuilder {
    tcp(CLIENT, VIP, SYN)
        .seq(ISN, 0)
        .tcp_options(&[2, 4, 5, 0xb4, 1, 3, 3, 7])
}

/// Opens the connection; what the server got, and the client's end as the server sees it.
fn open(bed: &mut Bed) -> (Vec<u8>, Endpoint) {
    bed.sent.clear();
    let verdict = bed.receive(CLIENTS, syn().partial());
    assert!(matches!(verdict, Verdict::Send(_)));
    let (conns, _) = bed.engine.report_connections(bed.now, 0, 10);
    let got = bed.sent[0].finished();
    (got, conns[0].local.unwrap_or(CLIENT))
}

/// Hands a segment of the server's in; the verdict, and what leaves.
fn serve(bed: &mut Bed, to: Endpoint, flags: u8, seq: (u32, u32)) -> (Verdict, Vec<Sent>) {
    bed.sent.clear();
    let segment = tcp(REAL, to, flags).seq(seq.0, seq.1).to_mac(SERVERS_MAC);
    let verdict = bed.receive(SERVERS, TestFrame::finished(&segment.frame()));
    (verdict, std::mem::take(&mut bed.sent))
}

fn state(bed: &Bed) -> &'static str {
    let (conns, _) = bed.engine.report_connections(bed.now, 0, 10);
    conns[0].state
}

/// From the IP header on, but for TTL and what sums it up.
fn segment(frame: &[u8]) -> &[u8] {
    &frame[ethernet::LEN + 12..]
}

#[test]
fn the_servers_old_connection_is_reset_and_the_syn_comes_again() {
    let mut bed = bed(Forwarding::FullNat);
    let (first, local) = open(&mut bed);
    let (verdict, sent) = serve(&mut bed, local, ACK, OLD);
    assert_eq!(verdict, Verdict::Answered);
    let [reset, again] = &sent[..] else {
        panic!("{sent:?}");
    };
    assert_eq!((reset.port, again.port), (SERVERS, SERVERS));
    let want = tcp(local, REAL, RST).seq(OLD.1, 0).frame();
    assert_eq!(check(&reset.bytes), Ok(()));
    assert_eq!(
        reset.bytes[ethernet::LEN + 12..ethernet::LEN + 34],
        want[ethernet::LEN + 12..ethernet::LEN + 34]
    );
    assert_eq!(check(&again.bytes), Ok(()));
    assert_eq!(segment(&again.bytes), segment(&first));
    assert_eq!(
        (state(&bed), bed.engine.counters().reopened),
        ("SYN_RECV", 1)
    );
    // The handshake goes on as if nothing had been.
    let (_, sent) = serve(&mut bed, local, SYN | ACK, (9_000, ISN + 1));
    assert_eq!(sent.len(), 1);
    let ack = tcp(CLIENT, VIP, ACK).seq(ISN + 1, 9_001).frame();
    bed.receive(CLIENTS, TestFrame::finished(&ack));
    assert_eq!(state(&bed), "ESTABLISHED");
}

#[test]
fn it_is_done_once() {
    let mut bed = bed(Forwarding::FullNat);
    let (_, local) = open(&mut bed);
    serve(&mut bed, local, ACK, OLD);
    let (verdict, sent) = serve(&mut bed, local, ACK, OLD);
    assert!(matches!(verdict, Verdict::Send(_)));
    assert_eq!(sent[0].port, CLIENTS, "the client's own stack resets it");
    assert_eq!(bed.engine.counters().reopened, 1);
}

#[test]
fn nothing_else_is_taken_for_an_old_connections() {
    for (flags, acknowledged) in [
        (ACK, ISN + 1),
        (SYN | ACK, ISN + 1),
        (SYN | ACK, OLD.1),
        (RST, OLD.1),
        (RST | ACK, OLD.1),
        (FIN, OLD.1),
    ] {
        let mut bed = bed(Forwarding::FullNat);
        let (_, local) = open(&mut bed);
        let (verdict, sent) = serve(&mut bed, local, flags, (OLD.0, acknowledged));
        assert!(matches!(verdict, Verdict::Send(_)), "{flags:#x}");
        assert_eq!((sent.len(), sent[0].port), (1, CLIENTS), "{flags:#x}");
        assert_eq!(bed.engine.counters().reopened, 0);
    }
}

#[test]
fn an_established_connection_is_left_alone() {
    let mut bed = bed(Forwarding::FullNat);
    let (_, local) = open(&mut bed);
    serve(&mut bed, local, SYN | ACK, (9_000, ISN + 1));
    let ack = tcp(CLIENT, VIP, ACK).seq(ISN + 1, 9_001).frame();
    bed.receive(CLIENTS, TestFrame::finished(&ack));
    let (verdict, sent) = serve(&mut bed, local, ACK, OLD);
    assert!(matches!(verdict, Verdict::Send(_)));
    assert_eq!((sent[0].port, bed.engine.counters().reopened), (CLIENTS, 0));
}

/// The SYN makes the connection's state a new one's, as in IPVS, when it comes late.
#[test]
fn a_copy_of_the_syn_that_comes_late_makes_no_connection_an_old_one() {
    let mut bed = bed(Forwarding::FullNat);
    let (_, local) = open(&mut bed);
    serve(&mut bed, local, SYN | ACK, (9_000, ISN + 1));
    for (flags, seq) in [(ACK, ISN + 1), (FIN | ACK, ISN + 101)] {
        let segment = tcp(CLIENT, VIP, flags).seq(seq, 9_001).frame();
        bed.receive(CLIENTS, TestFrame::finished(&segment));
    }
    bed.receive(CLIENTS, syn().partial());
    assert_eq!(state(&bed), "SYN_RECV");
    let (verdict, sent) = serve(&mut bed, local, ACK, (9_001, ISN + 102));
    assert!(matches!(verdict, Verdict::Send(_)));
    assert_eq!((sent[0].port, bed.engine.counters().reopened), (CLIENTS, 0));
}

#[test]
fn a_corrupt_segment_resets_nothing() {
    let mut bed = bed(Forwarding::FullNat);
    let (_, local) = open(&mut bed);
    let mut frame = tcp(REAL, local, ACK)
        .seq(OLD.0, OLD.1)
        .to_mac(SERVERS_MAC)
        .frame();
    frame[ethernet::LEN + 20 + 17] ^= 1;
    bed.receive(SERVERS, TestFrame::finished(&frame));
    assert_eq!(bed.engine.counters().reopened, 0);
}

#[test]
fn with_nat_the_client_itself_is_the_other_end() {
    let mut bed = bed(Forwarding::Nat);
    let (_, client) = open(&mut bed);
    let (verdict, sent) = serve(&mut bed, client, ACK, OLD);
    assert!(matches!(verdict, Verdict::Send(_)));
    assert_eq!((sent[0].port, bed.engine.counters().reopened), (CLIENTS, 0));
}
