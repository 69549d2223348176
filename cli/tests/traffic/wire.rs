//! What arrives, judged at the receivers by tcpdump: not one bad checksum, not one frame over the MTU, and
//! the addresses that the mode promises.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::thread;

use uvs_lab::capture::{Capture, Captured};
use uvs_lab::share::workers;
use uvs_lab::traffic::{Received, download, requests, upload};
use uvs_lab::{Content, Families, Host, Lab, Mode, Offloads, SERVERS, Service, twin};

use crate::director::{Director, alone, lab};
use crate::flows::exchange_datagrams;
use crate::pcap::{self, Frame};

const MTU: usize = 1500;
const LENGTH: u64 = 8 << 20;
const ICMP: [u8; 2] = [1, 58];
/// IPv4 and IPv6 within another packet.
const TUNNELLED: [u8; 2] = [4, 41];
/// IPv4, and IPv6 without what neighbours ask each other and tell groups.
const FILTER: &str =
    "ip or (ip6 and not ip6 multicast and not (ip6[6] = 58 and ip6[40] >= 133 and ip6[40] <= 137))";

/// With offloads off on every host, what is captured is what a wire would carry.
pub(crate) fn offloads_off(mode: Mode, families: Families) {
    judge(&lab(mode, Offloads::Off), families);
}

/// With offloads on the other hosts only, super-frames with unfinished checksums come to the director and
/// must be finished and cut when they leave it, by the director or its kernel.
pub(crate) fn director_without_offloads(mode: Mode, families: Families) {
    let lab = lab(mode, Offloads::Default);
    let mut plain = vec![&lab.director];
    if matches!(mode, Mode::Dr | Mode::Ipip) {
        // Their answers do not pass the director.
        plain.extend(lab.servers.iter().map(|server| &server.host));
    }
    for host in plain {
        for interface in interfaces(host) {
            host.offloads_off(&interface).expect("ethtool sets it");
        }
    }
    judge(&lab, families);
}

fn interfaces(host: &Host) -> Vec<String> {
    let shown = host
        .run("ip -brief link show type veth")
        .expect("interfaces");
    let name = |line: &str| line.split('@').next().expect("a name").to_owned();
    shown.lines().map(name).collect()
}

fn judge(lab: &Lab, families: Families) {
    let _turn = alone();
    let director = Director::start(lab, families);
    director.serve_http(SERVERS);
    let hosts = || {
        let servers = lab.servers.iter().map(|server| &server.host);
        [&lab.client].into_iter().chain(servers)
    };
    let captures: Vec<_> = hosts()
        .map(|host| Capture::start(host, "eth0", FILTER, lab.dir()).expect("tcpdump runs"))
        .collect();
    send_everything(lab, &director);
    for (host, capture) in hosts().zip(captures) {
        let captured = capture.finish(host).expect("the capture is read");
        must_be_true(host, &captured);
        let frames = pcap::read(&lab.dir().join(format!("{}-eth0.pcap", host.role())));
        assert_eq!(frames.len(), captured.frames.len());
        if host.role() == "client" {
            must_answer_as_vip(&director.service, &frames);
        } else {
            must_arrive_as_promised(lab, &director.service, host, &frames);
        }
    }
    director.stop();
}

/// A transfer each way with every real server, small requests, and datagrams.
fn send_everything(lab: &Lab, director: &Director<'_>) {
    let content = &lab.content("8M", LENGTH).expect("content");
    let down = |n: usize| {
        let scratch = lab.dir().join(format!("down{n}"));
        download(&lab.client, &director.service.url("/8M"), &scratch)
    };
    let up = |n: usize| {
        let url = director.service.url(&format!("/upload/{n}"));
        upload(lab, &lab.client, &url, content)
    };
    at_once(content, down);
    at_once(content, up);
    let twice_each = u32::try_from(2 * SERVERS).expect("a few");
    requests(&lab.client, &director.service.url("/"), twice_each).expect("answers");
    exchange_datagrams(lab, director);
}

/// As many transfers as there are real servers, which take them in turn; of several workers so many that each server has
/// one.
fn at_once(content: &Content, transfer: impl Fn(usize) -> uvs_lab::Result<Received> + Sync) {
    thread::scope(|scope| {
        for n in 0..SERVERS * workers() as usize {
            let transfer = &transfer;
            scope.spawn(move || {
                let received = transfer(n).expect("a transfer");
                received.must_equal(content).expect("every byte");
            });
        }
    });
}

fn must_be_true(host: &Host, captured: &Captured) {
    let role = host.role();
    assert_eq!(captured.lost, 0, "{role}: the capture lost frames");
    let least = LENGTH / MTU as u64;
    assert!(
        captured.frames.len() as u64 > least,
        "{role}: too few frames"
    );
    let (bad, long) = (captured.bad_checksums(), captured.over_mtu(MTU));
    assert!(
        bad.is_empty(),
        "{role}: {} bad checksums: {:?}",
        bad.len(),
        bad[0]
    );
    assert!(
        long.is_empty(),
        "{role}: {} over the MTU: {:?}",
        long.len(),
        long[0]
    );
}

/// All that the client gets comes from the VIP and its ports.
fn must_answer_as_vip(service: &Service, frames: &[Frame]) {
    let vip = service.vip.ip();
    let services = BTreeSet::from([service.vip, SocketAddr::new(vip, 7)]);
    for frame in frames.iter().filter(|f| !ICMP.contains(&f.protocol())) {
        assert_eq!(frame.source(), vip);
        if let Some(source) = frame.source_socket() {
            assert!(services.contains(&source), "an answer from {source}");
        }
    }
}

/// From the director's local address under FULLNAT, wrapped under IPIP, and else from the client itself. A tunnel
/// over IPv6 may have any of the director's addresses as its source, a VIP too.
fn must_arrive_as_promised(lab: &Lab, service: &Service, host: &Host, frames: &[Frame]) {
    let names = (1..=SERVERS).map(|n| format!("rs{n}"));
    let own = names
        .zip(service.servers)
        .find(|(name, _)| name == host.role());
    let own = own.expect("a real server").1.ip();
    let vip = service.vip.ip();
    let (sources, destination) = match service.mode {
        Mode::Dr => (vec![service.client], vip),
        Mode::Nat => (vec![service.client], own),
        Mode::FullNat => (vec![service.local.expect("a local address")], own),
        Mode::Ipip if own.is_ipv6() => {
            (vec![service.director, twin(*lab.plan.vip.ip()).into()], own)
        }
        Mode::Ipip => (vec![service.director], own),
    };
    for frame in frames {
        assert!(sources.contains(&frame.source()), "from {}", frame.source());
        assert_eq!(frame.destination(), destination);
        let tunnelled = TUNNELLED.contains(&frame.protocol());
        assert_eq!(tunnelled, service.mode == Mode::Ipip);
    }
}
