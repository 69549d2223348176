//! What an earlier daemon has left in the kernel: connections that are forwarded there, and what was counted of
//! their servers.
//!
//! They can go on where their services and servers are known again. A daemon with a configuration file has these at
//! once, another is told them one by one by whoever starts it. So the worker waits for them, but not for long: until then
//! it looks at no frame. What is forwarded in the kernel goes on meanwhile, and all else waits in the rings.

use std::collections::HashSet;
use std::time::Duration;

use uvs_core::offload::{Found, ServerOrder};
use uvs_core::snapshot::Snapshot;
use uvs_core::time::Instant;

use super::Worker;

/// How long services and servers are waited for. A client sends its SYN again after a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// What there is to go on with.
#[derive(Debug, Default)]
pub(crate) struct Inheritance {
    /// Servers, with what was counted of them.
    pub(crate) servers: Vec<ServerOrder>,
    /// Connections.
    pub(crate) connections: Vec<Found>,
}

impl Inheritance {
    /// Whether all that it needs is there.
    fn is_known_by(&self, snapshot: &Snapshot) -> bool {
        let services = snapshot.services.iter();
        let servers =
            services.flat_map(|s| s.servers.iter().map(|server| (s.key, server.endpoint)));
        let servers: HashSet<_> = servers.collect();
        let mut needed = self.connections.iter().map(|found| found.kept);
        needed.all(|kept| servers.contains(&(kept.service, kept.member)))
    }
}

impl Worker {
    /// Goes on with what is left as soon as that can be, and then looks at frames.
    pub(super) fn inherit(&mut self, now: Instant) {
        let (Some(inheritance), Some(desired)) = (&self.inheritance, &self.filter) else {
            return;
        };
        let waited = now.since(self.started);
        if waited < PATIENCE && !inheritance.is_known_by(&desired.snapshot) {
            return;
        }
        let Inheritance {
            servers,
            connections,
        } = self.inheritance.take().unwrap_or_default();
        let adopted = self.engine.adopt(now, &servers, &connections);
        tracing::info!("what an earlier daemon has left in the kernel: {adopted}");
    }

    /// Whether frames are looked at.
    pub(super) fn is_serving(&self) -> bool {
        self.filter.is_some() && self.inheritance.is_none()
    }
}
