//! `packets.json`: frames in, and the frames out, connections, servers and figures that the kernel had.

use serde_json::Value;
use uvs_core::flow::{Addr, Endpoint, Flow, Protocol};
use uvs_core::marks::destinations;

use super::commands::{self, run};
use super::director::{Director, Outcome};
use super::{SIDES, list, packets_book, text, unhex};

/// Where Ethernet's type is, and ARP's.
const ETHER_TYPE: std::ops::Range<usize> = 12..14;
const ARP: [u8; 2] = [8, 6];

#[test]
fn packets_go_as_in_the_kernel() {
    play_book();
}

/// Plays all cases.
pub(super) fn play_book() {
    let book = packets_book();
    let mut failed = Vec::new();
    for case in list(&book["cases"]) {
        let diffs = play(&book["topology"], case);
        if !diffs.is_empty() {
            println!("{}", text(&case["name"]));
            diffs.iter().for_each(|d| println!("    {d}"));
            failed.push(text(&case["name"]).to_owned());
        }
    }
    assert!(
        failed.is_empty(),
        "{} cases differ: {failed:?}",
        failed.len()
    );
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

fn check_send(d: &mut Director, step: &Value) -> Vec<String> {
    let frame = unhex(text(&step["frame"]));
    let mut diffs = match d.send(text(&step["if"]), &frame) {
        Outcome::Local => Vec::new(),
        Outcome::Host if is_of_a_service(d, &frame) => {
            vec!["passed, though it is of a service".to_owned()]
        }
        Outcome::Host => Vec::new(),
        Outcome::Left(got) => compare_frames(step, &got),
    };
    if step["tables_unstable"] == true {
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

/// Whether the guard keeps this frame from the host.
fn is_of_a_service(d: &Director, frame: &[u8]) -> bool {
    let ports = &frame[14 + usize::from(frame[14] & 15) * 4..];
    let at = |i: usize| Addr::v4([frame[i], frame[i + 1], frame[i + 2], frame[i + 3]]);
    let port = |i: usize| u16::from_be_bytes([ports[i], ports[i + 1]]);
    let (src, dst) = (
        Endpoint::new(at(26), port(0)),
        Endpoint::new(at(30), port(2)),
    );
    Protocol::from_number(frame[23]).is_some_and(|p| {
        let flow = Flow::new(p, src, dst);
        let mut services = d.snapshot.services.iter();
        services.any(|s| destinations(s.key, &d.snapshot.marks).any(|to| to.has(&flow)))
    })
}

fn compare_frames(step: &Value, got: &[(usize, Vec<u8>)]) -> Vec<String> {
    let mut diffs = Vec::new();
    for (side, tag) in SIDES.iter().enumerate() {
        // The kernel asks for neighbours; the shell has it do so.
        let ours = |o: &&Value| o["if"] == *tag && unhex(text(&o["frame"]))[ETHER_TYPE] != ARP;
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
    for v in want["vary"].as_array().into_iter().flatten() {
        let number = |i: usize| usize::try_from(v[i].as_u64().unwrap()).unwrap();
        let (at, end) = (number(0), number(0) + number(1));
        a[at..end].fill(0);
        b[at..end].fill(0);
    }
    a == b
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
