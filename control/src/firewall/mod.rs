//! The host's own packet filter, as `nft -j list table` tells it (iptables-nft's rules are among them): which
//! rules keep clients out by their source address. UVS takes packets before all of them, so that they protect
//! no service by themselves.
//!
//! Of some in an INPUT chain it is certain that the kernel would drop a service's packets, as it does with
//! IPVS, whose services are behind that chain: a drop or reject by nothing but sources, ports and destinations,
//! which no rule before it could have saved a packet from. Those are followed. All others are for `uvs doctor`
//! to name.

mod expression;
mod ruleset;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use uvs_core::access::Prefix;
use uvs_core::flow::{Addr, Protocol};
use uvs_core::service::ServiceKey;

use crate::access::Scope;
pub use ruleset::Ruleset;

/// A rule that keeps clients out by their address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropRule {
    /// The rule.
    pub place: Place,
    /// The devices whose packets meet it; empty = all of them.
    pub devices: Vec<String>,
    /// Who is kept out; `None` where that is not written as addresses (an ipset, a negation).
    pub sources: Option<Arc<[Prefix]>>,
    /// Of which packets.
    pub to: Match,
    /// Whether every such packet meets the rule, but for `accepted`.
    certain: bool,
    /// What rules before it let in.
    accepted: Vec<Match>,
}

impl DropRule {
    /// The lists that it belongs on: of every service, or of some of `services`.
    fn scopes(&self, services: impl Iterator<Item = ServiceKey>) -> Vec<Scope> {
        if !self.certain {
            return Vec::new();
        }
        if self.to.is_all() && self.accepted.is_empty() {
            return vec![None];
        }
        let accepted = |key: &ServiceKey| self.accepted.iter().any(|packets| packets.may_be(key));
        let own = services.filter(|key| self.to.is(key) && !accepted(key));
        own.map(Some).collect()
    }
}

/// Where a rule is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `ip`, `ip6`, `inet`, `netdev` or `bridge`.
    pub family: String,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule's handle.
    pub handle: u64,
    /// The hook of the base chain that leads there.
    pub hook: String,
}

impl Place {
    /// The command that removes the rule.
    pub fn delete(&self) -> String {
        let Self {
            family,
            table,
            chain,
            handle,
            ..
        } = self;
        format!("nft delete rule {family} {table} {chain} handle {handle}")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            family,
            table,
            chain,
            handle,
            ..
        } = self;
        write!(f, "{family} {table} {chain} (handle {handle})")
    }
}

/// Which packets of its sources a rule is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    protocol: Option<Protocol>,
    /// First and last.
    ports: Option<Vec<(u16, u16)>>,
    destinations: Option<Vec<Prefix>>,
    /// By connection tracking, in a way that only iptables knows.
    tracked: bool,
    /// Something else that is not understood.
    other: bool,
}

impl Match {
    /// Whether it is for all packets.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether packets to a service may be among them.
    pub fn may_be(&self, key: &ServiceKey) -> bool {
        let ServiceKey::Address {
            protocol,
            addr,
            port,
        } = *key
        else {
            return true;
        };
        let has_port = |(first, last): &(u16, u16)| port == 0 || (*first..=*last).contains(&port);
        let has = |addr: Addr| move |prefix: &Prefix| prefix.has(addr);
        self.protocol.is_none_or(|p| p == protocol)
            && self
                .ports
                .as_ref()
                .is_none_or(|all| all.iter().any(has_port))
            && self
                .destinations
                .as_ref()
                .is_none_or(|all| all.iter().any(has(addr)))
    }

    /// Whether all packets to a service are.
    fn is(&self, key: &ServiceKey) -> bool {
        let ServiceKey::Address { port, .. } = *key else {
            return self.is_all();
        };
        let known = !self.other && !self.tracked;
        known && self.may_be(key) && (port != 0 || self.ports.is_none())
    }

    /// Whether it is iptables' way to let established connections in.
    fn is_established(&self) -> bool {
        let only = Self {
            tracked: true,
            ..Self::default()
        };
        *self == only
    }
}

/// Who is kept out by the rules that are followed: of every service, or of some of `services`.
pub fn followed(
    drop_rules: &[DropRule],
    services: impl Iterator<Item = ServiceKey> + Clone,
) -> BTreeMap<Scope, Vec<Arc<[Prefix]>>> {
    let mut all: BTreeMap<Scope, Vec<Arc<[Prefix]>>> = BTreeMap::new();
    for drop_rule in drop_rules {
        let Some(sources) = &drop_rule.sources else {
            continue;
        };
        for scope in drop_rule.scopes(services.clone()) {
            all.entry(scope).or_default().push(Arc::clone(sources));
        }
    }
    all
}
