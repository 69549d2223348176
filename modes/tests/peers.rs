//! What other directors are told of connections, and what becomes of those that they have told of.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use uvs_core::conn;
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::peer::{NotTakenUp, Shifts, TakenUp, Told};
use uvs_core::service::{Forwarding, Persistence, ServiceSpec, Tunnel};
use uvs_core::snapshot::{Limits, Peers};
use uvs_core::tcp::TcpState;
use uvs_core::testing::bed::{
    Bed, CLIENT, CLIENTS, LOCAL, SERVER, SERVER_PORT, SERVERS, SERVERS_MAC, VIP,
};
use uvs_core::testing::packets::{ACK, SYN, TestFrame, check, tcp, udp};
use uvs_core::verdict::{DropReason, Verdict};
use uvs_core::wire::tcp::flag::{FIN, RST};

fn bed(protocol: Protocol, forwarding: Forwarding, peers: Peers) -> Bed {
    let mut bed = Bed::with_service(uvs_modes::BUILTIN, protocol, forwarding, Tunnel::default());
    bed.snapshot.peers = peers;
    bed.apply();
    bed
}

const MASTER: Peers = Peers {
    master: true,
    backup: false,
};
const BACKUP: Peers = Peers {
    master: false,
    backup: true,
};

fn segment(bed: &mut Bed, flags: u8) -> Verdict {
    bed.receive(
        CLIENTS,
        TestFrame::finished(&tcp(CLIENT, VIP, flags).frame()),
    )
}

fn datagram(bed: &mut Bed) -> Verdict {
    bed.receive(CLIENTS, TestFrame::finished(&udp(CLIENT, VIP).frame()))
}

/// The states that were told since, with the templates' apart.
fn states(bed: &mut Bed) -> Vec<&'static str> {
    let (told, lost) = bed.engine.take_told();
    assert_eq!(lost, 0);
    let word = |t: Told| match t.conn.has(conn::TEMPLATE) {
        true => "template",
        false => TcpState::from_number(t.conn.state).name(),
    };
    told.into_iter().map(word).collect()
}

/// An established connection, as another director tells of it.
fn told(forwarding: Forwarding) -> TakenUp {
    let port = if forwarding.def().maps_port {
        SERVER_PORT
    } else {
        VIP.port
    };
    TakenUp {
        protocol: Some(Protocol::Tcp),
        client: CLIENT,
        vip: VIP,
        server: Endpoint::new(SERVER, port),
        local: None,
        method: Some(forwarding),
        template: false,
        no_output: !forwarding.passes_replies(),
        inactive: false,
        state: TcpState::Established as u8,
        timeout: 900,
        mark: 0,
        call: None,
        idle: None,
        shifts: Shifts::default(),
    }
}

fn load(bed: &Bed) -> (u32, u32) {
    let report = bed.engine.report(bed.now);
    let numbers = &report.services[0].servers[0].numbers;
    (numbers.active, numbers.inactive)
}

fn rows(bed: &Bed) -> Vec<(Endpoint, &'static str, u32)> {
    let (conns, _) = bed.engine.report_connections(bed.now, 0, 1000);
    conns
        .into_iter()
        .map(|c| (c.server, c.state, c.expires))
        .collect()
}

#[test]
fn a_connection_is_told_of_with_its_third_packet_and_whenever_it_ends() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Dr, MASTER);
    segment(&mut bed, SYN);
    segment(&mut bed, ACK);
    assert!(states(&mut bed).is_empty());
    segment(&mut bed, ACK);
    assert_eq!(states(&mut bed), ["ESTABLISHED"]);
    for _ in 0..49 {
        segment(&mut bed, ACK);
    }
    assert!(states(&mut bed).is_empty());
    segment(&mut bed, ACK);
    assert_eq!(states(&mut bed), ["ESTABLISHED"], "the 53rd");
    segment(&mut bed, FIN | ACK);
    segment(&mut bed, ACK);
    assert_eq!(states(&mut bed), ["FIN_WAIT"]);
    segment(&mut bed, RST);
    assert_eq!(states(&mut bed), ["CLOSE"]);
    segment(&mut bed, SYN);
    assert!(
        states(&mut bed).is_empty(),
        "a new one on the same tuple begins anew"
    );
}

