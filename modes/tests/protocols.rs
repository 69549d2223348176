//! What each protocol asks of a connection: SCTP's set-up and end, FTP's data connections, and the packets
//! that may not start anything.

#![allow(clippy::unwrap_used)]

use uvs_core::flow::{Endpoint, Protocol};
use uvs_core::service::{Forwarding, Persistence, ServiceKey, Tunnel};
use uvs_core::testing::bed::{
    Bed, CLIENT, CLIENTS, SERVER, SERVER_PORT, SERVERS, SERVERS_MAC, VIP,
};
use uvs_core::testing::packets::{SYN, TestFrame, check, sctp, tcp};
use uvs_core::verdict::{DropReason, Verdict};
use uvs_core::wire::sctp::chunk;

fn bed(protocol: Protocol, forwarding: Forwarding) -> Bed {
    Bed::with_service(uvs_modes::BUILTIN, protocol, forwarding, Tunnel::default())
}

fn sctp_from_client(bed: &mut Bed, kind: u8) -> Verdict {
    let frame = sctp(CLIENT, VIP, kind).payload(&[1, 2, 3]).frame();
    bed.receive(CLIENTS, TestFrame::finished(&frame))
}

fn sctp_from_server(bed: &mut Bed, kind: u8) -> Verdict {
    let server = Endpoint::new(SERVER, SERVER_PORT);
    let frame = sctp(server, CLIENT, kind).to_mac(SERVERS_MAC).frame();
    bed.receive(SERVERS, TestFrame::finished(&frame))
}

/// The only connection's state and time-out, and the server's active and inactive connections.
fn seen(bed: &Bed) -> (&'static str, u32, u32, u32) {
    let (conns, _) = bed.engine.report_connections(bed.now, 0, 10);
    let server = bed.engine.report(bed.now).services[0].servers[0].numbers;
    let c = conns.first().expect("a connection");
    (c.state, c.expires, server.active, server.inactive)
}

#[test]
fn an_sctp_association_lives_as_the_kernels() {
    let mut bed = bed(Protocol::Sctp, Forwarding::Nat);
    for (from_client, kind, want) in [
        (true, chunk::INIT, ("INIT1", 4, 0, 1)),
        (true, chunk::INIT, ("INIT", 61, 0, 1)),
        (false, chunk::INIT_ACK, ("C-SENT", 61, 0, 1)),
        (true, chunk::COOKIE_ECHO, ("C-REPLIED", 61, 0, 1)),
        (false, chunk::COOKIE_ACK, ("ESTABLISHED", 900, 1, 0)),
        (true, chunk::DATA, ("ESTABLISHED", 900, 1, 0)),
        (false, chunk::SHUTDOWN, ("S-SENT", 61, 0, 1)),
        (true, chunk::SHUTDOWN_ACK, ("CLOSED", 61, 0, 1)),
        (true, chunk::INIT, ("INIT1", 4, 0, 1)),
    ] {
        let verdict = if from_client {
            sctp_from_client(&mut bed, kind)
        } else {
            sctp_from_server(&mut bed, kind)
        };
        assert!(matches!(verdict, Verdict::Send(_)), "chunk {kind}");
        assert_eq!(seen(&bed), want, "after chunk {kind}");
    }
    for sent in &bed.sent {
        assert_eq!(check(&sent.bytes), Ok(()));
    }
}

#[test]
fn an_abort_behind_a_cookie_counts() {
    let mut bed = bed(Protocol::Sctp, Forwarding::Dr);
    sctp_from_client(&mut bed, chunk::INIT);
    // A cookie of one byte, padded; then an ABORT.
    let bundle = sctp(CLIENT, VIP, chunk::COOKIE_ECHO).payload(&[9]).frame();
    let mut frame = bundle.clone();
    frame.extend([chunk::ABORT, 0, 0, 4]);
    let len = u16::try_from(frame.len() - 14).unwrap();
    frame[16..18].copy_from_slice(&len.to_be_bytes());
    frame[24..26].fill(0);
    let sum = uvs_core::wire::checksum::of(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    bed.receive(CLIENTS, TestFrame::finished(&frame));
    assert_eq!(seen(&bed).0, "CLOSED");
}

#[test]
fn only_an_init_starts_an_association_unless_sloppy() {
    let mut bed = bed(Protocol::Sctp, Forwarding::Dr);
    let refused = Verdict::Drop(DropReason::NoConnection);
    assert_eq!(sctp_from_client(&mut bed, chunk::DATA), refused);
    bed.sysctl("sloppy_sctp", 1);
    sctp_from_client(&mut bed, chunk::DATA);
    assert_eq!(seen(&bed), ("ESTABLISHED", 900, 1, 0));
}

/// A bed with FTP on the VIP and nothing else.
fn ftp(persistent: bool) -> Bed {
    let mut bed = bed(Protocol::Tcp, Forwarding::Dr);
    let mut service = (*bed.snapshot.services[0]).clone();
    service.key = ServiceKey::address(Protocol::Tcp, Endpoint::new(VIP.addr, 21));
    service.servers[0].endpoint.port = 21;
    service.persistence = persistent.then_some(Persistence {
        timeout: 300,
        mask: u32::MAX,
    });
    bed.snapshot.services = vec![service.into()].into();
    bed.apply();
    bed
}

fn syn(bed: &mut Bed, from_port: u16, to_port: u16) -> Verdict {
    let from = Endpoint::new(CLIENT.addr, from_port);
    let to = Endpoint::new(VIP.addr, to_port);
    bed.receive(CLIENTS, TestFrame::finished(&tcp(from, to, SYN).frame()))
}

#[test]
fn persistent_ftp_takes_its_data_connections_along() {
    let mut bed = ftp(true);
    for (port, ours) in [(21, true), (20, true), (5000, true), (22, false)] {
        let verdict = syn(&mut bed, 40_000, port);
        assert_eq!(matches!(verdict, Verdict::Send(_)), ours, "port {port}");
    }
    let mut bed = ftp(false);
    assert!(matches!(syn(&mut bed, 40_000, 21), Verdict::Send(_)));
    // Without persistence nobody could say to which server.
    assert_eq!(syn(&mut bed, 40_000, 5000), Verdict::Pass);
}

#[test]
fn what_comes_from_ftps_data_port_is_not_scheduled() {
    let mut bed = ftp(true);
    assert_eq!(syn(&mut bed, 20, 21), Verdict::Answered);
    assert!(bed.engine.connections().is_empty());
}
