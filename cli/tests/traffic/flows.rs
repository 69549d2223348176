//! Traffic as users have it: files, web requests, bulk streams, datagrams. All of it must arrive.

use std::collections::BTreeSet;
use std::env;
use std::thread;

use uvs_lab::load::{Connections, Direction, iperf3, iperf3_server, wrk};
use uvs_lab::share::workers;
use uvs_lab::traffic::{Received, download, upload};
use uvs_lab::udp::{UdpServer, ask, ask_by_gso};
use uvs_lab::{Families, Lab, Mode, Offloads, SERVERS};

use crate::director::{Director, Protocol, alone, lab};

const MB: u64 = 1_000_000;
/// Transfers at once in each direction.
const AT_ONCE: usize = 2;
const CONNECTIONS: u32 = 32;
/// Seconds of load where `UVS_LOAD_SECONDS` does not say.
const LOAD_SECONDS: u32 = 1;
const BULK_SECONDS: u32 = 1;

/// 100 MB down and up, several at once, over all real servers.
pub(crate) fn transfers(mode: Mode, families: Families, offloads: Offloads) {
    let _turn = alone();
    let lab = lab(mode, offloads);
    let content = lab.content("100M", 100 * MB).expect("content");
    let director = Director::start(&lab, families);
    director.serve_http(SERVERS);
    let down = |n| {
        download(
            &lab.client,
            &director.service.url("/100M"),
            &lab.dir().join(n),
        )
    };
    let up = |n| {
        let url = director.service.url(&format!("/upload/{n}"));
        upload(&lab, &lab.client, &url, &content)
    };
    let received: Vec<Received> = thread::scope(|scope| {
        let transfers: Vec<_> = (0..AT_ONCE * workers() as usize)
            .flat_map(|n| {
                [
                    scope.spawn(move || down(format!("down{n}"))),
                    scope.spawn(move || up(format!("up{n}"))),
                ]
            })
            .collect();
        transfers
            .into_iter()
            .map(|transfer| transfer.join().expect("no panic").expect("a transfer"))
            .collect()
    });
    for transfer in &received {
        transfer.must_equal(&content).expect("every byte");
    }
    let servers: BTreeSet<_> = received.iter().map(|r| r.server.as_str()).collect();
    assert_eq!(servers.len(), SERVERS, "taken in turn: {servers:?}");
    director.stop();
}

/// What is not a file, one after the other in one lab.
pub(crate) fn streams(mode: Mode, families: Families, offloads: Offloads) {
    let _turn = alone();
    let lab = lab(mode, offloads);
    let director = Director::start(&lab, families);
    load(&lab, &director);
    bulk(&lab, &director);
    exchange_datagrams(&lab, &director);
    director.stop();
}

/// A load generator, with keep-alive and with a connection for each request.
fn load(lab: &Lab, director: &Director<'_>) {
    director.serve_http(SERVERS);
    for connections in [Connections::Kept, Connections::PerRequest] {
        let url = director.service.url("/");
        let load =
            wrk(&lab.client, &url, load_seconds(), CONNECTIONS, connections).expect("a result");
        println!("{connections:?}: {load:?}");
        assert!(load.requests > u64::from(CONNECTIONS), "{load:?}");
        assert_eq!(load.failed, 0, "{connections:?}: {load:?}");
    }
}

/// iperf3 in both directions. Its control and data connections must meet the same server: there is one. It
/// resets clients that come while it ends another's test, so each direction has its own.
fn bulk(lab: &Lab, director: &Director<'_>) {
    /// What a flow that lives on retransmissions does not reach.
    const MOVED: u64 = 10 * MB;
    for (port, direction) in [(5201, Direction::Upload), (5202, Direction::Download)] {
        let (vip, _) = director.serve(Protocol::Tcp, port);
        let log = lab.dir().join(format!("iperf3-{port}.log"));
        let _server = iperf3_server(&lab.servers[0].host, port, &log).expect("iperf3 listens");
        let bulk = iperf3(&lab.client, vip.ip(), port, BULK_SECONDS, direction).expect("a result");
        println!("{direction:?}: {bulk:?}");
        assert!(bulk.bytes > MOVED, "{direction:?} stalls: {bulk:?}");
    }
}

/// Request and response in one datagram each, in fragments, and sent by UDP GSO, to a service of their own; every
/// one must be answered with its own bytes.
pub(crate) fn exchange_datagrams(lab: &Lab, director: &Director<'_>) {
    const PORT: u16 = 7;
    /// The last is more than a frame holds, and travels in fragments.
    const SIZES: [usize; 5] = [1, 18, 512, 1400, 4000];
    const SEGMENTS: u8 = 30;
    let (vip, listen) = director.serve(Protocol::Udp, PORT);
    let _server = UdpServer::start(&lab.servers[0].host, listen).expect("it listens");
    for (n, size) in (0..).zip(SIZES.into_iter().cycle().take(4 * SIZES.len())) {
        let datagram = vec![n; size];
        let answer = ask(&lab.client, vip, &datagram).expect("an answer");
        assert_eq!(answer, [b"rs1 ", &datagram[..]].concat());
    }
    for size in [100, 1200, 1400] {
        let answered = ask_by_gso(&lab.client, vip, SEGMENTS, size).expect("answers");
        assert_eq!(answered, u32::from(SEGMENTS), "datagrams of {size} bytes");
    }
}

fn load_seconds() -> u32 {
    env::var("UVS_LOAD_SECONDS").map_or(LOAD_SECONDS, |text| {
        text.parse()
            .expect("UVS_LOAD_SECONDS is a number of seconds")
    })
}
