//! Connections whose real server leaves, on real sockets: with `on_removal = "tell"` both ends see a reset
//! at once and UDP goes elsewhere, idle expiry is told where that is asked for, and a drain ends and says
//! when. Needs root, or `make test`.

#[path = "support/stand.rs"]
mod stand;

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddrV4, TcpStream, UdpSocket};
use std::time::Instant;

use uvs_lab::share::workers;
use uvs_lab::traffic::Download;
use uvs_lab::udp::UdpServer;
use uvs_lab::{Daemon, Host, Lab, Mode, Options};

use stand::{PATIENCE, ask_over, eventually, lab, uvs};

/// The port of the UDP service.
const ECHO: u16 = 7;

/// `uvs run` with the plan's HTTP service on two servers, and what else the file is to say: before the
/// services, and in the service.
fn configured<'lab>(lab: &'lab Lab, top: &str, teardown: &str) -> Daemon<'lab> {
    let plan = &lab.plan;
    let local = plan.local.map_or_else(String::new, |addr| {
        format!("local_addresses = [\"{addr}\"]\n")
    });
    let mut text = format!(
        "interfaces = {:?}\n{top}\n[[service]]\ntcp = \"{}\"\nscheduler = \"rr\"\nmode = \"{}\"\n{local}{teardown}\n",
        plan.interfaces, plan.vip, plan.mode
    );
    for server in &plan.servers[..2] {
        text += &format!("[[service.server]]\naddress = \"{server}\"\n");
    }
    if plan.mode == Mode::Nat {
        text += &format!(
            "[[service]]\nudp = \"{}\"\nscheduler = \"rr\"\nmode = \"nat\"\non_removal = \"tell\"\n",
            SocketAddrV4::new(*plan.vip.ip(), ECHO)
        );
        for server in &plan.servers[..2] {
            text += &format!("[[service.server]]\naddress = \"{}:{ECHO}\"\n", server.ip());
        }
    }
    let file = lab.dir().join("uvs.toml");
    fs::write(&file, text).expect("written");
    Daemon::start_with(lab, uvs(), &format!("run --config {}", file.display())).expect("uvs runs")
}

/// A connection of the client's that has asked once and is idle now, and the server that answered.
fn idle_connection(lab: &Lab) -> (TcpStream, usize) {
    let vip = lab.plan.vip;
    let connect = || TcpStream::connect(vip).expect("a connection");
    let mut stream = lab.client.enter(connect).expect("the client's namespace");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let server = usize::from(ask_over(&mut stream) == "rs2\n");
    (stream, server)
}

/// What the client reads next, which must be a reset.
fn must_be_reset(mut stream: TcpStream, since: Instant, what: &str) {
    let error = stream.read(&mut [0; 1]).expect_err("nothing is answered");
    println!("{what}: {error} after {:?}", since.elapsed());
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{what}");
}

/// The server's connections that are open.
fn open_at(server: &Host, port: u16) -> String {
    let line = format!("ss -Hnt state established sport = :{port}");
    server.run(&line).expect("ss runs")
}

#[test]
fn both_ends_of_an_idle_connection_are_reset_in_every_mode() {
    for mode in Mode::ALL {
        let (lab, _) = lab(mode, Options::default());
        let daemon = configured(&lab, "", "on_removal = \"tell\"");
        let (stream, server) = idle_connection(&lab);
        let (host, port) = (&lab.servers[server].host, lab.plan.servers[server].port());
        assert_ne!(open_at(host, port), "", "{mode}");
        let since = Instant::now();
        let removed = daemon.ipvsadm(&lab.plan.delete_server(server));
        removed.expect("it is removed");
        must_be_reset(stream, since, &format!("{mode}, idle"));
        eventually("the server has no connection left", || {
            open_at(host, port).is_empty()
        });
        daemon.stop().expect("it ends well");
    }
}

