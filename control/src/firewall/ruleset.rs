//! The whole rule set, walked as the kernel walks it.

use std::collections::HashMap;
use std::fmt::Display;

use serde::Deserialize;
use serde_json::Value;

use super::expression::{ParsedRule, RuleVerdict};
use super::{DropRule, Match, Place};

/// Hooks that a client's packets would pass on their way to a service.
const HOOKS: [&str; 4] = ["input", "forward", "prerouting", "ingress"];
/// Families whose rules a packet would meet behind UVS. A bridge's are before the interface that UVS taps.
const FAMILIES: [&str; 4] = ["ip", "ip6", "inet", "netdev"];
/// UVS's own table.
const OWN: (&str, &str) = ("netdev", "uvs");
/// Jumps into one another; the kernel takes 16 (NFT_JUMP_STACK_SIZE).
const DEPTH: usize = 16;
/// Chains that are looked into from one base chain, each time that one is jumped to.
const VISITS: usize = 10_000;

/// The rules of a host.
#[derive(Default)]
pub struct Ruleset {
    chains: Vec<Chain>,
    rules: Vec<Rule>,
    /// Their places, by their chains.
    of_chain: HashMap<(Table, String), Vec<usize>>,
    sets: HashMap<(Table, String), Value>,
}

/// Family and name.
type Table = (String, String);

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    table: Option<Listed>,
    chain: Option<Chain>,
    rule: Option<Rule>,
    set: Option<Set>,
    map: Option<Set>,
}

#[derive(Deserialize)]
struct Listed {
    family: String,
    name: String,
}

#[derive(Deserialize)]
struct Chain {
    family: String,
    table: String,
    name: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    hook: Option<String>,
    /// At the hook `ingress`: one device, or several.
    dev: Option<Devices>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Devices {
    One(String),
    Several(Vec<String>),
}

/// A rule.
#[derive(Deserialize)]
struct Rule {
    family: String,
    table: String,
    chain: String,
    handle: u64,
    #[serde(default)]
    expr: Vec<Value>,
}

#[derive(Deserialize)]
struct Set {
    family: String,
    table: String,
    name: String,
    #[serde(default)]
    elem: Value,
}

/// A rule as it is listed.
pub struct Named<'r> {
    /// Where it is.
    pub place: Place,
    /// What it says.
    pub expressions: &'r [Value],
}

