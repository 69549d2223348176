//! The guard against a real kernel: silent for what is UVS's, untouched for all else, gone without a
//! trace. Each test makes its own network namespaces and needs root.
//!
//! client c0 10.1.0.2 — d0 10.1.0.1 director 10.2.0.1 d1 — s0 10.2.0.2 server; the VIP is 10.1.0.100.

#![allow(clippy::unwrap_used)]

#[path = "guard/ipv6.rs"]
mod ipv6;
#[allow(dead_code, reason = "shared with the other tests")]
mod netns;

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use netns::{Netns, run};
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;
use socket2::{Domain, Protocol as Proto, SockRef, Socket, Type};
use uvs_core::flow::{Addr, Protocol};
use uvs_core::shared::Set;
use uvs_forwarder::guard::{
    self, FullNat, Guard, GuardError, GuardSpec, Idle, Nat, Repairs, Server, Tampering,
};

/// How long an answer that must not come is waited for.
const SILENCE: Duration = Duration::from_millis(400);
/// How long an answer that must come may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(10);

const VIP: [u8; 4] = [10, 1, 0, 100];
const CLIENT: [u8; 4] = [10, 1, 0, 2];
const DIRECTOR: [u8; 4] = [10, 1, 0, 1];
const DIRECTOR_INSIDE: [u8; 4] = [10, 2, 0, 1];
const SERVER: [u8; 4] = [10, 2, 0, 2];
const DIRECTOR_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
/// The table in numbers and without counts.
const LIST: [&str; 6] = ["-nn", "-s", "list", "table", "netdev", "uvs"];

#[test]
fn without_a_guard_the_kernel_answers() {
    // What the silence below is worth: the same packets, heard without a guard.
    for (local, forward, answers) in [
        (true, "0", true),
        (true, "1", true),
        (false, "1", true),
        (false, "0", false),
    ] {
        let lab = Lab::new(local, forward);
        let heard = lab.client.enter(|| answers_to(|| knock(VIP, 80, 53)));
        assert_eq!(
            !heard.is_empty(),
            answers,
            "VIP local: {local}, ip_forward {forward}: {heard:?}"
        );
    }
}

#[test]
fn service_traffic_gets_no_answer_and_the_tap_sees_it() {
    for (local, forward) in [(true, "0"), (true, "1"), (false, "0"), (false, "1")] {
        let lab = Lab::new(local, forward);
        let guard = lab.guard(&lab.spec());
        let tap = lab.director.enter(tap);
        let heard = lab.client.enter(|| answers_to(|| knock(VIP, 80, 53)));
        assert!(
            heard.is_empty(),
            "VIP local: {local}, ip_forward {forward}: {heard:?}"
        );
        let tapped = frames(&tap, |f| f[30..34] == VIP);
        let of = |protocol| tapped.iter().filter(|f| f[23] == protocol).count();
        assert!(of(6) >= 1 && of(17) >= 1, "tapped: {tapped:?}");
        drop(guard);
    }
}

#[test]
fn all_else_is_answered_as_before() {
    for forward in ["0", "1"] {
        let lab = Lab::new(true, forward);
        let _guard = lab.guard(&lab.spec());
        lab.client.enter(|| {
            assert_eq!(connect(VIP, 81), Some(io::ErrorKind::ConnectionRefused));
            assert_eq!(
                connect(DIRECTOR, 80),
                Some(io::ErrorKind::ConnectionRefused)
            );
            assert!(
                datagram_refused(VIP, 54)
                    && datagram_refused(VIP, 80)
                    && datagram_refused(DIRECTOR, 53)
            );
            assert!(echoes(VIP) && echoes(DIRECTOR));
        });
        lab.director.enter(|| {
            // Over loopback the kernel is on its own, as it was.
            assert_eq!(connect(VIP, 80), Some(io::ErrorKind::ConnectionRefused));
        });
    }
}

#[test]
fn a_vip_on_no_interface_is_dropped_whole() {
    let lab = Lab::new(false, "1");
    let _guard = lab.guard(&lab.spec());
    let heard = lab.client.enter(|| {
        answers_to(|| {
            knock(VIP, 81, 54);
            echoes(VIP);
        })
    });
    assert!(heard.is_empty(), "{heard:?}");
    assert!(count(&lab, "owned") >= 3);
}

#[test]
fn a_service_on_all_ports_takes_its_protocol_only() {
    let lab = Lab::new(true, "0");
    let spec = GuardSpec {
        services: [(Protocol::Tcp, v4(VIP), 0)].into(),
        ..lab.spec()
    };
    let _guard = lab.guard(&spec);
    lab.client.enter(|| {
        assert_eq!(connect(VIP, 12345), Some(io::ErrorKind::TimedOut));
        assert!(datagram_refused(VIP, 12345));
    });
}

