//! A rule, written as nft's text reads: conditions from left to right, then what is done.
//!
//! ```text
//! ip daddr . ip protocol . th dport @service counter name "service" drop
//! Rule::new().within(&[IP_DADDR, IP_PROTOCOL, TH_DPORT], "service").count("service").drop()
//! ```

use uvs_core::wire::ethernet::ethertype;

use super::expression;
use super::field::{self, Field, L4_PROTOCOL, MARK, META_MARK, Needs, PROTOCOL};
use super::message::Attributes;

/// NFT_REG_VERDICT, NFT_REG_1, and NFT_REG32_00, the first of those of four bytes.
const VERDICT: u32 = 0;
const FIRST: u32 = 1;
const FIRST_OF_FOUR: u32 = 8;
/// NFT_CMP_*
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;
/// NF_DROP, NF_ACCEPT, NFT_JUMP, NFT_GOTO, NFT_RETURN.
const DROP: i32 = 0;
const ACCEPT: i32 = 1;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const RETURN: i32 = -5;
/// NFT_DYNSET_OP_*
const ADD: u32 = 0;
const UPDATE: u32 = 1;
const DELETE: u32 = 2;
/// NFT_OBJECT_COUNTER
pub(super) const COUNTER: u32 = 1;
const IP: u32 = ethertype::IPV4 as u32;
const IP6: u32 = ethertype::IPV6 as u32;

/// Expressions, each evaluated where those before it hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::guard) struct Rule {
    pub(super) expressions: Attributes,
    /// What is known of the packet by the conditions so far.
    known: Vec<Needs>,
}

impl Rule {
    /// A rule without conditions.
    pub(in crate::guard) fn new() -> Self {
        Self::default()
    }

    /// The field is that number.
    pub(in crate::guard) fn is(self, field: Field, value: u32) -> Self {
        self.load(&field, FIRST).compare(EQUAL, &field, value)
    }

    /// The field is another number.
    pub(in crate::guard) fn differs(self, field: Field, value: u32) -> Self {
        self.load(&field, FIRST).compare(NOT_EQUAL, &field, value)
    }

    /// The field is in the range, both ends included.
    pub(in crate::guard) fn between(self, field: Field, first: u32, last: u32) -> Self {
        if first == last {
            return self.is(field, first);
        }
        let from = self.load(&field, FIRST).compare(AT_LEAST, &field, first);
        from.load(&field, FIRST).compare(AT_MOST, &field, last)
    }

    /// The field's bits under the mask are those of the value: nft's `field & mask == value`.
    pub(in crate::guard) fn masked_is(self, field: Field, mask: u32, value: u32) -> Self {
        self.load(&field, FIRST)
            .mask(&field, mask)
            .compare(EQUAL, &field, value)
    }

    /// The field begins with these many bits of an address: nft's `field address/bits`.
    pub(in crate::guard) fn begins_with(self, field: Field, address: &[u8], bits: u8) -> Self {
        let bits = usize::from(bits);
        let mask: Vec<u8> = (0..address.len())
            .map(|byte| {
                let kept = bits.saturating_sub(byte * 8).min(8);
                !(0xff_u16 >> kept).to_be_bytes()[1]
            })
            .collect();
        let value: Vec<u8> = address.iter().zip(&mask).map(|(a, m)| a & m).collect();
        let rule = self.load(&field, FIRST);
        let rule = if bits < address.len() * 8 {
            rule.mask_bytes(&mask)
        } else {
            rule
        };
        rule.compare_bytes(EQUAL, &value)
    }

    /// One of the field's bits under the mask is set: nft's `field & mask != 0`.
    pub(in crate::guard) fn has_any(self, field: Field, mask: u32) -> Self {
        self.load(&field, FIRST)
            .mask(&field, mask)
            .compare(NOT_EQUAL, &field, 0)
    }

    /// The fields, in this order, are in the set.
    pub(in crate::guard) fn within(self, key: &[Field], set: &str) -> Self {
        // NFTA_LOOKUP_SET, _SREG
        self.key(key).expression("lookup", |data| {
            data.text(1, set).number(2, FIRST);
        })
    }

    /// Puts the fields into the set unless they are there, for so many seconds; where the set is full, the rule
    /// ends here.
    pub(in crate::guard) fn add_for(self, key: &[Field], set: &str, seconds: u32) -> Self {
        self.change(ADD, key, set, Some(seconds))
    }

    /// Puts the fields into the set, or renews their time-out there: the set's own.
    pub(in crate::guard) fn update(self, key: &[Field], set: &str) -> Self {
        self.change(UPDATE, key, set, None)
    }

    /// As [`update`](Self::update), for so many seconds.
    pub(in crate::guard) fn update_for(self, key: &[Field], set: &str, seconds: u32) -> Self {
        self.change(UPDATE, key, set, Some(seconds))
    }

    /// Takes the fields out of the set.
    pub(in crate::guard) fn delete(self, key: &[Field], set: &str) -> Self {
        self.change(DELETE, key, set, None)
    }

    fn change(self, how: u32, key: &[Field], set: &str, seconds: Option<u32>) -> Self {
        // NFTA_DYNSET_SET_NAME, _OP, _SREG_KEY, _TIMEOUT in milliseconds
        self.key(key).expression("dynset", |data| {
            data.text(1, set).number(3, how).number(4, FIRST);
            if let Some(seconds) = seconds {
                data.long(6, u64::from(seconds) * 1000);
            }
        })
    }

