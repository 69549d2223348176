//! A director that comes in the middle of a download, and of which no datagram tells it any more: it asks for all, is told
//! if it has the key, and the download goes on when the other one is killed. All of it in IPv6, by FULLNAT.

use serde_json::Value;

use crate::director::{Director, eventually};
use crate::pair::{LOCAL6, Pair, SERVER6, VIP6, download_from};

const SECRET: &str = "the secret of both";

/// Configures a director with the service and one sync daemon; the other director has this address.
fn configure(director: &Director, role: &str, other: &str, secret: &str) {
    let key = director.dir().join("sync.key");
    std::fs::write(&key, secret).expect("a file");
    director.configure(&format!(
        "[sysctl]\nsync_threshold = \"3 0\"\n\
         [sync.{role}]\ninterface = \"eth0\"\nsyncid = 7\npeers = [\"{other}\"]\nkey_file = \"{}\"\nbulk = true\n\
         [[service]]\ntcp = \"[{VIP6}]:80\"\nscheduler = \"rr\"\nmode = \"fullnat\"\nlocal_addresses = [\"{LOCAL6}\"]\n\
         [[service.server]]\naddress = \"[{SERVER6}]:80\"\n",
        key.display()
    ));
}

/// What a director's sync daemon has done.
fn numbers(director: &Director) -> Value {
    let shown = director.uvs("show sync -o json");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    shown[0]["numbers"].clone()
}

/// How often a transfer had a result.
pub(crate) fn ended(numbers: &Value, result: &str) -> u64 {
    let results = numbers["bulk"].as_array().expect("results");
    let found = results.iter().find(|found| found[0] == result);
    found.map_or(0, |found| found[1].as_u64().expect("a number"))
}

#[test]
fn who_joins_in_a_download_is_told_of_it_with_the_key_and_not_without() {
    let pair = Pair::new("the local address");
    let (first, second) = (&pair.directors[0], &pair.directors[1]);
    pair.serve_by(0);
    configure(first, "master", "fd09::4", SECRET);
    configure(second, "backup", "fd09::3", "the secret of another");
    eventually("the first one refuses the other key by name", || {
        let refused = "fd09::4 asks for all, and is not told: what it says is not of this key";
        first.log().contains(refused) && ended(&numbers(first), "key") > 0
    });
    assert_eq!(ended(&numbers(second), "closed"), 1);
    let downloading = download_from(&pair.client, VIP6.into());
    eventually("the connection was told of, to nobody", || {
        numbers(first)["messages"] == 1
    });
    assert_eq!(numbers(second)["entries"], 0);

    second.configure("");
    configure(second, "backup", "fd09::3", SECRET);
    eventually("the second one was told all", || {
        let told = numbers(second);
        ended(&told, "complete") == 1 && told["bulk_messages"] == 1 && told["entries"] == 1
    });
    assert_eq!(numbers(second)["datagrams"], 0, "not by a datagram");
    assert_eq!(ended(&numbers(first), "complete"), 1);
    assert!(second.ask("-Lnc").contains("ESTABLISHED"));
    pair.fail_over([downloading]);
}
