//! Firewall rules that name a VIP, and which the service's packets never meet.

use std::net::Ipv4Addr;

use serde::Deserialize;
use serde_json::Value;

use super::{Director, Made};
use crate::doctor::catalog::Check;
use crate::doctor::finding::{Finding, NotMade, Seen};

pub(super) const CHECKS: &[Made] = &[(Check::FirewallBypassed, bypassed)];

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    rule: Option<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    family: String,
    table: String,
    chain: String,
    handle: u64,
    #[serde(default)]
    expr: Value,
}

fn bypassed(d: &Director<'_>) -> Result<Seen, NotMade> {
    let text = d
        .host
        .nft(&["-j", "list", "ruleset"], "")
        .map_err(NotMade::of)?;
    let listing: Listing = serde_json::from_str(&text).map_err(NotMade::of)?;
    let vips = d.vips();
    let rules = listing.nftables.into_iter().filter_map(|i| i.rule);
    let mut seen = Seen::default();
    for rule in rules.filter(|r| (r.family.as_str(), r.table.as_str()) != ("netdev", "uvs")) {
        let Some(vip) = vips.iter().find(|vip| names(&rule.expr, **vip)) else {
            continue;
        };
        let Rule {
            family,
            table,
            chain,
            handle,
            ..
        } = &rule;
        seen.wrong(Finding::here(
            Check::FirewallBypassed,
            format!("a rule in {family} {table} {chain} (handle {handle}) names {vip}"),
            format!("nft delete rule {family} {table} {chain} handle {handle}"),
        ));
    }
    if seen.findings.is_empty() {
        seen.well("no rule names a VIP");
    }
    Ok(seen)
}

/// Whether an address is anywhere in a rule's expressions, alone or in a set of its own.
fn names(expression: &Value, vip: Ipv4Addr) -> bool {
    match expression {
        Value::String(text) => *text == vip.to_string(),
        Value::Array(list) => list.iter().any(|v| names(v, vip)),
        Value::Object(map) => map.values().any(|v| names(v, vip)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
