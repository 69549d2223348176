//! `up` sets what its mode needs; `down` leaves the host as `up` found it.

use std::process::Command;

use uvs_lab::install;

use crate::netns::{Pair, Ran, SENDER, VIP, VIP2};

#[test]
fn dr_puts_the_vip_on_lo_and_silences_arp_and_down_restores_what_was() {
    let pair = Pair::new();
    pair.server.set("r0", "arp_announce", "1");
    pair.server.set("lo", "arp_ignore", "3");
    let before = pair.server.snapshot();

    pair.rs_ok(&format!("up --mode dr --vip {VIP}"));
    for device in ["all", "lo", "r0"] {
        assert_eq!(pair.server.get(device, "arp_ignore"), "1", "{device}");
        assert_eq!(pair.server.get(device, "arp_announce"), "2", "{device}");
    }
    assert!(
        pair.server
            .ip("-4 address show dev lo")
            .contains(&format!("inet {VIP}/32 "))
    );
    assert_eq!(
        pair.rs_ok(&format!("check --mode dr --vip {VIP}")),
        "fine: nothing to fix\n"
    );

    pair.rs_ok(&format!("down --mode dr --vip {VIP}"));
    assert_eq!(pair.server.snapshot(), before);
    assert_eq!(pair.state_file("json"), None);
}

#[test]
fn the_facing_device_is_the_one_given_or_that_of_the_vips_network() {
    let pair = Pair::new();
    pair.server.ip("link add x0 type veth peer name x1");
    for (arguments, silenced, untouched) in [("", "r0", "x0"), ("--interface x0", "x0", "r0")] {
        pair.rs_ok(&format!("up --mode dr --vip {VIP} {arguments}"));
        assert_eq!(pair.server.get(silenced, "arp_ignore"), "1", "{arguments}");
        assert_eq!(pair.server.get(untouched, "arp_ignore"), "0", "{arguments}");
        pair.rs_ok(&format!("down --mode dr --vip {VIP}"));
    }
}

#[test]
fn ipip_makes_a_tunnel_device_and_down_removes_it() {
    let pair = Pair::new();
    pair.server.set("all", "rp_filter", "1");
    let before = pair.server.snapshot();

    pair.rs_ok(&format!("up --mode ipip --vip {VIP}"));
    let device = if pair.server.ip("-br link show").contains("uvs-tunl0") {
        "uvs-tunl0"
    } else {
        "tunl0"
    };
    assert!(
        pair.server
            .ip(&format!("-4 address show dev {device} up"))
            .contains(&format!("{VIP}/32 "))
    );
    for on in ["all", device] {
        assert_eq!(pair.server.get(on, "rp_filter"), "0", "{on}");
    }
    for on in ["all", device, "r0"] {
        assert_eq!(pair.server.get(on, "arp_ignore"), "1", "{on}");
        assert_eq!(pair.server.get(on, "arp_announce"), "2", "{on}");
    }
    assert_eq!(
        pair.rs_ok(&format!("check --mode ipip --vip {VIP}")),
        "fine: nothing to fix\n"
    );

    pair.rs_ok(&format!("down --mode ipip --vip {VIP}"));
    assert_eq!(pair.server.snapshot(), before);
    assert_eq!(pair.state_file("pid"), None);
}

#[test]
fn nat_makes_the_director_the_default_gateway_and_down_brings_the_old_one_back() {
    for (found, effective) in [
        (&[][..], None),
        (
            &["default via 10.9.0.1 dev r0 proto static src 10.9.0.3"],
            Some("10.9.0.1"),
        ),
        (
            &[
                "default via 10.9.0.1 dev r0",
                "default via 10.9.0.9 dev r0 metric 100",
            ],
            Some("10.9.0.1"),
        ),
        (
            &["default nexthop via 10.9.0.1 dev r0 weight 2 nexthop via 10.9.0.9 dev r0"],
            None,
        ),
    ] {
        let pair = Pair::new();
        for route in found {
            pair.server.ip(&format!("route add {route}"));
        }
        let before = pair.server.snapshot();
        let first_gateway = || pair.server.ip("route get 203.0.113.1");

        pair.rs_ok(&format!("up --mode nat --vip {VIP} --gateway {SENDER}"));
        assert!(
            first_gateway().contains(&format!("via {SENDER} ")),
            "{found:?}"
        );
        pair.rs_ok(&format!("check --mode nat --vip {VIP} --gateway {SENDER}"));

        pair.rs_ok(&format!("down --mode nat --vip {VIP}"));
        assert_eq!(pair.server.snapshot(), before);
        if let Some(gateway) = effective {
            assert!(
                first_gateway().contains(&format!("via {gateway} ")),
                "{found:?}"
            );
        }
    }
}

