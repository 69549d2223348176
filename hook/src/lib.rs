//! UVS's part in the kernel: an eBPF program at each port that decides each frame once.
//!
//! A frame is *taken* (of a connection that the engine has handed over: rewritten, tracked and sent on in the kernel),
//! *ours* (hidden from the host's stack, given to UVS's rings), or neither, and then untouched. The program is C, in
//! `bpf/`; its object is committed beside it, and loaded over bpf(2) by this crate, which alone knows that call.
//!
//! [`Hook`] is the daemon's: maps, programs, rules, attachment, heartbeat, numbers. [`Worker`] is an engine's, as
//! [`uvs_core::offload::Hook`]. What both share with the program is in `layout`; the rules of the program, which are the
//! engine's own, are in `bpf/forward.h`.
//!
//! # Who writes what
//! Cells of connections, and keys: the engine's thread alone. What is tracked in a cell: the program by compare-and-swap,
//! and the engine by the same. Rules: the control thread. Everything else: one of the two, once.

mod ability;
mod attach;
mod batch;
mod cells;
mod clsact;
mod error;
mod events;
mod hook;
mod kept;
mod layout;
mod maps;
mod numbers;
mod object;
mod pins;
mod programs;
mod removal;
mod rules;
mod succession;
mod sys;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod up;
mod worker;

#[cfg(test)]
mod tests;

pub use ability::{Ability, ability};
pub use attach::{Attached, Way};
pub use error::HookError;
pub use hook::{Hook, ProgramInfo, Setup};
pub use layout::{HIDDEN, OURS_MARK};
pub use maps::Limits;
pub use numbers::{Fill, PortTotals, Total};
pub use pins::{Leftovers, is_bpffs, leftovers, remove as remove_pinned, remove_leftovers};
pub use rules::{FullNat, Rules, TunnelEnd};
pub use succession::{HandedDown, HandedLink};
pub use worker::Worker;
