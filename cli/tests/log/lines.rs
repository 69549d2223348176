//! What is logged of neighbours, and how often.

use uvs_lab::{Mode, Options};

use crate::stand::{eventually, lab, run, serving};

const MOVES: u32 = 400;

/// `ip` commands that move a neighbour to one MAC address after the other.
fn moves(address: &str, interface: &str) -> String {
    let lines = (0..MOVES).map(|n| {
        let (high, low) = (n >> 8, n & 0xff);
        format!(
            "neigh replace {address} lladdr 02:aa:00:00:{high:02x}:{low:02x} nud reachable dev {interface}\n"
        )
    });
    let lines: String = lines.collect();
    format!("ip -batch - <<END\n{lines}END")
}

#[test]
fn of_neighbours_only_next_hops_are_told_and_not_without_end() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let daemon = serving(&lab);
    let server = *lab.plan.servers[0].ip();
    let other = std::net::Ipv4Addr::from(u32::from(server) ^ 0x55);
    let interface = &lab.plan.interfaces[0];
    for address in [other, server] {
        let moved = run(&lab, &shell, &moves(&address.to_string(), interface));
        assert_eq!(moved.code, Some(0), "{moved:?}");
    }
    let left_out = "more lines like this were left out: neighbour";
    eventually("what was left out is told", || {
        daemon.log().contains(left_out)
    });
    let log = daemon.log();
    assert!(!log.contains(&other.to_string()), "{log}");
    let told = format!("neighbour {server} moved from");
    let told = log.lines().filter(|l| l.contains(&told)).count();
    assert!((1..MOVES as usize / 2).contains(&told), "{told}:\n{log}");
    run(
        &lab,
        &shell,
        &format!("ip neigh del {server} dev {interface}; ip neigh del {other} dev {interface}"),
    );
    daemon.stop().expect("it ends well");
}
