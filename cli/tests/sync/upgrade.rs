//! Both directors are upgraded while they tell each other of connections: what was told before is known, what begins
//! after is told, and a download goes on when the first one is killed then. They speak to a group, and each asks the other
//! for all when it first hears it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::bulk;
use crate::director::{Director, eventually};
use crate::pair::{Pair, begins_to_answer, download};
use crate::{add_service, configure};

/// The clients of the established connections that a director lists.
fn established(director: &Director) -> BTreeSet<String> {
    let listed = director.ask("-Lnc");
    let established = listed.lines().filter(|line| line.contains("ESTABLISHED"));
    let client = |line: &str| line.split_whitespace().nth(3).map(str::to_owned);
    established.filter_map(client).collect()
}

/// What a director's backup has done.
fn backup(director: &Director) -> Value {
    let shown = director.uvs("show sync -o json");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    shown[1]["numbers"].clone()
}

#[test]
fn sync_goes_on_over_an_upgrade_of_both() {
    let pair = Pair::new("the gateway");
    let bulk = || "bulk = true".to_owned();
    configure(&pair, ["the secret of both"; 2], [bulk(), bulk()]);
    add_service(&pair, "-m");
    let (first, second) = (&pair.directors[0], &pair.directors[1]);
    pair.serve_by(0);
    let before = download(&pair.client);
    eventually("the second director knows the connection", || {
        established(second).len() == 1
    });
    let known = established(second);
    let told_all = || bulk::ended(&backup(second), "complete");
    eventually("the second director was told all", || told_all() == 1);
    second.upgrade();
    assert_eq!(established(second), known, "it was told before");
    first.upgrade();
    let after = download(&pair.client);
    eventually("the second director knows the next one, too", || {
        !established(second).is_subset(&known)
    });
    eventually("the second director was told all once more", || {
        told_all() == 2
    });
    let told = backup(second);
    assert!(
        told["delay_us"].is_i64() && told["missed"].is_u64(),
        "{told}"
    );
    pair.fail_over([before, after]);
    assert!(begins_to_answer(&pair.client));
}
