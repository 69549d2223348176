//! The UVS engine: it is handed bytes and time and returns a verdict.
//!
//! It opens no socket, reads no clock and draws no randomness: frame, time, desired state and seed are its
//! inputs, so every test is a replay. The crate `uvs-forwarder` owns sockets, clock, netlink, threads
//! and signals.
//!
//! # A frame's journey
//!
//! 1. The shell hands a [`frame::Frame`] with its offload state to [`engine::Engine::handle_frame`].
//! 2. [`packet::parse`] checks every length once, of both address families. Not IP, or not to this host's MAC
//!    address: `Pass`, the kernel's. Malformed and addressed to a VIP: `Drop` with its reason.
//! 3. A fragment of ours waits in [`fragment::Reassembler`] until its datagram is whole.
//! 4. [`conn::ConnTable::find`]: the flow of a known connection, from its client or from its server?
//! 5. If of neither: the service of its destination ([`service::ServiceKey`]), else `Pass`, or for a VIP that
//!    UVS owns the answer of a host ([`engine`]). A service whose VIP the director does not have is none: `Local`.
//! 6. The service's [`scheduler::Scheduler`] picks a real server from [`backend::Backend`]s whose load the
//!    engine counted; persistence comes first.
//! 7. The connection is inserted under the table's limit, with the mode and, in FULLNAT, a local port
//!    ([`ports::LocalPorts`]) bound to it.
//! 8. [`tcp::next`] moves its state; the state sets the time-out.
//! 9. Route, TTL, MTU ([`fib::Fib`]); a super-frame that cannot be described any more is cut
//!    ([`segment`]); the [`mode::Mode`] rewrites or wraps through [`rewrite`], or makes a packet one of the other
//!    family ([`translate`]); MAC addresses last.
//! 10. One [`verdict::Verdict`], counted in one place ([`counters::Counters`]): what came in is what was
//!     sent, answered, held, passed or dropped, exactly.
#![forbid(unsafe_code)]

mod bytes;
pub mod engine;
pub mod mode;
pub mod narrow;
pub mod scheduler;
mod state;
#[cfg(feature = "testing")]
pub mod testing;
pub mod trace;
pub mod wire;

use bytes::introduce;
pub use bytes::{fragment, frame, glance, outbox, packet, rewrite, segment, translate};
pub use state::{
    access, backend, conn, counters, crew, fib, flow, marks, numbers, offload, peer, plugins,
    ports, random, ranks, record, sctp, service, services, shared, snapshot, tcp, time, verdict,
};
use state::{rate, reasons, sequence, splice, sysctls, wheel};
