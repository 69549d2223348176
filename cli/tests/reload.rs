//! `uvs run --config FILE`: the example files serve, a changed file is applied as one step under running
//! traffic, and a wrong one is refused whole, at its place, while the old state keeps running. Needs root,
//! or `make test`.

#[path = "support/stand.rs"]
mod stand;

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use uvs_lab::shell::{Ended, Shell};
use uvs_lab::traffic::{Download, requests};
use uvs_lab::{Daemon, Lab, Mode, Options, VipOwner};

use stand::{Shares, ask, lab, run, shares, uvs};

/// `uvs run --config` on a lab's director.
fn configured<'lab>(lab: &'lab Lab, file: &Path) -> Daemon<'lab> {
    let line = format!("run --config {}", file.display());
    Daemon::start_with(lab, uvs(), &line).expect("uvs runs")
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(name)
}

/// The tutorial's DR set-up with these weights, on the interfaces of the example.
fn write_weights(file: &Path, rs1: u32, rs2: u32) {
    write(file, "192.168.0.18", rs1, rs2);
}

fn write(file: &Path, first: &str, weight: u32, rs2: u32) {
    let text = format!(
        "interfaces = [\"eth0\"]\n\n[[service]]\ntcp = \"192.168.0.38:80\"\nscheduler = \"wrr\"\nmode = \"dr\"\n\n\
         [[service.server]]\naddress = \"{first}\"\nweight = {weight}\n\n\
         [[service.server]]\naddress = \"192.168.0.28\"\nweight = {rs2}\n"
    );
    fs::write(file, text).expect("written");
}

#[test]
fn the_example_of_direct_routing_serves() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    example_serves(&lab, &shell, "tutorial-dr.toml", shares(30, 10));
}

#[test]
fn the_example_of_nat_serves() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    example_serves(&lab, &shell, "tutorial-nat.toml", shares(20, 20));
}

#[test]
fn the_example_of_tunnelling_serves() {
    let (lab, shell) = lab(Mode::Ipip, Options::default());
    example_serves(&lab, &shell, "tutorial-tun.toml", shares(20, 20));
}

/// One-armed: in DR's broadcast domain, with real servers that know nothing of the VIP.
#[test]
fn the_example_of_fullnat_serves() {
    let lab = Lab::build(Mode::Dr, Options::default()).expect("the lab is built");
    let shell = Shell::new(&lab, uvs()).expect("the symlinks are made");
    example_serves(&lab, &shell, "tutorial-fullnat.toml", shares(30, 10));
}

/// The file gives the table that the commands in its comments give, and that table serves.
fn example_serves(lab: &Lab, shell: &Shell, name: &str, expected: Shares) {
    let file = example(name);
    let daemon = configured(lab, &file);
    let answers = ask(lab).unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()));
    assert_eq!(answers, expected);
    let save = || {
        shell
            .succeed(&lab.director, "ipvsadm -Sn")
            .expect("it is saved")
    };
    let by_file = save();
    let text = fs::read_to_string(&file).expect("the example");
    let commands: String = text
        .lines()
        .filter_map(|line| line.strip_prefix("#   ipvsadm "))
        .map(|command| format!("ipvsadm {command}\n"))
        .collect();
    assert!(commands.lines().count() >= 3, "{commands}");
    shell
        .succeed(&lab.director, &format!("ipvsadm -C\n{commands}"))
        .expect("the comments' commands succeed");
    assert_eq!(save(), by_file);
    daemon.stop().expect("it ends well");
}

#[test]
fn a_changed_file_is_applied_under_running_traffic() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let content = lab.content("5M", 5 << 20).expect("a file");
    let file = lab.dir().join("uvs.toml");
    write_weights(&file, 3, 1);
    let mut daemon = configured(&lab, &file);
    let url = lab.plan.url("/5M?rate=1m");
    let first = Download::start(&lab.client, &url, &lab.dir().join("first")).expect("curl");
    let second = Download::start(&lab.client, &url, &lab.dir().join("second")).expect("curl");
    first.server().expect("it runs");
    second.server().expect("it runs");

    write_weights(&file, 1, 3);
    daemon.process().signal(Signal::HUP).expect("it is there");
    daemon
        .wait_log("configuration reloaded")
        .expect("it says so");
    assert_eq!(ask(&lab).expect("answers"), shares(10, 30));

    // rs1's place is taken by rs3, in one step.
    write(&file, "192.168.0.48", 3, 1);
    let reloaded = run(&lab, &shell, "uvs reload");
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    assert_eq!(reloaded.stdout, "configuration reloaded\n");
    let rs3 = Shares::of([("rs2", 10), ("rs3", 30)]);
    assert_eq!(ask(&lab).expect("answers"), rs3);

    // It comes back before anything was sent to it: as with ipvsadm, connections of a removed server wait.
    write_weights(&file, 3, 0);
    let reloaded = run(&lab, &shell, "uvs reload");
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    assert_eq!(ask(&lab).expect("answers"), shares(40, 0));
    for download in [first, second] {
        let received = download
            .finish()
            .unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()));
        received.must_equal(&content).expect("every byte");
    }
    daemon.stop().expect("it ends well");
}

