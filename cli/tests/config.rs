//! `uvs check` as it is run: the examples are valid, and a mistake is shown as people will see it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn check(file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_uvs"))
        .arg("check")
        .arg(file)
        .output()
        .expect("uvs runs")
}

/// Checks `text` as `bad.toml` and returns what was said, which must be on standard error with exit 2.
fn complaint(text: &str) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("bad.toml"), text).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_uvs"))
        .current_dir(&dir)
        .args(["check", "bad.toml"])
        .output()
        .expect("uvs runs");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[test]
fn every_example_is_valid() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let files: Vec<PathBuf> = std::fs::read_dir(examples)
        .expect("the examples")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    assert!(files.len() >= 4, "the tutorial's three set-ups and FULLNAT");
    for file in files {
        let output = check(&file);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(
            said.contains("valid: 1 service with 2 servers on eth0"),
            "{said}"
        );
    }
}

#[test]
fn the_manuals_examples_are_valid() {
    for manual in [
        "../docs/configuration.md",
        "../docs/access.md",
        "../docs/connection-log.md",
        "../docs/client-address.md",
        "../README.md",
    ] {
        let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join(manual);
        let text = std::fs::read_to_string(manual).expect("the manual");
        let blocks: Vec<&str> = text.split("```toml\n").skip(1).collect();
        assert!(!blocks.is_empty(), "a block of TOML");
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("manual.toml");
        std::fs::write(dir.path().join("deny.txt"), "192.0.2.0/24\n").expect("written");
        for rest in blocks {
            let block = rest.split("```").next().unwrap_or_default();
            let block = block.replace("/etc/uvs", &dir.path().display().to_string());
            std::fs::write(&file, block).expect("written");
            assert_eq!(check(&file).status.code(), Some(0), "{:?}", check(&file));
        }
    }
}

