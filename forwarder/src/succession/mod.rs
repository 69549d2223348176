//! One daemon takes over from another under traffic: the words that the two processes say to each other, and what
//! is handed from one to the other.
//!
//! The old daemon starts the new one with one end of a socket as its standard input. Each word is a datagram of text, so
//! that any two releases understand each other far enough to part well:
//!
//! ```text
//! old                                     new
//!  │  starts                               │ reads its configuration, changes nothing
//!  │ ◄─────────────── ready VERSION ────── │ or: refused WHY, or: it ends
//!  │ ─── hook (maps) ────────────────────► │ loads its programs for them, which changes nothing
//!  │ ◄───────────────────────── fits ───── │ or: refused WHY, or: it ends
//!  │  stops at the end of a turn           │
//!  │ ─── estate (memfd, sockets, rings) ─► │ takes it up, looks at no frame
//!  │ ◄──────────────────────── takes ───── │ or: refused WHY, or: it ends
//!  │ ─── yours ──────────────────────────► │ serves
//!  │ ◄─────────────────────── serves ───── │
//!  │  ends                                 │
//! ```
//!
//! Until it has said `yours`, the old daemon can go on as if nothing had been, and does where the new one refuses, ends
//! or takes too long.

mod channel;
mod estate;
mod predecessor;
#[cfg(test)]
mod schema;
mod successor;

use std::time::Duration;

pub(crate) use estate::{Descriptors, Estate, Past};
pub use predecessor::Predecessor;
pub(crate) use successor::{NoSuccessor, Successor};

/// The version of the estate: another one whenever its bytes mean something else (`schema` finds it out). What this release
/// can take over is what it would hand down.
pub(crate) const VERSION: u32 = 5;

/// Says to a daemon that it is started to take over, and that its standard input is the socket to the other.
const VARIABLE: &str = "UVS_SUCCESSION";

/// How long the new daemon may take to read its configuration and its plugins, and then to load its programs for the
/// hook; the old one serves meanwhile.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How long it may take to take up what it is handed; nobody serves meanwhile.
const TAKES_WITHIN: Duration = Duration::from_secs(5);
/// How long the old one waits to hear that the new one serves, which it can do no more about.
const SERVES_WITHIN: Duration = Duration::from_secs(2);

/// In the place of a hook's words.
const NO_HOOK: &str = "none";

/// What is said.
mod word {
    pub(super) const READY: &str = "ready";
    pub(super) const REFUSED: &str = "refused";
    /// With [`NO_HOOK`](super::NO_HOOK), or with what an `Offer` says in words, and the maps.
    pub(super) const HOOK: &str = "hook";
    pub(super) const FITS: &str = "fits";
    /// Descriptors of the estate that come before the last ones.
    pub(super) const MORE: &str = "more";
    pub(super) const ESTATE: &str = "estate";
    pub(super) const TAKES: &str = "takes";
    pub(super) const YOURS: &str = "yours";
    pub(super) const SERVES: &str = "serves";
}
