//! `uvs diff`, and what a reload keeps and takes back.

use std::fs;

use crate::stand::eventually;
use crate::{Configured, write};

const RS1: &str = "192.168.0.18:80 in TCP 192.168.0.38:80";
const RS2: &str = "192.168.0.28:80 in TCP 192.168.0.38:80";

#[test]
fn what_runs_is_compared_with_the_file() {
    let on = Configured::new("");
    let daemon = on.daemon();
    let drift = |places: u32| {
        let line = format!("uvs_config_drift {places}\n");
        let scrape = "curl -sf http://127.0.0.1:9650/metrics";
        eventually(&line, || on.run(scrape).stdout.contains(&line));
    };
    let same = on.run("uvs diff");
    assert_eq!((same.code, same.stdout.as_str()), (Some(0), ""), "{same:?}");
    drift(0);
    on.succeed("uvs weight 192.168.0.18 5");
    on.succeed("ipvsadm -A -t 192.168.0.38:443 -s rr");
    let differs = on.run("uvs diff");
    assert_eq!(differs.code, Some(1), "{differs:?}");
    assert_eq!(
        differs.stdout,
        format!(
            "weight of {RS1}: 3 in the file, 5 running\n\
             service TCP 192.168.0.38:443 (rr): only running\n"
        )
    );
    drift(2);
    let told = on.run("uvs diff -o json");
    assert_eq!(told.code, Some(1), "{told:?}");
    let told: serde_json::Value = serde_json::from_str(&told.stdout).expect("JSON");
    assert_eq!(told["same"], false);
    let first = &told["differences"][0];
    assert_eq!(
        (&first["before"], &first["after"]),
        (&"3".into(), &"5".into())
    );
    assert_eq!(
        (&first["what"], &first["field"]),
        (&"server".into(), &"weight".into())
    );
    // Another file, and one that is none.
    let other = on.lab.dir().join("other.toml");
    write(&other, [5, 9], "on_removal = \"tell\"");
    let differs = on.run(&format!("uvs diff {}", other.display()));
    assert_eq!(differs.code, Some(1), "{differs:?}");
    assert_eq!(
        differs.stdout,
        format!(
            "on_removal of TCP 192.168.0.38:80: tell in the file, keep running\n\
             weight of {RS2}: 9 in the file, 1 running\n\
             service TCP 192.168.0.38:443 (rr): only running\n"
        )
    );
    fs::write(
        &other,
        "interfaces = [\"eth0\"]\n[[service]]\ntcp = \"x\"\n",
    )
    .expect("written");
    let trouble = on.run(&format!("uvs diff {}", other.display()));
    assert_eq!(
        (trouble.code, trouble.stdout.as_str()),
        (Some(2), ""),
        "{trouble:?}"
    );
    assert!(trouble.stderr.contains("service.tcp"), "{trouble:?}");
    assert_eq!(on.run("uvs diff /nonexistent").code, Some(2));
    daemon.stop().expect("it ends well");
    assert_eq!(on.run("uvs diff").code, Some(2), "no daemon is trouble");
}