#[test]
fn what_is_owned_changes_with_the_file_unless_the_command_line_says_it() {
    let options = Options {
        vip: VipOwner::Nobody,
        ..Options::default()
    };
    let (lab, shell) = lab(Mode::Dr, options);
    let file = lab.dir().join("uvs.toml");
    let write = |own: &str| {
        write_weights(&file, 3, 1);
        let text = fs::read_to_string(&file).expect("written");
        fs::write(&file, format!("own_vips = {own}\n{text}")).expect("written");
    };
    let owned = |expected: &str| {
        let info = run(&lab, &shell, "uvs show info").stdout;
        assert!(
            info.contains(&format!("owned VIPs       {expected}\n")),
            "{info}"
        );
    };
    write("\"none\"");
    let daemon = configured(&lab, &file);
    owned("-");
    for (own, expected) in [
        ("\"all\"", "192.168.0.38"),
        ("[\"192.168.0.39\"]", "-"),
        ("[\"192.168.0.39\", \"192.168.0.38\"]", "192.168.0.38"),
    ] {
        write(own);
        let reloaded = run(&lab, &shell, "uvs reload");
        assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
        owned(expected);
    }
    assert!(
        daemon
            .log()
            .contains("192.168.0.39 is the VIP of no service")
    );
    assert_eq!(ask(&lab).expect("answers"), shares(30, 10));
    write("[\"::1\"]");
    let refused = run(&lab, &shell, "uvs reload");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let said = ":1:13: own_vips: ::1 cannot be owned; it is each host's own";
    assert!(refused.stderr.contains(said), "{refused:?}");
    owned("192.168.0.38");
    let shown = run(&lab, &shell, "uvs show config").stdout;
    assert!(shown.contains("192.168.0.39,192.168.0.38"), "{shown}");
    daemon.stop().expect("it ends well");

    write("\"none\"");
    let line = format!("run --config {} --own-vip all", file.display());
    let daemon = Daemon::start_with(&lab, uvs(), &line).expect("uvs runs");
    owned("192.168.0.38");
    assert_eq!(run(&lab, &shell, "uvs reload").code, Some(0));
    owned("192.168.0.38");
    daemon.stop().expect("it ends well");
}

#[test]
fn a_sync_daemon_that_cannot_run_leaves_all_as_it_was() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let file = lab.dir().join("uvs.toml");
    let write = |rs1: u32, rs2: u32, sync: &str| {
        write_weights(&file, rs1, rs2);
        let text = fs::read_to_string(&file).expect("written");
        fs::write(&file, format!("{text}\n[sync]\n{sync}\n")).expect("written");
    };
    let master = "master = { interface = \"eth0\", syncid = 7 }";
    write(3, 1, master);
    let daemon = configured(&lab, &file);
    let daemons = || run(&lab, &shell, "ipvsadm -L --daemon").stdout;
    let (before, config) = (daemons(), run(&lab, &shell, "ipvsadm -Sn").stdout);
    assert!(
        before.starts_with("master sync daemon (mcast=eth0, syncid=7"),
        "{before}"
    );

    // The master would end, another weight hold, and a backup has no link.
    write(1, 3, "backup = { interface = \"nosuch0\" }");
    let refused = run(&lab, &shell, "uvs reload");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("nosuch0: no such interface"),
        "{refused:?}"
    );
    assert_eq!(daemons(), before);
    assert_eq!(run(&lab, &shell, "ipvsadm -Sn").stdout, config);
    assert_eq!(ask(&lab).expect("answers"), shares(30, 10));

    write(1, 3, "backup = { interface = \"eth0\" }");
    let reloaded = run(&lab, &shell, "uvs reload");
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    assert!(daemons().starts_with("backup sync daemon (mcast=eth0, syncid=0"));
    assert_eq!(ask(&lab).expect("answers"), shares(10, 30));
    daemon.stop().expect("it ends well");
}

/// Each wrong file, and what its refusal says after the file's name.
const WRONG: &[(&str, &str)] = &[
    (
        "interfaces = [\"eth0\"]\n[[service]]\ntcp = \"192.168.0.38:80\"\n[[service.server]]\n\
         address = \"192.168.0.18\"\nweight = -1\n",
        ":6:10: service.server.weight: -1 is out of range; use a whole number from 0 to 2147483647",
    ),
    (
        "interfaces = [\"eth0\"]\n[[service]]\ntcp = \"192.168.0.38:80\"\nscheduler = \"best\"\n",
        ":4:13: service.scheduler: unknown scheduler \"best\"; ",
    ),
    ("interfaces = [\"eth0\"]\n[[service]\n", ":2:11: not TOML: "),
    (
        "interfaces = [\"eth0\"]\n\n[[service]]\ntcp = \"192.168.0.38:80\"\nmode = \"fullnat\"\n\
         local_addresses = [\"192.168.0.8\", \"192.168.0.9\"]\n[[service.server]]\naddress = \"192.168.0.18:8080\"\n",
        ":6:35: service.local_addresses: 192.168.0.9 is on none of this host's interfaces; \
         add it first: ip addr add 192.168.0.9/32 dev INTERFACE",
    ),
    (
        "\ninterfaces = [\"eth1\"]\n",
        ":2:14: interfaces: differs from what the running daemon was started with; ",
    ),
    (
        "interfaces = [\"eth0\"]\n[limits]\nconnections = 5\n",
        ":3:15: limits.connections: differs from what the running daemon was started with; ",
    ),
];

