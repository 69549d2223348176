//! A scheduler that never returns takes the worker with it. No plugin can be kept from that; but it is seen, and
//! the daemon still ends.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use uvs_lab::Mode;
use uvs_lab::probe::{Connect, connect};

use crate::project::c_plugin;
use crate::traffic::{Director, alone, lab};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not so after {PATIENCE:?}");
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_worker_that_is_stuck_is_seen_and_the_daemon_ends() {
    let _alone = alone();
    let lab = lab(Mode::Nat);
    let mut director = Director::start(&lab);
    let stuck = c_plugin(
        lab.dir(),
        "s",
        "stuck",
        "1.0.0",
        "for (;;) sleep(1); return UVS_NONE;",
    );
    director.install(&stuck, "libstuck.so");
    director.serve("stuck", [1, 1, 1]);
    let page = |name: &str| {
        let url = format!("http://127.0.0.1:9650/{name}");
        lab.director.run(&format!("curl -s {url}"))
    };
    assert_eq!(page("healthz").expect("served"), "ok\n");
    let answer = connect(&lab.client, lab.plan.vip, Duration::from_millis(500));
    assert_eq!(answer.expect("a probe"), Connect::Silence);
    for name in ["healthz", "readyz"] {
        eventually("the worker is missed", || {
            page(name).is_ok_and(|text| text.contains("the worker is stuck: no heartbeat for"))
        });
    }
    let refused = director.refused("show services");
    assert!(refused.contains("the worker"), "{refused}");
    let process = director.daemon.process();
    process.signal(Signal::TERM).expect("signalled");
    eventually("SIGTERM ends it", || !process.is_running());
    let rules = lab.director.run("nft list ruleset").expect("listed");
    assert_eq!(rules, "", "the guard is gone");
}