    /// Gives the packet another mark.
    pub(in crate::guard) fn set_mark(self, value: u32) -> Self {
        // NFTA_META_KEY, _SREG
        self.immediate(&MARK.value(value))
            .expression("meta", |data| {
                data.number(2, META_MARK).number(3, FIRST);
            })
    }

    /// Puts the packet into another interface, by its index.
    pub(in crate::guard) fn fwd_to(self, index: u32) -> Self {
        // NFTA_FWD_SREG_DEV
        self.immediate(&index.to_ne_bytes())
            .expression("fwd", |data| {
                data.number(1, FIRST);
            })
    }

    /// Loads bytes into the first register.
    fn immediate(self, bytes: &[u8]) -> Self {
        // NFTA_IMMEDIATE_DREG, _DATA; NFTA_DATA_VALUE
        self.expression("immediate", |data| {
            data.number(1, FIRST).nest(2, |data| {
                data.bytes(1, bytes);
            });
        })
    }

    /// Counts the packet.
    pub(in crate::guard) fn count(self, counter: &str) -> Self {
        // NFTA_OBJREF_IMM_TYPE, _IMM_NAME
        self.expression("objref", |data| {
            data.number(1, COUNTER).text(2, counter);
        })
    }

    pub(in crate::guard) fn drop(self) -> Self {
        self.verdict(DROP, None)
    }

    pub(in crate::guard) fn accept(self) -> Self {
        self.verdict(ACCEPT, None)
    }

    /// Goes back to where the chain was jumped to from.
    pub(in crate::guard) fn leave(self) -> Self {
        self.verdict(RETURN, None)
    }

    /// Goes on in that chain, and comes back from its end.
    pub(in crate::guard) fn jump(self, chain: &str) -> Self {
        self.verdict(JUMP, Some(chain))
    }

    /// Goes on in that chain, and does not come back.
    pub(in crate::guard) fn goto(self, chain: &str) -> Self {
        self.verdict(GOTO, Some(chain))
    }

    fn verdict(self, code: i32, chain: Option<&str>) -> Self {
        // NFTA_IMMEDIATE_DREG, _DATA; NFTA_DATA_VERDICT; NFTA_VERDICT_CODE, _CHAIN
        self.expression("immediate", |data| {
            data.number(1, VERDICT).nest(2, |data| {
                data.nest(2, |verdict| {
                    verdict.number(1, code.cast_unsigned());
                    if let Some(chain) = chain {
                        verdict.text(2, chain);
                    }
                });
            });
        })
    }

    /// Loads the fields side by side, each from a register of four bytes on.
    fn key(mut self, fields: &[Field]) -> Self {
        let mut slot = 0;
        for field in fields {
            self = self.load(field, register(slot));
            slot += field.padded() / 4;
        }
        self
    }

    fn load(mut self, field: &Field, register: u32) -> Self {
        self = self.require(field);
        field::load(&mut self.expressions, field, register);
        self
    }

    /// A header's fields mean nothing before it is sure that the header is there.
    fn require(mut self, field: &Field) -> Self {
        if field.needs == Needs::Nothing || self.known.contains(&field.needs) {
            return self;
        }
        if let Some(ip) = field.needs.ip().filter(|ip| !self.known.contains(ip)) {
            self = self.is(PROTOCOL, if ip == Needs::Ip { IP } else { IP6 });
        }
        if let Some(protocol) = field.needs.carried() {
            self.known.push(field.needs);
            self = self.is(L4_PROTOCOL, protocol.into());
        }
        self
    }

    /// The first register, which holds the field, against a value.
    fn compare(mut self, how: u32, field: &Field, value: u32) -> Self {
        if field.load == PROTOCOL.load && how == EQUAL {
            let ip = [(IP, Needs::Ip), (IP6, Needs::Ip6)].into_iter();
            let known = ip.filter(|(number, _)| *number == value);
            self.known.extend(known.map(|(_, version)| version));
        }
        self.compare_bytes(how, &field.value(value))
    }

    fn compare_bytes(self, how: u32, value: &[u8]) -> Self {
        // NFTA_CMP_SREG, _OP, _DATA
        self.expression("cmp", |out| {
            out.number(1, FIRST).number(2, how);
            data(out, 3, value);
        })
    }

    fn mask(self, field: &Field, mask: u32) -> Self {
        self.mask_bytes(&field.value(mask))
    }

    fn mask_bytes(self, mask: &[u8]) -> Self {
        // NFTA_BITWISE_SREG, _DREG, _LEN, _MASK, _XOR
        self.expression("bitwise", |out| {
            out.number(1, FIRST).number(2, FIRST);
            out.number(3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
            data(out, 4, mask);
            data(out, 5, &vec![0; mask.len()]);
        })
    }

    fn expression(mut self, name: &str, fill: impl FnOnce(&mut Attributes)) -> Self {
        expression::add(&mut self.expressions, name, fill);
        self
    }
}

/// NFTA_DATA_VALUE: bytes as a register has them.
fn data(out: &mut Attributes, kind: u16, value: &[u8]) {
    out.nest(kind, |out| {
        out.bytes(1, value);
    });
}

/// The name of a register of four bytes. Every fourth begins one of sixteen bytes, and goes by that one's
/// name, as the kernel lists it.
fn register(slot: u32) -> u32 {
    if slot.is_multiple_of(4) {
        FIRST + slot / 4
    } else {
        FIRST_OF_FOUR + slot
    }
}
