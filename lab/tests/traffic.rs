//! The helpers that drive and judge traffic, on ways without a director: what they call right is right,
//! and what is wrong they find.

use std::net::{Ipv4Addr, SocketAddrV4};

use uvs_lab::capture::Capture;
use uvs_lab::load::{Connections, Direction, iperf3, iperf3_server, wrk};
use uvs_lab::traffic::{Download, Received, download, requests, upload};
use uvs_lab::udp::{UdpServer, ask, ask_by_gso};
use uvs_lab::{Lab, Mode, Offloads, Options};

const RS2: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 28);

#[test]
fn transfers_are_compared_by_their_bytes() {
    let lab = lab(Offloads::Default);
    let content = lab.content("4M", 4 << 20).expect("content");
    let scratch = lab.dir().join("scratch");
    let down = download(&lab.client, "http://192.168.0.28/4M", &scratch).expect("a download");
    assert_eq!(down.server, "rs2");
    down.must_equal(&content).expect("equal");
    let up =
        upload(&lab, &lab.client, "http://192.168.0.28/upload/4M", &content).expect("an upload");
    up.must_equal(&content).expect("equal");
    let damaged = Received {
        sha256: "0".repeat(64),
        ..down.clone()
    };
    assert!(
        damaged
            .must_equal(&content)
            .expect_err("not equal")
            .to_string()
            .starts_with("/4M from rs2: ")
    );
    assert!(Received { length: 1, ..down }.must_equal(&content).is_err());
}

#[test]
fn a_paced_download_runs_in_the_background() {
    let lab = lab(Offloads::Default);
    let content = lab.content("1M", 1 << 20).expect("content");
    let scratch = lab.dir().join("scratch");
    let paced = Download::start(&lab.client, "http://192.168.0.48/1M?rate=512k", &scratch)
        .expect("curl runs");
    assert_eq!(paced.server().expect("headers"), "rs3");
    assert!(!paced.is_finished());
    paced
        .finish()
        .expect("it finishes")
        .must_equal(&content)
        .expect("equal");
}

#[test]
fn failures_say_what_failed() {
    let lab = lab(Offloads::Default);
    let missing = download(&lab.client, "http://192.168.0.28/none", lab.dir())
        .expect_err("404")
        .to_string();
    assert!(
        missing.contains("curl") && missing.contains("404"),
        "{missing}"
    );
    let refused = requests(&lab.client, "http://192.168.0.28:81/", 1)
        .expect_err("refused")
        .to_string();
    assert!(
        refused.contains("Failed to connect to 192.168.0.28 port 81"),
        "{refused}"
    );
}

#[test]
fn load_generators_count() {
    let lab = lab(Offloads::Default);
    for connections in [Connections::Kept, Connections::PerRequest] {
        let load = wrk(&lab.client, "http://192.168.0.28/", 1, 4, connections).expect("a result");
        assert!(load.requests > 0 && load.failed == 0, "{load:?}");
    }
    let missing = wrk(
        &lab.client,
        "http://192.168.0.28/none",
        1,
        4,
        Connections::Kept,
    )
    .expect("a result");
    assert_eq!(missing.failed, missing.requests);
    let _server =
        iperf3_server(&lab.servers[1].host, 5201, &lab.dir().join("iperf3")).expect("it listens");
    for direction in [Direction::Upload, Direction::Download] {
        let bulk = iperf3(&lab.client, RS2, 5201, 1, direction).expect("a result");
        assert!(bulk.bytes > 0 && bulk.gbit_per_second > 0.0, "{bulk:?}");
    }
}

#[test]
fn the_capture_judges_checksums_and_lengths() {
    let judge = |offloads| {
        let lab = lab(offloads);
        lab.content("1M", 1 << 20).expect("content");
        let capture =
            Capture::start(&lab.client, "eth0", "tcp port 80", lab.dir()).expect("tcpdump runs");
        download(
            &lab.client,
            "http://192.168.0.28/1M",
            &lab.dir().join("scratch"),
        )
        .expect("a download");
        let captured = capture.finish(&lab.client).expect("it is read");
        assert_eq!(captured.lost, 0);
        (
            captured.frames.len(),
            captured.bad_checksums().len(),
            captured.over_mtu(1500).len(),
        )
    };
    let (frames, bad, long) = judge(Offloads::Off);
    assert!(frames > 700, "a mebibyte in full segments: {frames}");
    assert_eq!((bad, long), (0, 0));
    let (frames, bad, long) = judge(Offloads::Default);
    assert!(
        frames > 0 && bad > 0 && long > 0,
        "unfinished sums and super-frames: {frames} {bad} {long}"
    );
}

#[test]
fn udp_is_answered_also_when_sent_by_gso() {
    let lab = lab(Offloads::Default);
    let echo = SocketAddrV4::new(RS2, 7);
    let _server = UdpServer::start(&lab.servers[1].host, echo).expect("it listens");
    assert_eq!(
        ask(&lab.client, echo, b"hello").expect("an answer"),
        b"rs2 hello"
    );
    assert_eq!(
        ask_by_gso(&lab.client, echo, 40, 1400).expect("a count"),
        40
    );
    assert!(ask(&lab.client, SocketAddrV4::new(RS2, 8), b"hello").is_err());
}

/// DR's broadcast domain, where client and real servers see each other.
fn lab(offloads: Offloads) -> Lab {
    Lab::build(
        Mode::Dr,
        Options {
            offloads,
            ..Options::default()
        },
    )
    .expect("the lab is built")
}
