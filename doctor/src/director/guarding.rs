//! The guard as it is in the kernel now, against what it must keep from the kernel.

use std::net::IpAddr;

use uvs_control::protocol::GuardStatus;
use uvs_core::flow::{Addr, Protocol};
use uvs_core::marks::Destination;
use uvs_core::service::ServiceKey;
use uvs_realserver::Family;

use super::{Director, Made};
use crate::catalog::Check;
use crate::finding::{Finding, NotMade, Seen};

pub(super) const CHECKS: &[Made] = &[
    (Check::VipUnguarded, |d| unguarded(d, true)),
    (Check::ForwardUnguarded, |d| unguarded(d, false)),
    (Check::GuardLeftover, leftover),
    (Check::GuardDamaged, damaged),
    (Check::GuardRepaired, repaired),
];

/// A running daemon puts the whole guard up again when it is deleted.
const RENEW: &str = "uvs guard down --force";
/// Repairs of so many seconds ago are worth a word.
const LATELY: u64 = 3600;
/// The abstract socket that a daemon holds for as long as it has the guard; its name may have a number behind it.
const CLAIM: &str = "@uvs-guard";

/// Services whose VIP is the host's (`local`), or which only forwarding would bring to the kernel's mind.
fn unguarded(d: &Director<'_>, local: bool) -> Result<Seen, NotMade> {
    if d.wanted.daemon.is_none() {
        return Err(NotMade("the guard is a running daemon's".to_owned()));
    }
    let check = if local {
        Check::VipUnguarded
    } else {
        Check::ForwardUnguarded
    };
    let mut seen = Seen::default();
    if !local && !d.fib.forwarding && !d.fib.forwarding_ipv6 {
        seen.well("the kernel forwards nothing");
        return Ok(seen);
    }
    if d.is_hooked() {
        seen.well("the hook keeps them from the kernel, packet by packet");
        return Ok(seen);
    }
    let rules = rules(d)?.unwrap_or_default();
    let services = d.wanted.services.iter();
    for (service, (to, vip)) in services.flat_map(|s| s.vips().map(move |to| (s, to))) {
        let addr = Addr::from(vip);
        if d.fib.is_local(addr) != local || !local && !d.fib.forwards(addr.family()) {
            continue;
        }
        let name = match service.spec.key {
            key @ ServiceKey::Mark { .. } => format!("{key}, {to}"),
            key @ ServiceKey::Address { .. } => key.to_string(),
        };
        match gap(&rules, &d.ports, to, vip) {
            None => seen.well(format!("{name} is guarded")),
            Some(gap) => seen.wrong(Finding::here(
                check,
                format!("{name}: {gap}"),
                RENEW.to_owned(),
            )),
        }
    }
    if seen == Seen::default() {
        seen.well(if local {
            "no VIP is on the host"
        } else {
            "every VIP is on the host"
        });
    }
    Ok(seen)
}

/// What lacks in the guard, as nft lists it, for a service.
fn gap(rules: &str, ports: &[String], to: &Destination, vip: IpAddr) -> Option<String> {
    if rules.is_empty() {
        return Some("there is no guard (nft table netdev uvs)".to_owned());
    }
    // What is IPv6's in the guard has its name with a 6 behind it.
    let (six, ip) = match Family::of(vip) {
        Family::Ipv4 => ("", "ip"),
        Family::Ipv6 => ("6", "ip6"),
    };
    let hooked = |name: &&String| {
        let mut chains = rules.split("chain ");
        let jumps = |chain: &str| {
            chain
                .lines()
                .any(|l| l.ends_with(&format!("jump ours{six}")))
        };
        chains.any(|c| c.contains(&format!("\"{name}\"")) && jumps(c))
    };
    if let Some(name) = ports.iter().find(|name| !hooked(name)) {
        return Some(format!("the guard does not look at {name}"));
    }
    let has = |set: &str, element: &str| {
        [format!("{set}{six}"), format!("nat_{set}{six}")]
            .iter()
            .any(|set| {
                let listed = elements_of(rules, set).any(|e| e == element);
                listed && rules.contains(&format!("@{set} "))
            })
    };
    let is_kept = |protocol: Protocol| {
        let start = format!("{vip} . {}", protocol.name().to_lowercase());
        let port = to.port().map(|port| format!("{start} . {port}"));
        // A range has a rule of its own.
        let own_rule = port.is_none() && rules.contains(&format!("{ip} daddr {vip} "));
        own_rule
            || port.is_some_and(|element| has("service", &element))
            || has("service_any_port", &start)
    };
    let kept = has("owned", &vip.to_string()) || to.protocols().all(is_kept);
    (!kept).then(|| "the guard does not name it".to_owned())
}