impl Ruleset {
    /// Asks `nft`, table by table: UVS's own is not listed, as its sets may have millions of elements.
    ///
    /// # Errors
    /// `nft`'s, or it prints what is not understood.
    pub fn of_host<E: Display>(nft: impl Fn(&[&str]) -> Result<String, E>) -> Result<Self, String> {
        let mut all = Self::default();
        for (family, name) in tables(&nft)? {
            match nft(&["-j", "list", "table", &family, &name]) {
                Ok(json) => all.add(&json).map_err(unread)?,
                // It was removed meanwhile.
                Err(_) if !tables(&nft)?.contains(&(family, name)) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(all)
    }

    /// Adds what `nft -j list table` prints.
    ///
    /// # Errors
    /// It is not what that prints.
    pub(super) fn add(&mut self, json: &str) -> serde_json::Result<()> {
        let listing: Listing = serde_json::from_str(json)?;
        for item in listing.nftables {
            self.chains.extend(item.chain);
            if let Some(rule) = item.rule {
                let table = (rule.family.clone(), rule.table.clone());
                let chain = (table, rule.chain.clone());
                self.of_chain
                    .entry(chain)
                    .or_default()
                    .push(self.rules.len());
                self.rules.push(rule);
            }
            if let Some(set) = item.set.or(item.map) {
                self.sets
                    .insert(((set.family, set.table), set.name), set.elem);
            }
        }
        Ok(())
    }

    /// Every rule, with what it says.
    pub fn rules(&self) -> impl Iterator<Item = Named<'_>> {
        self.rules.iter().map(|rule| Named {
            place: rule.place(""),
            expressions: &rule.expr,
        })
    }

    /// The rules that keep clients out by their source address.
    pub fn drop_rules(&self) -> Vec<DropRule> {
        let mut found = Vec::new();
        for chain in &self.chains {
            let hook = chain.hook.as_deref().unwrap_or_default();
            let filters = chain.kind.as_deref() == Some("filter");
            if HOOKS.contains(&hook) && filters && FAMILIES.contains(&chain.family.as_str()) {
                let table = (chain.family.clone(), chain.table.clone());
                let mut walk = Walk {
                    ruleset: self,
                    table: &table,
                    hook,
                    devices: chain.devices(),
                    accepted: Vec::new(),
                    visits: VISITS,
                    found: &mut found,
                };
                walk.chain(&chain.name, &Match::default(), 0);
            }
        }
        found
    }
}

impl Chain {
    fn devices(&self) -> Vec<String> {
        match self.dev.clone() {
            None => Vec::new(),
            Some(Devices::One(name)) => vec![name],
            Some(Devices::Several(names)) => names,
        }
    }
}

impl Rule {
    fn place(&self, hook: &str) -> Place {
        Place {
            family: self.family.clone(),
            table: self.table.clone(),
            chain: self.chain.clone(),
            handle: self.handle,
            hook: hook.to_owned(),
        }
    }
}

/// All tables but UVS's own. nft reads all sets to list them, unless it is to leave their elements out.
fn tables<E: Display>(nft: impl Fn(&[&str]) -> Result<String, E>) -> Result<Vec<Table>, String> {
    let json = nft(&["-t", "-j", "list", "tables"]).map_err(|e| e.to_string())?;
    let listing: Listing = serde_json::from_str(&json).map_err(unread)?;
    let tables = listing.nftables.into_iter().filter_map(|item| item.table);
    let tables = tables.map(|t| (t.family, t.name));
    Ok(tables
        .filter(|(family, name)| (family.as_str(), name.as_str()) != OWN)
        .collect())
}

fn unread(error: serde_json::Error) -> String {
    format!("nft's listing is not understood: {error}")
}

/// The way through a base chain and all that it leads to.
struct Walk<'w> {
    ruleset: &'w Ruleset,
    table: &'w Table,
    hook: &'w str,
    devices: Vec<String>,
    /// What rules so far let in.
    accepted: Vec<Match>,
    /// Chains that may be looked into still.
    visits: usize,
    found: &'w mut Vec<DropRule>,
}

impl Walk<'_> {
    /// `packets` is what led to this chain.
    fn chain(&mut self, name: &str, packets: &Match, depth: usize) {
        let ruleset = self.ruleset;
        let sets = |name: &str| ruleset.sets.get(&(self.table.clone(), name.to_owned()));
        let rules = ruleset.of_chain.get(&(self.table.clone(), name.to_owned()));
        let rules = rules.into_iter().flatten().map(|at| &ruleset.rules[*at]);
        let understood: Vec<_> = rules.map(|r| (r, ParsedRule::of(&r.expr, &sets))).collect();
        // Whether a rule so far may have ended this chain.
        let mut returned = false;
        for (rule, parsed) in understood.into_iter().filter(|(_, m)| !m.never) {
            let by_source = parsed.by_source;
            let to = both(packets, &parsed.to);
            match parsed.verdict {
                RuleVerdict::Drop if by_source => self.found.push(DropRule {
                    place: rule.place(self.hook),
                    devices: self.devices.clone(),
                    certain: self.hook == "input" && !returned && parsed.sources.is_some(),
                    sources: parsed.sources.map(Into::into),
                    to,
                    accepted: self.accepted.clone(),
                }),
                RuleVerdict::Drop | RuleVerdict::Nothing => {}
                RuleVerdict::Accept if to.is_established() => {}
                RuleVerdict::Accept => self.accepted.push(to),
                RuleVerdict::Return => returned = true,
                RuleVerdict::Jump { chain, goto } if depth < DEPTH && self.visits > 0 => {
                    self.visits -= 1;
                    let mut to = to;
                    to.other |= by_source || returned;
                    self.chain(&chain, &to, depth + 1);
                    returned |= goto;
                }
                RuleVerdict::Jump { .. } => self.accepted.push(Match::default()),
            }
        }
    }
}

/// What is for both.
fn both(outer: &Match, inner: &Match) -> Match {
    if outer.is_all() {
        return inner.clone();
    }
    let mut both = outer.clone();
    both.other |= !inner.is_all();
    both
}
