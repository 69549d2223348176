//! A frame in hand: parsed with every length checked, then rewritten, cut or put together.
//!
//! The crate's root names each of these modules, and that is how they are used.

pub mod fragment;
pub mod frame;
pub mod glance;
pub(crate) mod introduce;
pub mod outbox;
pub mod packet;
pub mod rewrite;
pub mod segment;
pub mod translate;
