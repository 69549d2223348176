//! Two directors that tell each other of connections: one is killed in the middle of a download, the other one gets
//! its addresses, and the download goes on, also where the other one came later (`bulk`) or both were upgraded meanwhile (`upgrade`); and two that serve at once
//! (`ecmp`). Needs root, or `make test`.

#[allow(dead_code, reason = "shared with the other tests")]
mod netns;

#[path = "sync/bulk.rs"]
mod bulk;
#[path = "sync/director.rs"]
mod director;
#[path = "sync/ecmp.rs"]
mod ecmp;
#[path = "sync/pair.rs"]
mod pair;
#[path = "support/stand.rs"]
mod stand;
#[path = "sync/upgrade.rs"]
mod upgrade;
#[path = "sync/vrrp.rs"]
mod vrrp;

use director::eventually;
use pair::{Pair, SERVER, VIP, download};

/// How directors come to speak to each other.
type Link = fn(&Pair);

/// By ipvsadm's commands, to the group.
fn by_multicast(pair: &Pair) {
    for director in &pair.directors {
        director.ask("--start-daemon master --mcast-interface eth0 --syncid 7");
        director.ask("--start-daemon backup --mcast-interface eth0 --syncid 7");
    }
}

/// By the configuration, one to the other, with a key that both have.
fn by_unicast(pair: &Pair) {
    with_keys(pair, ["the secret of both"; 2]);
}

/// The same with each one's key.
fn with_keys(pair: &Pair, secrets: [&str; 2]) {
    let others = [pair::ADDRESSES[1], pair::ADDRESSES[0]];
    configure(
        pair,
        secrets,
        others.map(|other| format!("peers = [\"{other}\"]")),
    );
}

/// By the configuration, with each one's key and line besides.
fn configure(pair: &Pair, secrets: [&str; 2], lines: [String; 2]) {
    for ((director, line), secret) in pair.directors.iter().zip(lines).zip(secrets) {
        let key = director.dir().join("sync.key");
        std::fs::write(&key, secret).expect("a file");
        let daemon = format!(
            "interface = \"eth0\"\nsyncid = 7\nkey_file = \"{}\"\n{line}",
            key.display()
        );
        director.configure(&format!(
            "[sync.master]\n{daemon}\n[sync.backup]\n{daemon}\n"
        ));
    }
}

fn add_service(pair: &Pair, method: &str) {
    for director in &pair.directors {
        director.ask(&format!("-A -t {VIP}:80 -s rr {}", local(method)));
        director.ask(&format!("-a -t {VIP}:80 -r {SERVER}:80 {method}"));
    }
}

/// A download that the first director dies in; what it needs of the second.
fn goes_on(link: Link, method: &str, replies_by: &str) {
    let pair = Pair::new(replies_by);
    link(&pair);
    add_service(&pair, method);
    let second = &pair.directors[1];
    pair.serve_by(0);
    let downloading = download(&pair.client);
    eventually("the second director knows the connection", || {
        second.ask("-Lnc").contains("ESTABLISHED")
    });
    pair.fail_over([downloading]);
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
    goes_on(by_multicast, "-g", "directly");
}

#[test]
fn a_download_goes_on_in_nat() {
    goes_on(by_multicast, "-m", "the gateway");
}

#[test]
fn a_download_goes_on_in_a_tunnel() {
    goes_on(by_multicast, "-i", "directly");
}

#[test]
fn a_download_goes_on_in_fullnat() {
    goes_on(by_multicast, "--fullnat", "the local address");
}

#[test]
fn a_download_goes_on_in_nat_by_unicast() {
    goes_on(by_unicast, "-m", "the gateway");
}

#[test]
fn another_key_is_refused_by_name() {
    let pair = Pair::new("directly");
    with_keys(&pair, ["the secret of one", "the secret of another"]);
    add_service(&pair, "-g");
    pair.serve_by(0);
    let _downloading = download(&pair.client);
    let second = &pair.directors[1];
    eventually("the second director refuses what it hears", || {
        let refused = "a sync datagram from 10.9.0.3 is refused: its seal is not of this key";
        second.log().contains(refused)
    });
    assert_eq!(second.ask("-Lnc").matches("ESTABLISHED").count(), 0);
    let shown = second.uvs("show sync -o json");
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let backup = &shown[1];
    assert_eq!(backup["daemon"]["role"], "backup", "{shown}");
    assert_eq!(backup["numbers"]["messages"], 0, "{shown}");
    assert_ne!(backup["numbers"]["refused"], 0, "{shown}");
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