#[test]
fn persistent_ftp_takes_the_ports_of_its_data() {
    let lab = Lab::new(true, "0");
    let mut guard = lab.guard(&lab.spec());
    let refused = |port| {
        let answer = lab.client.enter(|| connect(VIP, port));
        answer == Some(io::ErrorKind::ConnectionRefused)
    };
    assert!([20, 1023, 1024, 65535].into_iter().all(refused));
    let spec = GuardSpec {
        ftp: [v4(VIP)].into(),
        ..lab.spec()
    };
    guard.apply(&spec);
    assert_eq!([20, 1024, 65535].map(refused), [false; 3]);
    assert!(refused(1023) && refused(21));
    assert!(lab.client.enter(|| datagram_refused(VIP, 1024)));
    guard.apply(&lab.spec());
    assert!([20, 1024].into_iter().all(refused));
}

#[test]
fn fragments_of_a_service_datagram_go_with_the_first() {
    let lab = Lab::new(true, "0");
    let _guard = lab.guard(&lab.spec());
    lab.client.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket
            .send_to(&[0; 4000], SocketAddrV4::new(VIP.into(), 53))
            .unwrap();
        assert!(
            datagram_of(VIP, 54, 4000),
            "another port's fragments are the kernel's"
        );
    });
    assert_eq!(count(&lab, "fragment"), 2);
}

#[test]
fn what_a_nat_server_sends_to_a_services_client_is_dropped_and_nothing_else() {
    let lab = Lab::new(true, "1");
    let listener = lab
        .server
        .enter(|| TcpListener::bind("10.2.0.2:8080").unwrap());
    let _guard = lab.guard(&lab.spec());
    let timed_out = Some(io::ErrorKind::TimedOut);
    lab.director
        .enter(|| assert_eq!(connect(SERVER, 8080), None, "the health check"));
    lab.client.enter(|| {
        // The SYN is forwarded by the kernel here; the SYN-ACK is what may not pass.
        assert_eq!(connect_from(4000, SERVER, 8080), None, "nobody's client");
        assert_eq!(connect_from(4001, VIP, 80), timed_out);
        assert_eq!(connect_from(4001, SERVER, 8080), timed_out, "the service's");
        assert_eq!(connect_from(4002, SERVER, 8080), None);
    });
    assert!(count(&lab, "nat_reply") >= 1);
    drop(listener);
    let _other = lab
        .server
        .enter(|| TcpListener::bind("10.2.0.2:8090").unwrap());
    lab.client
        .enter(|| assert_eq!(connect_from(4001, SERVER, 8090), None, "no service's port"));
}

#[test]
fn the_directors_own_programs_are_clients_by_loopback() {
    let lab = Lab::new(true, "1");
    let _listener = lab
        .server
        .enter(|| TcpListener::bind("10.2.0.2:8080").unwrap());
    let mut spec = lab.spec();
    spec.interfaces.push("lo".into());
    let _guard = lab.guard(&spec);
    let timed_out = Some(io::ErrorKind::TimedOut);
    lab.director.enter(|| {
        assert_eq!(connect_as(VIP, 4001, VIP, 80), timed_out);
        assert_eq!(connect(VIP, 81), Some(io::ErrorKind::ConnectionRefused));
        let as_the_vip = |port| connect_as(VIP, port, SERVER, 8080);
        assert_eq!((as_the_vip(4001), as_the_vip(4002)), (timed_out, None));
    });
}

#[test]
fn a_guard_that_is_not_sure_keeps_all_that_nat_servers_send_beyond_the_host() {
    let lab = Lab::new(true, "1");
    let _listener = lab
        .server
        .enter(|| TcpListener::bind("10.2.0.2:8080").unwrap());
    let mut guard = lab.guard(&lab.spec());
    guard.replace(&lab.spec());
    let timed_out = Some(io::ErrorKind::TimedOut);
    lab.client
        .enter(|| assert_eq!(connect(SERVER, 8080), timed_out));
    lab.director
        .enter(|| assert_eq!(connect(SERVER, 8080), None, "the health check"));
    let client = [(v4(CLIENT), Protocol::Tcp, 4001)];
    assert!(guard.tell(&client));
    lab.client.enter(|| {
        assert_eq!(connect_from(4002, SERVER, 8080), None);
        assert_eq!(connect_from(4001, SERVER, 8080), timed_out, "remembered");
    });
}

#[test]
fn a_guard_that_is_put_up_again_is_not_sure_and_says_so() {
    let lab = Lab::new(true, "1");
    let (told, repaired) = std::sync::mpsc::channel();
    let claim = || Guard::claim(move || told.send(()).unwrap()).ok();
    let mut guard = Up(&lab, lab.director.enter(claim));
    guard.apply(&lab.spec());
    let held = |guard: &Up<'_>| guard.1.as_ref().unwrap().unsure();
    let first = held(&guard).unwrap();
    guard.clear_unsure();
    assert_eq!(held(&guard), None);
    lab.director.enter(|| run("nft", &["flush", "ruleset"]));
    repaired.recv_timeout(PATIENCE).unwrap();
    let second = held(&guard).unwrap();
    assert_ne!(first, second);
    let listed = |what: &str| lab.director.enter(|| run("nft", &LIST)).contains(what);
    assert!(listed("elements = { 6, 17, 132 }"));
    // What was meant for the table that is gone.
    let of = guard.1.as_ref().unwrap();
    let client = [(v4(CLIENT), Protocol::Tcp, 4001)];
    assert!(!of.remember(first, &client).unwrap() && !of.clear_unsure(first).unwrap());
    assert!(listed("elements = { 6, 17, 132 }") && !listed("4001"));
    assert!(of.remember(second, &client).unwrap() && of.clear_unsure(second).unwrap());
    assert!(!listed("elements = { 6, 17, 132 }") && listed("10.1.0.2 . 6 . 4001"));
    assert_eq!(
        repaired.try_recv().ok(),
        None,
        "our own change is no damage"
    );
}

