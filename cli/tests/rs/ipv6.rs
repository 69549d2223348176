//! DR and NAT in IPv6: what `up` sets and `down` restores, and that no neighbour is told of the VIP.

use crate::netns::{Netns, Pair, SENDER, SENDER6, VIP, VIP6};

#[test]
fn dr_puts_the_vip_on_lo_alone_and_down_restores_what_was() {
    let pair = Pair::new();
    for was_off in ["0", "1"] {
        pair.server.set_in("ipv6", "lo", "disable_ipv6", was_off);
        let before = pair.server.snapshot();
        pair.rs_ok(&format!("up --mode dr --vip {VIP6}"));
        let shown = pair.server.ip("-6 address show dev lo");
        assert!(
            shown.contains(&format!("inet6 {VIP6}/128 scope global nodad")),
            "{shown}"
        );
        // Nothing of ARP's is any business of IPv6's.
        assert_eq!(pair.server.get("all", "arp_ignore"), "0");
        let check = format!("check --mode dr --vip {VIP6}");
        assert_eq!(pair.rs_ok(&check), "fine: nothing to fix\n");
        let again = pair.rs_ok(&format!("up --mode dr --vip {VIP6}"));
        assert_eq!(again, "already up: nothing to change\n");

        pair.rs_ok(&format!("down --mode dr --vip {VIP6}"));
        assert_eq!(pair.server.snapshot(), before);
        assert_eq!(pair.state_file("json"), None);
    }
}

#[test]
fn vips_of_both_families_go_up_and_down_together() {
    let pair = Pair::new();
    let before = pair.server.snapshot();
    for mode in ["dr", "ipip", "ipip --outer ipv4,ipv6"] {
        pair.rs_ok(&format!("up --vip {VIP},{VIP6} --mode {mode}"));
        pair.rs_ok(&format!("check --vip {VIP},{VIP6} --mode {mode}"));
        let shown = pair.server.ip("-o address show");
        for vip in [format!("{VIP}/32"), format!("{VIP6}/128")] {
            assert!(shown.contains(&vip), "{mode}: {shown}");
        }
        let mode = mode.split(' ').next().expect("a word");
        pair.rs_ok(&format!("down --vip {VIP} --mode {mode}"));
        pair.rs_ok(&format!("check --vip {VIP6} --mode {mode}"));
        pair.rs_ok(&format!("down --vip {VIP6} --mode {mode}"));
        assert_eq!(pair.server.snapshot(), before, "{mode}");
    }
}

/// The kernel solicits from addresses of the device alone, and answers for them alone: there is nothing to set.
#[test]
fn neighbours_hear_nothing_of_the_vip_unless_by_proxy() {
    let pair = Pair::new();
    pair.rs_ok(&format!("up --mode dr --vip {VIP6}"));
    assert!(!finds(&pair.sender));
    // As a client of its own VIP's neighbour the server asks for the sender: the sender learns no VIP by that.
    pair.server.ip(&format!("neigh flush {SENDER6} dev r0"));
    pair.server
        .sh(&format!("ping -6 -c 1 -W 1 -I {VIP6} {SENDER6}"));
    assert!(!knows(&pair.sender));

    // The other way round, so that silence is not just a broken wire: what `check` finds is heard.
    for (spoil, what) in [
        (
            format!("ip address add {VIP6}/64 dev r0 nodad"),
            format!("{VIP6}/64 is on r0, which answers neighbour solicitations for it"),
        ),
        (
            format!(
                "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
                 echo 1 > /proc/sys/net/ipv6/conf/r0/proxy_ndp
                 ip -6 neigh add proxy {VIP6} dev r0"
            ),
            format!("r0 answers neighbour solicitations for {VIP6} by proxy"),
        ),
    ] {
        crate::checks::found(&pair, &format!("--mode dr --vip {VIP6}"), &spoil, &what);
        assert!(finds(&pair.sender), "{spoil}");
        crate::checks::fixed(&pair, &format!("--mode dr --vip {VIP6}"));
        assert!(!finds(&pair.sender), "{spoil}");
    }
    // An entry alone is nothing: without forwarding the kernel does not heed it.
    pair.server.set_in("ipv6", "all", "forwarding", "0");
    pair.server.ip(&format!("-6 neigh add proxy {VIP6} dev r0"));
    pair.rs_ok(&format!("check --mode dr --vip {VIP6}"));
    assert!(!finds(&pair.sender));
}

#[test]
fn dr_findings_are_fixed_by_their_commands() {
    let pair = Pair::new();
    let target = format!("--mode dr --vip {VIP6}");
    pair.rs_ok(&format!("up {target}"));
    let spoil = format!("ip address del {VIP6}/128 dev lo");
    let what = format!("{VIP6}/128 is not on lo");
    crate::checks::found_and_fixed(&pair, &target, &spoil, &what);
    // Two things are wrong; the commands are run in the order in which they are printed. With IPv6 go the
    // addresses, and a device has an address once, whatever its prefix.
    for (spoil, what) in [
        (
            "echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6".to_owned(),
            "net.ipv6.conf.lo.disable_ipv6 is 1, not 0: ".to_owned(),
        ),
        (
            format!(
                "ip address del {VIP6}/128 dev lo
                 ip address add {VIP6}/64 dev lo nodad"
            ),
            format!("{VIP6}/64 is on lo, and with it"),
        ),
    ] {
        assert!(pair.rs_command(&spoil).status.success(), "{spoil}");
        let ran = pair.rs(&format!("check {target}"));
        let lines: Vec<_> = ran.out.lines().collect();
        assert_eq!(lines.len(), 2, "{ran:?}");
        assert!(lines[0].starts_with(&what), "{ran:?}");
        for line in lines {
            let (_, fix) = line.split_once("; fix: ").expect("a command");
            assert!(pair.rs_command(fix).status.success(), "{fix}");
        }
        pair.rs_ok(&format!("check {target}"));
    }
}