#[test]
fn a_reload_keeps_live_weights_and_says_what_it_takes_back() {
    let on = Configured::new("");
    let mut daemon = on.daemon();
    on.succeed("uvs drain --no-wait 192.168.0.28");
    on.succeed("ipvsadm -e -t 192.168.0.38:80 -r 192.168.0.18:80 -g -w 7");
    on.succeed("ipvsadm -A -t 192.168.0.38:443 -s rr");
    on.succeed("uvs sysctl net.ipv4.vs.drop_entry=1");
    let kept = format!(
        "kept as it was changed since the file was read (--exact takes it back):\n  \
         weight of {RS2}: 1 in the file, 0 running\n"
    );
    // The file says something else of the first server now, and what it did of the second.
    write(&on.file, [4, 1], "on_removal = \"tell\"");
    let tried = on.run("uvs reload --dry-run");
    assert_eq!(tried.code, Some(0), "{tried:?}");
    assert_eq!(
        tried.stdout,
        format!(
            "a reload would change:\n  on_removal of TCP 192.168.0.38:80 from keep to tell\n\
             and take back what was changed since the file was read:\n  \
             service TCP 192.168.0.38:443 removed (rr)\n  \
             weight of {RS1} from 7 to 4\n  \
             net.ipv4.vs.drop_entry from 1 to 0\n\
             {kept}nothing was changed\n"
        )
    );
    assert_eq!(on.weights(), [7, 0], "nothing was changed");
    let done = on.succeed("uvs reload");
    assert_eq!(
        done,
        format!(
            "taken back, as it was changed since the file was read:\n  \
             service TCP 192.168.0.38:443 removed (rr)\n  \
             weight of {RS1} from 7 to 4\n  \
             net.ipv4.vs.drop_entry from 1 to 0\n\
             {kept}configuration reloaded\n"
        )
    );
    assert_eq!(on.weights(), [4, 0]);
    for told in [
        format!(
            "the reload takes back what was changed since: service TCP 192.168.0.38:443 removed (rr); \
             weight of {RS1} from 7 to 4; net.ipv4.vs.drop_entry from 1 to 0, by uid 0 pid "
        ),
        format!(
            "the reload keeps weights that were changed since: weight of {RS2}: 1 in the file, 0 running, by uid 0"
        ),
        "on_removal of TCP 192.168.0.38:80 from keep to tell, by uid 0".to_owned(),
    ] {
        daemon
            .wait_log(&told)
            .unwrap_or_else(|e| panic!("{told}: {e}"));
    }
    let undrained = on.succeed("uvs undrain 192.168.0.28");
    assert_eq!(
        undrained,
        "TCP 192.168.0.38:80: server 192.168.0.28:80: weight 0 -> 1\n"
    );
    on.succeed("uvs weight 192.168.0.28 6");
    on.succeed("uvs reload --exact");
    assert_eq!(on.weights(), [4, 1]);
    daemon.stop().expect("it ends well");
}

#[test]
fn a_refused_reload_is_told_with_who_asked() {
    let on = Configured::new("");
    let mut daemon = on.daemon();
    fs::write(&on.file, "interfaces = 1\n").expect("written");
    assert_eq!(on.run("uvs reload --dry-run").code, Some(1));
    assert_eq!(on.run("uvs reload").code, Some(1));
    let refused = "refused: to reload the configuration: ";
    daemon.wait_log(refused).expect("it says so");
    let log = daemon.log();
    let line = log
        .lines()
        .find(|line| line.contains(refused))
        .expect("it is there");
    assert!(
        line.contains("uvs.toml:1:14: interfaces: ") && line.ends_with("(uvs reload)"),
        "{line}"
    );
    daemon.stop().expect("it ends well");
}

#[test]
fn live_weights_are_known_after_an_upgrade() {
    let on = Configured::new("");
    let _daemon = on.daemon();
    on.succeed("uvs drain --no-wait 192.168.0.28");
    // Written before the upgrade and loaded after it.
    write(&on.file, [5, 1], "");
    let upgraded = on.succeed("uvs upgrade");
    let words: Vec<&str> = upgraded.split_whitespace().collect();
    assert_eq!(words[..4].join(" "), "the daemon with pid", "{upgraded}");
    assert_eq!(on.weights(), [3, 0]);
    on.succeed("uvs reload");
    assert_eq!(on.weights(), [5, 0], "the file's new weight, and the drain");
    on.succeed("uvs undrain 192.168.0.28");
    assert_eq!(on.weights(), [5, 1], "what it had is known still");
    stop(&on);
}

/// Ends the daemon that has taken over.
fn stop(on: &Configured) {
    on.succeed("kill $(uvs show info -o json | sed -n 's/.*\"pid\": \\([0-9]*\\).*/\\1/p')");
    eventually("it ends", || on.run("uvs show info").code == Some(3));
}