#[test]
fn with_nat_icmp_send_a_servers_resets_alone_pass() {
    let lab = Lab::new(true, "1");
    let listener = lab
        .server
        .enter(|| TcpListener::bind("10.2.0.2:8080").unwrap());
    let mut spec = lab.spec();
    spec.nat.answers_strays = true;
    let _guard = lab.guard(&spec);
    let from_outside = || lab.client.enter(|| connect(SERVER, 8080));
    assert_eq!(from_outside(), Some(io::ErrorKind::TimedOut));
    // Closing it would not do: a child that another test starts at this moment has it too, until it executes.
    SockRef::from(&listener).shutdown(Shutdown::Both).unwrap();
    assert_eq!(from_outside(), Some(io::ErrorKind::ConnectionRefused));
}

#[test]
fn a_nat_servers_fragments_go_with_the_first_and_others_pass() {
    let lab = Lab::new(true, "1");
    let _guard = lab.guard(&lab.spec());
    let inbox = lab
        .client
        .enter(|| UdpSocket::bind("10.1.0.2:9000").unwrap());
    inbox.set_read_timeout(Some(PATIENCE)).unwrap();
    inbox
        .send_to(b"a client", SocketAddrV4::new(VIP.into(), 53))
        .unwrap();
    let tap = lab.client.enter(tap);
    lab.server.enter(|| {
        for port in [8080, 8090] {
            let socket = UdpSocket::bind(SocketAddrV4::new(SERVER.into(), port)).unwrap();
            socket.send_to(&[0; 4000], "10.1.0.2:9000").unwrap();
        }
    });
    let mut datagram = [0; 4096];
    let (n, from) = inbox.recv_from(&mut datagram).unwrap();
    assert_eq!((n, from.port()), (4000, 8090));
    let passed = frames(&tap, |f| f[26..30] == SERVER).len();
    assert_eq!(
        (passed, count(&lab, "nat_reply"), count(&lab, "fragment")),
        (3, 1, 2)
    );
}

#[test]
fn a_nat_servers_icmp_errors_are_dropped_where_they_are_about_the_service() {
    let lab = Lab::new(true, "1");
    let _guard = lab.guard(&lab.spec());
    lab.client.enter(|| {
        assert!(
            !datagram_refused(SERVER, 8080),
            "about a packet that UVS sent"
        );
        assert!(datagram_refused(SERVER, 8090), "about somebody else's");
    });
    lab.director
        .enter(|| assert!(datagram_refused(SERVER, 8080), "about the director's own"));
    assert!(count(&lab, "icmp_error") >= 1);
}

#[test]
fn fullnat_replies_to_the_local_ports_are_dropped_and_no_others() {
    let lab = Lab::new(true, "0");
    let inside = v4(DIRECTOR_INSIDE);
    let fullnat = FullNat {
        local: [inside].into(),
        ports: (1024, 32767),
        servers: [(v4(SERVER), Protocol::Udp, 8080)].into(),
    };
    let _guard = lab.guard(&GuardSpec {
        fullnat,
        ..lab.spec()
    });
    lab.server.enter(|| {
        let from = |port| UdpSocket::bind(SocketAddrV4::new(SERVER.into(), port)).unwrap();
        let refused = |socket: &UdpSocket, port| refused(socket, DIRECTOR_INSIDE, port, 10);
        let (server, other) = (from(8080), from(8090));
        assert!(!refused(&server, 1024) && !refused(&server, 32767));
        assert!(refused(&server, 1023) && refused(&server, 32768) && refused(&other, 5000));
    });
    assert!(count(&lab, "fullnat_reply") >= 2);
}

#[test]
fn what_a_killed_run_left_is_replaced_and_removed() {
    let lab = Lab::new(true, "0");
    lab.director.enter(|| {
        run("nft", &["add table netdev uvs { chain leftover { } ; }"]);
        let mut guard = Guard::claim(|| {}).unwrap();
        guard.apply(&lab.spec()).unwrap();
        let rules = run("nft", &["list", "table", "netdev", "uvs"]);
        assert!(
            !rules.contains("leftover") && rules.contains("10.1.0.100 . tcp . 80"),
            "{rules}"
        );
        assert!(guard.remove().unwrap());
        assert!(!guard.remove().unwrap());
        guard.apply(&lab.spec()).unwrap();
        drop(guard);
        assert_eq!(
            run("nft", &["list", "tables"]),
            "",
            "dropping it removes it"
        );
    });
}

