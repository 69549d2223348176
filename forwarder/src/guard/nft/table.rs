//! A table as it is wanted, and the messages that make it.

use super::expression::ITEM;
use super::field::{self, Field};
use super::message::{Attributes, Batch, Kind};
use super::rule::{COUNTER, Rule};

/// NFT_SET_TIMEOUT and NFT_SET_EVAL: elements come from the packets' way, and go by themselves.
pub(super) const DYNAMIC: u32 = 0x10 | 0x20;
/// NFTA_*_TABLE and the name of what the message is about, of whatever kind it is.
pub(in crate::guard) const TABLE: u16 = 1;
pub(in crate::guard) const NAME: u16 = 2;
/// NFTA_CHAIN_NAME; the place of the others' names has its handle.
pub(super) const CHAIN_NAME: u16 = 3;
/// NFTA_TABLE_FLAGS
const TABLE_FLAGS: u16 = 2;
/// NFTA_RULE_EXPRESSIONS
pub(super) const EXPRESSIONS: u16 = 4;
/// NFTA_SET_FLAGS, NFTA_SET_ID
pub(super) const SET_FLAGS: u16 = 3;
pub(super) const SET_ID: u16 = 10;
/// NFTA_OBJ_DATA; NFTA_COUNTER_BYTES, _PACKETS
pub(super) const OBJECT_DATA: u16 = 4;
pub(super) const COUNTER_BYTES: u16 = 1;
pub(super) const COUNTER_PACKETS: u16 = 2;
/// NFTA_OBJ_TYPE
pub(super) const OBJECT_TYPE: u16 = 3;
/// NFTA_SET_ELEM_LIST_ELEMENTS; NFTA_SET_ELEM_KEY; NFTA_DATA_VALUE
pub(super) const ELEMENTS: u16 = 3;
pub(super) const ELEMENT_KEY: u16 = 1;
pub(super) const VALUE: u16 = 1;

/// Elements in one message, whose list is counted in 16 bits: up to 36 bytes each.
const PER_MESSAGE: usize = 1024;

/// A table of the netdev family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::guard) struct Table {
    pub(in crate::guard) name: &'static str,
    /// Names of counters.
    pub(in crate::guard) counters: Vec<&'static str>,
    pub(in crate::guard) sets: Vec<Set>,
    /// A chain may go to those before it and after it.
    pub(in crate::guard) chains: Vec<Chain>,
}

/// A hash set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::guard) struct Set {
    pub(in crate::guard) name: &'static str,
    pub(in crate::guard) key: &'static [Field],
    /// Keys: each field padded to four bytes.
    pub(in crate::guard) elements: Vec<Vec<u8>>,
    /// Where rules put elements into it.
    pub(in crate::guard) dynamic: Option<Dynamic>,
}

/// How elements leave a set by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::guard) struct Dynamic {
    pub(in crate::guard) seconds: u32,
    /// Elements at most.
    pub(in crate::guard) limit: u32,
}

/// A chain of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::guard) struct Chain {
    pub(in crate::guard) name: String,
    pub(in crate::guard) hook: Option<Hook>,
    pub(in crate::guard) rules: Vec<Rule>,
}

/// Where packets enter a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::guard) struct Hook {
    pub(in crate::guard) at: At,
    pub(in crate::guard) device: String,
    pub(in crate::guard) priority: i32,
}

/// A hook of the netdev family (enum nf_dev_hooks).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::guard) enum At {
    Ingress = 0,
    /// Linux 5.16.
    Egress = 1,
}

impl Table {
    /// What puts the table up in place of any of that name.
    pub(in crate::guard) fn replacement(&self) -> Batch {
        let mut out = removal(self.name);
        out.push(new(self.name));
        for counter in &self.counters {
            out.push((Kind::NEW_OBJECT, self.counter(counter)));
        }
        for (id, set) in (1..).zip(&self.sets) {
            out.push((Kind::NEW_SET, self.set(set, id)));
        }
        for chain in &self.chains {
            out.push((Kind::NEW_CHAIN, self.chain(chain)));
        }
        for chain in &self.chains {
            let rules = chain.rules.iter();
            out.extend(rules.map(|rule| (Kind::NEW_RULE, self.rule(&chain.name, rule))));
        }
        for set in &self.sets {
            out.extend(elements(
                Kind::NEW_ELEMENTS,
                self.name,
                set.name,
                &set.elements,
            ));
        }
        Batch::of(&out)
    }

