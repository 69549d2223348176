//! The recorded synchronisation of directors: what the engine tells is what the kernel told, byte for byte and between
//! the same packets, and what it takes up is what the kernel took up. The book is `uvs-sync`'s.

use serde_json::Value;
use uvs_core::snapshot::Peers;
use uvs_sync::{Message, Version, Writer};

use super::commands::{self, run};
use super::director::Director;
use super::packets::{check_send, check_tables};
use super::{list, text, unhex};

/// Bytes of a datagram before its messages.
const HEADER: [(Version, usize); 2] = [(Version::V0, 4), (Version::V1, 8)];
/// A master sends what it has within so many seconds.
const SENT: f64 = 3.0;

/// A director with its sync daemons.
struct Pair {
    director: Director,
    /// What the backup takes up.
    syncid: u8,
    /// Messages since they were last compared.
    want: Vec<u8>,
    got: Vec<u8>,
    compared: usize,
}

#[test]
fn directors_tell_each_other_what_the_kernel_told() {
    let book = include_str!("../../../sync/tests/golden/sync.json");
    let book: Value = serde_json::from_str(book).unwrap();
    let (mut differ, mut played, mut told) = (Vec::new(), 0, 0);
    for case in list(&book["cases"]) {
        let name = text(&case["name"]);
        // FTP's commands are read by a module of the kernel's, which UVS has not.
        if name == "master_ftp" {
            continue;
        }
        played += 1;
        let (diffs, bytes) = play(&book["topology"], case);
        told += bytes;
        if !diffs.is_empty() {
            println!("{name}");
            diffs.iter().for_each(|d| println!("    {d}"));
            differ.push(name.to_owned());
        }
    }
    assert_eq!((differ, played), (Vec::new(), 22));
    assert!(told > 2000, "the recording's masters told {told} bytes");
}

/// How a case differs, and how many bytes of messages were compared.
fn play(topology: &Value, case: &Value) -> (Vec<String>, usize) {
    let mut p = Pair {
        director: Director::new(topology, &case["mtu"]),
        syncid: 0,
        want: Vec::new(),
        got: Vec::new(),
        compared: 0,
    };
    for (name, v) in case["sysctl"].as_object().unwrap() {
        let value = v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        commands::sysctl(&mut p.director, name, &value);
    }
    let mut diffs = Vec::new();
    for (i, step) in list(&case["steps"]).iter().enumerate() {
        let found = p.step(step);
        let what = format!("step {i} {} {}", step["do"], step["note"]);
        diffs.extend(found.iter().map(|d| format!("{what}: {d}")));
    }
    (diffs, p.compared)
}

impl Pair {
    fn step(&mut self, step: &Value) -> Vec<String> {
        for out in step["out"].as_array().into_iter().flatten() {
            if let Some(payload) = out["payload"].as_str() {
                self.want.extend(messages(&unhex(payload)));
            }
        }
        let command = text(&step["do"]);
        let words: Vec<&str> = command.split_whitespace().collect();
        let found = match words[..] {
            ["send"] if step["if"] == "m" => self.hear(step),
            ["send"] => check_send(&mut self.director, step),
            [
                "ipvsadm",
                "--start-daemon" | "--stop-daemon",
                role,
                ref rest @ ..,
            ] => {
                self.set(role, words[1] == "--start-daemon", rest);
                Vec::new()
            }
            ["wait", seconds, ..] => {
                let mut diffs: Vec<_> =
                    run(&mut self.director, command).err().into_iter().collect();
                self.take_told();
                diffs.extend(check_tables(&self.director, step));
                if seconds.parse::<f64>().unwrap() >= SENT {
                    diffs.extend(self.compare());
                }
                return diffs;
            }
            _ => run(&mut self.director, command).err().into_iter().collect(),
        };
        self.take_told();
        found
    }

    /// A daemon is started or ended.
    fn set(&mut self, role: &str, on: bool, options: &[&str]) {
        let Peers { master, backup } = self.director.snapshot.peers;
        self.director.snapshot.peers = match role {
            "master" => Peers { master: on, backup },
            _ => Peers { master, backup: on },
        };
        if let Some(at) = options.iter().position(|w| *w == "--syncid") {
            self.syncid = options[at + 1].parse().unwrap();
        }
        self.director.apply();
    }

    /// A datagram of another director's.
    fn hear(&mut self, step: &Value) -> Vec<String> {
        let datagram = unhex(text(&step["payload"]));
        let d = &mut self.director;
        d.wait(d.step);
        if let Ok(told) = uvs_sync::read(&datagram, self.syncid) {
            for message in told.filter_map(Result::ok) {
                let _ = d.engine.take_up(d.now, &message.taken_up());
            }
        }
        check_tables(d, step)
    }

    /// Takes what the engine has told, as bytes.
    fn take_told(&mut self) {
        let version = match self.director.snapshot.sysctls.sync_version {
            0 => Version::V0,
            _ => Version::V1,
        };
        let (told, lost) = self.director.engine.take_told();
        assert_eq!(lost, 0);
        for told in &told {
            let mut writer = Writer::new(0, u16::MAX);
            let message = Message::of(told).expect("of one family");
            assert_eq!(writer.add(self.director.now, version, &message), None);
            if let Some(datagram) = writer.finish() {
                self.got.extend(messages(&datagram));
            }
        }
    }

    fn compare(&mut self) -> Option<String> {
        let (want, got) = (
            std::mem::take(&mut self.want),
            std::mem::take(&mut self.got),
        );
        self.compared += want.len();
        (want != got).then(|| format!("messages: want {want:02x?}, got {got:02x?}"))
    }
}

/// The messages of a datagram, without its header.
fn messages(datagram: &[u8]) -> Vec<u8> {
    let version = match datagram {
        [0, _, _, _, _, 1, ..] => Version::V1,
        _ => Version::V0,
    };
    let header = HEADER.iter().find(|(of, _)| *of == version).unwrap().1;
    datagram[header..].to_vec()
}