#[test]
fn a_second_daemon_in_the_namespace_is_refused_and_one_elsewhere_is_not() {
    let lab = Lab::new(true, "0");
    let guard = lab.guard(&lab.spec());
    let refused = lab.director.enter(|| Guard::claim(|| {}).err().unwrap());
    let pid = i32::try_from(std::process::id()).unwrap();
    assert!(
        matches!(refused, GuardError::Busy { pid: Some(p) } if p == pid),
        "{refused}"
    );
    assert!(
        refused
            .to_string()
            .contains("already runs in this network namespace"),
        "{refused}"
    );
    lab.server.enter(|| Guard::claim(|| {}).map(drop)).unwrap();
    drop(guard);
    // A child that another test forks at this moment holds a copy of the claim until it executes.
    let end = Instant::now() + PATIENCE;
    while let Err(error) = lab.director.enter(|| Guard::claim(|| {}).map(drop)) {
        assert!(Instant::now() < end, "{error}");
    }
}

#[test]
fn a_name_that_another_user_has_taken_keeps_no_daemon_from_its_guard() {
    let lab = Lab::new(true, "0");
    let taken = lab.director.enter(|| {
        // Who listens is who the kernel tells of: this thread alone becomes another user.
        let nobody = Uid::from_raw(65534);
        set_thread_res_uid(nobody, nobody, nobody).ok()?;
        let name = SocketAddr::from_abstract_name("uvs-guard").unwrap();
        Some(UnixListener::bind_addr(&name).unwrap())
    });
    let Some(taken) = taken else {
        println!("not tried without root: a user namespace has one user alone");
        return;
    };
    let guard = lab.guard(&lab.spec());
    // What is taken under the second name holds when the first one is free again.
    drop(taken);
    let refused = lab.director.enter(|| Guard::claim(|| {}).err());
    assert!(
        matches!(refused, Some(GuardError::Busy { .. })),
        "{refused:?}"
    );
    drop(guard);
}

#[test]
fn the_commands_show_and_remove_it() {
    let lab = Lab::new(true, "0");
    lab.director.enter(|| {
        let none = uvs(&["guard", "show"]);
        assert_eq!((none.status.code(), none.stdout.len()), (Some(1), 0));
        let guard = lab.guard(&lab.spec());
        let shown = uvs(&["guard", "show"]);
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(
            text.contains("10.1.0.100 . tcp . 80") && text.contains("counter service"),
            "{text}"
        );
        let terse =
            String::from_utf8_lossy(&uvs(&["guard", "show", "--terse"]).stdout).into_owned();
        assert!(
            !terse.contains("10.1.0.100 . tcp . 80") && terse.contains("chain ours"),
            "{terse}"
        );
        let refused = uvs(&["guard", "down"]);
        assert_eq!(refused.status.code(), Some(1), "a daemon needs it");
        assert!(uvs(&["guard", "down", "--force"]).status.success());
        drop(guard);
        run("nft", &["add", "table", "netdev", "uvs"]);
        let down = || String::from_utf8_lossy(&uvs(&["guard", "down"]).stdout).into_owned();
        assert_eq!(down(), "removed the guard (nft table netdev uvs)\n");
        assert_eq!(down(), "there was no guard\n");
    });
}

#[test]
fn an_interface_that_comes_back_is_guarded_again() {
    let lab = Lab::new(true, "0");
    let mut guard = lab.guard(&lab.spec());
    lab.director.ip("link del d0");
    guard.apply(&lab.spec());
    lab.connect_client(true);
    guard.replace(&lab.spec());
    lab.client.enter(|| {
        assert_eq!(connect(VIP, 80), Some(io::ErrorKind::TimedOut));
        assert_eq!(connect(VIP, 81), Some(io::ErrorKind::ConnectionRefused));
    });
}

#[test]
fn the_table_reads_in_nft_as_it_is_meant() {
    let lab = Lab::new(true, "0");
    let _guard = lab.guard(&rich(&lab));
    let listed = lab.director.enter(|| run("nft", &LIST));
    assert_eq!(listed, include_str!("guard/table.txt"));
}

#[test]
fn an_admins_saved_ruleset_loads_beside_it() {
    let lab = Lab::new(true, "0");
    let guard = lab.guard(&rich(&lab));
    let firewall = "table inet fw { chain in { type filter hook input priority 0; }; }";
    lab.director.enter(|| run("nft", &[firewall]));
    let list = || lab.director.enter(|| run("nft", &LIST));
    let before = list();
    lab.client.enter(|| connect_from(4001, VIP, 82));
    let saved = lab.director.enter(|| run("nft", &["list", "ruleset"]));
    let client = "10.1.0.2 . tcp . 4001 timeout 1m expires ";
    assert!(saved.contains(client), "{saved}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let load = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let path = file.path().to_str().unwrap();
        lab.director.enter(|| run("nft", &["-f", path]));
    };
    // Over it, every rule is there twice.
    load(&saved);
    eventually("put right", || guard.repairs() == (0, 1));
    guard.clear_unsure();
    assert_eq!(list(), before);
    load(&format!("flush ruleset\n{saved}"));
    eventually("put up again", || guard.repairs() == (1, 1));
    guard.clear_unsure();
    assert_eq!(list(), before);
    let tables = lab.director.enter(|| run("nft", &["list", "tables"]));
    assert_eq!(tables.lines().count(), 2, "{tables}");
}

