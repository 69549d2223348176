//! What a table has, read from the kernel's answers or from our own messages, and what the one lacks that
//! the other has. The messages that put a table up are all that is known of how it must look: the kernel
//! lists a table in the same attributes as it takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::expression::ITEM;
use super::link::Link;
use super::message::{Attribute, Attributes, Batch, Kind, Message, attributes, find, messages};
use super::table::{
    CHAIN_NAME, COUNTER_BYTES, COUNTER_PACKETS, DYNAMIC, ELEMENT_KEY, ELEMENTS, EXPRESSIONS, NAME,
    OBJECT_DATA, SET_FLAGS, SET_ID, TABLE, VALUE,
};

/// What is compared of a table: messages' attributes by kind and name; those of a chain's rules in their
/// order; and elements' keys.
#[derive(Debug, Default)]
pub(in crate::guard) struct Listing<'a> {
    things: BTreeMap<(Kind, &'a str), &'a [u8]>,
    rules: BTreeMap<&'a str, Vec<&'a [u8]>>,
    elements: BTreeMap<&'a str, BTreeSet<&'a [u8]>>,
}

/// A table as the kernel has it, in bytes.
///
/// # Errors
/// The kernel's; `ENOENT` where there is none.
pub(in crate::guard) fn fetch(link: &mut Link, table: &str, sets: &[&str]) -> io::Result<Vec<u8>> {
    let of_table = Attributes::of(|out| {
        out.text(TABLE, table);
    });
    let found = link.get(Kind::GET_TABLE, &of_table)?;
    let mut all = found.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
    for kind in [
        Kind::GET_CHAIN,
        Kind::GET_RULE,
        Kind::GET_SET,
        Kind::GET_OBJECT,
    ] {
        all.extend(link.dump(kind, &of_table)?);
    }
    for set in sets {
        let of_set = Attributes::of(|out| {
            out.text(TABLE, table).text(NAME, set);
        });
        match link.dump(Kind::GET_ELEMENTS, &of_set) {
            Ok(elements) => all.extend(elements),
            // That it is not there shows in the list of sets.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(all)
}

/// What a counter has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Its name: why frames were dropped, e.g. `service`.
    pub name: String,
    /// Frames.
    pub packets: u64,
    /// Bytes from the IP header on.
    pub bytes: u64,
}

/// The counters of a table; none where there is no table.
///
/// # Errors
/// The kernel's.
pub(in crate::guard) fn counters(link: &mut Link, table: &str) -> io::Result<Vec<Counter>> {
    let of_table = Attributes::of(|out| {
        out.text(TABLE, table);
    });
    let answers = link.dump(Kind::GET_OBJECT, &of_table)?;
    let ours = |m: &Message<'_>| m.is_netdev() && m.text(TABLE) == Some(table);
    let counter = |m: Message<'_>| {
        let data = find(m.attributes(), OBJECT_DATA)?;
        let count = |kind| find(data, kind)?.try_into().ok().map(u64::from_be_bytes);
        Some(Counter {
            name: m.text(NAME)?.to_owned(),
            packets: count(COUNTER_PACKETS)?,
            bytes: count(COUNTER_BYTES)?,
        })
    };
    Ok(messages(&answers)
        .filter(ours)
        .filter_map(counter)
        .collect())
}

impl<'a> Listing<'a> {
    /// What a transaction makes.
    pub(in crate::guard) fn of_batch(batch: &'a Batch) -> Self {
        Self::of(batch.messages())
    }

    /// What [`fetch`] brought, of that table.
    pub(in crate::guard) fn of_answers(answers: &'a [u8], table: &str) -> Self {
        let ours = |m: &Message<'_>| m.is_netdev() && m.text(TABLE) == Some(table);
        Self::of(messages(answers).filter(ours))
    }