/// Beside a route that router advertisements bring, ours counts and theirs stays.
#[test]
fn nat_puts_the_director_before_other_routers_and_takes_it_away_again() {
    for found in [
        &[][..],
        &["default via 2001:db8::1 dev r0"],
        &["default via 2001:db8::1 dev r0 proto ra expires 1800"],
        &["default via 2001:db8::1 dev r0 metric 1"],
    ] {
        let pair = Pair::new();
        for route in found {
            pair.server.ip(&format!("-6 route add {route}"));
        }
        let gateways = || {
            let shown = pair.server.ip("-6 route show default");
            let words = |line: &str| {
                line.split(" expires")
                    .next()
                    .unwrap_or(line)
                    .trim()
                    .to_owned()
            };
            shown.lines().map(words).collect::<Vec<_>>()
        };
        let before = gateways();
        let target = format!("--mode nat --vip {VIP6} --gateway {SENDER6}");
        pair.rs_ok(&format!("up {target}"));
        let way = pair.server.ip("-6 route get 2001:db8:ffff::1");
        assert!(way.contains(&format!("via {SENDER6} ")), "{found:?}: {way}");
        pair.rs_ok(&format!("check {target}"));
        pair.rs_ok(&format!("down --mode nat --vip {VIP6}"));
        assert_eq!(gateways(), before, "{found:?}");
    }
}

#[test]
fn nat_findings_are_fixed_by_their_commands() {
    let pair = Pair::new();
    let target = format!("--mode nat --vip {VIP6} --gateway {SENDER6}");
    pair.rs_ok(&format!("up {target}"));
    for (spoil, what) in [
        (
            "ip -6 route del default".to_owned(),
            format!("there is no IPv6 default route, it should be via {SENDER6}"),
        ),
        (
            "ip -6 route replace default via 2001:db8::9 metric 1".to_owned(),
            format!("the IPv6 default route is via 2001:db8::9, not {SENDER6}"),
        ),
        (
            format!("ip address add {VIP6}/128 dev lo"),
            format!("{VIP6}/128 is on lo"),
        ),
    ] {
        crate::checks::found_and_fixed(&pair, &target, &spoil, &what);
    }
}

#[test]
fn each_family_has_its_own_gateway() {
    let pair = Pair::new();
    let before = pair.server.snapshot();
    let target = format!("--mode nat --vip {VIP},{VIP6}");
    pair.rs_ok(&format!("up {target} --gateway {SENDER},{SENDER6}"));
    for (option, to, gateway) in [
        ("-4", "203.0.113.1", SENDER),
        ("-6", "2001:db8:ffff::1", SENDER6),
    ] {
        let way = pair.server.ip(&format!("{option} route get {to}"));
        assert!(way.contains(&format!("via {gateway} ")), "{way}");
    }
    pair.rs_ok(&format!("down {target}"));
    assert_eq!(pair.server.snapshot(), before);
}

#[test]
fn bad_input_is_refused_with_its_reason() {
    let pair = Pair::new();
    let before = pair.server.snapshot();
    for (words, code, message) in [
        ("--mode dr --vip 2001:db8::g", 2, "not an IP address"),
        (
            "--mode dr --vip fe80::38",
            2,
            "a link-local address cannot be on lo",
        ),
        (
            "--mode dr --vip ::",
            2,
            "not an address that a service can have",
        ),
        (
            "--mode dr --vip ff02::1",
            2,
            "not an address that a service can have",
        ),
        (
            "--mode dr --vip ::ffff:10.0.0.1",
            2,
            "not an address that a service can have",
        ),
        (
            "--mode dr --vip 2001:db8::100 --outer ipv4",
            2,
            "--outer belongs to --mode ipip",
        ),
        (
            "--mode nat --vip 2001:db8::100 --gateway 10.9.0.2",
            2,
            "10.9.0.2 is IPv4, and no --vip is",
        ),
        (
            "--mode nat --vip 2001:db8::100 --gateway 2001:db8::1,2001:db8::2",
            2,
            "--gateway takes one IPv6 address",
        ),
        (
            "--mode nat --vip 2001:db8::100 --gateway fe80::1",
            2,
            "name its --interface",
        ),
    ] {
        let ran = pair.rs(&format!("up {words}"));
        assert_eq!(ran.code, code, "{words}: {ran:?}");
        assert!(ran.err.contains(message), "{words}: {ran:?}");
        assert_eq!(pair.server.snapshot(), before, "{words}");
    }
}

/// Whether a solicitation for the VIP is answered.
fn finds(sender: &Netns) -> bool {
    let script = format!(
        "ip -6 neigh del {VIP6} dev s0 2>/dev/null
         ip -6 neigh add {VIP6} dev s0 nud none use
         for i in $(seq 200); do
             state=$(ip -6 neigh show {VIP6} dev s0 | awk '{{print $NF}}')
             case $state in FAILED|REACHABLE) break;; esac
             sleep 0.1
         done"
    );
    sender.sh(&script);
    knows(sender)
}

/// Whether the sender has a MAC address for the VIP.
fn knows(sender: &Netns) -> bool {
    let shown = sender.ip(&format!("-6 neigh show {VIP6} dev s0"));
    shown.contains("lladdr")
}
