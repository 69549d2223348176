//! Routing rules (`ip rule`) and the tables that they send a look-up to, of one address family.
//!
//! After `fib_rules_lookup` (net/core/fib_rules.c) and `fib4_rule_match`, `fib4_rule_action` and
//! `fib4_rule_suppress` (net/ipv4/fib_rules.c), with their like in net/ipv6/fib6_rules.c.

use super::route::{Route, Table, Target};
use super::{Query, Unreachable};
use crate::flow::{Addr, Family};

/// The tables of the three rules that every host starts with (RT_TABLE_* in linux/rtnetlink.h).
pub mod table {
    /// The host's own addresses.
    pub const LOCAL: u32 = 255;
    /// Where routes go that name no table.
    pub const MAIN: u32 = 254;
    /// Empty, unless somebody fills it.
    pub const DEFAULT: u32 = 253;
}

/// A routing rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Lower ones are asked first.
    pub priority: u32,
    /// Where the packet comes from: a prefix, its other bits zero. A length of 0 is any source, and none.
    pub from: (Addr, u8),
    /// Where it goes.
    pub to: (Addr, u8),
    /// By which interface it came in.
    pub iif: Option<u32>,
    /// It asks for something that no packet of UVS's has, so that it matches none.
    pub never: bool,
    /// `not`: it matches what the rest does not.
    pub invert: bool,
    /// What becomes of what it matches.
    pub action: Action,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Looks into a table; what it finds with a prefix of at most `suppress` bits does not count.
    Lookup {
        /// The table.
        table: u32,
        /// `suppress_prefixlength`.
        suppress: Option<u8>,
    },
    /// Goes on at the first rule with this priority, where there is one further on.
    Goto(u32),
    /// Nothing: the next rule decides.
    Nop,
    /// Ends the look-up.
    Refuse(Unreachable),
}

impl Rule {
    /// A rule for every packet.
    pub const fn all(priority: u32, action: Action) -> Self {
        Self {
            priority,
            from: (Addr::UNSPECIFIED, 0),
            to: (Addr::UNSPECIFIED, 0),
            iif: None,
            never: false,
            invert: false,
            action,
        }
    }

    /// A rule that sends every packet to a table.
    pub const fn lookup(priority: u32, table: u32) -> Self {
        let suppress = None;
        Self::all(priority, Action::Lookup { table, suppress })
    }

    /// The rules of a family that every host starts with.
    pub const fn defaults(family: Family) -> &'static [Self] {
        match family {
            Family::V4 => &Self::DEFAULT,
            Family::V6 => &Self::DEFAULT_IPV6,
        }
    }

    /// IPv4's rules that every host starts with.
    pub const DEFAULT: [Self; 3] = [
        Self::lookup(0, table::LOCAL),
        Self::lookup(32766, table::MAIN),
        Self::lookup(32767, table::DEFAULT),
    ];

    /// IPv6's rules that every host starts with.
    pub const DEFAULT_IPV6: [Self; 2] = [Self::DEFAULT[0], Self::DEFAULT[1]];

    /// Whether it matches every packet.
    fn is_plain(&self) -> bool {
        *self == Self::all(self.priority, self.action)
    }

    fn matches(&self, q: &Query) -> bool {
        let within = |a: Addr, (net, bits): (Addr, u8)| bits == 0 || a.masked(bits) == net;
        let matches = !self.never
            && self.iif.is_none_or(|iif| iif == q.iif)
            && within(q.src, self.from)
            && within(q.dst, self.to);
        matches != self.invert
    }
}

/// A rule, ready to be followed.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    rule: Rule,
    /// It matches every packet.
    plain: bool,
    /// The place of the table that it looks into, or of the step that it goes on at.
    target: usize,
}

/// The rules and tables of an address family.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Policy {
    family: Family,
    steps: Vec<Step>,
    tables: Vec<(u32, Table)>,
    custom: bool,
}

impl Policy {
    /// The rules that every host starts with, and no routes.
    pub(super) fn new(family: Family) -> Self {
        let mut policy = Self {
            family,
            steps: Vec::new(),
            tables: Vec::new(),
            custom: false,
        };
        policy.set_rules(Rule::defaults(family));
        policy
    }

    /// Takes the rules in place of those it has, in the order in which they are asked.
    pub(super) fn set_rules(&mut self, rules: &[Rule]) {
        self.custom = rules != Rule::defaults(self.family);
        let steps = rules.iter().enumerate().map(|(at, rule)| Step {
            rule: *rule,
            plain: rule.is_plain(),
            target: match rule.action {
                Action::Lookup { table, .. } => self.place(table),
                Action::Goto(priority) => {
                    let rest = &rules[at + 1..];
                    // Without its target it does nothing (FIB_RULE_UNRESOLVED).
                    let there = rest.iter().position(|r| r.priority == priority);
                    at + 1 + there.unwrap_or(0)
                }
                Action::Nop | Action::Refuse(_) => 0,
            },
        });
        self.steps = steps.collect();
    }

    /// Whether there are other rules than those that every host starts with.
    pub(super) const fn is_custom(&self) -> bool {
        self.custom
    }

    /// Whether a route may have several next hops.
    pub(super) fn has_several_hops(&self) -> bool {
        self.tables.iter().any(|(_, table)| table.several_hops)
    }

    /// A table, made where it does not exist.
    pub(super) fn table(&mut self, id: u32) -> &mut Table {
        let place = self.place(id);
        &mut self.tables[place].1
    }

    fn place(&mut self, id: u32) -> usize {
        let known = self.tables.iter().position(|(known, _)| *known == id);
        known.unwrap_or_else(|| {
            self.tables.push((id, Table::default()));
            self.tables.len() - 1
        })
    }

    /// The route that the rules choose, one with next hops.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn find(
        &self,
        q: &Query,
        is_local: impl Fn(Addr) -> bool,
    ) -> Result<&Route, Unreachable> {
        let mut at = 0;
        while let Some(step) = self.steps.get(at) {
            at += 1;
            if !step.plain && !step.rule.matches(q) {
                continue;
            }
            match step.rule.action {
                Action::Lookup { table, suppress } => {
                    if table == table::LOCAL && is_local(q.dst) {
                        return Err(Unreachable::Local);
                    }
                    let Some(route) = self.tables[step.target].1.find(q.dst) else {
                        continue;
                    };
                    match route.target {
                        Target::Throw => {}
                        Target::Refuse(why) => return Err(Unreachable::Refused(why)),
                        _ if suppress.is_some_and(|most| route.prefix <= most) => {}
                        Target::Local => return Err(Unreachable::Local),
                        Target::Hop(_) | Target::Hops(_) => return Ok(route),
                    }
                }
                Action::Goto(_) => at = step.target,
                Action::Nop => {}
                Action::Refuse(why) => return Err(why),
            }
        }
        Err(Unreachable::NoRoute)
    }
}
