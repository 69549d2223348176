//! Who may use services: prefixes that are denied or allowed, as packets ask for them.
//!
//! A list is searched for the longest prefix that has an address, and that one's action counts; where the
//! same prefix is denied and allowed, it is denied. What no prefix has is let in, so an allowed prefix is an
//! exception to a denied one and nothing else. There is one list for every service together and one for each
//! service that has its own; an address must pass both.
//!
//! A list is built off the packet path and never changed. Prefixes either nest or have nothing in common, so
//! a list is cut into ranges in each of which one prefix decides, and a look-up is a binary search among those
//! with the address's first 16 bits: no hash that an attacker could aim at, a few steps for 100,000 prefixes,
//! and the same for IPv4 and IPv6.

mod prefix;
mod ranges;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::flow::Addr;
use crate::service::ServiceKey;
pub use prefix::{Prefix, PrefixError};
use ranges::Ranges;

/// What becomes of the clients in a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// They are let in, though a shorter prefix is denied.
    Allow,
    /// They are kept out.
    Deny,
}

/// A prefix, and what becomes of its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    /// The clients.
    pub prefix: Prefix,
    /// What becomes of them.
    pub action: Action,
}

/// A list of rules, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct AccessList {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl AccessList {
    /// A list of these rules, in any order.
    pub fn new(rules: impl Iterator<Item = Rule>) -> Self {
        let (v4, v6) = rules.partition(|r: &Rule| r.prefix.addr().is_v4());
        Self {
            v4: Ranges::new(v4),
            v6: Ranges::new(v6),
        }
    }

    /// The rule that decides about an address, `None` where no prefix has it.
    pub fn decides(&self, addr: Addr) -> Option<Rule> {
        let (action, length) = match addr.as_v4() {
            Some(bytes) => self.v4.find(u32::from_be_bytes(bytes)),
            None => self.v6.find(u128::from_be_bytes(addr.v6_octets())),
        }?;
        let prefix = Prefix::around(addr, length);
        Some(Rule { prefix, action })
    }

    /// Whether an address is kept out.
    pub fn denies(&self, addr: Addr) -> bool {
        let found = match addr.as_v4() {
            Some(bytes) => self.v4.find(u32::from_be_bytes(bytes)),
            None => self.v6.find(u128::from_be_bytes(addr.v6_octets())),
        };
        matches!(found, Some((Action::Deny, _)))
    }
}

