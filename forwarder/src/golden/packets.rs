//! `packets.json` and `packets6.json`: frames in, and the frames out, connections, servers and figures that the
//! kernel had.

use std::time::Duration;

use serde_json::Value;
use uvs_core::flow::Addr;
use uvs_core::frame::{Frame, Offload};
use uvs_core::marks::destinations;
use uvs_core::packet::{self, Packet, Parsed, Transport};
use uvs_core::wire::{ethernet, icmp, ipv6, ndp, protocol, tcp, udp};

use super::commands::{self, run};
use super::director::{Director, Outcome};
use super::{SIDES, list, packets_book, packets6_book, text, unhex};

#[test]
fn packets_go_as_in_the_kernel() {
    play_book();
}

/// Plays all cases of IPv4.
pub(super) fn play_book() {
    let differ = play_all(&packets_book());
    assert_eq!(differ, [""; 0]);
}

#[test]
fn so_do_packets_of_ipv6() {
    play_book_of_ipv6();
}

/// Plays all cases of IPv6 and of both families.
pub(super) fn play_book_of_ipv6() {
    let differ = play_all(&packets6_book());
    assert_eq!(differ, [""; 0]);
}

/// Plays a book's cases; the names of those that differ, with how on standard output.
fn play_all(book: &Value) -> Vec<String> {
    let mut differ = Vec::new();
    for case in list(&book["cases"]) {
        let diffs = play(&book["topology"], case);
        if !diffs.is_empty() {
            println!("{}", text(&case["name"]));
            diffs.iter().for_each(|d| println!("    {d}"));
            differ.push(text(&case["name"]).to_owned());
        }
    }
    differ
}

/// The differences between what the kernel did and what the engine does.
fn play(topology: &Value, case: &Value) -> Vec<String> {
    let mut d = Director::new(topology, &case["mtu"]);
    let mut diffs = Vec::new();
    for (name, v) in case["sysctl"].as_object().unwrap() {
        commands::sysctl(&mut d, name, &v.to_string());
    }
    for (i, step) in list(&case["steps"]).iter().enumerate() {
        let found = match text(&step["do"]) {
            "send" => check_send(&mut d, step),
            // What the kernel refused, the control table refuses before there is a snapshot of it.
            _ if step["exit"].as_u64().is_some_and(|code| code != 0) => Vec::new(),
            command => run(&mut d, command).err().into_iter().collect(),
        };
        diffs.extend(
            found
                .iter()
                .map(|x| format!("step {i} {}: {x}", step["text"])),
        );
        if text(&step["do"]).contains("--stats") {
            let (want, got) = (stats(text(&step["stdout"])), d.stats());
            if want != got {
                diffs.push(format!("step {i} figures: want {want:?}, got {got:?}"));
            }
        }
    }
    diffs
}

pub(super) fn check_send(d: &mut Director, step: &Value) -> Vec<String> {
    let frame = unhex(text(&step["frame"]));
    let mut diffs = match send(d, step, &frame) {
        Outcome::Local => Vec::new(),
        Outcome::Host if is_of_a_service(d, &frame) => {
            vec!["passed, though it is of a service".to_owned()]
        }
        Outcome::Host => Vec::new(),
        // The kernel is wrong here: what is right is a test of its own.
        Outcome::Left(_) if step["quirk"].is_string() => Vec::new(),
        Outcome::Left(got) => compare_frames(step, &got),
    };
    diffs.extend(check_tables(d, step));
    diffs
}

/// The connections and the servers' counts after a step, where the recording has them.
pub(super) fn check_tables(d: &Director, step: &Value) -> Vec<String> {
    let mut diffs = Vec::new();
    if step["tables_unstable"] == true || !step["conns"].is_array() {
        return diffs;
    }
    let lines = |v: &Value| -> Vec<String> { list(v).iter().map(|x| text(x).into()).collect() };
    let (want, got) = (lines(&step["conns"]), d.connections());
    if !same_connections(want.clone(), got.clone()) {
        diffs.push(format!("connections: want {want:?}, got {got:?}"));
    }
    let (mut want, got) = (lines(&step["dests"]), d.servers());
    want.sort();
    if want != got {
        diffs.push(format!("servers: want {want:?}, got {got:?}"));
    }
    diffs
}

/// Hands a step's frame in and collects for as long as the recording did.
fn send(d: &mut Director, step: &Value, frame: &[u8]) -> Outcome {
    let side = text(&step["if"]);
    let mut outcome = if step["partial"] == true {
        let (bytes, offload) = unfinished(frame);
        d.send_with(side, &bytes, offload)
    } else {
        d.send(side, frame)
    };
    if let Some((neighbour, mac)) = ndp::reply(frame) {
        d.learn(side, Addr(neighbour), mac);
        outcome = Outcome::Left(Vec::new());
    }
    if let Some(seconds) = step["slow"].as_f64() {
        d.wait(Duration::from_secs_f64(seconds));
    }
    if let Outcome::Left(left) = &mut outcome {
        left.extend(d.take_late());
    }
    outcome
}