/// The elements of a set in nft's listing: `set NAME { … elements = { A, B } }`.
fn elements_of<'r>(rules: &'r str, set: &str) -> impl Iterator<Item = &'r str> {
    let block = rules
        .split("set ")
        .find_map(|s| s.strip_prefix(&format!("{set} {{")));
    let elements = block.and_then(|b| b.split_once("elements = {"));
    // Of a set without elements the next set's would be found.
    let elements = elements.filter(|(before, _)| !before.contains('}'));
    let listed = elements.and_then(|(_, rest)| rest.split('}').next());
    listed.unwrap_or_default().split(',').map(str::trim)
}

fn rules(d: &Director<'_>) -> Result<Option<String>, NotMade> {
    let tables = d
        .host
        .nft(&["list", "tables", "netdev"], "")
        .map_err(NotMade::of)?;
    if !tables.lines().any(|line| line == "table netdev uvs") {
        return Ok(None);
    }
    let listed = d.host.nft(&["list", "table", "netdev", "uvs"], "");
    listed.map(Some).map_err(NotMade::of)
}

fn leftover(d: &Director<'_>) -> Result<Seen, NotMade> {
    let held = d.host.read("/proc/net/unix")?;
    let mut names = held
        .lines()
        .filter_map(|line| line.split_whitespace().last());
    let held = names.any(|name| name.starts_with(CLAIM));
    let mut seen = Seen::default();
    match (rules(d)?, held) {
        (Some(_), true) => seen.well("the guard is a daemon's"),
        (None, _) => seen.well("there is no guard"),
        (Some(_), false) => seen.wrong(Finding::here(
            Check::GuardLeftover,
            "there is a guard (nft table netdev uvs), and no daemon that holds it".to_owned(),
            "uvs guard down".to_owned(),
        )),
    }
    Ok(seen)
}

/// What the daemon says of it, which compares it with what it put up.
fn told<'d>(d: &'d Director<'_>) -> Result<&'d GuardStatus, NotMade> {
    let told = d.wanted.guard.as_ref();
    told.ok_or_else(|| NotMade("the guard is a running daemon's".to_owned()))
}

fn damaged(d: &Director<'_>) -> Result<Seen, NotMade> {
    let mut seen = Seen::default();
    if d.is_hooked() {
        seen.well("there is none, as the hook does its work");
        return Ok(seen);
    }
    match &told(d)?.wrong {
        None => seen.well("the kernel has it as the daemon put it up"),
        Some(what) => {
            let finding = Finding::here(Check::GuardDamaged, what.clone(), RENEW.to_owned());
            seen.wrong(finding);
        }
    }
    Ok(seen)
}

