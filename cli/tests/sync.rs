//! Two directors that tell each other of connections: one is killed in the middle of a download, the other one gets
//! its addresses, and the download goes on; and two that serve at once (`ecmp`). Needs root, or `make test`.

#[allow(dead_code, reason = "shared with the other tests")]
mod netns;

#[path = "sync/director.rs"]
mod director;
#[path = "sync/ecmp.rs"]
mod ecmp;
#[path = "sync/pair.rs"]
mod pair;
#[path = "support/stand.rs"]
mod stand;
#[path = "sync/vrrp.rs"]
mod vrrp;

use std::time::Duration;

use director::eventually;
use pair::{Pair, SERVER, VIP, download};

/// A download that the first director dies in; what it needs of the second.
fn goes_on(method: &str, replies_by: &str) {
    let pair = Pair::new(replies_by);
    for director in &pair.directors {
        director.ask("--start-daemon master --mcast-interface eth0 --syncid 7");
        director.ask("--start-daemon backup --mcast-interface eth0 --syncid 7");
        director.ask(&format!("-A -t {VIP}:80 -s rr {}", local(method)));
        director.ask(&format!("-a -t {VIP}:80 -r {SERVER}:80 {method}"));
    }
    let (first, second) = (&pair.directors[0], &pair.directors[1]);
    pair.serve_by(0);
    let downloading = download(&pair.client);
    eventually("the second director knows the connection", || {
        second.ask("-Lnc").contains("ESTABLISHED")
    });
    assert!(!downloading.is_finished(), "the download is not over yet");
    first.kill();
    pair.serve_by(1);
    let (bytes, longest_gap) = downloading.finish();
    assert_eq!(bytes, Ok(pair::LENGTH), "every byte as it was sent");
    assert!(longest_gap < Duration::from_secs(8), "{longest_gap:?}");
    // It is the second one's now, in all its counts.
    let listed = second.ask("-Ln");
    assert!(listed.contains(&format!("{SERVER}:80")), "{listed}");
    let told = second.uvs("show sync");
    assert!(told.contains("backup") && told.contains("master"), "{told}");
}

/// FULLNAT's local address, where there is one.
fn local(method: &str) -> String {
    match method {
        "--fullnat" => format!("--laddr {}", pair::LOCAL),
        _ => String::new(),
    }
}

#[test]
fn a_download_goes_on_in_dr() {
    goes_on("-g", "directly");
}

#[test]
fn a_download_goes_on_in_nat() {
    goes_on("-m", "the gateway");
}

#[test]
fn a_download_goes_on_in_a_tunnel() {
    goes_on("-i", "directly");
}

#[test]
fn a_download_goes_on_in_fullnat() {
    goes_on("--fullnat", "the local address");
}

#[test]
fn what_a_sync_daemon_needs_is_said() {
    let pair = Pair::new("directly");
    let director = &pair.directors[0];
    let (code, said) = director.refused("--start-daemon master --mcast-interface nosuch0");
    assert_eq!((code, said.as_str()), (255, "No such device\n"));
    let metrics = director.uvs("show sync -o json");
    assert_eq!(metrics.trim(), "[]");
    director.ask("--start-daemon backup --mcast-interface eth0 --syncid 9");
    let listed = director.ask("-L --daemon");
    let line = "backup sync daemon (mcast=eth0, syncid=9, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)\n";
    assert_eq!(listed, line);
    director.ask("--stop-daemon backup");
    assert_eq!(director.ask("-L --daemon"), "");
}