#[test]
fn with_no_daemon_nothing_is_told_and_later_what_was_there_is_known() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Dr, Peers::default());
    segment(&mut bed, SYN);
    segment(&mut bed, ACK);
    assert!(states(&mut bed).is_empty());
    bed.snapshot.peers = MASTER;
    bed.apply();
    segment(&mut bed, ACK);
    assert_eq!(
        states(&mut bed),
        ["ESTABLISHED"],
        "it is the third all the same"
    );
    bed.snapshot.peers = Peers::default();
    bed.apply();
    segment(&mut bed, FIN | ACK);
    assert!(states(&mut bed).is_empty());
}

#[test]
fn a_template_is_told_with_every_packet_and_alone_where_only_templates_are() {
    let persistent = |bed: &mut Bed| {
        let service: &mut ServiceSpec = Arc::make_mut(&mut bed.snapshot.services[0]);
        service.persistence = Some(Persistence {
            timeout: 300,
            mask: u32::MAX,
        });
        bed.apply();
    };
    let mut both = bed(Protocol::Tcp, Forwarding::Dr, MASTER);
    persistent(&mut both);
    segment(&mut both, SYN);
    assert_eq!(states(&mut both), ["template"]);
    segment(&mut both, ACK);
    segment(&mut both, ACK);
    assert_eq!(states(&mut both), ["template", "ESTABLISHED", "template"]);
    both.sysctl("sync_persist_mode", 1);
    segment(&mut both, FIN | ACK);
    assert_eq!(states(&mut both), ["template"]);
    both.sysctl("sync_version", 0);
    segment(&mut both, RST);
    assert!(
        states(&mut both).is_empty(),
        "version 0 tells of templates with their connections"
    );
}

#[test]
fn one_packet_flows_are_never_told_of() {
    let mut bed = bed(Protocol::Udp, Forwarding::Dr, MASTER);
    let service: &mut ServiceSpec = Arc::make_mut(&mut bed.snapshot.services[0]);
    service.one_packet = true;
    bed.apply();
    for _ in 0..5 {
        datagram(&mut bed);
    }
    assert!(states(&mut bed).is_empty());
}

#[test]
fn what_was_told_goes_on_with_its_next_packet_in_every_mode() {
    for forwarding in [
        Forwarding::Dr,
        Forwarding::Nat,
        Forwarding::FullNat,
        Forwarding::Tunnel,
    ] {
        let mut bed = bed(Protocol::Tcp, forwarding, BACKUP);
        let local = Endpoint::new(LOCAL, 2000);
        let mut told = told(forwarding);
        told.local = forwarding.takes_local().then_some(local);
        assert_eq!(bed.engine.take_up(bed.now, &told), Ok(()));
        assert_eq!(load(&bed), (1, 0), "{forwarding:?}");
        bed.engine.audit();
        assert!(
            matches!(segment(&mut bed, ACK), Verdict::Send(_)),
            "{forwarding:?}"
        );
        let left = bed.sent.pop().unwrap();
        assert_eq!(left.port, SERVERS);
        check(&left.finished()).unwrap();
        if forwarding.passes_replies() {
            let to = if forwarding.takes_local() {
                local
            } else {
                CLIENT
            };
            let reply = tcp(told.server, to, ACK).to_mac(SERVERS_MAC).frame();
            let back = bed.from_server(TestFrame::finished(&reply));
            assert_eq!(back.len(), 1, "{forwarding:?}");
            check(&back[0].finished()).unwrap();
        }
        assert_eq!(rows(&bed), [(told.server, "ESTABLISHED", 900)]);
        bed.wait(Duration::from_secs(901));
        assert!(rows(&bed).is_empty());
        bed.engine.audit();
    }
}