fn repaired(d: &Director<'_>) -> Result<Seen, NotMade> {
    let mut seen = Seen::default();
    if d.is_hooked() {
        seen.well("there is none, as the hook does its work");
        return Ok(seen);
    }
    let status = told(d)?;
    let counted = format!(
        "removed {} times, changed {} times",
        status.removed, status.damaged
    );
    match &status.last {
        Some((ago, what)) if *ago < LATELY => seen.wrong(Finding::here(
            Check::GuardRepaired,
            format!("{counted}, last {ago} s ago ({what}); the daemon's log names the program"),
            "nft monitor".to_owned(),
        )),
        _ => seen.well(counted),
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nft 1.0.6 lists it, shortened.
    const RULES: &str = r#"table netdev uvs {
	counter service {
		packets 0 bytes 0
	}
	set service {
		typeof ip daddr . ip protocol . th dport
		elements = { 10.0.0.1 . tcp . 80,
			     10.0.0.1 . udp . 53 }
	}
	set service_any_port {
		typeof ip daddr . ip protocol
	}
	set owned {
		typeof ip daddr
		elements = { 10.0.0.9 }
	}
	set service6 {
		typeof ip6 daddr . meta l4proto . th dport
		elements = { 2001:db8::1 . tcp . 80 }
	}
	chain ours6 {
		ip6 daddr . meta l4proto . th dport @service6 goto drop_service6
	}
	chain ours {
		ip daddr @owned counter name "owned" drop
		ip daddr . ip protocol . th dport @service goto drop_service
	}
	chain ingress_0 {
		type filter hook ingress device "eth0" priority -500; policy accept;
		meta protocol ip meta pkttype host jump ours
		meta protocol ip6 meta pkttype host jump ours6
	}
}
"#;

    fn gap_of(rules: &str, vip: [u8; 4], port: u16) -> Option<String> {
        let to = Destination::host(Protocol::Tcp, Addr::v4(vip), port);
        gap(rules, &["eth0".to_owned()], &to, vip.into())
    }

    #[test]
    fn a_range_of_a_mark_has_a_rule_of_its_own() {
        let to: Destination = "any 10.0.0.1:80-89".parse().expect("a destination");
        let gap = |rules: &str| gap(rules, &["eth0".to_owned()], &to, [10, 0, 0, 1].into());
        assert!(gap(RULES).is_some());
        let rule =
            "ip daddr 10.0.0.1 ip protocol { tcp, udp, sctp } th dport 80-89 goto drop_service";
        let with_rule = RULES.replace("chain ours {", &format!("chain ours {{\n\t\t{rule}"));
        assert_eq!(gap(&with_rule), None);
    }

    #[test]
    fn ipv6_has_sets_of_its_own() {
        let gap = |rules: &str, vip: &str, port| {
            let vip: IpAddr = vip.parse().expect("an address");
            let to = Destination::host(Protocol::Tcp, vip.into(), port);
            gap(rules, &["eth0".to_owned()], &to, vip)
        };
        assert_eq!(gap(RULES, "2001:db8::1", 80), None);
        assert!(gap(RULES, "2001:db8::1", 81).is_some());
        let of_ipv4_alone = RULES.replace("jump ours6", "accept");
        assert!(gap(&of_ipv4_alone, "2001:db8::1", 80).is_some());
        assert_eq!(gap(&of_ipv4_alone, "10.0.0.1", 80), None);
    }

    #[test]
    fn what_the_guard_lacks_is_named() {
        assert_eq!(gap_of(RULES, [10, 0, 0, 1], 80), None);
        assert_eq!(gap_of(RULES, [10, 0, 0, 9], 443), None, "owned");
        let says = |rules: &str, what: &str| {
            let gap = gap_of(rules, [10, 0, 0, 1], 80).expect("a gap");
            assert!(gap.contains(what), "{gap}");
        };
        says("", "no guard");
        says(&RULES.replace("jump ours", ""), "does not look at eth0");
        says(
            &RULES.replace("\"eth0\"", "\"eth00\""),
            "does not look at eth0",
        );
        says(&RULES.replace(". 80,", ". 8,"), "does not name it");
        says(
            &RULES.replace("@service goto", "@other goto"),
            "does not name it",
        );
        assert!(
            gap_of(RULES, [10, 0, 0, 1], 8).is_some(),
            "no part of a number"
        );
    }
}
