//! `uvs run` on a host that has other things to do: the kernel silent for what is ours and untouched for
//! all else, nothing left behind, and the network followed wherever it goes. Needs root, or `make test`.

#[path = "support/stand.rs"]
mod stand;

#[path = "host/arp.rs"]
mod arp;
#[path = "host/flushed.rs"]
mod flushed;
#[path = "host/leftovers.rs"]
mod leftovers;
#[path = "host/moves.rs"]
mod moves;
#[path = "host/owned.rs"]
mod owned;
#[path = "host/removed.rs"]
mod removed;
#[path = "host/routes.rs"]
mod routes;
#[path = "host/silence.rs"]
mod silence;
#[path = "host/standby.rs"]
mod standby;
