//! One rule's expressions, as libnftables-json(5) writes them.

use std::net::IpAddr;

use serde_json::Value;
use uvs_core::access::Prefix;
use uvs_core::flow::{Addr, Protocol};

use super::Match;

/// What a rule does with the packets that it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum RuleVerdict {
    /// Nothing that decides.
    #[default]
    Nothing,
    /// They end.
    Drop,
    /// They are let in, or may be.
    Accept,
    /// The chain that called this one goes on.
    Return,
    /// Another chain is asked; where it is a `goto`, this one does not go on.
    Jump {
        /// Which.
        chain: String,
        /// Whether this one ends.
        goto: bool,
    },
}

/// A rule, understood as far as it can be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ParsedRule {
    /// Whether it looks at the source address,
    pub(super) by_source: bool,
    /// and for which; `None` where that is not understood, or all are meant.
    pub(super) sources: Option<Vec<Prefix>>,
    pub(super) to: Match,
    /// It is for no new connection to a service: established ones, the loopback interface, ICMP.
    pub(super) never: bool,
    pub(super) verdict: RuleVerdict,
}

/// What a named set has, by its name.
pub(super) type Sets<'a> = &'a dyn Fn(&str) -> Option<&'a Value>;

impl ParsedRule {
    /// Understands the expressions of a rule.
    pub(super) fn of(expressions: &[Value], sets: Sets<'_>) -> Self {
        let mut parsed = Self::default();
        for expression in expressions {
            let Some((name, body)) = expression.as_object().and_then(|map| map.iter().next())
            else {
                parsed.to.other = true;
                continue;
            };
            parsed.take(name, body, sets);
        }
        parsed
    }

    fn take(&mut self, name: &str, body: &Value, sets: Sets<'_>) {
        match name {
            "counter" | "log" | "comment" => {}
            "match" => self.take_match(body, sets),
            "xt" => self.take_xt(body),
            "drop" | "reject" => self.verdict = RuleVerdict::Drop,
            "return" => self.verdict = RuleVerdict::Return,
            "jump" | "goto" => {
                let chain = body["target"].as_str().unwrap_or_default().to_owned();
                let goto = name == "goto";
                self.verdict = RuleVerdict::Jump { chain, goto };
            }
            "vmap" => self.take_map(body, sets),
            "accept" | "queue" | "fwd" => self.verdict = RuleVerdict::Accept,
            // `limit` and its like: the rule is for some of the packets only.
            _ => self.to.other = true,
        }
    }

    /// Verdicts by a key. By the source's address some are dropped; what the others get is not looked at.
    fn take_map(&mut self, body: &Value, sets: Sets<'_>) {
        let elements = elements(&body["data"], sets).unwrap_or_default();
        let has = |verdict: &str| elements.iter().any(|e| e[1].get(verdict).is_some());
        if body["key"]["ct"]["key"] == "state" && !elements.iter().any(|e| e[0] == "new") {
            self.never = true;
            return;
        }
        self.to.other = true;
        self.by_source |= is_source(&body["key"]) && has("drop");
        // An empty map is one that packets fill, or that could not be read.
        let only_drops =
            !elements.is_empty() && elements.iter().all(|e| e[1].get("drop").is_some());
        self.verdict = if only_drops {
            RuleVerdict::Drop
        } else {
            RuleVerdict::Accept
        };
    }

    fn take_match(&mut self, body: &Value, sets: Sets<'_>) {
        let (left, right) = (&body["left"], &body["right"]);
        if is_source(left) {
            let understood = body["op"] == "==" && left.get("payload").is_some() && !self.by_source;
            self.sources = understood.then(|| prefixes(right, sets)).flatten();
            self.to.other |= self.sources.is_none();
            self.by_source = true;
            return;
        }
        let key = |group: &str| left[group]["key"].as_str().unwrap_or_default();
        let known = match (key("ct"), key("meta")) {
            ("state", _) => self.take_state(body),
            (_, "iif" | "iifname") if right == "lo" && body["op"] == "==" => {
                self.never = true;
                true
            }
            (_, "l4proto") if body["op"] == "==" => self.take_protocol(right),
            _ if body["op"] == "==" => self.take_field(&left["payload"], right, sets),
            _ => false,
        };
        self.to.other |= !known;
    }

    /// A new connection's first packet is in state `new`.
    fn take_state(&mut self, body: &Value) -> bool {
        let states = match &body["right"] {
            Value::Array(states) => states.iter().collect(),
            one => vec![one],
        };
        let new = states.iter().any(|s| *s == "new" || !s.is_string());
        let positive = body["op"] == "in" || body["op"] == "==";
        self.never |= positive && !new;
        positive
    }