#[test]
fn a_removed_table_is_put_up_again() {
    let lab = Lab::new(true, "0");
    let guard = lab.guard(&rich(&lab));
    let before = lab.director.enter(|| run("nft", &LIST));
    let ways: [&[&str]; 3] = [
        &["flush", "ruleset"],
        &["delete", "table", "netdev", "uvs"],
        &["delete table netdev uvs; add table netdev uvs"],
    ];
    for (n, way) in (1..).zip(ways) {
        lab.director.enter(|| run("nft", way));
        eventually("put up again", || guard.repaired().removed == n);
        guard.clear_unsure();
        assert_eq!(lab.director.enter(|| run("nft", &LIST)), before, "{way:?}");
    }
    assert_eq!(guard.repaired().damaged, 0);
    lab.client
        .enter(|| assert_eq!(connect(VIP, 80), Some(io::ErrorKind::TimedOut)));
}

/// Commands that damage the table, and what is said of each; HANDLE is the first rule's.
fn damages() -> [(String, &'static str); 13] {
    let uvs = "netdev uvs";
    [
        (format!("flush table {uvs}"), "rules, not"),
        (
            format!("delete rule {uvs} ours handle HANDLE"),
            "chain ours has",
        ),
        (format!("insert rule {uvs} ours accept"), "chain ours has"),
        (
            format!("replace rule {uvs} ours handle HANDLE ip daddr @owned accept"),
            "rule 7 of chain ours was changed",
        ),
        (
            format!("delete element {uvs} service {{ 10.1.0.100 . tcp . 80 }}"),
            "set service lacks 1",
        ),
        (
            format!("add element {uvs} local {{ 10.9.9.9 }}"),
            "has 1 too many",
        ),
        (
            format!("flush set {uvs} nat_server"),
            "set nat_server lacks",
        ),
        (
            format!("add element {uvs} clients {{ 10.9.9.9 . tcp . 9 }}; flush set {uvs} clients"),
            "set clients lost elements",
        ),
        (
            format!("flush chain {uvs} ingress_0; delete chain {uvs} ingress_0"),
            "chain ingress_0 is missing",
        ),
        (
            format!("add chain {uvs} ingress_0 {{ policy drop; }}"),
            "chain ingress_0 was changed",
        ),
        (format!("add chain {uvs} mine"), "chain mine was added"),
        (
            format!("add set {uvs} mine {{ type ipv4_addr; }}"),
            "set mine was added",
        ),
        (
            format!("add table {uvs} {{ flags dormant; }}"),
            "table uvs was changed",
        ),
    ]
}

#[test]
fn whatever_is_damaged_is_put_right_and_named() {
    let lab = Lab::new(true, "0");
    let guard = lab.guard(&rich(&lab));
    let list = || lab.director.enter(|| run("nft", &LIST));
    let before = list();
    let first_rule = || {
        let rules = lab
            .director
            .enter(|| run("nft", &["-a", "list", "chain", "netdev", "uvs", "ours"]));
        let handle = rules
            .lines()
            .find_map(|l| l.split_once("@owned")?.1.split_once("handle "));
        handle.unwrap().1.to_owned()
    };
    for (n, (command, what)) in (1..).zip(damages()) {
        let command = command.replace("HANDLE", &first_rule());
        lab.director.enter(|| run("nft", &[&command]));
        eventually(&command, || guard.repaired().damaged == n);
        let Some((_, Tampering::Damaged(said))) = guard.repaired().last else {
            panic!("{command}: nothing is known of it");
        };
        assert!(said.contains(what), "{command}: {said}");
        guard.clear_unsure();
        assert_eq!(list(), before, "{command}");
    }
    assert_eq!(guard.repaired().removed, 0);
}

#[test]
fn what_is_not_the_guards_is_no_damage() {
    let lab = Lab::new(true, "0");
    let mut guard = lab.guard(&rich(&lab));
    lab.director.enter(|| {
        run(
            "nft",
            &["add table netdev other; add table inet uvs; delete table netdev other"],
        );
        // As the packets' way does, and as time undoes.
        run(
            "nft",
            &[
                "add element netdev uvs fragments { 10.1.0.2 . 10.1.0.100 . 7 . udp }; \
               add element netdev uvs clients { 10.1.0.2 . tcp . 4001 timeout 1s }",
            ],
        );
        run("nft", &["reset counters table netdev uvs"]);
    });
    lab.client.enter(|| connect_from(4002, VIP, 82));
    let list = || lab.director.enter(|| run("nft", &LIST));
    eventually("a packet's element", || {
        list().contains("10.1.0.2 . 6 . 4002")
    });
    eventually("an element's end", || {
        !list().contains("10.1.0.2 . 6 . 4001")
    });
    guard.apply(&lab.spec());
    guard.replace(&rich(&lab));
    // What was heard before the removal has been looked at when that is repaired.
    lab.director
        .enter(|| run("nft", &["delete", "table", "netdev", "uvs"]));
    eventually("put up again", || guard.repaired().removed == 1);
    assert_eq!(guard.repaired().damaged, 0);
}

#[test]
fn flushes_and_changes_at_the_same_time_leave_what_is_wanted() {
    let lab = Lab::new(true, "0");
    let mut guard = lab.guard(&lab.spec());
    let more = |n: u16| {
        let mut spec = rich(&lab);
        let service = |port| (Protocol::Tcp, v4([10, 1, 0, 102]), port);
        spec.services.extend((1..=n).map(service));
        spec
    };
    std::thread::scope(|s| {
        s.spawn(|| {
            for _ in 0..40 {
                lab.director.enter(|| run("nft", &["flush", "ruleset"]));
            }
        });
        (0..200).for_each(|n| guard.apply(&more(n)));
    });
    guard.apply(&more(3));
    let list = || lab.director.enter(|| run("nft", &LIST));
    let repaired = || guard.repaired().removed;
    // The last flush's repair may still be under way.
    eventually("a table", || {
        let before = repaired();
        let listed = list();
        before == repaired() && listed.contains("10.1.0.102 . 6 . 3")
    });
    let after = list();
    guard.replace(&more(3));
    assert_eq!(list(), after);
}

#[test]
fn a_change_of_elements_leaves_what_a_replacement_leaves() {
    let lab = Lab::new(true, "0");
    let full = GuardSpec {
        wide: Set::new(),
        ftp: Set::new(),
        interfaces: lab.spec().interfaces,
        nat: Nat {
            services: rich(&lab).nat.services,
            ..lab.spec().nat
        },
        fullnat: FullNat {
            ports: lab.spec().fullnat.ports,
            ..rich(&lab).fullnat
        },
        ..rich(&lab)
    };
    let rules = || run("nft", &["-s", "list", "table", "netdev", "uvs"]);
    let rules = || lab.director.enter(rules);
    let mut guard = lab.guard(&lab.spec());
    let handle = || lab.director.enter(|| run("nft", &["-j", "list", "tables"]));
    let (before, table) = (rules(), handle());
    guard.apply(&full);
    let changed = rules();
    assert_ne!(before, changed);
    assert_eq!(table, handle(), "the table was changed, not replaced");
    assert_eq!(guard.repairs(), (0, 0), "and nobody needs to look after it");
    guard.replace(&full);
    guard.clear_unsure();
    assert_eq!(changed, rules());
    assert_ne!(table, handle());
    guard.apply(&lab.spec());
    assert_eq!(before, rules());
    // A set that somebody emptied: what cannot be changed is replaced.
    lab.director
        .enter(|| run("nft", &["flush", "set", "netdev", "uvs", "service"]));
    let none = GuardSpec {
        services: Set::new(),
        ..lab.spec()
    };
    guard.apply(&none);
    guard.apply(&lab.spec());
    assert_eq!(before, rules());
}

#[test]
fn a_thousand_services_with_ten_servers_each_apply() {
    let lab = Lab::new(true, "0");
    let mut spec = lab.spec();
    for i in 0..1000_u16 {
        let [high, low] = i.to_be_bytes();
        spec.services
            .insert((Protocol::Tcp, Addr::v4([10, 50, high, low]), 80));
        let server = |s: u8| (Addr::v4([10, 60 + s, high, low]), Protocol::Tcp, 8080);
        spec.nat_servers.extend((0..10).map(server));
    }
    let _guard = lab.guard(&spec);
    let rules = lab
        .director
        .enter(|| run("nft", &["list", "table", "netdev", "uvs"]));
    assert_eq!(
        rules.matches(". tcp . 80,").count() + rules.matches(". tcp . 80 }").count(),
        1001
    );
    assert_eq!(rules.matches(". tcp . 8080").count(), 10_001);
    lab.client
        .enter(|| assert_eq!(connect(VIP, 80), Some(io::ErrorKind::TimedOut)));
}

/// Client, director and server, and whether the director has the VIP.
struct Lab {
    client: Netns,
    director: Netns,
    server: Netns,
    vip_is_local: bool,
}

impl Lab {
    fn new(vip_is_local: bool, ip_forward: &str) -> Self {
        let lab = Self {
            client: Netns::new(),
            director: Netns::new(),
            server: Netns::new(),
            vip_is_local,
        };
        lab.director.veth("d1", &lab.server, "s0");
        lab.director.ip("address add 10.2.0.1/24 dev d1");
        lab.server.ip("address add 10.2.0.2/24 dev s0");
        lab.server.ip("route add default via 10.2.0.1");
        lab.connect_client(vip_is_local);
        lab.director.sysctl("ip_forward", ip_forward);
        // The tests provoke more unreachables than the kernel would send by default.
        lab.director.sysctl("icmp_ratelimit", "0");
        lab.server.sysctl("icmp_ratelimit", "0");
        lab
    }

    fn connect_client(&self, vip_is_local: bool) {
        self.director.veth("d0", &self.client, "c0");
        let mac = DIRECTOR_MAC.map(|b| format!("{b:02x}")).join(":");
        self.director.ip(&format!("link set d0 address {mac}"));
        self.director.ip("address add 10.1.0.1/24 dev d0");
        self.client.ip("address add 10.1.0.2/24 dev c0");
        self.client.ip("route add default via 10.1.0.1");
        if vip_is_local {
            self.director.ip("address add 10.1.0.100/24 dev d0");
        } else {
            // In place of UVS's ARP answer.
            self.client
                .ip(&format!("neighbour add 10.1.0.100 lladdr {mac} dev c0"));
        }
    }

    fn spec(&self) -> GuardSpec {
        let vip = v4(VIP);
        let mut local = vec![v4(DIRECTOR), v4(DIRECTOR_INSIDE)];
        local.extend(self.vip_is_local.then_some(vip));
        GuardSpec {
            interfaces: vec!["d0".into(), "d1".into()],
            services: Set::new(),
            nat: Nat {
                services: [(Protocol::Tcp, vip, 80), (Protocol::Udp, vip, 53)].into(),
                idle: Idle { tcp: 900, udp: 300 },
                ..Nat::default()
            },
            wide: Set::new(),
            ftp: Set::new(),
            owned: if self.vip_is_local {
                Set::new()
            } else {
                [vip].into()
            },
            nat_servers: [
                (v4(SERVER), Protocol::Tcp, 8080),
                (v4(SERVER), Protocol::Udp, 8080),
            ]
            .into(),
            fullnat: FullNat::default(),
            local: local.into(),
            tunnels: Set::new(),
        }
    }

    fn guard(&self, spec: &GuardSpec) -> Up<'_> {
        let mut up = Up(self, self.director.enter(|| Guard::claim(|| {}).ok()));
        up.apply(spec);
        // There is nobody's client yet.
        up.clear_unsure();
        up
    }
}

