//! A reload on trial: it goes back by itself, whoever asked for it has long gone; unless it is confirmed.

use rustix::process::Signal;

use crate::stand::eventually;
use crate::{Configured, write};

#[test]
fn a_reload_that_nobody_confirms_goes_back() {
    let on = Configured::new("");
    let mut daemon = on.daemon();
    on.succeed("ipvsadm -A -t 192.168.0.38:443 -s rr");
    write(&on.file, [1, 9], "");
    let done = on.succeed("uvs reload --confirm 4s");
    assert!(
        done.ends_with(
            "configuration reloaded; it goes back in 4 s, unless `uvs reload --confirmed` comes before\n"
        ),
        "{done}"
    );
    assert_eq!(on.weights(), [1, 9]);
    assert!(!on.succeed("ipvsadm -ln").contains(":443"));
    // A health checker takes the second server out meanwhile, which going back must not undo; it has 9 by the file on trial,
    // and the first has what it had.
    let info = on.succeed("uvs show info");
    assert!(info.contains("reload on trial"), "{info}");
    let said = "nobody has confirmed the reload: what was in force before is again";
    daemon.wait_log(said).expect("it goes back");
    assert_eq!(on.weights(), [3, 1]);
    assert!(
        on.succeed("ipvsadm -ln").contains(":443"),
        "what ipvsadm had added is back, too"
    );
    assert!(!on.succeed("uvs show info").contains("reload on trial"));
    let differs = on.run("uvs diff");
    assert_eq!(
        differs.code,
        Some(1),
        "the file says what was reloaded: {differs:?}"
    );
    assert!(daemon.log().contains(
        "weight of 192.168.0.28:80 in TCP 192.168.0.38:80 from 9 to 1, by the daemon, as nobody has confirmed the reload"
    ));
    daemon.stop().expect("it ends well");
}

#[test]
fn one_that_is_confirmed_stays_and_one_that_is_undone_goes_at_once() {
    let on = Configured::new("");
    let mut daemon = on.daemon();
    write(&on.file, [1, 9], "");
    on.succeed("uvs reload --confirm 2s");
    assert_eq!(
        on.succeed("uvs reload --confirmed"),
        "the reload is confirmed\n"
    );
    daemon
        .wait_log("the reload is confirmed, by uid 0 pid ")
        .expect("it says so");
    let late = on.run("uvs reload --confirmed");
    assert_eq!(late.code, Some(1), "{late:?}");
    assert!(late.stderr.contains("no reload is on trial"), "{late:?}");
    // Longer than the trial would have been.
    on.succeed("sleep 3");
    assert_eq!(on.weights(), [1, 9]);

    write(&on.file, [2, 2], "");
    on.succeed("uvs reload --confirm 5m");
    // A health checker takes a server out that both files say the same of.
    write(&on.file, [4, 2], "");
    on.succeed("uvs reload --confirm 5m");
    assert_eq!(on.weights(), [4, 2], "another trial goes on from the first");
    for forbidden in ["uvs reload", "uvs upgrade"] {
        let refused = on.run(forbidden);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(
            refused.stderr.contains("a reload is on trial for")
                && refused.stderr.contains("uvs reload --undo"),
            "{refused:?}"
        );
    }
    daemon.process().signal(Signal::HUP).expect("it is there");
    daemon
        .wait_log("the configuration was not reloaded: a reload is on trial")
        .expect("it says so");
    on.succeed("uvs reload --dry-run");
    let undone = on.succeed("uvs reload --undo");
    assert!(
        undone.ends_with("the file still says what was reloaded\n"),
        "{undone}"
    );
    assert_eq!(on.weights(), [1, 9], "to where the first trial began");
    on.succeed("uvs reload");
    assert_eq!(on.weights(), [4, 2]);
    daemon.stop().expect("it ends well");
}

#[test]
fn weights_that_change_during_the_trial_are_kept() {
    let on = Configured::new("");
    let daemon = on.daemon();
    write(&on.file, [3, 9], "");
    on.succeed("uvs reload --confirm 5m");
    on.succeed("uvs weight 192.168.0.18 0");
    on.succeed("uvs sysctl net.ipv4.vs.drop_entry=2");
    let undone = on.succeed("uvs reload --undo");
    assert_eq!(
        undone,
        "taken back, as it was changed since the file was read:\n  net.ipv4.vs.drop_entry from 2 to 0\n\
         kept as it was changed since the file was read (--exact takes it back):\n  \
         weight of 192.168.0.18:80 in TCP 192.168.0.38:80: 3 in the file, 0 running\n\
         gone back to what was in force before the reload; the file still says what was reloaded\n"
    );
    assert_eq!(on.weights(), [0, 1]);
    let wrong = on.run("uvs reload --confirm 0s");
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    let long = on.run("uvs reload --confirm 25h");
    assert_eq!(long.code, Some(1), "{long:?}");
    assert!(
        long.stderr.contains("from 1 to 86400") || long.stderr.contains("1 to 86400"),
        "{long:?}"
    );
    eventually("it serves", || on.run("uvs show info").code == Some(0));
    daemon.stop().expect("it ends well");
}