#[test]
fn a_wrong_file_is_refused_whole_and_the_old_state_keeps_running() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let file = lab.dir().join("uvs.toml");
    write_weights(&file, 3, 1);
    let mut daemon = configured(&lab, &file);
    let saved = run(&lab, &shell, "ipvsadm -Sn; uvs sysctl -a").stdout;
    for (text, said) in WRONG {
        // Whatever else the file says, none of it comes in force.
        fs::write(&file, format!("{text}\n[sysctl]\nexpire_nodest_conn = 1\n")).expect("written");
        let said = format!("{}{said}", file.display());
        let refused = run(&lab, &shell, "uvs reload");
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(&said), "{said}\n{refused:?}");
        daemon.process().signal(Signal::HUP).expect("it is there");
        daemon.wait_log(&said).expect("the log has it, too");
        assert_eq!(
            run(&lab, &shell, "ipvsadm -Sn; uvs sysctl -a").stdout,
            saved
        );
    }
    assert_eq!(ask(&lab).expect("answers"), shares(30, 10));
    for (instead, said) in [
        ("", "No such file"),
        // Whoever opens it for reading waits for its writer, and there is none.
        ("mkfifo", "not a regular file"),
        ("mkdir", "not a regular file"),
    ] {
        let put = format!("rm -rf {0} && {instead} {0}", file.display());
        let put = if instead.is_empty() {
            format!("rm {}", file.display())
        } else {
            put
        };
        assert_eq!(run(&lab, &shell, &put).code, Some(0));
        let refused = run(&lab, &shell, "uvs reload");
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(said), "{refused:?}");
    }
    // They would end a process that does not ask for them; there is no log file to open again.
    for signal in [Signal::USR1, Signal::USR2] {
        daemon.process().signal(signal).expect("it is there");
    }
    assert_eq!(
        run(&lab, &shell, &format!("rmdir {}", file.display())).code,
        Some(0)
    );
    write_weights(&file, 1, 1);
    assert_eq!(run(&lab, &shell, "uvs reload").code, Some(0));
    assert_eq!(ask(&lab).expect("answers"), shares(20, 20));
    daemon.stop().expect("it ends well");
}

#[test]
fn a_daemon_without_a_file_says_so_and_goes_on() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let mut daemon = stand::serving(&lab);
    let refused = run(&lab, &shell, "uvs reload");
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("uvs run --config FILE"),
        "{refused:?}"
    );
    daemon.process().signal(Signal::HUP).expect("it is there");
    daemon
        .wait_log("uvs run --config FILE")
        .expect("the log has it, too");
    stand::must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
}

/// An interface given on the command line overrides the file's, at the start and at every reload.
#[test]
fn an_interface_of_the_command_line_does_not_stand_in_the_way_of_a_reload() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let file = lab.dir().join("uvs.toml");
    write_weights(&file, 3, 1);
    let text = fs::read_to_string(&file).expect("written");
    let elsewhere = text.replace("eth0", "bond0");
    fs::write(&file, &elsewhere).expect("written");
    let line = format!("run --config {} --interface eth0", file.display());
    let daemon = Daemon::start_with(&lab, uvs(), &line).expect("uvs runs");
    fs::write(&file, elsewhere.replace("weight = 3", "weight = 1")).expect("written");
    let reloaded = run(&lab, &shell, "uvs reload");
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    let answers = requests(&lab.client, &lab.plan.url("/"), 40).expect("answers");
    assert_eq!(answers, shares(20, 20));
    daemon.stop().expect("it ends well");
}

#[test]
fn a_wrong_file_at_the_start_leaves_nothing_behind() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let file = lab.dir().join("uvs.toml");
    let start = || -> Ended {
        let line = format!("uvs run --config {}", file.display());
        run(&lab, &shell, &line)
    };
    for (text, said) in WRONG.iter().filter(|(_, said)| said.contains("service.")) {
        fs::write(&file, text).expect("written");
        let refused = start();
        let line = said.split(':').nth(1).expect("a line");
        assert!(matches!(refused.code, Some(1 | 2)), "{refused:?}");
        let place = format!("{}:{line}:", file.display());
        assert!(refused.stderr.contains(&place), "{place}\n{refused:?}");
    }
    fs::write(&file, WRONG[0].0).expect("written");
    assert_eq!(start().code, Some(2), "an invalid file");
    fs::remove_file(&file).expect("removed");
    let refused = start();
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("No such file"), "{refused:?}");
    assert_eq!(run(&lab, &shell, "nft list ruleset").stdout, "");
}