/// Of everything that the guard can have something.
fn rich(lab: &Lab) -> GuardSpec {
    let server = |last, port| (v4([10, 2, 0, last]), Protocol::Tcp, port);
    let wide = [
        "any 10.1.0.100:5000-5100",
        "tcp 10.1.0.100:7000",
        "udp 10.9.0.0/16:80",
        "tcp 0.0.0.0/0:81",
    ];
    let nat_wide = [
        "udp 10.1.0.100:6000-6100",
        "tcp 10.8.0.0/16:80",
        "udp [2001:db8::100]:6000-6100",
        "tcp [2001:db8:8::/45]:80",
    ];
    let six = |end: u8| {
        let mut octets = [0; 16];
        octets[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        octets[15] = end;
        Addr::v6(octets)
    };
    GuardSpec {
        interfaces: ["d0", "d1", "lo"].map(str::to_owned).into(),
        services: [
            (Protocol::Tcp, v4(VIP), 80),
            (Protocol::Udp, v4(VIP), 0),
            (Protocol::Tcp, six(0x10), 80),
        ]
        .into(),
        nat: Nat {
            services: [
                (Protocol::Tcp, v4(VIP), 82),
                (Protocol::Sctp, v4(VIP), 0),
                (Protocol::Sctp, six(0x10), 0),
            ]
            .into(),
            wide: nat_wide.map(|to| to.parse().unwrap()).into(),
            own_servers: [
                (v4(DIRECTOR), Protocol::Tcp, 8080),
                (v4(DIRECTOR), Protocol::Udp, 0),
            ]
            .into(),
            callers: [
                (v4([10, 2, 0, 7]), Protocol::Udp, 5060),
                (six(0x12), Protocol::Udp, 5060),
            ]
            .into(),
            answers_strays: true,
            ..lab.spec().nat
        },
        wide: wide.map(|to| to.parse().unwrap()).into(),
        ftp: [v4(VIP)].into(),
        owned: [v4([10, 1, 0, 101]), six(0x11)].into(),
        nat_servers: [
            server(7, 8080),
            server(8, 0),
            (six(0x12), Protocol::Tcp, 8080),
        ]
        .into(),
        fullnat: FullNat {
            local: [v4([10, 2, 0, 200]), six(0x13)].into(),
            ports: (1024, 32767),
            servers: [server(9, 8080), server(10, 0)].into(),
        },
        local: [v4(DIRECTOR), v4(DIRECTOR_INSIDE), six(1)].into(),
        tunnels: Set::new(),
    }
}

/// Waits until it is so.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The director's guard, worked on and dropped inside its namespace.
struct Up<'a>(&'a Lab, Option<Guard>);

