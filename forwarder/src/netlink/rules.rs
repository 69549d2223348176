//! Routing rules (`ip rule`) as rtnetlink tells them: what UVS follows, and what it cannot.
//!
//! A selector that UVS has no answer for is judged as the kernel judges the packets that IPVS routes: no
//! firewall mark, TOS 0, no protocol and no ports (`do_output_route4` in ip_vs_xmit.c), root's.

use std::net::IpAddr;

use netlink_packet_core::Nla;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use uvs_core::fib::{Action, Refusal, Rule, Unreachable};
use uvs_core::flow::{Addr, Family};

/// A rule of the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostRule {
    /// The rule, but for its interface.
    rule: Rule,
    /// The interface that it asks for, by name.
    iif: Option<String>,
    /// What UVS cannot follow in it, and what that means.
    unfollowed: Vec<(String, &'static str)>,
}

impl From<Rule> for HostRule {
    fn from(rule: Rule) -> Self {
        Self {
            rule,
            iif: None,
            unfollowed: Vec::new(),
        }
    }
}

/// Something of the host's routing that UVS does not follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfollowed {
    /// What it is: `rule 100: fwmark 0x1`.
    pub what: String,
    /// What UVS does instead.
    pub means: &'static str,
}

impl HostRule {
    /// The rule as the engine follows it; `ifindex` finds an interface.
    pub(super) fn followed(&self, ifindex: impl Fn(&str) -> Option<u32>) -> Rule {
        // No interface has this index: a rule for one that is gone matches nothing (FIB_RULE_IIF_DETACHED).
        let index = |name: &String| ifindex(name).unwrap_or(u32::MAX);
        Rule {
            iif: self.iif.as_ref().map(index),
            ..self.rule
        }
    }

    /// What UVS cannot follow in it, where it is of this family.
    pub(super) fn unfollowed(&self, of: Family) -> impl Iterator<Item = Unfollowed> {
        let priority = self.rule.priority;
        let rule = match of {
            Family::V4 => "rule",
            Family::V6 => "IPv6 rule",
        };
        self.unfollowed.iter().map(move |(what, means)| Unfollowed {
            what: format!("{rule} {priority}: {what}"),
            means,
        })
    }
}

/// A rule, of either family.
pub(super) fn rule(m: &RuleMessage) -> HostRule {
    let mut r = HostRule::from(Rule::all(0, Action::Nop));
    let mut reading = Reading {
        table: u32::from(m.header.table),
        ..Reading::default()
    };
    if m.header.tos != 0 {
        r.matches_none(format!("tos {:#x}", m.header.tos), BY_TOS);
    }
    for attribute in &m.attributes {
        reading.take(attribute, &mut r);
    }
    let mask = reading.mask.unwrap_or(u32::MAX);
    if reading.mark & mask != 0 {
        r.matches_none(format!("fwmark {:#x}", reading.mark), BY_MARK);
    }
    r.rule.from = prefix(reading.from, m.header.src_len);
    r.rule.to = prefix(reading.to, m.header.dst_len);
    r.rule.invert = m.header.flags.contains(RuleFlags::Invert);
    r.rule.action = match m.header.action {
        RuleAction::ToTable => Action::Lookup {
            table: reading.table,
            suppress: reading.suppress,
        },
        RuleAction::Goto => Action::Goto(reading.goto),
        RuleAction::Blackhole => Action::Refuse(Unreachable::Refused(Refusal::Blackhole)),
        // Not as the route of that name: a rule says that the net is (fib4_rule_action).
        RuleAction::Unreachable => Action::Refuse(Unreachable::NoRoute),
        RuleAction::Prohibit => Action::Refuse(Unreachable::Refused(Refusal::Prohibit)),
        _ => Action::Nop,
    };
    r
}

/// Attributes that the library does not know yet (linux/fib_rules.h): DSCP, and the masks of flow label, ports
/// and DSCP, which come with what they belong to.
const FRA_DSCP: u16 = 25;
const MASKS: std::ops::RangeInclusive<u16> = 27..=30;

