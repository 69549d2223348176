//! `check` finds each thing that can be wrong, alone, and the command it prints fixes it.

use crate::netns::{Pair, SENDER, VIP};

/// Spoils one thing with a shell line, expects one finding that starts with `what`, runs its command.
pub(crate) fn found_and_fixed(pair: &Pair, target: &str, spoil: &str, what: &str) {
    found(pair, target, spoil, what);
    fixed(pair, target);
}

/// Spoils one thing with a shell line, and expects one finding that starts with `what`.
pub(crate) fn found(pair: &Pair, target: &str, spoil: &str, what: &str) {
    let spoilt = pair.rs_command(spoil);
    assert!(spoilt.status.success(), "{spoil}: {spoilt:?}");
    let ran = pair.rs(&format!("check {target}"));
    assert_eq!(ran.code, 1, "{spoil}: {ran:?}");
    assert_eq!(ran.out.lines().count(), 1, "{spoil}: {ran:?}");
    assert!(ran.out.starts_with(what), "{spoil}: {ran:?}");
}

/// Runs the command of the one finding there is, after which there is none.
pub(crate) fn fixed(pair: &Pair, target: &str) {
    let ran = pair.rs(&format!("check {target}"));
    let (_, fix) = ran.out.trim().split_once("; fix: ").expect("a command");
    let fixed = pair.rs_command(fix);
    assert!(fixed.status.success(), "{fix}: {fixed:?}");
    assert_eq!(
        pair.rs_ok(&format!("check {target}")),
        "fine: nothing to fix\n",
        "{fix}"
    );
}

/// A shell line that sets a sysctl.
fn sysctl(device: &str, key: &str, value: &str) -> (String, String) {
    let line = format!("echo {value} > /proc/sys/net/ipv4/conf/{device}/{key}");
    (
        line,
        format!("net.ipv4.conf.{device}.{key} is {value}, not "),
    )
}

#[test]
fn dr_findings_are_mended_by_their_commands() {
    let pair = Pair::new();
    pair.server.ip("link add x0 type veth peer name x1");
    let target = format!("--mode dr --vip {VIP}");
    pair.rs_ok(&format!("up {target}"));
    let mut cases: Vec<(String, String)> = Vec::new();
    for device in ["all", "lo", "r0"] {
        cases.push(sysctl(device, "arp_ignore", "0"));
        cases.push(sysctl(device, "arp_announce", "0"));
    }
    // A device that no step is about, but which outweighs `all`.
    cases.push(sysctl("x0", "arp_ignore", "3"));
    cases.push((
        format!("ip address del {VIP}/32 dev lo"),
        format!("{VIP}/32 is not on lo"),
    ));
    cases.push((
        format!("ip address add {VIP}/24 dev lo"),
        format!("{VIP}/24 is on lo, and with it"),
    ));
    cases.push((
        format!("ip address add {VIP}/24 dev r0"),
        format!("{VIP}/24 is on r0, which answers ARP"),
    ));
    for (spoil, what) in cases {
        found_and_fixed(&pair, &target, &spoil, &what);
    }
}

#[test]
fn values_that_do_as_well_are_no_findings() {
    let pair = Pair::new();
    pair.rs_ok(&format!("up --mode dr --vip {VIP}"));
    for value in ["2", "8"] {
        pair.server.set("r0", "arp_ignore", value);
        pair.rs_ok(&format!("check --mode dr --vip {VIP}"));
    }
}