impl Up<'_> {
    fn apply(&mut self, spec: &GuardSpec) {
        let guard = self.1.as_mut().unwrap();
        self.0.director.enter(|| guard.apply(spec).unwrap());
    }

    /// Tells it that these are all clients; whether it had been put up again.
    fn tell(&self, clients: &[Server]) -> bool {
        let guard = self.1.as_ref().unwrap();
        let Some(table) = guard.unsure() else {
            return false;
        };
        guard.remember(table, clients).unwrap() && guard.clear_unsure(table).unwrap()
    }

    fn clear_unsure(&self) {
        assert!(self.tell(&[]));
    }

    fn replace(&mut self, spec: &GuardSpec) {
        let guard = self.1.as_mut().unwrap();
        self.0.director.enter(|| guard.replace(spec).unwrap());
    }

    fn repaired(&self) -> Repairs {
        self.1.as_ref().unwrap().repairs()
    }

    /// How often the table was put up again, and put right.
    fn repairs(&self) -> (u64, u64) {
        let repairs = self.repaired();
        (repairs.removed, repairs.damaged)
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        let guard = self.1.take();
        self.0.director.enter(|| drop(guard));
    }
}

fn v4(b: [u8; 4]) -> Addr {
    Addr::v4(b)
}

fn uvs(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_uvs"))
        .args(arguments)
        .output()
        .unwrap()
}

