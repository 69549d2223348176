//! Packets that are not what they say: from sources that cannot be, and TCP segments whose numbers are not
//! their connection's.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use uvs_core::fib::Interface;
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::fragment::{self, Cut};
use uvs_core::service::{Forwarding, Tunnel};
use uvs_core::testing::bed::{
    Bed, CLIENT, CLIENTS, LOCAL, SERVER, SERVER_PORT, SERVERS, SERVERS_MAC, VIP,
};
use uvs_core::testing::packets::{ACK, PacketBuilder, SYN, TestFrame, icmp, tcp, udp};
use uvs_core::verdict::{DropReason, PortId, Verdict};
use uvs_core::wire::tcp::flag::{FIN, PSH, RST};

const MARTIAN: Verdict = Verdict::Drop(DropReason::MartianSource);
const MODES: [Forwarding; 4] = [
    Forwarding::Dr,
    Forwarding::Nat,
    Forwarding::FullNat,
    Forwarding::Tunnel,
];
/// An address that UVS owns: on none of the host's interfaces.
const OWNED: Addr = Addr::v4([10, 0, 1, 101]);
/// No host's, the broadcast address of the director's network, and its own.
const SOURCES: [Addr; 11] = [
    Addr::v4([0, 0, 0, 0]),
    Addr::v4([0, 1, 2, 3]),
    Addr::v4([127, 0, 0, 1]),
    Addr::v4([224, 0, 0, 1]),
    Addr::v4([240, 0, 0, 1]),
    Addr::v4([255, 255, 255, 255]),
    Addr::v4([10, 0, 1, 255]),
    Addr::v4([10, 0, 1, 1]),
    LOCAL,
    OWNED,
    VIP.addr,
];
/// What client and server of [`talk`] expect next.
const CLIENT_NEXT: u32 = 9_000 + 1 + 100;
const SERVER_NEXT: u32 = 5_000 + 1 + 10;
/// Far from both.
const FAR: u32 = 0x8000_0000;

fn bed(protocol: Protocol, forwarding: Forwarding) -> Bed {
    let mut bed = Bed::with_service(uvs_modes::BUILTIN, protocol, forwarding, Tunnel::default());
    bed.snapshot.owned_vips = vec![OWNED];
    bed.apply();
    bed
}

fn from_client(bed: &mut Bed, packet: &PacketBuilder) -> Verdict {
    bed.receive(CLIENTS, TestFrame::finished(&packet.frame()))
}

fn from_server(bed: &mut Bed, packet: PacketBuilder) -> Verdict {
    let frame = packet.to_mac(SERVERS_MAC).frame();
    bed.receive(SERVERS, TestFrame::finished(&frame))
}

fn is_sent(v: Verdict) -> bool {
    matches!(v, Verdict::Send(_))
}

#[test]
fn sources_that_cannot_be_open_nothing_in_any_mode() {
    for forwarding in MODES {
        for source in SOURCES {
            let from = Endpoint::new(source, 40_000);
            let mut tcp_bed = bed(Protocol::Tcp, forwarding);
            for flags in [SYN, ACK, RST] {
                let verdict = from_client(&mut tcp_bed, &tcp(from, VIP, flags));
                assert_eq!(verdict, MARTIAN, "{forwarding:?}, {source}, {flags:#x}");
            }
            let mut udp_bed = bed(Protocol::Udp, forwarding);
            let verdict = from_client(&mut udp_bed, &udp(from, VIP));
            assert_eq!(verdict, MARTIAN, "{forwarding:?}, {source}, UDP");
            for bed in [tcp_bed, udp_bed] {
                assert!(bed.engine.connections().is_empty() && bed.sent.is_empty());
            }
        }
    }
}

#[test]
fn what_is_not_served_is_left_to_the_kernel_and_an_owned_vip_answers_none() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat);
    for source in SOURCES {
        let from = Endpoint::new(source, 40_000);
        for packet in [
            tcp(from, Endpoint::new(VIP.addr, 81), SYN),
            icmp(source, VIP.addr, 8, 0, 0),
        ] {
            assert_eq!(from_client(&mut bed, &packet), Verdict::Pass, "{source}");
        }
        for packet in [
            tcp(from, Endpoint::new(OWNED, 81), SYN),
            udp(from, Endpoint::new(OWNED, 81)),
            icmp(source, OWNED, 8, 0, 0),
        ] {
            assert_eq!(from_client(&mut bed, &packet), MARTIAN, "{source}");
        }
    }
    assert!(bed.sent.is_empty());
}