#[test]
fn ipip_findings_are_mended_by_their_commands() {
    let pair = Pair::new();
    let target = format!("--mode ipip --vip {VIP}");
    pair.rs_ok(&format!("up {target}"));
    let ours = pair.server.ip("-br link show").contains("uvs-tunl0");
    let device = if ours { "uvs-tunl0" } else { "tunl0" };
    let mut cases = vec![
        sysctl("all", "rp_filter", "1"),
        sysctl(device, "rp_filter", "1"),
        sysctl("all", "arp_ignore", "0"),
        sysctl(device, "arp_announce", "0"),
        sysctl("r0", "arp_ignore", "0"),
        (
            format!("ip address del {VIP}/32 dev {device}"),
            format!("{VIP}/32 is not on {device}"),
        ),
        (
            format!("ip link set {device} down"),
            format!("{device} is down"),
        ),
    ];
    if ours && pair.state_file("pid").is_some() {
        let what = "there is no tunnel device of the kernel's and no decapsulator";
        // Dead, or dead and not yet collected; it must not outlive its device.
        let gone = "for i in $(seq 200); do \
                test -d /proc/$p && ! grep -q '^State:.Z' /proc/$p/status || exit 0; sleep 0.05; \
            done; exit 1";
        let kill = format!("p=$(cat $UVS_STATE_DIR/rs-*.pid); kill -9 $p; {gone}");
        cases.push((kill, what.to_owned()));
        let delete = format!("p=$(cat $UVS_STATE_DIR/rs-*.pid); ip link del {device}; {gone}");
        cases.push((delete, what.to_owned()));
    }
    for (spoil, what) in cases {
        found_and_fixed(&pair, &target, &spoil, &what);
    }
}

#[test]
fn nat_findings_are_mended_by_their_commands() {
    let pair = Pair::new();
    let target = format!("--mode nat --vip {VIP} --gateway {SENDER}");
    pair.rs_ok(&format!("up {target}"));
    for (spoil, what) in [
        (
            "ip route del default",
            format!("there is no default route, it should be via {SENDER}"),
        ),
        (
            "ip route replace default via 10.9.0.9",
            format!("the default route is via 10.9.0.9, not {SENDER}"),
        ),
        (
            "ip route replace default dev r0",
            "the default route is by another device".to_owned(),
        ),
        (
            &format!("ip address add {VIP}/32 dev lo"),
            format!("{VIP}/32 is on lo"),
        ),
    ] {
        found_and_fixed(&pair, &target, spoil, &what);
    }
    let without = format!("--mode nat --vip {VIP}");
    pair.rs_ok(&format!("check {without}"));
    pair.server.ip("route del default");
    let ran = pair.rs(&format!("check {without}"));
    assert_eq!(
        ran.out,
        format!(
            "there is no default route: replies that bypass the director carry this server's address, not the VIP; \
             fix: uvs rs up --mode nat --vip {VIP} --gateway DIRECTOR\n"
        )
    );
    assert_eq!(ran.code, 1);
}

#[test]
fn check_needs_no_privilege_and_changes_nothing() {
    let pair = Pair::new();
    let before = pair.server.snapshot();
    for mode in ["dr", "ipip", "nat"] {
        let ran = pair.rs_command(&format!(
            "setpriv --bounding-set -all uvs rs check --mode {mode} --vip {VIP}"
        ));
        assert_eq!(ran.status.code(), Some(1), "{ran:?}");
        assert_eq!(pair.server.snapshot(), before);
    }
}

#[test]
fn neighbours_see_that_arp_is_silent() {
    let pair = Pair::new();
    pair.rs_ok(&format!("up --mode dr --vip {VIP}"));
    assert_eq!(neighbour(&pair), "FAILED");
    // The other way round, so that silence is not just a broken wire.
    pair.server.set("all", "arp_ignore", "0");
    pair.server.set("r0", "arp_ignore", "0");
    pair.sender.ip(&format!("neigh del {VIP} dev s0"));
    assert_eq!(neighbour(&pair), "REACHABLE");
}

/// What became of the sender's ARP request for the VIP.
fn neighbour(pair: &Pair) -> String {
    let script = format!(
        "ip neigh add {VIP} dev s0 nud none use
         for i in $(seq 200); do
             state=$(ip neigh show {VIP} dev s0 | awk '{{print $NF}}')
             case $state in FAILED|REACHABLE) break;; esac
             sleep 0.1
         done
         echo $state"
    );
    String::from_utf8(pair.sender.sh(&script).stdout)
        .expect("text")
        .trim()
        .to_owned()
}
