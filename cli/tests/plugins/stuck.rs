//! A scheduler that never returns takes the worker with it. No plugin can be kept from that; but it is seen, it is named
//! where somebody looks, and the daemon still ends.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use uvs_lab::Mode;
use uvs_lab::probe::{Connect, connect};
use uvs_lab::share::workers;

use crate::project::c_plugin;
use crate::traffic::{Director, alone, lab, page};

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
    assert_eq!(page(&lab, "healthz"), "ok\n");
    let answer = connect(&lab.client, lab.plan.vip, Duration::from_millis(500));
    assert_eq!(answer.expect("a probe"), Connect::Silence);
    let named = format!(", for TCP {}", lab.plan.vip);
    // Of several it is the one that the probe came to.
    let (worker, missed) = match workers() {
        1 => ("the worker", "the worker is stuck: no heartbeat for"),
        _ => ("worker ", " is stuck: no heartbeat for"),
    };
    for name in ["healthz", "readyz"] {
        eventually("the worker is missed", || page(&lab, name).contains(missed));
        let text = page(&lab, name);
        assert!(
            text.contains("the scheduler plugin stuck 1.0.0: pick() has not returned for"),
            "{text}"
        );
        assert!(text.contains(&named), "{text}");
    }
    // As a line of the log, before any watchdog comes: systemd's waits for ten seconds.
    director
        .daemon
        .wait_log("the scheduler plugin stuck 1.0.0: pick() has not returned for")
        .expect("said so");
    let refused = director.refused("show services");
    assert!(refused.contains(worker), "{refused}");
    let process = director.daemon.process();
    process.signal(Signal::TERM).expect("signalled");
    eventually("SIGTERM ends it", || !process.is_running());
    let rules = lab.director.run("nft list ruleset").expect("listed");
    assert_eq!(rules, "", "the guard is gone");
}