#[test]
fn a_martians_fragment_is_not_held() {
    let mut bed = bed(Protocol::Udp, Forwarding::Nat);
    for (source, held) in [(Addr::v4([127, 0, 0, 1]), false), (CLIENT.addr, true)] {
        let whole = udp(Endpoint::new(source, 40_000), VIP).may_fragment();
        let mut out = uvs_core::outbox::Outbox::new();
        let frame = whole.payload(&[1; 900]).frame();
        fragment::cut(&frame, &Cut::to(500), Default::default(), &mut out);
        let first = out.iter().next().unwrap().0.to_vec();
        let verdict = bed.receive(CLIENTS, TestFrame::finished(&first));
        let want = if held { Verdict::Held } else { MARTIAN };
        assert_eq!(verdict, want, "{source}");
    }
}

#[test]
fn a_martians_icmp_error_reaches_nobody_and_a_martian_in_a_quote_opens_nothing() {
    let mut bed = bed(Protocol::Udp, Forwarding::Nat);
    assert!(is_sent(from_client(&mut bed, &udp(CLIENT, VIP))));
    let about = |client| udp(VIP, client).packet();
    for source in SOURCES {
        let error = icmp(source, VIP.addr, 3, 3, 0);
        let known = error.clone().payload(&about(CLIENT));
        assert_eq!(from_client(&mut bed, &known), MARTIAN, "{source}");
        let unknown = error.payload(&about(Endpoint::new(CLIENT.addr, 1)));
        assert_ne!(from_client(&mut bed, &unknown), Verdict::Answered);
    }
    bed.sysctl("schedule_icmp", 1);
    for source in SOURCES {
        let error = icmp(CLIENT.addr, VIP.addr, 3, 3, 0);
        let error = error.payload(&about(Endpoint::new(source, 7)));
        assert_eq!(from_client(&mut bed, &error), MARTIAN, "{source} quoted");
    }
    assert_eq!(bed.engine.connections().len(), 1);
}

#[test]
fn what_comes_in_by_the_loopback_may_be_the_directors_own() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat);
    let port = PortId(2);
    bed.change_fib(|f| {
        f.set_interface(Interface {
            port,
            ifindex: 1,
            mac: [0; 6],
            mtu: 65_536,
            up: true,
            reverse_path: Default::default(),
        });
    });
    for (n, source) in [VIP.addr, LOCAL, Addr::v4([127, 0, 0, 1])]
        .into_iter()
        .enumerate()
    {
        let packet = tcp(Endpoint::new(source, 40_000), VIP, SYN).to_mac([0; 6]);
        let verdict = bed.receive(port, TestFrame::finished(&packet.frame()));
        assert!(is_sent(verdict), "{source}: {verdict:?}");
        assert_eq!(bed.engine.connections().len() as usize, n + 1);
    }
}

/// A handshake, ten bytes of request, a hundred of answer. With DR the director sees the client's half.
fn talk(bed: &mut Bed, replies: bool) {
    let client = |bed: &mut Bed, flags, seq, ack, data: usize| {
        let segment = tcp(CLIENT, VIP, flags).seq(seq, ack);
        assert!(is_sent(from_client(bed, &segment.payload(&vec![7; data]))));
    };
    client(bed, SYN, 5_000, 0, 0);
    if replies {
        answer(bed, SYN | ACK, 9_000, 5_001, 0);
    }
    client(bed, ACK, 5_001, 9_001, 0);
    client(bed, ACK, 5_001, 9_001, 10);
    if replies {
        answer(bed, ACK, 9_001, SERVER_NEXT, 100);
    }
    client(bed, ACK, SERVER_NEXT, CLIENT_NEXT, 0);
    assert_eq!(state(bed), "ESTABLISHED");
}

fn answer(bed: &mut Bed, flags: u8, seq: u32, ack: u32, data: usize) {
    let server = Endpoint::new(SERVER, SERVER_PORT);
    let segment = tcp(server, CLIENT, flags).seq(seq, ack);
    assert!(is_sent(from_server(bed, segment.payload(&vec![7; data]))));
}

fn ask(bed: &mut Bed, flags: u8, seq: u32, ack: u32) {
    let verdict = from_client(bed, &tcp(CLIENT, VIP, flags).seq(seq, ack));
    assert!(is_sent(verdict), "{verdict:?}");
}

fn state(bed: &Bed) -> &'static str {
    let (conns, _) = bed.engine.report_connections(bed.now, 0, 10);
    conns.first().map_or("(gone)", |c| c.state)
}

#[test]
fn a_forged_end_passes_and_ends_nothing() {
    for forwarding in [Forwarding::Nat, Forwarding::Dr, Forwarding::Tunnel] {
        let nat = forwarding == Forwarding::Nat;
        let mut bed = bed(Protocol::Tcp, forwarding);
        talk(&mut bed, nat);
        for (n, flags) in [RST, RST | ACK, FIN | ACK, FIN, 0, PSH]
            .into_iter()
            .enumerate()
        {
            ask(&mut bed, flags, SERVER_NEXT.wrapping_add(FAR), CLIENT_NEXT);
            if nat {
                answer(
                    &mut bed,
                    flags,
                    CLIENT_NEXT.wrapping_add(FAR),
                    SERVER_NEXT,
                    0,
                );
            }
            let counted = bed.engine.counters().out_of_window;
            assert_eq!(counted, (n as u64 + 1) * (1 + u64::from(nat)));
        }
        bed.wait(Duration::from_secs(600));
        assert_eq!(state(&bed), "ESTABLISHED", "{forwarding:?}");
        ask(&mut bed, RST, SERVER_NEXT, 0);
        assert_eq!(state(&bed), "CLOSE", "{forwarding:?}");
        bed.wait(Duration::from_secs(12));
        assert_eq!(state(&bed), "(gone)", "{forwarding:?}");
    }
}