#[test]
fn a_local_port_that_was_told_is_nobody_elses() {
    let limits = Limits {
        local_ports: (2000, 2001),
        ..Limits::default()
    };
    let mut bed = Bed::new(uvs_modes::BUILTIN, limits);
    bed.add_service(Protocol::Tcp, Forwarding::FullNat, Tunnel::default());
    let mut told = told(Forwarding::FullNat);
    (told.local, told.client.port) = (Some(Endpoint::new(LOCAL, 2000)), 1);
    assert_eq!(bed.engine.take_up(bed.now, &told), Ok(()));
    assert!(matches!(segment(&mut bed, SYN), Verdict::Send(_)));
    let another = Endpoint::new(CLIENT.addr, 2);
    let syn = TestFrame::finished(&tcp(another, VIP, SYN).frame());
    assert_eq!(
        bed.receive(CLIENTS, syn),
        Verdict::Drop(DropReason::PortsExhausted)
    );
    bed.wait(Duration::from_secs(901));
    let syn = TestFrame::finished(&tcp(another, VIP, SYN).frame());
    assert!(
        matches!(bed.receive(CLIENTS, syn), Verdict::Send(_)),
        "it was given back"
    );
}

#[test]
fn a_later_message_moves_what_is_there() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Dr, BACKUP);
    let first = told(Forwarding::Dr);
    bed.engine.take_up(bed.now, &first).unwrap();
    let ending = TakenUp {
        inactive: true,
        state: TcpState::FinWait as u8,
        timeout: 120,
        ..first.clone()
    };
    bed.engine.take_up(bed.now, &ending).unwrap();
    assert_eq!(load(&bed), (0, 1));
    assert_eq!(rows(&bed), [(first.server, "FIN_WAIT", 120)]);
    bed.engine.audit();
    let elsewhere = Endpoint::new(Addr::v4([10, 0, 2, 12]), 80);
    let replaced = TakenUp {
        server: elsewhere,
        ..ending
    };
    assert_eq!(
        bed.engine.take_up(bed.now, &replaced),
        Err(NotTakenUp::Replaced)
    );
    let moved = TakenUp {
        server: elsewhere,
        ..first
    };
    bed.engine.take_up(bed.now, &moved).unwrap();
    assert_eq!(rows(&bed), [(elsewhere, "ESTABLISHED", 900)]);
    assert_eq!(load(&bed), (0, 0), "that server is not known here");
    bed.engine.audit();
}

#[test]
fn a_server_that_is_not_known_is_forwarded_to_and_found_by_the_next_message() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat, BACKUP);
    let service = bed.snapshot.services[0].clone();
    Arc::make_mut(&mut bed.snapshot.services[0]).servers.clear();
    bed.apply();
    let told = told(Forwarding::Nat);
    bed.engine.take_up(bed.now, &told).unwrap();
    bed.sysctl("expire_nodest_conn", 1);
    assert!(matches!(segment(&mut bed, ACK), Verdict::Send(_)));
    bed.snapshot.services[0] = service;
    bed.apply();
    assert!(matches!(segment(&mut bed, ACK), Verdict::Send(_)));
    assert_eq!(load(&bed), (0, 0), "its server does not count it yet");
    bed.engine.take_up(bed.now, &told).unwrap();
    assert_eq!(load(&bed), (1, 0));
    bed.engine.audit();
    let unknown = TakenUp {
        method: None,
        client: Endpoint::new(CLIENT.addr, 9),
        ..told
    };
    bed.engine.take_up(bed.now, &unknown).unwrap();
    assert_eq!(load(&bed), (2, 0), "the server's own method holds");
    bed.snapshot.services.clear();
    bed.apply();
    let nowhere = TakenUp {
        client: Endpoint::new(CLIENT.addr, 10),
        ..unknown
    };
    assert_eq!(
        bed.engine.take_up(bed.now, &nowhere),
        Err(NotTakenUp::NoWay)
    );
    bed.wait(Duration::from_secs(901));
    assert!(rows(&bed).is_empty());
}

