//! The director itself at an end of a connection: as its real server, and as its client.

#![allow(clippy::unwrap_used)]

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::service::{Forwarding, Tunnel};
use uvs_core::testing::bed::{
    Bed, CLIENT, CLIENTS, LOCAL, SERVER, SERVER_PORT, SERVERS, SERVERS_MAC, VIP,
};
use uvs_core::testing::packets::{ACK, PacketBuilder, SYN, TestFrame, check, tcp, udp};
use uvs_core::verdict::{DropReason, PortId, Verdict};
use uvs_core::wire::ethernet;
use uvs_core::wire::tcp::flag::RST;

fn bed(protocol: Protocol, forwarding: Forwarding, server: Addr) -> Bed {
    let mut bed = Bed::with_service(uvs_modes::BUILTIN, protocol, forwarding, Tunnel::default());
    let mut service = (*bed.snapshot.services[0]).clone();
    service.servers[0].endpoint.addr = server;
    bed.snapshot.services[0] = service.into();
    bed.apply();
    bed
}

fn frame(p: &PacketBuilder) -> TestFrame {
    TestFrame::finished(&p.frame())
}

/// What is delivered to the host: the verdict, and the packet's ends.
fn delivered(bed: &mut Bed, port: PortId, p: &PacketBuilder) -> (Verdict, (Endpoint, Endpoint)) {
    let mut t = frame(p);
    let mut frame = t.frame();
    let mut out = uvs_core::outbox::Outbox::new();
    let verdict = bed.engine.handle_frame(bed.now, port, &mut frame, &mut out);
    assert_eq!(check(frame.bytes()), Ok(()));
    let b = &frame.bytes()[ethernet::LEN..];
    let end = |a: usize, p: usize| {
        let addr = Addr::v4([b[a], b[a + 1], b[a + 2], b[a + 3]]);
        Endpoint::new(addr, u16::from_be_bytes([b[p], b[p + 1]]))
    };
    (verdict, (end(12, 20), end(16, 22)))
}

/// Where the only connection's server sends its replies.
fn far(bed: &Bed) -> Endpoint {
    bed.engine
        .connections()
        .at(0)
        .unwrap()
        .server_flow()
        .destination()
}

#[test]
fn the_director_is_a_server_in_every_mode() {
    for (forwarding, to) in [
        (Forwarding::Dr, VIP),
        (Forwarding::Tunnel, VIP),
        (Forwarding::Nat, Endpoint::new(LOCAL, SERVER_PORT)),
        (Forwarding::FullNat, Endpoint::new(LOCAL, SERVER_PORT)),
    ] {
        let mut bed = bed(Protocol::Udp, forwarding, LOCAL);
        let got = delivered(&mut bed, CLIENTS, &udp(CLIENT, VIP));
        let from = far(&bed);
        assert_eq!(got, (Verdict::Local, (from, to)), "{forwarding:?}");
        assert_eq!(from == CLIENT, forwarding != Forwarding::FullNat);
        if to == VIP {
            continue;
        }
        // Its answer comes from the host's stack, and leaves as the VIP's.
        let sent = bed.exchange_with_host(frame(&udp(to, from).to_mac([0; 6])));
        assert_eq!((sent.len(), sent[0].port), (1, CLIENTS), "{forwarding:?}");
        assert_eq!(sent[0].bytes[26..30], VIP.addr.as_v4().unwrap());
    }
}

#[test]
fn nobody_reaches_the_loopback_address_by_nat() {
    for forwarding in [Forwarding::Nat, Forwarding::FullNat] {
        let mut bed = bed(Protocol::Udp, forwarding, Addr::v4([127, 0, 0, 1]));
        bed.change_fib(|f| f.add_local_prefix(Addr::v4([127, 0, 0, 0]), 8));
        let verdict = bed.receive(CLIENTS, frame(&udp(CLIENT, VIP)));
        assert_eq!(
            verdict,
            Verdict::Drop(DropReason::LocalServer),
            "{forwarding:?}"
        );
    }
}

#[test]
fn the_director_is_a_client() {
    let own = Endpoint::new(VIP.addr, 40_000);
    for forwarding in [Forwarding::Nat, Forwarding::FullNat] {
        let mut bed = bed(Protocol::Tcp, forwarding, SERVER);
        let server = Endpoint::new(SERVER, SERVER_PORT);
        let sent = bed.exchange_with_host(frame(&tcp(own, VIP, SYN).to_mac([0; 6])));
        assert_eq!((sent.len(), sent[0].port), (1, SERVERS), "{forwarding:?}");
        let reply = tcp(server, far(&bed), SYN | ACK).to_mac(SERVERS_MAC);
        let got = delivered(&mut bed, SERVERS, &reply);
        assert_eq!(got, (Verdict::Local, (VIP, own)), "{forwarding:?}");
    }
}

#[test]
fn a_client_on_the_director_is_told_that_there_is_no_server() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat, SERVER);
    let mut service = (*bed.snapshot.services[0]).clone();
    service.servers.clear();
    bed.snapshot.services[0] = service.into();
    bed.apply();
    let own = Endpoint::new(VIP.addr, 40_000);
    for (flags, protocol) in [(SYN, 1), (ACK, 6)] {
        let told = bed.exchange_with_host(frame(&tcp(own, VIP, flags).to_mac([0; 6])));
        assert_eq!((told[0].port, told[0].bytes[23]), (PortId::HOST, protocol));
        assert!(protocol == 1 || told[0].bytes[47] & RST != 0);
    }
}
