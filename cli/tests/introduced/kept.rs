//! A conversation that goes on while its service changes and while its director is upgraded.

use std::io::{BufRead, BufReader, Write};

use uvs_lab::{Families, Mode, Options};

use crate::heir::{Heir, pid};
use crate::judge::{Judge, Talk};
use crate::stand::{lab, uvs};
use crate::{connect, serve};

const PORT: u16 = 9005;
const SERVICE: u16 = 2010;

#[test]
fn a_conversation_goes_on_through_an_edit_and_an_upgrade() {
    let (lab, _) = lab(Mode::FullNat, Options::default());
    let judge = Judge::start(&lab.servers[0].host, PORT, Talk::First);
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let words = "--proxy-protocol v2 --timestamps offset";
    let vip = serve(&lab, &daemon, Families::V4, (SERVICE, PORT), words);
    let (mut stream, own) = connect(&lab.client, vip);
    let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("it speaks first");
    let mut say = |text: &str| {
        write!(stream, "{text}\r\n").expect("sent");
        line.clear();
        reader.read_line(&mut line).expect("an answer");
        assert_eq!(line, format!("250 {text}\r\n"));
    };
    say("one");
    let local = lab.plan.local.expect("FULLNAT has one");
    let edit = format!("-E -t {vip} -s rr --laddr {local} --proxy-protocol v1");
    daemon.ipvsadm(&edit).expect("edited");
    say("two");
    daemon.uvs("upgrade").expect("upgraded");
    let heir = Heir::of(pid(&daemon));
    say("three");
    assert_eq!((judge.last().version, judge.last().src), (2, own));
    // What was edited holds for the next one, and outlives the upgrade too.
    let saved = daemon.ipvsadm("-S -n").expect("saved");
    assert!(saved.contains("--proxy-protocol v1"), "{saved}");
    let (next, own) = connect(&lab.client, vip);
    let mut word = String::new();
    BufReader::new(&next)
        .read_line(&mut word)
        .expect("it speaks first");
    assert_eq!((judge.last().version, judge.last().src), (1, own));
    heir.stop();
}
