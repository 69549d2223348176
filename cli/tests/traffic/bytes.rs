//! DR changes the two MAC addresses and the TTL, in IPv4 with its header checksum, and no other byte.

use uvs_lab::capture::Capture;
use uvs_lab::traffic::{download, requests, upload};
use uvs_lab::{Families, Host, Mode, Offloads};

use crate::director::{Director, alone, lab};
use crate::flows::exchange_datagrams;
use crate::pcap::{self, Frame};

#[test]
fn dr_changes_macs_and_ttl_only() {
    compare(Families::V4, Offloads::Off);
}

#[test]
fn dr_changes_macs_and_hop_limit_only() {
    compare(Families::V6, Offloads::Off);
}

#[test]
fn dr_changes_macs_and_ttl_only_of_super_frames() {
    compare(Families::V4, Offloads::Default);
}

#[test]
fn dr_changes_macs_and_hop_limit_only_of_super_frames() {
    compare(Families::V6, Offloads::Default);
}

/// With one real server, what comes there is what came to the director. Not in the same order: where the
/// worker moves to another CPU, veth delivers what is queued there at once and the rest later.
fn compare(families: Families, offloads: Offloads) {
    let _turn = alone();
    let lab = lab(Mode::Dr, offloads);
    let director = Director::start(&lab, families);
    director.serve_http(1);
    let server = &lab.servers[0].host;
    let content = lab.content("4M", 4 << 20).expect("content");
    // What the client asks its neighbour for is the director's.
    let filter = format!(
        "(ip or ip6) and dst host {} and not icmp6",
        director.service.vip.ip()
    );
    let watch =
        |host: &Host| Capture::start_whole(host, "eth0", &filter, lab.dir()).expect("tcpdump runs");
    let (before, after) = (watch(&lab.director), watch(server));
    let url = |path| director.service.url(path);
    requests(&lab.client, &url("/"), 3).expect("answers");
    let down = download(&lab.client, &url("/4M"), &lab.dir().join("down")).expect("a download");
    down.must_equal(&content).expect("every byte");
    let up = upload(&lab, &lab.client, &url("/upload/4M"), &content).expect("an upload");
    up.must_equal(&content).expect("every byte");
    exchange_datagrams(&lab, &director);
    director.stop();
    let frames = |capture: Capture, host: &Host| {
        let captured = capture.finish(host).expect("the capture is read");
        assert_eq!(captured.lost, 0);
        pcap::read(&lab.dir().join(format!("{}-eth0.pcap", host.role())))
    };
    let (before, mut after) = (frames(before, &lab.director), frames(after, server));
    let (from, to) = (mac(&lab.director), mac(server));
    assert_eq!(
        before.len(),
        after.len(),
        "frames at director and real server"
    );
    let largest = before.iter().map(|frame| frame.0.len()).max();
    assert_eq!(largest > Some(1514), offloads == Offloads::Default);
    let mut expected: Vec<_> = before
        .into_iter()
        .map(|frame| forwarded(frame, from, to))
        .collect();
    expected.sort_unstable();
    after.sort_unstable();
    for (expected, after) in expected.iter().zip(&after) {
        assert_eq!(expected, after);
    }
}

/// What a router would make of a frame on its way from `from` to `to`.
fn forwarded(frame: Frame, from: [u8; 6], to: [u8; 6]) -> Frame {
    let Frame(mut bytes) = frame;
    bytes[..6].copy_from_slice(&to);
    bytes[6..12].copy_from_slice(&from);
    if bytes[14] >> 4 == 6 {
        bytes[14 + 7] -= 1;
        return Frame(bytes);
    }
    let header = &mut bytes[14..34];
    header[8] -= 1;
    header[10..12].fill(0);
    let words = header
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum = words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("folded");
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    Frame(bytes)
}

fn mac(host: &Host) -> [u8; 6] {
    let shown = host.mac("eth0").expect("an Ethernet interface");
    let mut bytes = shown
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal"));
    std::array::from_fn(|_| bytes.next().expect("six bytes"))
}
