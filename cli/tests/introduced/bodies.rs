//! Every byte of large bodies, with super-frames, in every mode and pair of families.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use uvs_lab::{Families, Mode, Options};

use crate::judge::{Judge, Talk, sha256};
use crate::stand::{lab, uvs};
use crate::{connect, serve};

const PORT: u16 = 9003;
const SERVICE: u16 = 2009;

/// Sends so many bytes, closes that side, and compares what comes back; the header is the judge's.
fn echo(mode: Mode, families: Families, bytes: usize, words: &str, version: u8) {
    let (lab, _) = lab(mode, Options::default());
    let judge = Judge::start(&lab.servers[0].host, PORT, Talk::Last);
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let vip = serve(&lab, &daemon, families, (SERVICE, PORT), words);
    let body: Vec<u8> = (0..bytes).map(|i| (i * 7 % 251).to_le_bytes()[0]).collect();
    let (mut stream, own) = connect(&lab.client, vip);
    let mut sender = stream.try_clone().expect("cloned");
    let mut answer = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            sender.write_all(&body).expect("sent");
            sender.shutdown(Shutdown::Write).expect("closed");
        });
        stream.read_to_end(&mut answer).expect("an answer");
    });
    let head = format!("{bytes} {}\n", sha256(&body));
    let same = answer.strip_prefix(head.as_bytes()) == Some(&body);
    assert!(same, "{mode}, {families}: every byte");
    let said = judge.last();
    assert_eq!(
        (said.version, said.src, said.dst),
        (version, own, vip),
        "{mode}, {families}"
    );
    daemon.stop().expect("it ends well");
}

#[test]
fn bodies_of_100_mb_arrive_byte_by_byte() {
    echo(
        Mode::FullNat,
        Families::V4,
        100 << 20,
        "--proxy-protocol v2",
        2,
    );
}

#[test]
fn in_every_mode_and_family_the_client_is_named_and_no_byte_is_lost() {
    for families in [Families::V4, Families::V6] {
        echo(Mode::Nat, families, 3 << 20, "--proxy-protocol v1", 1);
    }
    for families in [Families::V6, Families::V6To4, Families::V4To6] {
        echo(
            Mode::FullNat,
            families,
            3 << 20,
            "--proxy-protocol v2 --timestamps offset",
            2,
        );
    }
}