#[test]
fn a_wrong_value_is_shown_with_a_caret_and_what_would_be_right() {
    let said = complaint(
        "[[service]]\ntcp = \"192.168.0.38:80\"\nscheduler = \"wrr\"\n\n\
         [[service.server]]\naddress = \"192.168.0.18\"\nweight = -1\n",
    );
    let expected = r#"  x service.server.weight: -1 is out of range
   ,-[bad.toml:7:10]
 6 | address = "192.168.0.18"
 7 | weight = -1
   :          ^^
   `----
  help: use a whole number from 0 to 2147483647

bad.toml: 1 error
"#;
    assert_eq!(said, expected);
}

#[test]
fn a_repetition_is_shown_beside_the_first_and_all_mistakes_come_at_once() {
    let said = complaint(
        "interface = [\"eth0\"]\n\n[[service]]\ntcp = \"192.168.0.38:80\"\nscheduler = \"wrr\"\n\n\
         [[service]]\ntcp = \"192.168.0.38:80\"\nscheduler = \"rr\"\n",
    );
    let expected = r#"  x interface: unknown key
   ,-[bad.toml:1:1]
 1 | interface = ["eth0"]
   : ^^^^^^^^^
 2 | 
   `----
  help: did you mean "interfaces"? keys at the top: interfaces, own_vips, socket, metrics, limits, timeouts, sysctl, plugins, deny, allow, deny_file, allow_file, host_firewall, connection_log, hook, workers, worker_cpus, busy_poll, confinement, sync, service

  x service.tcp: service TCP 192.168.0.38:80 twice
   ,-[bad.toml:8:7]
 3 | [[service]]
 4 | tcp = "192.168.0.38:80"
   :       ^^^^^^^^|^^^^^^^^
   :               `-- first here
 5 | scheduler = "wrr"
 6 | 
 7 | [[service]]
 8 | tcp = "192.168.0.38:80"
   :       ^^^^^^^^|^^^^^^^^
   :               `-- again here
 9 | scheduler = "rr"
   `----
  help: put all its servers under one [[service]]

bad.toml: 2 errors
"#;
    assert_eq!(said, expected);
}

#[test]
fn an_unknown_scheduler_is_answered_with_the_known_ones() {
    let said = complaint("[[service]]\ntcp = \"10.0.0.1:80\"\nscheduler = \"fastest\"\n");
    assert!(said.contains("unknown scheduler \"fastest\""), "{said}");
    assert!(said.contains("schedulers: rr, wrr, lc"), "{said}");
}

#[test]
fn lrt_where_replies_are_not_seen_is_valid_with_a_warning() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("lrt.toml");
    let warned = |service: &str| {
        let server = "[[service.server]]\naddress = \"10.0.0.2\"\n";
        let text = format!("[[service]]\n{service}\nscheduler = \"lrt\"\n{server}");
        std::fs::write(&file, text).expect("written");
        let output = check(&file);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    let said = warned("tcp = \"10.0.0.1:80\"");
    assert!(
        said.contains("lrt.toml: warning: TCP 10.0.0.1:80: scheduler \"lrt\" cannot measure server 10.0.0.2:80"),
        "{said}"
    );
    assert!(said.contains("acts as wlc): use mode = \"nat\""), "{said}");
    let said = warned("udp = \"10.0.0.1:53\"\nmode = \"nat\"");
    assert!(said.contains("here it acts as wlc"), "{said}");
    assert_eq!(warned("tcp = \"10.0.0.1:80\"\nmode = \"nat\""), "");
}

#[test]
fn an_address_to_be_owned_that_no_service_has_is_valid_with_a_warning() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("own.toml");
    let warned = |own: &str| {
        let services = "[[service]]\ntcp = \"10.0.0.1:80\"\n\
                        [[service]]\nfwmark = 1\nmatch = [\"any 10.0.0.2\", \"tcp 10.9.0.0/16:80\"]\n";
        std::fs::write(&file, format!("own_vips = {own}\n{services}")).expect("written");
        let output = check(&file);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    assert_eq!(warned("[\"10.0.0.1\", \"10.0.0.2\"]"), "");
    assert_eq!(warned("\"all\""), "");
    let said = warned("[\"10.0.0.1\", \"10.9.0.1\"]");
    let expected = "own.toml: warning: own_vips: 10.9.0.1 is the VIP of no service: it is not answered for until one has it\n";
    assert!(said.ends_with(expected), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn an_empty_file_is_valid_and_balances_nothing() {
    let output = check(Path::new("/dev/null"));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.starts_with("/dev/null: warning: there is no [[service]]"),
        "{said}"
    );
}

#[test]
fn programs_are_told_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let told = |text: &str, how: &[&str], code: i32| {
        std::fs::write(dir.path().join("x.toml"), text).expect("written");
        let mut uvs = Command::new(env!("CARGO_BIN_EXE_uvs"));
        let uvs = uvs.current_dir(&dir).args(["check", "x.toml"]).args(how);
        let output = uvs.output().expect("uvs runs");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON")
    };
    let service =
        "[[service]]\ntcp = \"10.0.0.1:80\"\n[[service.server]]\naddress = \"10.0.0.1\"\n";
    let right = told(service, &["--json"], 0);
    assert_eq!(right["valid"], true);
    assert_eq!(
        (&right["services"], &right["servers"]),
        (&1.into(), &1.into())
    );
    let warning = right["warnings"][0].as_str().expect("a warning");
    assert!(warning.contains("has the VIP's own address"), "{warning}");
    let wrong = told("[limits]\nconnections = 0\n", &["-o", "json"], 2);
    let error = &wrong["errors"][0];
    assert_eq!(wrong["valid"], false);
    assert_eq!((&error["line"], &error["column"]), (&2.into(), &15.into()));
    assert_eq!(error["key"], "limits.connections");
    let broken = told("[", &["--json"], 2);
    assert_eq!(broken["errors"].as_array().map(Vec::len), Some(1));
}

#[test]
fn help_is_where_people_look_for_it() {
    let said = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_uvs")).args(words).output();
        let output = output.expect("uvs runs");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(said(&["help", "doctor"]), said(&["doctor", "--help"]));
    let version = said(&["--version"]);
    assert!(version.starts_with("uvs 0."), "{version}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    for file in [dir.path().to_owned(), dir.path().join("none.toml")] {
        let output = check(&file);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with(&file.display().to_string()), "{said}");
    }
}

#[test]
fn what_is_wrong_with_metrics_is_said() {
    let said = complaint("[metrics]\naddress = \"9650\"\ncompat = \"lvs\"\nmax_backends = -1\n");
    for part in [
        "metrics.address: metrics cannot be served on \"9650\"",
        "use ADDRESS:PORT, such as 127.0.0.1:9650 or [::]:9650, or \"off\"",
        "metrics.compat: ",
        "node_ipvs",
        "metrics.max_backends: -1 is out of range",
        "3 errors",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
}