#[test]
fn a_forged_end_does_not_keep_an_idle_connection_alive() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat);
    talk(&mut bed, true);
    for _ in 0..10 {
        bed.wait(Duration::from_secs(100));
        from_client(&mut bed, &tcp(CLIENT, VIP, RST).seq(FAR, 0));
    }
    assert_eq!(state(&bed), "(gone)");
}

#[test]
fn the_servers_true_end_is_taken_and_one_that_is_late_as_well() {
    for (flags, seq, end) in [
        (RST, CLIENT_NEXT, "CLOSE"),
        (FIN | ACK, CLIENT_NEXT, "FIN_WAIT"),
        // A client acknowledged a lost answer's begin only, and is told so by a server that has restarted.
        (RST, 9_001, "CLOSE"),
        // A megabyte before it was lost on the way here.
        (FIN | ACK, CLIENT_NEXT + (1 << 20), "FIN_WAIT"),
    ] {
        let mut bed = bed(Protocol::Tcp, Forwarding::Nat);
        talk(&mut bed, true);
        answer(&mut bed, flags, seq, SERVER_NEXT, 0);
        assert_eq!(state(&bed), end, "{flags:#x} {seq}");
        assert_eq!(bed.engine.counters().out_of_window, 0);
    }
}

#[test]
fn a_forged_segment_does_not_make_room_for_a_forged_reset() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat);
    talk(&mut bed, true);
    // Ahead by less than half of all numbers: it would count as newer.
    let forged = SERVER_NEXT + (1 << 30);
    ask(&mut bed, ACK, forged, CLIENT_NEXT.wrapping_add(FAR));
    ask(&mut bed, SYN, forged, 0);
    ask(&mut bed, RST, forged, 0);
    assert_eq!(state(&bed), "ESTABLISHED");
    ask(&mut bed, RST, SERVER_NEXT, 0);
    assert_eq!(state(&bed), "CLOSE");
}

#[test]
fn a_client_that_lost_its_connection_and_reuses_the_port_ends_it() {
    // The server challenges the SYN, and the client resets at the number that the server names.
    let mut challenged = bed(Protocol::Tcp, Forwarding::Nat);
    talk(&mut challenged, true);
    ask(&mut challenged, SYN, FAR, 0);
    answer(&mut challenged, ACK, CLIENT_NEXT, SERVER_NEXT, 0);
    ask(&mut challenged, RST, SERVER_NEXT, 0);
    assert_eq!(state(&challenged), "CLOSE");
    // The server has lost it too and takes the SYN: the numbers are new.
    let mut taken = bed(Protocol::Tcp, Forwarding::Nat);
    talk(&mut taken, true);
    ask(&mut taken, SYN, FAR, 0);
    answer(&mut taken, SYN | ACK, FAR + 77, FAR + 1, 0);
    ask(&mut taken, ACK, FAR + 1, FAR + 78);
    answer(&mut taken, RST, CLIENT_NEXT, 0, 0);
    assert_eq!(state(&taken), "ESTABLISHED", "the number is of before");
    ask(&mut taken, RST, FAR + 1, 0);
    assert_eq!(state(&taken), "CLOSE");
}

#[test]
fn where_nothing_is_known_a_reset_is_taken_as_the_kernel_takes_it() {
    // Refused in the handshake, by a reset that has no number of its own.
    let mut refused = bed(Protocol::Tcp, Forwarding::Nat);
    ask(&mut refused, SYN, FAR, 0);
    answer(&mut refused, RST | ACK, 0, FAR + 1, 0);
    assert_eq!(state(&refused), "CLOSE");
    // The server has an old connection, and challenges the SYN by its numbers.
    let mut old = bed(Protocol::Tcp, Forwarding::Nat);
    ask(&mut old, SYN, 5_000, 0);
    answer(&mut old, ACK, 77, FAR, 0);
    ask(&mut old, RST, FAR, 0);
    assert_eq!(state(&old), "CLOSE");
    // Picked up in its midst by the server's side only: of the client nothing was seen since.
    let mut sloppy = bed(Protocol::Tcp, Forwarding::Nat);
    sloppy.sysctl("sloppy_tcp", 1);
    ask(&mut sloppy, ACK, FAR, 0);
    answer(&mut sloppy, RST, 77, 0, 0);
    assert_eq!(state(&sloppy), "CLOSE");
}