#[test]
fn nat_without_a_gateway_only_looks() {
    let pair = Pair::new();
    let before = pair.server.snapshot();
    let ran = pair.rs(&format!("up --mode nat --vip {VIP}"));
    assert_eq!(ran.code, 1);
    assert!(ran.out.starts_with("there is no default route"), "{ran:?}");
    assert_eq!(pair.server.snapshot(), before);
}

#[test]
fn up_again_changes_nothing_and_down_again_says_so() {
    for mode in ["dr", "ipip", "nat --gateway 10.9.0.2"] {
        let pair = Pair::new();
        let before = pair.server.snapshot();
        pair.rs_ok(&format!("up --vip {VIP} --mode {mode}"));
        let (up, state) = (pair.server.snapshot(), pair.state_file("json"));

        assert_eq!(
            pair.rs_ok(&format!("up --vip {VIP} --mode {mode}")),
            "already up: nothing to change\n"
        );
        assert_eq!(pair.server.snapshot(), up);
        assert_eq!(pair.state_file("json"), state);

        pair.rs_ok(&format!("down --vip {VIP} --mode {mode}"));
        assert_eq!(pair.server.snapshot(), before);
        let name = mode.split(' ').next().expect("a word");
        assert_eq!(
            pair.rs_ok(&format!("down --vip {VIP} --mode {mode}")),
            format!("{VIP} ({name}) is not up: nothing to restore\n")
        );
        assert_eq!(pair.server.snapshot(), before);
    }
}

#[test]
fn up_again_mends_what_was_changed_meanwhile_and_down_still_restores_the_first_state() {
    let pair = Pair::new();
    pair.server.set("r0", "arp_announce", "1");
    let before = pair.server.snapshot();
    pair.rs_ok(&format!("up --mode dr --vip {VIP}"));
    pair.server.set("r0", "arp_announce", "0");
    pair.server.ip(&format!("address del {VIP}/32 dev lo"));

    pair.rs_ok(&format!("up --mode dr --vip {VIP}"));
    pair.rs_ok(&format!("check --mode dr --vip {VIP}"));
    pair.rs_ok(&format!("down --mode dr --vip {VIP}"));
    assert_eq!(pair.server.snapshot(), before);
}

#[test]
fn what_was_there_before_stays() {
    let pair = Pair::new();
    pair.server.ip(&format!("address add {VIP}/32 dev lo"));
    pair.server.set("all", "arp_ignore", "2");
    pair.server.ip(&format!("route add default via {SENDER}"));
    let before = pair.server.snapshot();
    for mode in ["dr".to_owned(), format!("nat --gateway {SENDER}")] {
        pair.rs_ok(&format!("up --vip {VIP} --mode {mode}"));
        pair.rs_ok(&format!("down --vip {VIP} --mode {mode}"));
        assert_eq!(pair.server.snapshot(), before, "{mode}");
    }
}

#[test]
fn what_vips_share_goes_with_the_last_of_them() {
    const VIP3: &str = "10.9.0.102";
    let pair = Pair::new();
    let before = pair.server.snapshot();
    pair.rs_ok(&format!("up --mode dr --vip {VIP},{VIP2}"));
    pair.rs_ok(&format!("up --mode ipip --vip {VIP3}"));
    pair.rs_ok(&format!("up --mode ipip --vip {VIP2}"));

    pair.rs_ok(&format!("down --mode dr --vip {VIP}"));
    assert!(!pair.server.ip("-4 address show").contains(VIP));
    pair.rs_ok(&format!("check --mode dr --vip {VIP2}"));

    pair.rs_ok(&format!("down --mode ipip --vip {VIP3}"));
    pair.rs_ok(&format!("check --mode ipip --vip {VIP2}"));
    pair.rs_ok(&format!("down --mode ipip --vip {VIP2}"));
    assert!(!pair.server.ip("-br link").contains("uvs-tunl0"));
    pair.rs_ok(&format!("check --mode dr --vip {VIP2}"));

    pair.rs_ok(&format!("down --mode dr --vip {VIP2}"));
    assert_eq!(pair.server.snapshot(), before);
}

#[test]
fn another_gateway_is_refused_while_the_first_is_needed() {
    let pair = Pair::new();
    let before = pair.server.snapshot();
    pair.rs_ok(&format!("up --mode nat --vip {VIP} --gateway {SENDER}"));
    let up = pair.server.snapshot();
    let ran = pair.rs(&format!("up --mode nat --vip {VIP2} --gateway 10.9.0.9"));
    assert_eq!(ran.code, 1);
    assert!(
        ran.err
            .contains(&format!("via {SENDER} is in use by {VIP} (nat)")),
        "{ran:?}"
    );
    assert_eq!(pair.server.snapshot(), up);

    // Its own holder may change it, and the first state is still what comes back.
    pair.rs_ok(&format!("up --mode nat --vip {VIP} --gateway 10.9.0.9"));
    assert!(
        pair.server
            .ip("route show default")
            .contains("via 10.9.0.9 ")
    );
    pair.rs_ok(&format!("down --mode nat --vip {VIP}"));
    assert_eq!(pair.server.snapshot(), before);
}

