//! Following the host's network: what changes there, and what the workers notice of it.

use std::sync::Arc;

use uvs_control::protocol::Refusal;
use uvs_core::engine::EventKind;
use uvs_core::verdict::PortId;

use super::frames::OWN_STACK;
use super::{Daemon, derive, failed};
use crate::clock::monotonic;
use crate::netlink::Event;
use crate::port::afpacket::{HostPort, Port, PortOptions};
use crate::port::filter::FilterSpec;
use crate::worker::Notice;

impl Daemon {
    pub(super) fn follow_network(&mut self) {
        let before = self.mirror.fib();
        let events = match self.mirror.read_events() {
            Ok(events) => events,
            Err(e) => return tracing::error!("following the host's network: {e}"),
        };
        let fib = self.mirror.fib();
        if !Arc::ptr_eq(&before, &fib) {
            self.workers.publish_fib(Arc::clone(&fib));
        }
        let mut followed = Followed::default();
        for event in &events {
            self.log_change(event);
            if let Event::NeighbourLost {
                port,
                addr,
                failed: true,
            } = event
            {
                self.workers.unreachable(*port, *addr);
            }
            followed.note(event);
        }
        if followed.republish
            && let Err(e) = self.republish(&followed.back)
        {
            tracing::error!("after a change of the host's network: {}", e.message);
        }
        if followed.up {
            self.begin_announcing();
        } else {
            self.announce_moved();
        }
    }

    /// Says what changed. Of neighbours only those by which packets go to servers or gateways count: whoever
    /// forges ARP for all other hosts of the LAN must not fill the log.
    fn log_change(&self, event: &Event) {
        match event {
            Event::Overrun => tracing::warn!(so_far = self.mirror.overruns(), "{event}"),
            Event::NeighbourKnown { port, addr, .. } | Event::NeighbourLost { port, addr, .. }
                if !self.mirror.is_next_hop(*port, *addr) => {}
            Event::NeighbourKnown { before: None, .. }
            | Event::NeighbourLost { failed: false, .. }
            | Event::LocalChanged => tracing::debug!("{event}"),
            // Apart from the rest, which what these say too often must not silence.
            Event::NeighbourKnown { .. } | Event::NeighbourLost { .. } => tracing::info!("{event}"),
            _ => tracing::info!("{event}"),
        }
    }

    /// Brings everything to the host's new addresses and interfaces; what it lost is not refused any more.
    fn republish(&mut self, back: &[(PortId, String)]) -> Result<(), Refusal> {
        for (service, addr) in
            derive::foreign_local_addresses(self.table.services().iter(), &self.mirror.fib())
        {
            tracing::warn!(
                "{service}: the local address {addr} is on none of this host's interfaces any more; its servers' replies are lost until it is back"
            );
        }
        if !back.is_empty() {
            let fib = self.mirror.fib();
            let followed = self.isolation.follow(&self.in_force.guarded, back, &fib);
            followed.map_err(failed)?;
            self.restore_clients();
        }
        let published = self.publish();
        // Only now, that the kernel is kept from what comes in there.
        for (port, name) in back {
            self.reopen(*port, name);
        }
        published
    }

    /// Opens a port again whose interface is back.
    fn reopen(&self, port: PortId, name: &str) {
        let filter = self.in_force.filters[0].last();
        let options = PortOptions {
            sight: self.isolation.sight(),
            ..PortOptions::default()
        };
        match Port::open_all(name, &options, &filter, self.workers.count()) {
            Ok(opened) => {
                let ends = opened.into_iter().map(Port::into_ends);
                self.workers.replace_port(port, ends.collect());
            }
            Err(e) => tracing::error!("{e}"),
        }
    }

    /// Opens a port again whose ring the kernel has stopped filling.
    fn revive(&self, port: PortId) {
        let name = self.interfaces.get(usize::from(port.0));
        tracing::warn!(
            "the kernel had stopped filling the ring of {}, and it is made anew: what came in meanwhile is lost. \
             A super-frame that the kernel cannot describe does that; uvs doctor says more",
            name.map_or(OWN_STACK, String::as_str)
        );
        match name {
            Some(name) => self.reopen(port, name),
            None => self.reopen_host(port),
        }
    }

    /// Opens the port of the host's own stack again.
    fn reopen_host(&self, port: PortId) {
        // The worker gives it the filter that is in force.
        let filter = FilterSpec::default().compile();
        let sight = self.isolation.sight();
        match HostPort::open_all(&filter, sight, self.workers.count()) {
            Ok(opened) => {
                let ends = opened.into_iter().map(HostPort::into_ends);
                let ends = ends.map(|(ends, _)| ends);
                self.workers.replace_port(port, ends.collect());
            }
            Err(e) => tracing::error!("{e}"),
        }
    }

    pub(super) fn take_notices(&mut self) {
        let now = monotonic();
        let mut claimed = false;
        while let Some(notice) = self.workers.next_notice() {
            match notice {
                Notice::Solicit(port, via) => {
                    if let Err(e) = self.mirror.solicit(port, via, now) {
                        tracing::warn!("{e}");
                    }
                }
                Notice::Server(event) => log_event(&event),
                // Many may be claimed at once.
                Notice::Claim(claim) => claimed |= self.yield_to(&claim),
                Notice::Stalled(port) => self.revive(port),
                Notice::Gone(port) => {
                    if let Some(name) = self.interfaces.get(usize::from(port.0)) {
                        tracing::warn!(
                            "interface {name} is gone; its port waits for it to come back"
                        );
                    }
                }
            }
        }
        if claimed {
            self.follow_yielded();
        }
    }
}

/// What a batch of network events entails.
#[derive(Default)]
struct Followed {
    republish: bool,
    /// A link came up: whoever is at its other end now has not heard of our addresses.
    up: bool,
    /// Interfaces that are back.
    back: Vec<(PortId, String)>,
}

impl Followed {
    fn note(&mut self, event: &Event) {
        match event {
            Event::InterfaceBack { port, name, .. } => {
                self.back.push((*port, name.clone()));
                self.republish = true;
            }
            Event::InterfaceUp { .. } => self.up = true,
            Event::InterfaceChanged { .. }
            | Event::InterfaceGone { .. }
            | Event::AddressAdded { .. }
            | Event::AddressRemoved { .. }
            | Event::LocalChanged
            | Event::Overrun => self.republish = true,
            Event::InterfaceDown { .. }
            | Event::RouteAdded { .. }
            | Event::RouteChanged { .. }
            | Event::RouteRemoved { .. }
            | Event::RulesChanged
            | Event::ReversePathChanged { .. }
            | Event::NeighbourKnown { .. }
            | Event::NeighbourLost { .. }
            | Event::Forwarding(..) => {}
        }
    }
}

/// Says what became of a server's connections.
pub(super) fn log_event(event: &uvs_core::engine::Event) {
    let (service, server) = (event.service, event.server);
    match event.what {
        EventKind::Drains(0) => tracing::info!("{service}: server {server} has no open connection"),
        EventKind::Drains(open) => {
            tracing::info!("{service}: server {server} drains: {open} connections are open");
        }
        EventKind::Drained(took) => tracing::info!(
            "{service}: server {server} is drained: its last connection closed after {} s",
            took.as_secs()
        ),
        EventKind::TimedOut(open) => tracing::warn!(
            "{service}: the drain of server {server} timed out: the {open} connections left are ended"
        ),
        EventKind::Ended(count) => {
            tracing::info!("{service}: server {server} was removed: {count} connections ended");
        }
    }
}