/// Frames that one of the guard's rules dropped.
fn count(lab: &Lab, name: &str) -> u64 {
    let counters = lab.director.enter(|| guard::counters().unwrap());
    counters.iter().find(|c| c.name == name).unwrap().packets
}

/// Sends a SYN and a datagram there.
fn knock(to: [u8; 4], tcp: u16, udp: u16) {
    connect(to, tcp);
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket
        .send_to(b"knock", SocketAddrV4::new(to.into(), udp))
        .unwrap();
}

/// Connects; what went wrong, `None` where nothing did.
fn connect(to: [u8; 4], port: u16) -> Option<io::ErrorKind> {
    let to = SocketAddrV4::new(to.into(), port).into();
    TcpStream::connect_timeout(&to, SILENCE)
        .err()
        .map(|e| e.kind())
}

/// As [`connect`], from a port.
fn connect_from(from: u16, to: [u8; 4], port: u16) -> Option<io::ErrorKind> {
    connect_as([0; 4], from, to, port)
}

/// As [`connect`], from an address and a port. A RST ends the connection, so that the port is free again.
fn connect_as(address: [u8; 4], from: u16, to: [u8; 4], port: u16) -> Option<io::ErrorKind> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    let own = SocketAddrV4::new(address.into(), from);
    socket.bind(&own.into()).unwrap();
    let to = SocketAddrV4::new(to.into(), port);
    socket
        .connect_timeout(&to.into(), SILENCE)
        .err()
        .map(|e| e.kind())
}

/// Whether a datagram there is answered with port unreachable.
fn datagram_refused(to: [u8; 4], port: u16) -> bool {
    datagram_of(to, port, 10)
}

fn datagram_of(to: [u8; 4], port: u16, bytes: usize) -> bool {
    refused(&UdpSocket::bind("0.0.0.0:0").unwrap(), to, port, bytes)
}

fn refused(socket: &UdpSocket, to: [u8; 4], port: u16, bytes: usize) -> bool {
    socket.connect(SocketAddrV4::new(to.into(), port)).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket.send(&vec![0; bytes]).unwrap();
    let answer = socket.recv(&mut [0; 16]).unwrap_err().kind();
    answer == io::ErrorKind::ConnectionRefused
}

/// Whether an ICMP echo request is answered.
fn echoes(to: [u8; 4]) -> bool {
    // Type 8, identifier 7, sequence number 1, and the checksum of that (RFC 792).
    const REQUEST: [u8; 8] = [8, 0, 0xf7, 0xf7, 0, 7, 0, 1];
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Proto::ICMPV4)).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let to = SocketAddrV4::new(to.into(), 0);
    socket.send_to(&REQUEST, &to.into()).unwrap();
    let mut answer = [0; 64];
    while let Ok(n) = (&socket).read(&mut answer) {
        // The IP header comes first; an echo reply is type 0 with the same identifier.
        if n >= 28 && answer[20] == 0 && answer[24..28] == REQUEST[4..] {
            return true;
        }
    }
    false
}

/// A packet socket for all frames of the thread's namespace.
fn tap() -> Socket {
    const ETH_P_ALL: u16 = 3;
    let all = i32::from(ETH_P_ALL.to_be());
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Proto::from(all))).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket
}

/// The IPv4 frames that the director sent to the thread's namespace meanwhile and until it is silent.
fn answers_to(what: impl FnOnce()) -> Vec<Vec<u8>> {
    let tap = tap();
    what();
    frames(&tap, |f| f[6..12] == DIRECTOR_MAC)
}

/// The IPv4 frames that a tap saw, those that fit, until there is silence.
fn frames(mut tap: &Socket, fits: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let mut frames = Vec::new();
    let mut buffer = [0; 2048];
    while let Ok(n) = tap.read(&mut buffer) {
        assert!(Instant::now() < deadline, "the link does not fall silent");
        let frame = &buffer[..n];
        if n >= 34 && frame[12..14] == [8, 0] && fits(frame) {
            frames.push(frame.to_vec());
        }
    }
    frames
}