    fn of(messages: impl Iterator<Item = Message<'a>>) -> Self {
        let mut listing = Self::default();
        for message in messages {
            let all = message.attributes();
            let text = |kind| message.text(kind).unwrap_or_default();
            match message.kind() {
                Some(kind @ (Kind::NEW_SET | Kind::NEW_OBJECT)) => {
                    listing.things.insert((kind, text(NAME)), all);
                }
                Some(kind @ Kind::NEW_CHAIN) => {
                    listing.things.insert((kind, text(CHAIN_NAME)), all);
                }
                Some(kind @ Kind::NEW_TABLE) => {
                    listing.things.insert((kind, text(TABLE)), all);
                }
                Some(Kind::NEW_RULE) => listing.rules.entry(text(NAME)).or_default().push(all),
                Some(Kind::NEW_ELEMENTS) => {
                    let keys = items(find(all, ELEMENTS)).filter_map(key);
                    listing.elements.entry(text(NAME)).or_default().extend(keys);
                }
                _ => {}
            }
        }
        listing
    }

    /// The sets whose elements are compared: those that no rule puts elements into.
    pub(in crate::guard) fn fixed_sets(&self) -> Vec<&'a str> {
        let sets = self
            .things
            .iter()
            .filter(|((kind, _), _)| *kind == Kind::NEW_SET);
        sets.filter(|(_, set)| find(set, SET_FLAGS) != Some(&DYNAMIC.to_be_bytes()))
            .map(|((_, name), _)| *name)
            .collect()
    }

    /// The first thing that is otherwise in `found` than here; `None` where all is as it must be.
    pub(in crate::guard) fn difference(&self, found: &Self) -> Option<String> {
        self.other_things(found)
            .or_else(|| self.other_rules(found))
            .or_else(|| self.other_elements(found))
    }

    fn other_things(&self, found: &Self) -> Option<String> {
        for (id @ (kind, name), wanted) in &self.things {
            let what = called(*kind);
            let Some(there) = found.things.get(id) else {
                return Some(format!("{what} {name} is missing"));
            };
            if !has_all(there, wanted, &|attribute| is_volatile(*kind, attribute)) {
                return Some(format!("{what} {name} was changed"));
            }
        }
        let mut more = found
            .things
            .keys()
            .filter(|id| !self.things.contains_key(*id));
        more.next()
            .map(|(kind, name)| format!("{} {name} was added", called(*kind)))
    }

    fn other_rules(&self, found: &Self) -> Option<String> {
        let chains: BTreeSet<_> = self.rules.keys().chain(found.rules.keys()).collect();
        for chain in chains {
            let of = |listing: &Self| listing.rules.get(chain).cloned().unwrap_or_default();
            let (wanted, there) = (of(self), of(found));
            if wanted.len() != there.len() {
                let (wanted, there) = (wanted.len(), there.len());
                return Some(format!("chain {chain} has {there} rules, not {wanted}"));
            }
            let mut pairs = wanted.iter().zip(there);
            if let Some(n) = pairs.position(|(wanted, there)| !is_rule(there, wanted)) {
                return Some(format!("rule {} of chain {chain} was changed", n + 1));
            }
        }
        None
    }

    fn other_elements(&self, found: &Self) -> Option<String> {
        let none = BTreeSet::new();
        self.fixed_sets().into_iter().find_map(|set| {
            let wanted = self.elements.get(set).unwrap_or(&none);
            let there = found.elements.get(set).unwrap_or(&none);
            let lacks = wanted.difference(there).count();
            let more = there.difference(wanted).count();
            (lacks + more > 0)
                .then(|| format!("set {set} lacks {lacks} elements and has {more} too many"))
        })
    }
}

fn called(kind: Kind) -> &'static str {
    match kind {
        Kind::NEW_CHAIN => "chain",
        Kind::NEW_SET => "set",
        Kind::NEW_OBJECT => "counter",
        _ => "table",
    }
}

/// What we send and the kernel lists otherwise, or not at all: counts, and an id within a transaction.
fn is_volatile(kind: Kind, attribute: u16) -> bool {
    matches!(
        (kind, attribute),
        (Kind::NEW_OBJECT, OBJECT_DATA) | (Kind::NEW_SET, SET_ID)
    )
}

/// The attributes of a list's items.
fn items(list: Option<&[u8]>) -> impl Iterator<Item = &[u8]> {
    let all = attributes(list.unwrap_or_default());
    all.filter_map(|a| (a.kind == ITEM).then_some(a.value))
}