/// All lists.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The one of every service, and of what UVS itself answers.
    pub everywhere: Arc<AccessList>,
    /// Those of single services; one may be there without its service.
    pub services: BTreeMap<ServiceKey, Arc<AccessList>>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(rules: &[(Action, &str)]) -> AccessList {
        let rule = |&(action, text): &(Action, &str)| Rule {
            prefix: text.parse().expect(text),
            action,
        };
        AccessList::new(rules.iter().map(rule))
    }

    fn denied(list: &AccessList, addr: &str) -> bool {
        let addr: std::net::IpAddr = addr.parse().expect(addr);
        list.denies(addr.into())
    }

    #[test]
    fn the_longest_prefix_decides_and_deny_wins_a_tie() {
        use Action::{Allow, Deny};
        let list = list(&[
            (Allow, "10.1.2.0/24"),
            (Deny, "10.0.0.0/8"),
            (Deny, "10.1.2.3"),
            (Allow, "10.1.2.3"),
            (Deny, "255.255.255.255"),
            (Allow, "192.0.2.0/24"),
        ]);
        for (addr, expected) in [
            ("10.0.0.0", true),
            ("10.1.1.255", true),
            ("10.1.2.0", false),
            ("10.1.2.3", true),
            ("10.1.2.4", false),
            ("10.1.2.255", false),
            ("10.1.3.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.1", false),
            ("255.255.255.255", true),
            ("255.255.255.254", false),
            ("::a00:1", false),
        ] {
            assert_eq!(denied(&list, addr), expected, "{addr}");
        }
        let why = list.decides(Addr::v4([10, 1, 2, 3])).expect("a rule");
        assert_eq!(
            (why.prefix.to_string(), why.action),
            ("10.1.2.3".to_owned(), Deny)
        );
    }

    #[test]
    fn the_families_are_apart() {
        use Action::{Allow, Deny};
        let list = list(&[(Deny, "::/0"), (Allow, "2001:db8::/32")]);
        assert!(!denied(&list, "192.0.2.1"), "IPv4 is not in ::/0");
        assert!(denied(&list, "2001:db9::1"));
        assert!(!denied(&list, "2001:db8:ffff::1"));
        assert!(denied(&list, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
    }

    /// Rules that nest, touch and repeat: few addresses, all lengths.
    fn rules(v4: bool) -> impl Strategy<Value = Vec<Rule>> {
        let bits: u8 = if v4 { 32 } else { 128 };
        let rule = (any::<[bool; 6]>(), 0..=bits, any::<bool>());
        let rule = rule.prop_map(move |(high, length, deny)| Rule {
            prefix: Prefix::around(spread(v4, high), length),
            action: if deny { Action::Deny } else { Action::Allow },
        });
        proptest::collection::vec(rule, 0..40)
    }

    /// An address of whose bits six are drawn, all over its length.
    fn spread(v4: bool, bits: [bool; 6]) -> Addr {
        let at = if v4 {
            [0, 1, 7, 8, 30, 31]
        } else {
            [0, 1, 63, 64, 126, 127]
        };
        let width = if v4 { 32 } else { 128 };
        let set = bits.iter().zip(at).filter(|(bit, _)| **bit);
        let number = set.fold(0u128, |n, (_, at)| n | 1 << (width - 1 - at));
        if v4 {
            let [.., a, b, c, d] = number.to_be_bytes();
            Addr::v4([a, b, c, d])
        } else {
            Addr(number.to_be_bytes())
        }
    }

    /// What the module's text says, word for word.
    fn model(rules: &[Rule], addr: Addr) -> Option<Rule> {
        let has = |r: &&Rule| r.prefix.has(addr);
        let weight = |r: &&Rule| (r.prefix.length(), r.action);
        rules.iter().filter(has).max_by_key(weight).copied()
    }

    #[test]
    fn a_list_large_enough_for_an_index_answers_as_a_small_one() {
        let deny = |n: u32| Rule {
            prefix: Prefix::around(
                Addr::v4(n.wrapping_mul(0x9e37_79b9).to_be_bytes()),
                8 + (n % 25) as u8,
            ),
            action: if n.is_multiple_of(3) {
                Action::Allow
            } else {
                Action::Deny
            },
        };
        let rules: Vec<Rule> = (0..5000).map(deny).collect();
        let list = AccessList::new(rules.iter().copied());
        for n in 0..2000u32 {
            let at = rules[n as usize].prefix.addr();
            let before = u32::from_be_bytes(at.as_v4().expect("IPv4")).wrapping_sub(1);
            for addr in [at, Addr::v4(before.to_be_bytes())] {
                assert_eq!(list.decides(addr), model(&rules, addr), "{addr}");
            }
        }
        assert!(!list.denies(Addr([0xff; 16])), "the other family");
    }

    proptest! {
        #[test]
        fn a_look_up_finds_what_a_walk_through_all_rules_finds(
            v4 in any::<bool>(),
            (rules, asked) in any::<bool>().prop_flat_map(|v4| (
                rules(v4),
                proptest::collection::vec(any::<[bool; 6]>().prop_map(move |b| spread(v4, b)), 64),
            )),
        ) {
            let list = AccessList::new(rules.iter().copied());
            let beyond = spread(v4, [true; 6]);
            for addr in asked.into_iter().chain([beyond]) {
                prop_assert_eq!(list.decides(addr), model(&rules, addr), "{}", addr);
            }
        }
    }
}
