//! The daemon with the two capabilities that it asks for and nothing else: as ambient ones, which a service
//! manager gives, and as a file's, which `setcap` gives. Forwarding and the guard take no other program, so that nothing but
//! itself needs them; in particular there need be no `nft`. The hook takes one more, CAP_BPF.

#[path = "support/stand.rs"]
mod stand;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use stand::{eventually, lab, run, uvs};
use uvs_lab::{Lab, Mode, Options, install};

/// Debian's `nobody`.
const NOBODY: &str = "--reuid 65534 --regid 65534 --clear-groups";

#[test]
fn ambient_capabilities_are_enough() {
    serves("off", ambient("-all,+net_raw,+net_admin"));
}

#[test]
fn with_cap_bpf_there_is_a_hook() {
    if !is_real_root() {
        println!("not tried without root: a user namespace cannot load programs into the kernel");
        return;
    }
    serves("tier", ambient("-all,+net_raw,+net_admin,+bpf"));
}

/// What starts `uvs` with these capabilities.
fn ambient(given: &str) -> impl Fn(&Path, &Path) -> String {
    // Without the mapping of another user, root without root's rights.
    let who = if is_real_root() {
        NOBODY
    } else {
        "--securebits +noroot"
    };
    move |program, dir| {
        let copy = copy(program, dir);
        format!(
            "exec setpriv {who} --inh-caps {given} --ambient-caps {given} {} \"$@\"",
            copy.display()
        )
    }
}

#[test]
fn a_files_capabilities_are_enough() {
    if !is_real_root() {
        println!("not tried without root: a user namespace cannot give files capabilities");
        return;
    }
    serves("off", |program, dir| {
        let copy = copy(program, dir);
        format!(
            "setcap cap_net_raw,cap_net_admin+ep {0} && exec setpriv {NOBODY} --inh-caps -all {0} \"$@\"",
            copy.display()
        )
    });
}

/// Serves by NAT, with as much of a hook as can be had, which is `works`, and again after the guard was removed; `start`
/// makes the shell line that starts `uvs`, from the program and a directory for everybody.
fn serves(works: &str, start: impl Fn(&Path, &Path) -> String) {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let for_all = Permissions::from_mode(0o777);
    fs::set_permissions(lab.dir(), for_all).expect("everybody may write there");
    let wrapper = wrapper(&lab, &start(uvs(), lab.dir()));
    let daemon = lab.start_daemon_with(&wrapper, "--hook auto");
    let daemon = daemon.expect("uvs runs");
    let hook = daemon.uvs("show hook").expect("told").stdout;
    assert!(
        hook.contains(&format!("{works} (asked for: auto)")),
        "{hook}"
    );
    assert_eq!(hook.contains("CAP_BPF"), works == "off", "{hook}");
    let plan = &lab.plan;
    for command in [
        plan.add_service("wrr"),
        plan.add_server(0, 3),
        plan.add_server(1, 1),
    ] {
        daemon.ipvsadm(&command).expect("carried out");
    }
    stand::must_serve(&lab, &daemon);
    shell
        .succeed(&lab.director, "nft flush ruleset")
        .expect("flushed");
    if works == "off" {
        eventually("the guard is back", || {
            run(&lab, &shell, "uvs guard counters").code == Some(0)
        });
    }
    stand::must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
    let rules = shell.succeed(&lab.director, "nft list ruleset");
    assert_eq!(rules.expect("listed"), "");
}

/// A script that starts `uvs` where there is an `nft` that cannot be run.
fn wrapper(lab: &Lab, start: &str) -> PathBuf {
    let script = lab.dir().join("start");
    let text = format!(
        "#!/bin/sh\nexec unshare -m sh -c 'mount --bind /dev/null \"$(command -v nft)\" && {start}' sh \"$@\"\n"
    );
    install::script(&script, &text).expect("written");
    script
}

/// A copy of the program where everybody may run it; the checkout may lie elsewhere.
fn copy(program: &Path, dir: &Path) -> PathBuf {
    let copy = dir.join("uvs-copy");
    install::program(program, &copy).expect("copied");
    copy
}

/// Whether this is root outside of any user namespace, where every user is mapped.
fn is_real_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").expect("a map");
    rustix::process::geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}