const BY_MARK: &str = "UVS's packets carry no mark, since no firewall has seen them";
const BY_TOS: &str = "UVS routes every packet as one of TOS 0";
const BY_PORT: &str = "UVS asks no rule for protocols and ports, and this one matches nothing";
const BY_VRF: &str = "UVS takes its interfaces to be in no VRF";
const BY_GROUP: &str = "UVS does not look at groups of interfaces: what the rule finds counts";
const UNKNOWN: &str =
    "this release of UVS does not know the selector, and the rule matches nothing";

impl HostRule {
    /// It asks for what no packet of UVS's is known to have.
    fn matches_none(&mut self, what: String, means: &'static str) {
        self.rule.never = true;
        self.unfollowed.push((what, means));
    }
}

/// What attributes say that only together make sense.
#[derive(Default)]
struct Reading {
    table: u32,
    goto: u32,
    mark: u32,
    mask: Option<u32>,
    suppress: Option<u8>,
    from: Option<IpAddr>,
    to: Option<IpAddr>,
}

impl Reading {
    fn take(&mut self, attribute: &RuleAttribute, r: &mut HostRule) {
        match attribute {
            RuleAttribute::Priority(priority) => r.rule.priority = *priority,
            RuleAttribute::Table(table) => self.table = *table,
            RuleAttribute::Goto(priority) => self.goto = *priority,
            RuleAttribute::Source(a) => self.from = Some(*a),
            RuleAttribute::Destination(a) => self.to = Some(*a),
            RuleAttribute::Iifname(name) => r.iif = Some(name.clone()),
            RuleAttribute::FwMark(mark) => self.mark = *mark,
            RuleAttribute::FwMask(mask) => self.mask = Some(*mask),
            // -1 where there is none.
            RuleAttribute::SuppressPrefixLen(bits) => self.suppress = u8::try_from(*bits).ok(),
            // What IPVS routes is bound to no interface, comes out of no tunnel of the kernel's, and is root's.
            RuleAttribute::Oifname(_) | RuleAttribute::TunId(_) => r.rule.never = true,
            RuleAttribute::UidRange(range) => r.rule.never |= range.start > 0,
            RuleAttribute::IpProtocol(p) => {
                r.matches_none(format!("ipproto {}", u8::from(*p)), BY_PORT);
            }
            RuleAttribute::SourcePortRange(_) => r.matches_none("sport".to_owned(), BY_PORT),
            RuleAttribute::DestinationPortRange(_) => r.matches_none("dport".to_owned(), BY_PORT),
            RuleAttribute::L3MDev(true) => r.matches_none("l3mdev".to_owned(), BY_VRF),
            RuleAttribute::SuppressIfGroup(group) => {
                let what = format!("suppress_ifgroup {group}");
                r.unfollowed.push((what, BY_GROUP));
            }
            RuleAttribute::Other(other) => match other.kind() {
                FRA_DSCP => r.matches_none("dscp".to_owned(), BY_TOS),
                kind if MASKS.contains(&kind) => {}
                kind => r.matches_none(format!("selector {kind}"), UNKNOWN),
            },
            // Who set the rule, and what it counts for: neither chooses a route.
            _ => {}
        }
    }
}