/// An element's key.
fn key(element: &[u8]) -> Option<&[u8]> {
    find(find(element, ELEMENT_KEY)?, VALUE)
}

/// The same expressions, one by one.
fn is_rule(there: &[u8], wanted: &[u8]) -> bool {
    let of = |rule| items(find(rule, EXPRESSIONS)).collect::<Vec<_>>();
    let (there, wanted) = (of(there), of(wanted));
    let same = |(there, wanted): (&&[u8], &&[u8])| has_all(there, wanted, &|_| false);
    there.len() == wanted.len() && there.iter().zip(&wanted).all(same)
}

/// Whether each of the wanted attributes is there with its value. The kernel lists more than it was
/// told: handles, defaults.
fn has_all(there: &[u8], wanted: &[u8], is_volatile: &dyn Fn(u16) -> bool) -> bool {
    let has = |wanted: Attribute<'_>| {
        find(there, wanted.kind).is_some_and(|there| {
            there == wanted.value || wanted.is_nest && has_all(there, wanted.value, &|_| false)
        })
    };
    let mut wanted = attributes(wanted).filter(|a| !is_volatile(a.kind));
    wanted.all(has)
}

#[cfg(test)]
mod tests {

    use super::super::field::{IP_DADDR, IP_PROTOCOL};
    use super::super::rule::Rule;
    use super::super::table::{Chain, Dynamic, Set, Table};
    use super::*;

    fn table() -> Table {
        let chain = |name: &str, rules| Chain {
            name: name.to_owned(),
            hook: None,
            rules,
        };
        let set = |name, elements: &[u8]| Set {
            name,
            key: &[IP_DADDR],
            elements: elements.iter().map(|n| vec![10, 0, 0, *n]).collect(),
            dynamic: None,
        };
        let counted = || Rule::new().within(&[IP_DADDR], "owned").count("owned");
        Table {
            name: "uvs",
            counters: vec!["owned"],
            sets: vec![
                set("owned", &[1, 2]),
                Set {
                    dynamic: Some(Dynamic {
                        seconds: 30,
                        limit: 9,
                    }),
                    ..set("seen", &[])
                },
            ],
            chains: vec![
                chain("ours", vec![counted().drop(), Rule::new().goto("end")]),
                chain("end", Vec::new()),
            ],
        }
    }

    fn difference(change: impl Fn(&mut Table)) -> Option<String> {
        let mut changed = table();
        change(&mut changed);
        let (wanted, found) = (table().replacement(), changed.replacement());
        let (wanted, found) = (Listing::of_batch(&wanted), Listing::of_batch(&found));
        assert_eq!(wanted.fixed_sets(), ["owned"]);
        wanted.difference(&found)
    }

    #[test]
    fn each_difference_is_named() {
        assert_eq!(difference(|_| {}), None);
        let says = |what: &str, change: &dyn Fn(&mut Table)| {
            assert_eq!(difference(change).as_deref(), Some(what));
        };
        says("chain end is missing", &|t| drop(t.chains.pop()));
        says("counter owned is missing", &|t| t.counters.clear());
        says("counter mine was added", &|t| t.counters.push("mine"));
        says("set owned was changed", &|t| t.sets[0].key = &[IP_PROTOCOL]);
        says("chain ours has 1 rules, not 2", &|t| {
            drop(t.chains[0].rules.pop())
        });
        says("rule 2 of chain ours was changed", &|t| {
            t.chains[0].rules[1] = Rule::new().jump("end");
        });
        says("rule 1 of chain ours was changed", &|t| {
            t.chains[0].rules.swap(0, 1)
        });
        says("set owned lacks 1 elements and has 0 too many", &|t| {
            drop(t.sets[0].elements.pop())
        });
        says("set owned lacks 0 elements and has 1 too many", &|t| {
            t.sets[0].elements.push(vec![9; 4])
        });
        let seen = difference(|t| t.sets[1].elements.push(vec![9; 4]));
        assert_eq!(seen, None, "what packets put there");
    }
}