    fn take_protocol(&mut self, right: &Value) -> bool {
        let named = match (right.as_str(), right.as_u64()) {
            (Some("tcp"), _) | (_, Some(6)) => Some(Protocol::Tcp),
            (Some("udp"), _) | (_, Some(17)) => Some(Protocol::Udp),
            (Some("sctp"), _) | (_, Some(132)) => Some(Protocol::Sctp),
            // Of a protocol that has no services.
            _ => {
                self.never = true;
                return true;
            }
        };
        let fits = self.to.protocol.is_none() || self.to.protocol == named;
        self.to.protocol = named;
        fits
    }

    fn take_field(&mut self, field: &Value, right: &Value, sets: Sets<'_>) -> bool {
        let protocol = field["protocol"].as_str().unwrap_or_default();
        match (protocol, field["field"].as_str().unwrap_or_default()) {
            ("ip", "protocol") => self.take_protocol(right),
            ("ip" | "ip6", "daddr") if self.to.destinations.is_none() => {
                self.to.destinations = prefixes(right, sets);
                self.to.destinations.is_some()
            }
            (_, "dport") if self.to.ports.is_none() => {
                self.to.ports = ports(right, sets);
                let protocol = protocol == "th" || self.take_protocol(&protocol.into());
                self.to.ports.is_some() && protocol
            }
            _ => false,
        }
    }

    /// What iptables-nft leaves to its extensions tells no more than their names.
    fn take_xt(&mut self, body: &Value) {
        let name = body["name"].as_str().unwrap_or_default();
        match (body["type"].as_str().unwrap_or_default(), name) {
            ("target", "DROP" | "REJECT") => self.verdict = RuleVerdict::Drop,
            ("target", "LOG" | "NFLOG") | ("match", "comment") => {}
            // Alone it is what lets established connections in.
            ("match", "conntrack" | "state") => self.to.tracked = true,
            ("match", "set") => {
                self.by_source = true;
                self.to.other = true;
            }
            ("target", _) => self.verdict = RuleVerdict::Accept,
            _ => self.to.other = true,
        }
    }
}

fn is_source(left: &Value) -> bool {
    match left.get("concat").and_then(Value::as_array) {
        Some(parts) => parts.iter().any(is_source),
        None => left["payload"]["field"] == "saddr" && left["payload"]["protocol"] != "ether",
    }
}

/// The members of a set, anonymous or named, or the one value.
fn elements(right: &Value, sets: Sets<'_>) -> Option<Vec<Value>> {
    let named = right.as_str().and_then(|text| text.strip_prefix('@'));
    let list = match named {
        Some(name) => sets(name)?,
        None => match right.get("set") {
            Some(list) => list,
            None => return Some(vec![right.clone()]),
        },
    };
    let members = list.as_array().cloned().unwrap_or_default();
    // With a time-out or a counter a member is wrapped.
    let bare = |member: Value| match member.get("elem") {
        Some(wrapped) => wrapped["val"].clone(),
        None => member,
    };
    Some(members.into_iter().map(bare).collect())
}

fn prefixes(right: &Value, sets: Sets<'_>) -> Option<Vec<Prefix>> {
    let mut all = Vec::new();
    for element in elements(right, sets)? {
        if let Some(prefix) = element.get("prefix") {
            let length = u8::try_from(prefix["len"].as_u64()?).ok()?;
            all.push(Prefix::around(address(&prefix["addr"])?, length));
        } else if let Some(range) = element.get("range") {
            all.extend(covering(address(&range[0])?, address(&range[1])?));
        } else {
            all.push(Prefix::around(address(&element)?, u8::MAX));
        }
    }
    Some(all)
}

fn address(value: &Value) -> Option<Addr> {
    let addr: IpAddr = value.as_str()?.parse().ok()?;
    Some(addr.into())
}

/// The prefixes that a range of addresses consists of.
fn covering(first: Addr, last: Addr) -> Vec<Prefix> {
    let number = |addr: Addr| u128::from_be_bytes(addr.v6_octets());
    let width = if first.is_v4() { 32 } else { 128 };
    let (mut at, end) = (number(first), number(last));
    let mut all = Vec::new();
    while at <= end {
        // As large as its beginning allows, and no larger than what is left.
        let mut bits = at.trailing_zeros().min(width);
        while bits > 0 && (bits >= 128 || end - at < (1 << bits) - 1) {
            bits -= 1;
        }
        let length = u8::try_from(width - bits).unwrap_or(u8::MAX);
        all.push(Prefix::around(Addr(at.to_be_bytes()), length));
        let Some(next) = at.checked_add(1 << bits) else {
            break;
        };
        at = next;
    }
    all
}

fn ports(right: &Value, sets: Sets<'_>) -> Option<Vec<(u16, u16)>> {
    let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
    let one = |element: &Value| match element.get("range") {
        Some(range) => Some((port(&range[0])?, port(&range[1])?)),
        None => port(element).map(|port| (port, port)),
    };
    elements(right, sets)?.iter().map(one).collect()
}
