//! An expression of a rule: its name, and its attributes.

use super::message::Attributes;

/// NFTA_LIST_ELEM
pub(super) const ITEM: u16 = 1;

/// Adds one (NFTA_EXPR_NAME, NFTA_EXPR_DATA), whose attributes `fill` writes.
pub(super) fn add(out: &mut Attributes, name: &str, fill: impl FnOnce(&mut Attributes)) {
    out.nest(ITEM, |out| {
        out.text(1, name).nest(2, fill);
    });
}