fn prefix(address: Option<IpAddr>, bits: u8) -> (Addr, u8) {
    match address {
        Some(a) if bits > 0 => (Addr::from(a).masked(bits), bits),
        _ => (Addr::UNSPECIFIED, 0),
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::DefaultNla;
    use netlink_packet_route::rule::RuleUidRange;
    use uvs_core::fib::table;

    use super::*;

    fn message(priority: u32, table: u32, more: &[RuleAttribute]) -> RuleMessage {
        let mut m = RuleMessage::default();
        m.header.action = RuleAction::ToTable;
        m.attributes.push(RuleAttribute::Priority(priority));
        m.attributes.push(RuleAttribute::Table(table));
        // The kernel tells this one always.
        m.attributes
            .push(RuleAttribute::SuppressPrefixLen(u32::MAX));
        m.attributes.extend_from_slice(more);
        m
    }

    fn eth1(name: &str) -> Option<u32> {
        (name == "eth1").then_some(7)
    }

    #[test]
    fn the_rules_of_a_new_namespace_are_the_default_ones() {
        let own = [
            (0, table::LOCAL),
            (32766, table::MAIN),
            (32767, table::DEFAULT),
        ];
        let rules = own.map(|(priority, table)| rule(&message(priority, table, &[])));
        assert_eq!(rules.map(|r| r.followed(eth1)), Rule::DEFAULT);
    }

    #[test]
    fn what_uvs_follows_is_read() {
        let net = IpAddr::from([10, 1, 2, 3]);
        let mut m = message(
            100,
            1000,
            &[
                RuleAttribute::Source(net),
                RuleAttribute::Iifname("eth1".to_owned()),
                RuleAttribute::SuppressPrefixLen(0),
            ],
        );
        (m.header.src_len, m.header.flags) = (24, RuleFlags::Invert);
        let read = rule(&m);
        let action = Action::Lookup {
            table: 1000,
            suppress: Some(0),
        };
        let expected = Rule {
            from: (Addr::v4([10, 1, 2, 0]), 24),
            iif: Some(7),
            invert: true,
            ..Rule::all(100, action)
        };
        assert_eq!(read.followed(eth1), expected);
        assert_eq!(read.unfollowed(Family::V4).count(), 0);
        assert_eq!(read.followed(|_| None).iif, Some(u32::MAX), "gone");
    }

    #[test]
    fn each_selector_that_is_not_followed_is_named_with_what_it_means() {
        let named = |m: &RuleMessage| rule(m).unfollowed(Family::V4).next();
        let of = |attribute| message(5, 100, &[attribute]);
        let mark = named(&of(RuleAttribute::FwMark(1))).expect("a name");
        assert_eq!(
            (mark.what.as_str(), mark.means),
            ("rule 5: fwmark 0x1", BY_MARK)
        );
        let unmarked = [RuleAttribute::FwMark(1), RuleAttribute::FwMask(0xf0)];
        assert_eq!(
            named(&message(5, 100, &unmarked)),
            None,
            "0 is within 1/0xf0"
        );
        let mut tos = message(5, 100, &[]);
        tos.header.tos = 0x10;
        assert_eq!(named(&tos).map(|n| n.means), Some(BY_TOS));
        let vrf = named(&of(RuleAttribute::L3MDev(true)));
        assert_eq!(vrf.map(|n| n.means), Some(BY_VRF));
        let group = named(&of(RuleAttribute::SuppressIfGroup(3)));
        assert_eq!(group.map(|n| n.means), Some(BY_GROUP));
        let other = |kind| RuleAttribute::Other(DefaultNla::new(kind, vec![0; 4]));
        let dscp = named(&of(other(FRA_DSCP)));
        assert_eq!(dscp.map(|n| n.means), Some(BY_TOS));
        let new = named(&of(other(99))).expect("a name");
        assert_eq!(
            (new.what.as_str(), new.means),
            ("rule 5: selector 99", UNKNOWN)
        );
        let tcp = RuleAttribute::IpProtocol(6.into());
        assert_eq!(named(&of(tcp)).map(|n| n.means), Some(BY_PORT));
    }

    #[test]
    fn what_ipvs_never_has_matches_nothing_and_needs_no_name() {
        let user = |start| RuleAttribute::UidRange(RuleUidRange { start, end: 9 });
        let table = [
            (RuleAttribute::Oifname("eth1".to_owned()), true),
            (RuleAttribute::TunId(1), true),
            (user(1), true),
            (user(0), false),
        ];
        for (attribute, never) in table {
            let read = rule(&message(5, 100, &[attribute]));
            assert_eq!(read.followed(eth1).never, never);
            assert_eq!(read.unfollowed(Family::V4).count(), 0);
        }
    }
}