#[test]
fn a_running_download_fails_at_once() {
    for mode in [Mode::Dr, Mode::Nat] {
        let (lab, _) = lab(mode, Options::default());
        let daemon = configured(&lab, "", "on_removal = \"tell\"");
        lab.content("5M", 5 << 20).expect("a file");
        let url = lab.plan.url("/5M?rate=256k");
        let download = Download::start(&lab.client, &url, &lab.dir().join("d")).expect("curl");
        let server = usize::from(download.server().expect("it runs") == "rs2");
        let removed = daemon.ipvsadm(&lab.plan.delete_server(server));
        removed.expect("it is removed");
        let error = download.finish().expect_err("it cannot go on").to_string();
        assert!(error.contains("reset by peer"), "{mode}: {error}");
        daemon.stop().expect("it ends well");
    }
}

#[test]
fn a_udp_client_is_refused_once_and_then_answered_by_another() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let daemon = configured(&lab, "", "");
    let echo = |n: usize| {
        let listen = SocketAddrV4::new(*lab.plan.servers[n].ip(), ECHO);
        UdpServer::start(&lab.servers[n].host, listen).expect("it listens")
    };
    let _servers = [echo(0), echo(1)];
    let vip = SocketAddrV4::new(*lab.plan.vip.ip(), ECHO);
    let connect = || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(vip)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok::<_, std::io::Error>(socket)
    };
    let socket = lab.client.enter(connect).expect("entered").expect("bound");
    let ask = || -> std::io::Result<usize> {
        socket.send(b"who")?;
        let mut answer = [0; 16];
        let length = socket.recv(&mut answer)?;
        Ok(usize::from(answer[..length].starts_with(b"rs2")))
    };
    let first = ask().expect("an answer");
    assert_eq!(ask().expect("an answer"), first, "one flow, one server");
    let server = lab.plan.servers[first].ip();
    let removed = daemon.ipvsadm(&format!("-d -u {vip} -r {server}:{ECHO}"));
    removed.expect("it is removed");
    let refused = socket.recv(&mut [0; 16]).expect_err("ICMP tells it");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(ask().expect("an answer"), 1 - first);
    daemon.stop().expect("it ends well");
}

#[test]
fn idle_expiry_is_told() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let daemon = configured(&lab, "[timeouts]\ntcp = 1", "on_expiry = \"tell\"");
    let (stream, _) = idle_connection(&lab);
    must_be_reset(stream, Instant::now(), "idle for a second");
    daemon.stop().expect("it ends well");
}

#[test]
fn a_drain_says_when_it_is_over_and_ends_what_takes_too_long() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let mut daemon = configured(&lab, "", "drain_timeout = 8");
    let (finished, first) = idle_connection(&lab);
    // By each worker: of as many more as there are workers, one is the second at its own.
    let (left, second) = (0..workers())
        .map(|_| idle_connection(&lab))
        .find(|(_, server)| *server != first)
        .expect("taken in turn");
    let address = |n: usize| lab.plan.servers[n];
    for server in [first, second] {
        let edited = daemon.ipvsadm(&lab.plan.edit_server(server, 0));
        edited.expect("its weight is 0");
    }
    let shown = daemon.uvs("show servers -o wide").expect("shown").stdout;
    assert!(shown.contains("1 open after "), "{shown}");
    let waits = format!("drain {} --timeout 0", address(second));
    let waited = daemon.uvs(&waits).expect_err("one is open").to_string();
    assert!(waited.contains("1 connections are still open"), "{waited}");
    drop(finished);
    let ended = daemon.uvs(&format!("drain {}", address(first)));
    let ended = ended.expect("it is drained").stdout;
    assert!(
        ended.contains("weight 0 -> 0\n") && ended.contains("drained after "),
        "{ended}"
    );
    must_be_reset(left, Instant::now(), "left over by its drain");
    for line in [
        format!("server {} drains: 1 connections are open", address(first)),
        format!("server {} is drained", address(first)),
        format!(
            "the drain of server {} timed out: the 1 connections",
            address(second)
        ),
    ] {
        daemon.wait_log(&line).expect("it says so");
    }
    let shown = daemon.uvs("show servers -o json").expect("shown").stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let http = shown.as_array().expect("servers").iter();
    let http = http.filter(|s| s["draining"].is_number());
    let open: Vec<_> = http.map(|s| s["open"].as_u64()).collect();
    assert_eq!(open, [Some(0), Some(0)]);
    daemon.stop().expect("it ends well");
}