/// Whether the guard keeps this frame from the host.
fn is_of_a_service(d: &Director, frame: &[u8]) -> bool {
    let Some(packet) = parse(frame) else {
        return false;
    };
    let mut services = d.snapshot.services.iter();
    packet.balanced().is_some()
        && services.any(|s| destinations(s.key, &d.snapshot.marks).any(|to| to.has(&packet.flow)))
}

fn parse(frame: &[u8]) -> Option<Packet> {
    let mut bytes = frame.to_vec();
    let end = bytes.len();
    match packet::parse(&mut Frame::new(&mut bytes, 0, end, Offload::default())) {
        Parsed::Ip(packet) => Some(packet),
        Parsed::Malformed { .. } | Parsed::Arp | Parsed::Foreign => None,
    }
}

/// Whether a frame is of the kernel's own doing: it asks for a neighbour, or tells routers what it wants.
fn asks(frame: &[u8]) -> bool {
    const ASKS: [u8; 6] = [130, 131, 132, 133, ndp::SOLICITATION, 143];
    ethernet::Header::new(frame).ethertype() == ethernet::ethertype::ARP
        || parse(frame).is_some_and(
            |p| matches!(p.transport, Transport::Icmpv6 { kind, .. } if ASKS.contains(&kind)),
        )
}

/// The frame as a sender with checksum offload hands it over, without extension headers.
fn unfinished(frame: &[u8]) -> (Vec<u8>, Offload) {
    let packet = parse(frame).unwrap();
    let offset = match packet.protocol {
        protocol::TCP => tcp::offset::CHECKSUM,
        protocol::UDP => udp::offset::CHECKSUM,
        _ => icmp::offset::CHECKSUM,
    };
    let at = packet.l4() + offset;
    let mut bytes = frame.to_vec();
    bytes[at..at + 2].copy_from_slice(&packet.pseudo_header(frame).to_be_bytes());
    let offload = Offload {
        csum_start: Some(packet.l4().try_into().unwrap()),
        csum_offset: offset.try_into().unwrap(),
        ..Offload::default()
    };
    (bytes, offload)
}

fn compare_frames(step: &Value, got: &[(usize, Vec<u8>)]) -> Vec<String> {
    let mut diffs = Vec::new();
    for (side, tag) in SIDES.iter().enumerate() {
        // The kernel asks for neighbours; the shell has it do so.
        let ours = |o: &&Value| o["if"] == *tag && !asks(&unhex(text(&o["frame"])));
        let want: Vec<&Value> = list(&step["out"]).iter().filter(ours).collect();
        let got: Vec<&[u8]> = got
            .iter()
            .filter(|o| o.0 == side)
            .map(|o| &o.1[..])
            .collect();
        let same = want.len() == got.len()
            && (step["unstable"] == true || want.iter().zip(&got).all(|(w, g)| same_frame(w, g)));
        if !same {
            let want: Vec<String> = want
                .iter()
                .map(|w| format!("{} {}", w["text"], text(&w["frame"])))
                .collect();
            let got: Vec<String> = got.iter().map(|g| hex(g)).collect();
            diffs.push(format!("on {tag}: want {want:?}, got {got:?}"));
        }
    }
    diffs
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|x| format!("{x:02x}")).collect()
}

/// Equal but for the bytes that differ between boots.
fn same_frame(want: &Value, got: &[u8]) -> bool {
    let (mut a, mut b) = (unhex(text(&want["frame"])), got.to_vec());
    if a.len() != b.len() {
        return false;
    }
    if want["flow"] == "any" {
        clear_flow_label(&mut a);
        clear_flow_label(&mut b);
    }
    for v in want["vary"].as_array().into_iter().flatten() {
        let number = |i: usize| usize::try_from(v[i].as_u64().unwrap()).unwrap();
        let (at, end) = (number(0), number(0) + number(1));
        a[at..end].fill(0);
        b[at..end].fill(0);
    }
    a == b
}

/// The label of an IPv6 packet that the kernel sent for itself is a hash of this boot's.
fn clear_flow_label(frame: &mut [u8]) {
    let mut header = ipv6::Header::new_mut(&mut frame[ethernet::LEN..]);
    header.set_flow_label(0);
}

/// Equal but for a few seconds, since virtual time runs at its own pace.
fn same_connections(mut want: Vec<String>, mut got: Vec<String>) -> bool {
    want.sort();
    got.sort();
    want.len() == got.len()
        && want.iter().zip(&got).all(|(w, g)| {
            let (w, wt) = w.rsplit_once(' ').unwrap();
            let (g, gt) = g.rsplit_once(' ').unwrap();
            let seconds = |t: &str| t.parse::<i64>().unwrap();
            w == g && (-2..=10).contains(&(seconds(gt) - seconds(wt)))
        })
}

/// The lines of `ipvsadm -Ln --stats`, their columns one blank apart.
fn stats(stdout: &str) -> Vec<String> {
    let lines = stdout.lines().skip(3);
    let mut lines: Vec<String> = lines
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    lines.sort();
    lines
}
