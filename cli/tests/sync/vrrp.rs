//! `docs/two-directors.md` word for word: Debian's keepalived on both directors, one switched off in a download, and on
//! again.

use std::path::Path;
use std::time::Duration;

use crate::director::eventually;
use crate::pair::{self, Pair, VIP, download};
use crate::stand;

const PAGE: &str = include_str!("../../../docs/two-directors.md");
const KEEPALIVED: &str = "/usr/sbin/keepalived";

/// The page's block that begins so.
fn block(begin: &str) -> String {
    let blocks = PAGE.split("```").skip(1).step_by(2);
    let mut bodies = blocks.filter_map(|block| block.split_once('\n'));
    let found = bodies.find(|(_, body)| body.starts_with(begin));
    found.expect("the page has it").1.to_owned()
}

/// Starts keepalived on a director, as the page says.
fn start(pair: &Pair, place: usize) {
    let director = &pair.directors[place];
    let configuration = match place {
        0 => block("global_defs"),
        _ => block("global_defs").replace("priority 100", "priority 90"),
    };
    let file = |name: &str| director.dir().join(name);
    std::fs::write(file("keepalived.conf"), configuration).expect("a file");
    let commands = block("uvs run");
    let words = commands.lines().nth(1).expect("keepalived's line");
    let words = words.strip_prefix("uvs ipvs-run -- keepalived ");
    let words = words.expect("it is started so");
    director.beside(&format!(
        "ipvs-run --library {} -- {KEEPALIVED} {words} --use-file {} --pid {} --checkers_pid {} --vrrp_pid {}",
        stand::library().display(),
        file("keepalived.conf").display(),
        file("keepalived.pid").display(),
        file("checkers.pid").display(),
        file("vrrp.pid").display(),
    ));
}

/// Waits until a director is the only one that has the VIP, its sync daemon a master and its server in.
fn serves(pair: &Pair, place: usize) {
    let director = &pair.directors[place];
    eventually("the director serves", || {
        director.has(VIP)
            && director.ask("-L --daemon").starts_with("master")
            && director.ask("-Ln").contains("10.8.0.11:80")
    });
    assert!(!pair.directors[1 - place].has(VIP));
}

/// What a request gets.
fn request(pair: &Pair) -> bool {
    pair::begins_to_answer(&pair.client)
}

#[test]
fn the_page_is_right() {
    assert!(
        Path::new(KEEPALIVED).exists(),
        "{KEEPALIVED} is not there: apt-get install keepalived"
    );
    let mut pair = Pair::new("the gateway");
    start(&pair, 0);
    serves(&pair, 0);
    start(&pair, 1);
    let second = &pair.directors[1];
    eventually("the second one stands by", || {
        second.ask("-L --daemon").starts_with("backup")
            && second.ask("-Ln").contains("10.8.0.11:80")
    });
    assert!(request(&pair));

    let downloading = download(&pair.client);
    eventually("the second director knows the connection", || {
        second.ask("-Lnc").contains("ESTABLISHED")
    });
    assert!(!downloading.is_finished(), "the download is not over yet");
    pair.directors[0].switch_off();
    let (bytes, longest_gap) = downloading.finish();
    assert_eq!(bytes, Ok(pair::LENGTH), "every byte as it was sent");
    println!("the longest gap: {longest_gap:?}");
    assert!(longest_gap < Duration::from_secs(20), "{longest_gap:?}");
    eventually("the second director serves", || second.has(VIP));
    assert!(request(&pair));

    pair.switch_on(0);
    start(&pair, 0);
    serves(&pair, 0);
    assert!(request(&pair), "by the first again");
}
