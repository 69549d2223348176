//! nf_tables as the kernel speaks it (linux/netfilter/nf_tables.h), as far as the guard needs it: a table
//! told in the words of nft's own language becomes one transaction.
//!
//! Three layers: [`rule`] and [`table`] are what is wanted, [`message`] is its bytes, [`link`] the socket.
//! Nothing here knows what the guard guards.

mod expression;
pub(super) mod field;
pub(super) mod link;
pub(super) mod listing;
pub(super) mod message;
pub(super) mod rule;
pub(super) mod table;