#[test]
fn replies_that_are_another_connections_are_refused() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat, BACKUP);
    let first = told(Forwarding::Nat);
    bed.engine.take_up(bed.now, &first).unwrap();
    let other = TakenUp {
        vip: Endpoint::new(VIP.addr, 81),
        ..first
    };
    assert_eq!(bed.engine.take_up(bed.now, &other), Err(NotTakenUp::Taken));
    assert_eq!(rows(&bed).len(), 1);
    bed.engine.audit();
}

#[test]
fn a_template_that_was_told_keeps_its_client_with_its_server() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat, BACKUP);
    let other = Endpoint::new(Addr::v4([10, 0, 2, 12]), SERVER_PORT);
    bed.change_fib(|f| f.set_neighbour(3, other.addr, [2, 0, 0, 0, 2, 0x12]));
    let service: &mut ServiceSpec = Arc::make_mut(&mut bed.snapshot.services[0]);
    service.persistence = Some(Persistence {
        timeout: 300,
        mask: u32::MAX,
    });
    let server = uvs_core::service::ServerSpec::new(other, Forwarding::Nat);
    service.servers.push(server);
    bed.apply();
    let template = TakenUp {
        client: Endpoint::new(CLIENT.addr, 0),
        template: true,
        server: other,
        state: 0,
        timeout: 0,
        ..told(Forwarding::Nat)
    };
    bed.engine.take_up(bed.now, &template).unwrap();
    assert_eq!(rows(&bed), [(other, "NONE", 180)]);
    segment(&mut bed, SYN);
    assert!(
        rows(&bed).iter().all(|(server, ..)| *server == other),
        "{:?}",
        rows(&bed)
    );
    bed.engine.audit();
}

#[test]
fn a_full_table_makes_room_or_says_so() {
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let mut bed = Bed::new(uvs_modes::BUILTIN, limits);
    bed.add_service(Protocol::Tcp, Forwarding::Dr, Tunnel::default());
    let first = told(Forwarding::Dr);
    bed.engine.take_up(bed.now, &first).unwrap();
    let second = TakenUp {
        client: Endpoint::new(CLIENT.addr, 2),
        ..first.clone()
    };
    assert_eq!(bed.engine.take_up(bed.now, &second), Err(NotTakenUp::Full));
    let over = TakenUp {
        state: TcpState::TimeWait as u8,
        inactive: true,
        ..first
    };
    bed.engine.take_up(bed.now, &over).unwrap();
    assert_eq!(bed.engine.take_up(bed.now, &second), Ok(()));
    bed.engine.audit();
}

#[test]
fn a_backup_that_is_nothing_else_leaves_packets_to_the_host() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Dr, BACKUP);
    bed.engine.take_up(bed.now, &told(Forwarding::Dr)).unwrap();
    bed.sysctl("backup_only", 1);
    assert_eq!(segment(&mut bed, ACK), Verdict::Local);
    bed.snapshot.peers = Peers::default();
    bed.apply();
    assert!(
        matches!(segment(&mut bed, ACK), Verdict::Send(_)),
        "it is no backup any more"
    );
}

#[test]
fn time_outs_end_where_the_kernels_do() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Dr, BACKUP);
    let endless = TakenUp {
        timeout: u32::MAX,
        ..told(Forwarding::Dr)
    };
    bed.engine.take_up(bed.now, &endless).unwrap();
    assert_eq!(rows(&bed)[0].2, 4_294_967);
    let own = TakenUp {
        timeout: 0,
        state: TcpState::SynRecv as u8,
        ..endless
    };
    bed.engine.take_up(bed.now, &own).unwrap();
    assert_eq!(rows(&bed)[0].2, 60);
}
