//! Both directors are upgraded while they tell each other of connections: what was told before is known, what begins
//! after is told, and a download goes on when the first one is killed then.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::bulk;
use crate::director::{Director, eventually};
use crate::pair::{self, Pair, begins_to_answer, download};
use crate::{add_service, with_keys};

/// The clients of the established connections that a director lists.
fn established(director: &Director) -> BTreeSet<String> {
    let listed = director.ask("-Lnc");
    let established = listed.lines().filter(|line| line.contains("ESTABLISHED"));
    let client = |line: &str| line.split_whitespace().nth(3).map(str::to_owned);
    established.filter_map(client).collect()
}

/// How often a director's backup was told all.
fn told_all(director: &Director) -> u64 {
    let shown = director.uvs("show sync -o json");
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    bulk::ended(&shown[1]["numbers"], "complete")
}

#[test]
fn sync_goes_on_over_an_upgrade_of_both() {
    // What the kernel forwards is not handed over.
    let pair = Pair::with("the gateway", "--hook off");
    with_keys(&pair, ["the secret of both"; 2], "bulk = true");
    add_service(&pair, "-m");
    let (first, second) = (&pair.directors[0], &pair.directors[1]);
    pair.serve_by(0);
    let before = download(&pair.client);
    eventually("the second director knows the connection", || {
        established(second).len() == 1
    });
    let known = established(second);
    second.upgrade();
    assert_eq!(established(second), known, "it was told before");
    eventually("the second director has asked for all once more", || {
        told_all(second) == 2
    });
    first.upgrade();
    let after = download(&pair.client);
    eventually("the second director knows the next one, too", || {
        !established(second).is_subset(&known)
    });
    let told = second.uvs("show sync");
    assert!(told.contains("master") && told.contains("backup"), "{told}");
    assert!(!after.is_finished(), "the download is not over yet");
    first.kill();
    pair.serve_by(1);
    for downloading in [before, after] {
        let (bytes, longest_gap) = downloading.finish();
        assert_eq!(bytes, Ok(pair::LENGTH), "every byte as it was sent");
        assert!(longest_gap < Duration::from_secs(8), "{longest_gap:?}");
    }
    assert!(begins_to_answer(&pair.client));
}