    fn named(&self, name: &str) -> Attributes {
        Attributes::of(|out| {
            out.text(TABLE, self.name).text(NAME, name);
        })
    }

    fn counter(&self, name: &str) -> Attributes {
        let mut out = self.named(name);
        out.number(OBJECT_TYPE, COUNTER).nest(OBJECT_DATA, |out| {
            out.long(COUNTER_BYTES, 0).long(COUNTER_PACKETS, 0);
        });
        out
    }

    fn set(&self, set: &Set, id: u32) -> Attributes {
        let mut out = self.named(set.name);
        // NFTA_SET_KEY_TYPE, _KEY_LEN
        out.number(4, field::key_type(set.key));
        out.number(5, field::key_length(set.key));
        out.number(SET_ID, id);
        if let Some(dynamic) = set.dynamic {
            out.number(SET_FLAGS, DYNAMIC);
            // NFTA_SET_DESC: NFTA_SET_DESC_SIZE; NFTA_SET_TIMEOUT in milliseconds
            out.nest(9, |out| {
                out.number(1, dynamic.limit);
            });
            out.long(11, u64::from(dynamic.seconds) * 1000);
        }
        if let Some(userdata) = field::userdata(set.key) {
            out.bytes(13, &userdata);
        }
        out
    }

    fn chain(&self, chain: &Chain) -> Attributes {
        Attributes::of(|out| {
            out.text(TABLE, self.name).text(CHAIN_NAME, &chain.name);
            if let Some(hook) = &chain.hook {
                // NFTA_CHAIN_HOOK, _POLICY, _TYPE
                out.nest(4, |out| {
                    // NFTA_HOOK_HOOKNUM, _PRIORITY, _DEV
                    out.number(1, hook.at as u32);
                    out.number(2, hook.priority.cast_unsigned())
                        .text(3, &hook.device);
                });
                const ACCEPT: u32 = 1;
                out.number(5, ACCEPT).text(7, "filter");
            }
        })
    }

    /// NFTA_RULE_CHAIN stands where others have their name.
    fn rule(&self, chain: &str, rule: &Rule) -> Attributes {
        let mut out = self.named(chain);
        out.nest(EXPRESSIONS, |out| out.append(&rule.expressions));
        out
    }
}

/// What removes a table that may not be there: adding it first makes the deletion succeed.
pub(in crate::guard) fn removal(table: &str) -> Vec<(Kind, Attributes)> {
    vec![
        new(table),
        (
            Kind::DELETE_TABLE,
            Attributes::of(|out| {
                out.text(TABLE, table);
            }),
        ),
    ]
}

fn new(table: &str) -> (Kind, Attributes) {
    let attributes = Attributes::of(|out| {
        out.text(TABLE, table).number(TABLE_FLAGS, 0);
    });
    (Kind::NEW_TABLE, attributes)
}

/// The messages that add elements to a set or delete them.
pub(in crate::guard) fn elements<'a>(
    kind: Kind,
    table: &'a str,
    set: &'a str,
    keys: &'a [Vec<u8>],
) -> impl Iterator<Item = (Kind, Attributes)> + 'a {
    keys.chunks(PER_MESSAGE).map(move |keys| {
        let list = Attributes::of(|out| {
            out.text(TABLE, table).text(NAME, set);
            out.nest(ELEMENTS, |out| {
                for key in keys {
                    out.nest(ITEM, |out| {
                        out.nest(ELEMENT_KEY, |out| {
                            out.bytes(VALUE, key);
                        });
                    });
                }
            });
        });
        (kind, list)
    })
}
