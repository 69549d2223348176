//! Every mode, told apart only and forwarded: shares, bytes both ways, and who has moved the frames.

use uvs_lab::traffic::{download, upload};
use uvs_lab::{Mode, Options};

use crate::director::{Bpffs, connect, on_all_ports, serving, told};
use crate::stand::{ask_over, eventually, lab, must_serve};

const LENGTH: u64 = 30 << 20;
/// Requests over one connection.
const REQUESTS: u64 = 100;

fn serves(mode: Mode, hook: &str) {
    let (lab, _) = lab(mode, Options::default());
    let bpffs = Bpffs::new();
    let daemon = serving(&lab, &bpffs, hook);
    assert_eq!(told(&daemon, "hook")["works"], hook);
    must_serve(&lab, &daemon);
    let content = lab.content("30M", LENGTH).expect("content");
    let url = |path| lab.plan.url(path);
    let down = download(&lab.client, &url("/30M"), &lab.dir().join("down")).expect("a download");
    down.must_equal(&content).expect("every byte");
    let up = upload(&lab, &lab.client, &url("/upload/30M"), &content).expect("an upload");
    up.must_equal(&content).expect("every byte");

    let mut stream = connect(&lab);
    ask_over(&mut stream);
    let before = ["forwarded", "ours"].map(|key| on_all_ports(&daemon, key));
    (0..REQUESTS).for_each(|_| drop(ask_over(&mut stream)));
    let after = ["forwarded", "ours"].map(|key| on_all_ports(&daemon, key));
    let [forwarded, ours] = [0, 1].map(|i| after[i] - before[i]);
    let place = told(&daemon, "conns");
    match hook {
        "guard" => {
            assert!(forwarded == 0 && ours >= REQUESTS, "{forwarded} {ours}");
        }
        _ => {
            assert!(
                forwarded >= REQUESTS && ours < REQUESTS / 10,
                "{forwarded} {ours}"
            );
            let all = place.as_array().expect("a list");
            assert!(all.iter().any(|c| c["in_kernel"] == true), "{place}");
        }
    }
    let tables = lab.director.run("nft list tables").expect("nft runs");
    assert!(!tables.contains("uvs"), "{tables}");
    drop(stream);
    eventually("no connection stays open", || {
        let all = told(&daemon, "conns");
        let mut all = all.as_array().expect("a list").iter();
        !all.any(|c| c["state"] == "ESTABLISHED")
    });
    daemon.stop().expect("it ends well");
    assert!(bpffs.pinned().is_empty(), "{:?}", bpffs.pinned());
}

/// A mode's tests.
macro_rules! mode {
    ($name:ident, $mode:ident) => {
        mod $name {
            #[test]
            fn is_told_apart() {
                super::serves(uvs_lab::Mode::$mode, "guard");
            }

            #[test]
            fn is_forwarded() {
                super::serves(uvs_lab::Mode::$mode, "tier");
            }
        }
    };
}

mode!(dr, Dr);
mode!(nat, Nat);
mode!(fullnat, FullNat);
mode!(ipip, Ipip);
