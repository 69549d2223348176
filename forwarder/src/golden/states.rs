//! `states.json`: every transition of the kernel's TCP machine, the UDP section and `ipvsadm --set`.

use std::time::Duration;

use serde_json::Value;
use uvs_core::flow::Endpoint;
use uvs_core::testing::packets::{self, DIRECTOR_MAC, PacketBuilder};
use uvs_core::wire::tcp::flag::{ACK, FIN, RST, SYN};

use super::commands::{run, sysctl};
use super::director::{Director, Outcome};
use super::{addr, list, packets_book, text};

fn states_book() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/states.json")).unwrap()
}

/// One connection to one service with one server.
struct Trial {
    d: Director,
    client: Endpoint,
    vip: Endpoint,
    server: Endpoint,
}

/// State and seconds to expiry, and the server's active and inactive connections.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    state: String,
    expires: i64,
    active: i64,
    inactive: i64,
}

impl Trial {
    fn new(protocol: &str, forward: &str) -> Self {
        let mut d = Director::new(
            &packets_book()["topology"],
            &serde_json::json!({"c0": 1500, "s0": 1500}),
        );
        run(
            &mut d,
            &format!("ipvsadm -A {protocol} 10.0.1.100:80 -s rr"),
        )
        .unwrap();
        run(
            &mut d,
            &format!("ipvsadm -a {protocol} 10.0.1.100:80 -r 10.0.2.11:80 {forward}"),
        )
        .unwrap();
        Self {
            d,
            client: Endpoint::new(addr("10.0.1.10"), 40_000),
            vip: Endpoint::new(addr("10.0.1.100"), 80),
            server: Endpoint::new(addr("10.0.2.11"), 80),
        }
    }

    /// Plays a segment: `i:` from the client or `o:` from the server, and its flags.
    fn play(&mut self, segment: &str) {
        let (side, flags) = segment.split_once(':').unwrap();
        let flags = match flags {
            "none" => 0,
            letters => letters.chars().fold(0, |f, c| f | flag(c)),
        };
        match side {
            "i" => self.send("c", packets::tcp(self.client, self.vip, flags)),
            _ => self.send("s", packets::tcp(self.server, self.client, flags)),
        }
    }

    fn send(&mut self, side: &str, packet: PacketBuilder) {
        let mac = if side == "c" {
            DIRECTOR_MAC
        } else {
            [2, 0, 0, 0, 2, 1]
        };
        let frame = packet.to_mac(mac).frame();
        assert!(matches!(self.d.send(side, &frame), Outcome::Left(_)));
    }

    /// What `/proc/net/ip_vs_conn` and `ipvsadm -L` show.
    fn look(&self) -> Seen {
        let port = self.client.port;
        let (conns, _) = self.d.engine.report_connections(self.d.now, 0, 100_000);
        let conn = conns.iter().find(|c| c.client.port == port);
        let server = self.d.engine.report(self.d.now).services[0].servers[0].numbers;
        Seen {
            state: conn.map_or("(gone)", |c| c.state).to_owned(),
            expires: conn.map_or(0, |c| i64::from(c.expires)),
            active: i64::from(server.active),
            inactive: i64::from(server.inactive),
        }
    }
}

fn flag(c: char) -> u8 {
    match c {
        'S' => SYN,
        'A' => ACK,
        'F' => FIN,
        'R' => RST,
        _ => panic!("{c}"),
    }
}

/// The kernel shows up to a second less than the time-out, the engine the time-out itself.
fn same_expiry(want: &Value, got: i64) -> bool {
    (0..=1).contains(&(got - want.as_i64().unwrap()))
}

#[test]
fn every_tcp_transition_is_the_kernels() {
    play_tables();
}

/// Plays all rows of all tables.
pub(super) fn play_tables() {
    let mut differ = Vec::new();
    let mut rows = 0;
    for table in list(&states_book()["tables"]) {
        for row in list(&table["rows"]) {
            rows += 1;
            if let Some(diff) = play_row(table, row) {
                differ.push(format!("{}: {row}: {diff}", table["name"]));
            }
        }
    }
    assert!(rows > 300, "only {rows} rows");
    assert!(
        differ.is_empty(),
        "{} of {rows}:\n{}",
        differ.len(),
        differ.join("\n")
    );
}

fn play_row(table: &Value, row: &Value) -> Option<String> {
    let mut t = Trial::new("-t", text(&table["forward"]));
    for (name, v) in table["sysctl"].as_object().unwrap() {
        sysctl(&mut t.d, name, &v.to_string());
    }
    // What is to be seen is the table, not a new connection in the old one's place.
    for segment in list(&row["path"]) {
        t.play(text(segment));
    }
    let before = t.look();
    let from = text(&row["from"]);
    if from != "(none)" && from != before.state {
        return Some(format!("starts from {before:?}"));
    }
    t.play(text(&row["segment"]));
    let after = t.look();
    let change = |field: &str, by: i64| row[field].as_i64().is_none_or(|want| want == by);
    let same = text(&row["to"]) == after.state
        && same_expiry(&row["expires"], after.expires)
        && change("active_change", after.active - before.active)
        && change("inactive_change", after.inactive - before.inactive);
    (!same).then(|| format!("ends in {after:?} from {before:?}"))
}

#[test]
fn a_udp_entry_lives_by_packets_of_both_sides() {
    let mut t = Trial::new("-u", "-m");
    for step in list(&states_book()["udp"]) {
        match text(&step[0]) {
            "i" => t.send("c", packets::udp(t.client, t.vip)),
            "o" => t.send("s", packets::udp(t.server, t.client)),
            _ => t.d.wait(Duration::from_secs(2)),
        }
        let seen = t.look();
        assert_eq!(text(&step[1]), seen.state);
        assert!(same_expiry(&step[2], seen.expires), "{step}: {seen:?}");
    }
}

#[test]
fn set_timeouts_hold_for_entries_to_come() {
    let mut udp = Trial::new("-u", "-m");
    let mut tcp = Trial::new("-t", "-m");
    udp.send("c", packets::udp(udp.client, udp.vip));
    for step in list(&states_book()["set"]) {
        let command = format!("ipvsadm --set {}", text(&step["set"]));
        run(&mut udp.d, &command).unwrap();
        run(&mut tcp.d, &command).unwrap();
        let t = udp.d.snapshot.timeouts;
        let shown = format!(
            "Timeout (tcp tcpfin udp): {} {} {}\n",
            t.tcp, t.tcp_fin, t.udp
        );
        assert_eq!(text(&step["shown"]), shown);
        assert_seen(&step["old_entry"], &udp.look());
        udp.client.port += 1;
        udp.send("c", packets::udp(udp.client, udp.vip));
        assert_seen(&step["udp"], &udp.look());
        udp.client.port -= 1;
        tcp.client.port += 1;
        for (segments, name) in [
            (&["i:S"][..], "tcp_syn"),
            (&["i:A"], "tcp_ack"),
            (&["i:FA", "o:FA"], "tcp_after_both_fins"),
        ] {
            segments.iter().for_each(|s| tcp.play(s));
            assert_seen(&step[name], &tcp.look());
        }
    }
}

fn assert_seen(want: &Value, got: &Seen) {
    assert_eq!(text(&want[0]), got.state, "{want}: {got:?}");
    assert!(same_expiry(&want[1], got.expires), "{want}: {got:?}");
}
