//! What a director lacks before its daemon is started, found from the configuration; what cannot be looked
//! at; and how the command itself is refused.

use std::fs;
use std::path::PathBuf;

use uvs_lab::{Mode, Options, install};

use crate::director::started;
use crate::doctor_lab::DoctorLab;
use crate::stand::{run, serving_by_guard, uvs};

/// A ward without a daemon, and a file on these interfaces.
fn planned(interfaces: &str) -> (DoctorLab, PathBuf) {
    let doctor_lab = DoctorLab::new(Mode::Dr, Options::default());
    let file = doctor_lab.lab.dir().join("uvs.toml");
    let text = format!(
        "interfaces = [{interfaces}]\n[[service]]\ntcp = \"192.168.0.38:80\"\nscheduler = \"rr\"\n\
         mode = \"dr\"\n[[service.server]]\naddress = \"192.168.0.18\"\n"
    );
    fs::write(&file, text).expect("written");
    (doctor_lab, file)
}

#[test]
fn an_interface_that_is_not_there() {
    let (doctor_lab, file) = planned("\"eth0\", \"eth9\"");
    let director = &doctor_lab.lab.director;
    let told = doctor_lab.ask(director, &format!("--config {}", file.display()));
    assert_eq!(told.code, Some(1));
    let remedy = told.of("interface_absent").expect("a finding");
    let daemon = started(&doctor_lab.lab, &remedy.command);
    let told = doctor_lab.ask(director, "");
    assert!(told.of("interface_absent").is_none(), "{:#}", told.json);
    assert_eq!(told.errors(), 0, "{:#}", told.json);
    daemon.stop().expect("it ends well");
}

#[test]
fn a_configuration_is_looked_at_without_a_daemon() {
    let (doctor_lab, file) = planned("\"eth0\"");
    let words = format!("--config {}", file.display());
    let told = doctor_lab.ask(&doctor_lab.lab.director, &words);
    assert_eq!(told.errors(), 0, "{:#}", told.json);
    let of_a_daemon = [
        "confinement",
        "vip_unguarded",
        "forward_unguarded",
        "guard_damaged",
        "guard_repaired",
        "hook_detached",
        "hook_others",
        "hook_unpinned",
        "nat_no_reply",
        "fullnat_no_reply",
        "server_no_answers",
    ];
    assert_eq!(told.not_made(), of_a_daemon);
    // Nobody keeps its neighbours, so they are asked.
    doctor_lab.run(&doctor_lab.lab.servers[0].host, "ip link set dev eth0 down");
    doctor_lab.run(&doctor_lab.lab.director, "ip neigh flush dev eth0");
    let told = doctor_lab.ask(&doctor_lab.lab.director, &words);
    assert!(told.of("neighbour_unresolved").is_some(), "{:#}", told.json);
}

#[test]
fn what_a_killed_daemon_left() {
    let (doctor_lab, file) = planned("\"eth0\"");
    let lab = &doctor_lab.lab;
    let daemon = serving_by_guard(lab);
    let kill = format!(
        "kill -9 {0}; while grep -q @uvs-guard /proc/net/unix; do sleep 0.05; done",
        daemon.id()
    );
    let words = format!("--config {}", file.display());
    doctor_lab.found_and_fixed(
        &lab.director,
        &words,
        "guard_leftover",
        (&lab.director, &kill),
    );
}

