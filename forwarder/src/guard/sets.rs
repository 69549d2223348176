//! The table's name, and the sets in it. Pure.

use super::nft::field::{Field, IP_PROTOCOL, IP_SADDR, TH_SPORT};
use super::nft::table::Set;

/// The table's name.
pub(super) const TABLE: &str = "uvs";

/// What is looked up in a set: address and protocol, and the port where the set has ports.
pub(super) struct Key {
    pub(super) with_port: &'static [Field],
    pub(super) any_port: &'static [Field],
}

/// The sender.
pub(super) const SOURCE: Key = Key {
    with_port: &[IP_SADDR, IP_PROTOCOL, TH_SPORT],
    any_port: &[IP_SADDR, IP_PROTOCOL],
};

/// A set of these elements, which no rule changes.
pub(super) fn set(name: &'static str, key: &'static [Field], elements: Vec<Vec<u8>>) -> Set {
    Set {
        name,
        key,
        elements,
        dynamic: None,
    }
}
