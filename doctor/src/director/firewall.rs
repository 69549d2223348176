//! Rules of the host's firewall that a service's packets never meet: those that name a VIP, and those that
//! keep clients out by their address where UVS does not.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;
use uvs_control::firewall::{DropRule, Ruleset};
use uvs_core::access::{Access, AccessList, Action, Prefix};
use uvs_core::service::ServiceKey;

use super::{Director, Made};
use crate::catalog::Check;
use crate::finding::{Finding, NotMade, Seen};

pub(super) const CHECKS: &[Made] = &[
    (Check::FirewallBypassed, bypassed),
    (Check::FirewallUnheeded, unheeded),
];

/// Prefixes in one command. More are for a file.
const AT_ONCE: usize = 100;

fn ruleset(d: &Director<'_>) -> Result<Ruleset, NotMade> {
    Ruleset::of_host(|words| d.host.nft(words, "")).map_err(NotMade::of)
}

fn bypassed(d: &Director<'_>) -> Result<Seen, NotMade> {
    let ruleset = ruleset(d)?;
    let vips = d.vips();
    let mut seen = Seen::default();
    for rule in ruleset.rules() {
        let named = |vip: &&IpAddr| rule.expressions.iter().any(|e| names(e, **vip));
        let Some(vip) = vips.iter().find(named) else {
            continue;
        };
        let place = &rule.place;
        seen.wrong(Finding::here(
            Check::FirewallBypassed,
            format!("a rule in {place} names {vip}"),
            place.delete(),
        ));
    }
    if seen.findings.is_empty() {
        seen.well("no rule names a VIP");
    }
    Ok(seen)
}

/// Whether an address is anywhere in a rule's expressions, alone or in a set of its own.
fn names(expression: &Value, vip: IpAddr) -> bool {
    match expression {
        Value::String(text) => text.parse() == Ok(vip),
        Value::Array(list) => list.iter().any(|v| names(v, vip)),
        Value::Object(map) => map.values().any(|v| names(v, vip)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn unheeded(d: &Director<'_>) -> Result<Seen, NotMade> {
    let mut drop_rules = ruleset(d)?.drop_rules();
    // What another device's packets meet is none of UVS's.
    let is_ours = |name: &String| d.wanted.interfaces.contains(name);
    drop_rules.retain(|b| b.devices.is_empty() || b.devices.iter().any(is_ours));
    let services: Vec<ServiceKey> = d.wanted.services.iter().map(|s| s.spec.key).collect();
    let mut seen = Seen::default();
    for drop_rule in &drop_rules {
        let aimed: Vec<ServiceKey> = services
            .iter()
            .copied()
            .filter(|k| drop_rule.to.may_be(k))
            .collect();
        if !aimed.is_empty() {
            judge(drop_rule, &aimed, &d.wanted.access, &mut seen);
        }
    }
    match legacy_tables(d) {
        Some(tables) if seen.findings.is_empty() => Err(NotMade(format!(
            "iptables-legacy has the tables {tables}, which nft does not list: `iptables-legacy-save` shows \
             them, and `uvs deny add` keeps clients out"
        ))),
        _ => {
            if seen == Seen::default() {
                seen.well("no rule keeps clients out by their address");
            }
            Ok(seen)
        }
    }
}

/// The tables of the old iptables, where it is in use.
fn legacy_tables(d: &Director<'_>) -> Option<String> {
    // Without its modules there is no such file.
    let names = d.host.read("/proc/net/ip_tables_names").ok()?;
    let filters = names.lines().filter(|name| *name != "nat");
    let filters: Vec<&str> = filters.collect();
    (!filters.is_empty()).then(|| filters.join(", "))
}

fn judge(drop_rule: &DropRule, aimed: &[ServiceKey], access: &Access, seen: &mut Seen) {
    let place = format!(
        "a rule in {} at the hook {}",
        drop_rule.place, drop_rule.place.hook
    );
    let Some(sources) = &drop_rule.sources else {
        let what = format!("{place} keeps clients out whose addresses cannot be read from it");
        return seen.wrong(finding(what, "uvs deny add PREFIX".to_owned()));
    };
    let open = |key: &ServiceKey| -> Vec<Prefix> {
        let all = sources.iter().copied();
        all.filter(|prefix| !is_denied(access, *key, *prefix))
            .collect()
    };
    let all: BTreeSet<Prefix> = aimed.iter().flat_map(open).collect();
    if all.is_empty() {
        return seen.well(format!("UVS does as {place} says"));
    }
    let commands: Vec<String> = if drop_rule.to.is_all() {
        vec![deny(&all, None)]
    } else {
        let own = aimed
            .iter()
            .map(|key| (key, open(key).into_iter().collect::<BTreeSet<_>>()));
        own.filter(|(_, open)| !open.is_empty())
            .map(|(key, open)| deny(&open, Some(key)))
            .collect()
    };
    let what = format!(
        "{place} keeps {} out, but not out of the services",
        several(&all)
    );
    seen.wrong(finding(what, commands.join("; ")));
}

fn finding(seen: String, command: String) -> Finding {
    Finding::here(Check::FirewallUnheeded, seen, command)
}

/// Whether all of a prefix is denied, but for exceptions.
fn is_denied(access: &Access, key: ServiceKey, prefix: Prefix) -> bool {
    let denied = |list: &AccessList| {
        let rule = list.decides(prefix.addr());
        rule.is_some_and(|r| r.action == Action::Deny && r.prefix.length() <= prefix.length())
    };
    denied(&access.everywhere) || access.services.get(&key).is_some_and(|list| denied(list))
}

fn deny(prefixes: &BTreeSet<Prefix>, of: Option<&ServiceKey>) -> String {
    let words: Vec<String> = prefixes
        .iter()
        .take(AT_ONCE)
        .map(Prefix::to_string)
        .collect();
    let service = match of {
        None => String::new(),
        Some(ServiceKey::Mark { mark, .. }) => format!(" --service fwm:{mark}"),
        Some(key @ ServiceKey::Address { protocol, .. }) => {
            let protocol = protocol.to_string().to_lowercase();
            format!(" --service {protocol}:{}", key.vip())
        }
    };
    format!("uvs deny add {}{service}", words.join(" "))
}

fn several(prefixes: &BTreeSet<Prefix>) -> String {
    let first = prefixes.first().map(Prefix::to_string).unwrap_or_default();
    match prefixes.len() - 1 {
        0 => first,
        n if n < AT_ONCE => format!("{first} and {n} more"),
        n => format!("{first} and {n} more (deny_file takes so many)"),
    }
}