/// As a monitor runs it: a line, what is counted, and the code that it goes by.
#[test]
fn a_monitor_is_told_in_its_own_way() {
    let (doctor_lab, file) = planned("\"eth9\"");
    let lab = &doctor_lab.lab;
    let asked = |words: &str, code: i32, line: &str| {
        let words = format!("uvs doctor --nagios {words}");
        let ended = run(lab, &doctor_lab.shell, &words);
        assert_eq!(ended.code, Some(code), "{words}: {ended:?}");
        assert!(ended.stdout.starts_with(line), "{words}: {ended:?}");
        ended.stdout
    };
    for (words, code, line) in [
        ("--role director", 2, "UVS CRITICAL - "),
        ("", 3, "UVS UNKNOWN - "),
    ] {
        let said = asked(words, code, line);
        assert!(said.contains("no daemon answers here"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let planned = format!("--config {} --only interface_absent", file.display());
    asked(
        &planned,
        2,
        "UVS CRITICAL - 1 errors, 0 warnings: interface_absent: ",
    );
    let daemon = serving_by_guard(lab);
    asked(
        "--role director --only capabilities",
        0,
        "UVS OK - 0 errors, 0 warnings: the daemon ",
    );
    let counted = run(
        lab,
        &doctor_lab.shell,
        "uvs doctor --nagios --only capabilities",
    );
    let (line, rest) = counted.stdout.split_once('\n').expect("lines");
    let counted = " | errors=0;;0;0 warnings=0;0;;0 notes=0;;;0 ok=1;;;0 not_made=0;;;0";
    assert!(line.ends_with(counted), "{line}");
    assert!(rest.contains("ok       capabilities"), "{rest}");
    daemon.stop().expect("it ends well");
}

/// The shell's own limit, which the remedy raises in the same shell.
#[test]
fn a_limit_of_address_space() {
    let (doctor_lab, file) = planned("\"eth0\"");
    let words = format!("--config {} --only address_space", file.display());
    let limit = "ulimit -S -v 250000; ";
    let told = doctor_lab.ask_after(limit, &doctor_lab.lab.director, &words);
    let remedy = told.of("address_space").expect("a finding");
    let fixed = format!("{limit}{}; ", remedy.command);
    let told = doctor_lab.ask_after(&fixed, &doctor_lab.lab.director, &words);
    assert_eq!(told.seen("address_space"), "unlimited");
}

/// Whoever runs this without capabilities, with a copy of the program that may be given some.
#[test]
fn capabilities_and_what_cannot_be_looked_at_without_them() {
    let (doctor_lab, file) = planned("\"eth0\"");
    let program = doctor_lab.lab.dir().join("bin/uvs");
    fs::remove_file(&program).expect("the symlink goes");
    install::program(uvs(), &program).expect("copied");
    let nobody = "setpriv --securebits +noroot --ambient-caps -all --inh-caps -all ";
    let words = format!("--config {}", file.display());
    let told = doctor_lab.ask_after(nobody, &doctor_lab.lab.director, &words);
    let unseen = told.not_made();
    for id in [
        "netdev_ingress",
        "vip_duplicate",
        "server_answers_arp",
        "firewall_bypassed",
        "firewall_unheeded",
    ] {
        assert!(unseen.contains(&id), "{id}: {:#}", told.json);
    }
    let remedy = told.of("capabilities").expect("a finding");
    let given = format!("setcap cap_net_raw,cap_net_admin+ep {}", program.display());
    assert_eq!(remedy.command, given);
    if !rustix::process::geteuid().is_root() {
        println!(
            "not tried without root: {given} (a user namespace cannot give files capabilities)"
        );
        return;
    }
    doctor_lab.run(&doctor_lab.lab.director, &remedy.command);
    let told = doctor_lab.ask_after(nobody, &doctor_lab.lab.director, &words);
    assert!(told.of("capabilities").is_none(), "{:#}", told.json);
    assert!(
        !told.not_made().contains(&"vip_duplicate"),
        "{:#}",
        told.json
    );
}

/// A kernel without the hook cannot be had here; an nft that says so can.
#[test]
fn a_kernel_without_the_hook() {
    let (doctor_lab, file) = planned("\"eth0\"");
    let nft = doctor_lab.lab.dir().join("bin/nft");
    let complaint =
        "#!/bin/sh\necho 'Error: Could not process rule: Operation not supported' >&2\nexit 1\n";
    install::script(&nft, complaint).expect("written");
    let words = format!("--config {} --only netdev_ingress", file.display());
    let told = doctor_lab.ask(&doctor_lab.lab.director, &words);
    let remedy = told.of("netdev_ingress").expect("a finding");
    assert_eq!(remedy.command, "modprobe nf_tables");
    fs::remove_file(&nft).expect("removed");
    let told = doctor_lab.ask(&doctor_lab.lab.director, &words);
    assert_eq!(told.seen("netdev_ingress"), "nft can hook eth0");
}

#[test]
fn refusals_have_exit_codes_of_their_own() {
    let (doctor_lab, file) = planned("\"eth0\"");
    let lab = &doctor_lab.lab;
    let cases = [
        ("uvs doctor", 3, "no daemon answers"),
        ("uvs doctor --role director", 3, "no daemon answers"),
        ("uvs doctor --role rs", 2, "--vip"),
        ("uvs doctor --vip 10.0.0.1", 2, "--mode"),
        ("uvs doctor --role director --vip 10.0.0.1", 2, "--role rs"),
        ("uvs doctor --only rp_filtre", 2, "is it rp_filter?"),
        ("uvs doctor --config /nowhere", 2, "/nowhere"),
    ];
    for (line, code, says) in cases {
        let ended = run(lab, &doctor_lab.shell, line);
        assert_eq!(ended.code, Some(code), "{line}: {ended:?}");
        assert!(ended.stderr.contains(says), "{line}: {ended:?}");
    }
    let text = run(
        lab,
        &doctor_lab.shell,
        &format!("uvs doctor --config {}", file.display()),
    );
    assert_eq!(text.code, Some(0), "{text:?}");
    assert!(text.stdout.contains("ok       rp_filter"), "{text:?}");
}
