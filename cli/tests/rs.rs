//! `uvs rs` in network namespaces: what `up` sets and `down` restores, what `check` finds and that its
//! commands fix it, and the decapsulator with real UDP and TCP sockets behind it. Needs root.

#[path = "rs/director.rs"]
mod director;
#[path = "rs/netns.rs"]
mod netns;
#[path = "rs/sys.rs"]
mod sys;

#[path = "rs/checks.rs"]
mod checks;
#[path = "rs/decapsulation.rs"]
mod decapsulation;
#[path = "rs/ipv6.rs"]
mod ipv6;
#[path = "rs/up_and_down.rs"]
mod up_and_down;