#[test]
fn a_step_that_fails_takes_back_those_before_it() {
    let pair = Pair::new();
    let before = pair.server.snapshot();
    let shim = pair.state.path().join("ip");
    let real = Command::new("sh")
        .args(["-c", "command -v ip"])
        .output()
        .expect("sh runs")
        .stdout;
    let real = String::from_utf8(real).expect("text");
    let script = format!(
        "#!/bin/sh\ncase \"$1 $2\" in 'address add') echo no room >&2; exit 2;; esac\nexec {} \"$@\"\n",
        real.trim()
    );
    install::script(&shim, &script).expect("written");
    for mode in ["dr", "ipip"] {
        let line = format!(
            "PATH={}:$PATH uvs rs up --mode {mode} --vip {VIP}",
            pair.state.path().display()
        );
        let ran = Ran::from(pair.rs_command(&line));
        assert_eq!(ran.code, 1);
        assert!(
            ran.err.contains("`ip address add") && ran.err.contains("failed: no room"),
            "{ran:?}"
        );
        assert_eq!(pair.server.snapshot(), before, "{mode}");
        assert_eq!(pair.state_file("json"), None);
    }
}

#[test]
fn the_state_of_another_namespace_is_not_this_ones() {
    let pair = Pair::new();
    pair.rs_ok(&format!("up --mode dr --vip {VIP}"));
    let up = pair.server.snapshot();
    // The inode in the file's name may come again; the cookie within does not.
    let line = "sed -i 's/\"netns_cookie\": [0-9]*/\"netns_cookie\": 1/' $UVS_STATE_DIR/rs-*.json";
    assert!(pair.rs_command(line).status.success());
    let down = pair.rs_ok(&format!("down --mode dr --vip {VIP}"));
    assert_eq!(down, format!("{VIP} (dr) is not up: nothing to restore\n"));
    assert_eq!(pair.server.snapshot(), up);
}

#[test]
fn bad_input_is_refused_with_its_reason() {
    let pair = Pair::new();
    let before = pair.server.snapshot();
    let dr = format!("uvs rs up --mode dr --vip {VIP}");
    for (line, code, message) in [
        (
            "uvs rs up --mode dr --vip 10.9.0.300".to_owned(),
            2,
            "not an IP address",
        ),
        (
            "uvs rs up --mode dr --vip 224.0.0.1".to_owned(),
            2,
            "not an address that a service can have",
        ),
        (
            format!("uvs rs up --mode ddr --vip {VIP}"),
            2,
            "invalid value 'ddr'",
        ),
        ("uvs rs up --mode dr".to_owned(), 2, "--vip"),
        (
            format!("{dr} --gateway {SENDER}"),
            2,
            "--gateway belongs to --mode nat",
        ),
        (
            format!("uvs rs up --mode nat --vip {VIP} --interface a,b"),
            2,
            "takes one --interface",
        ),
        (
            format!("{dr} --interface r1"),
            1,
            "no interface r1; this host has lo, r0",
        ),
        (
            format!("PATH=$(dirname $(command -v uvs)); {dr}"),
            1,
            "install iproute2",
        ),
        (
            format!("setpriv --bounding-set -net_admin {dr}"),
            1,
            "run it as root",
        ),
        (
            format!("uvs rs up --mode nat --vip {VIP} --gateway 10.77.0.1"),
            1,
            "invalid gateway",
        ),
        (
            format!("UVS_STATE_DIR=/proc/nowhere {dr}"),
            1,
            "cannot create /proc/nowhere",
        ),
    ] {
        let ran = Ran::from(pair.rs_command(&line));
        assert_eq!(ran.code, code, "{line}: {ran:?}");
        assert!(ran.err.contains(message), "{line}: {ran:?}");
        assert_eq!(pair.server.snapshot(), before, "{line}");
    }
}

#[test]
fn damaged_state_is_not_overwritten() {
    let pair = Pair::new();
    pair.rs_ok(&format!("up --mode dr --vip {VIP}"));
    assert!(
        pair.rs_command("for f in $UVS_STATE_DIR/rs-*.json; do echo '{' > $f; done")
            .status
            .success()
    );
    let up = pair.server.snapshot();
    for action in ["up", "down"] {
        let ran = pair.rs(&format!("{action} --mode dr --vip {VIP}"));
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains("cannot be understood"), "{ran:?}");
        assert_eq!(pair.server.snapshot(), up);
        assert_eq!(pair.state_file("json").as_deref(), Some("{\n"));
    }
}
