//! The engine's decisions as steps of a trace. Nothing here decides: each function tells what its caller has found.

use std::time::Duration;

use super::report::state_name;
use super::{Engine, Servers, Service};
use crate::backend::Backend;
use crate::conn::{Conn, ConnId, NONE, Side};
use crate::fib::{NextHop, Unreachable};
use crate::flow::{Addr, Flow};
use crate::frame::Frame;
use crate::packet::{Packet, Parsed};
use crate::service::{Persistence, ServiceKey};
use crate::time::Instant;
use crate::trace::{
    Aside, Candidate, Fate, Hop, Known, NoHop, Recorder, SetAside, Step, Template, kind,
    protocol_name,
};
use crate::wire::ethernet::{self, Mac};

impl From<SetAside> for Step {
    fn from(why: SetAside) -> Self {
        Self::SetAside { why }
    }
}

/// What a frame turned out to be, on an interface of this MAC address.
pub(super) fn frame(frame: &Frame<'_>, parsed: &Parsed, mac: Mac) -> Step {
    let why = match parsed {
        Parsed::Foreign => Aside::Foreign,
        Parsed::Arp => Aside::Arp,
        _ if ethernet::Header::new(frame.bytes()).dst() != mac => Aside::OtherMac,
        Parsed::Malformed { .. } => Aside::Malformed,
        Parsed::Ipv4(p) => return packet(frame, p),
    };
    Step::Aside { why }
}

/// A packet's headers.
pub(super) fn packet(frame: &Frame<'_>, packet: &Packet) -> Step {
    Step::Packet {
        protocol: protocol_name(packet.protocol),
        source: packet.flow.source(),
        destination: packet.flow.destination(),
        kind: kind(&frame.bytes()[usize::from(packet.ip)..]),
        ttl: packet.ttl,
        bytes: packet.ip_len,
    }
}

/// A connection that was made.
pub(super) fn opened(c: &Conn) -> Step {
    Step::Opened {
        server: c.server,
        local: (c.local.port != 0).then_some(c.local),
    }
}

/// The way out that a packet is to take.
pub(super) fn leaving(
    mode: &str,
    forward: bool,
    overhead: usize,
    hop: Result<NextHop, Unreachable>,
) -> Step {
    Step::Leave {
        mode: mode.to_owned(),
        forward,
        overhead: overhead as u32,
        hop: hop.ok().map(|hop| Hop {
            port: hop.port.0,
            via: hop.via,
            mac: hop.mac,
            mtu: hop.mtu,
        }),
        unreachable: hop.err().map(|why| match why {
            Unreachable::NoRoute => NoHop::NoRoute,
            Unreachable::Refused(_) => NoHop::Refused,
            Unreachable::NotAPort => NoHop::NotAPort,
            Unreachable::Local => NoHop::Local,
        }),
    }
}

/// What a scheduler chose, and what of; not of those at the places `avoided`.
pub(super) fn scheduled(
    service: &Service,
    servers: &Servers,
    picked: Option<usize>,
    avoided: &[u32],
) -> Step {
    let both = service.servers.iter().zip(&service.backends).enumerate();
    let candidates = both.map(|(i, (place, backend))| {
        let server = servers.get(*place);
        Candidate {
            server: server.key.1,
            weight: backend.weight,
            active: backend.active,
            inactive: backend.inactive,
            connections: server.numbers.stats.connections,
            fate: if avoided.contains(place) {
                Fate::SharedPort
            } else {
                fate(backend, picked == Some(i), service.slow_start.holds(i))
            },
        }
    });
    let candidates: Vec<Candidate> = candidates.collect();
    Step::Schedule {
        service: service.spec.key,
        scheduler: service.spec.scheduler.clone(),
        exact: true,
        chosen: picked.and_then(|i| candidates.get(i)).map(|c| c.server),
        candidates,
    }
}

fn fate(backend: &Backend, chosen: bool, held: bool) -> Fate {
    if chosen {
        Fate::Chosen
    } else if backend.weight == 0 {
        Fate::WeightZero
    } else if held {
        Fate::SlowStart
    } else if backend.flags & Backend::OVERLOADED != 0 {
        Fate::Overloaded
    } else {
        Fate::NotPicked
    }
}

impl<R: Recorder> Engine<R> {
    /// What the connection table has for a packet.
    pub(super) fn looked_up(&self, now: Instant, found: Option<(ConnId, Side)>) -> Step {
        let known = |(id, side): (ConnId, Side)| {
            let c = self.conns.get(id);
            let left = c.deadline.since(now);
            let idle = Duration::from_secs(u64::from(c.timeout)).saturating_sub(left);
            Known {
                from_client: side == Side::Client,
                client: c.client,
                vip: c.vip,
                server: c.server,
                local: (c.local.port != 0).then_some(c.local),
                state: state_name(c.protocol, c.state).to_owned(),
                idle: seconds(idle),
                expires: seconds(left),
                removed: self.servers.get(c.backend).service == NONE,
            }
        };
        Step::Lookup {
            found: found.map(known),
        }
    }

    /// The service of a flow's destination; where there is none, the VIP's other services.
    pub(super) fn matched(&self, flow: &Flow, slot: Option<u32>) -> Step {
        let key_of = |slot: u32| self.services[slot as usize].as_ref().map(|s| s.spec.key);
        let all = self.services.iter().flatten().map(|s| s.spec.key);
        let found = slot.and_then(key_of);
        let mut others: Vec<ServiceKey> = all
            .filter(|key| found.is_none() && key.vip().addr == flow.dst)
            .collect();
        others.sort_unstable();
        Step::Service { found, others }
    }

    /// What persistence has for a client.
    pub(super) fn persisted(
        &self,
        now: Instant,
        client: Addr,
        p: Persistence,
        known: Option<ConnId>,
    ) -> Step {
        let template = known.map_or(Template::Miss, |id| {
            let c = self.conns.get(id);
            let server = self.servers.get(c.backend).key.1;
            if self.template_is_valid(id) {
                let expires = seconds(c.deadline.since(now));
                Template::Hit { server, expires }
            } else {
                Template::Stale { server }
            }
        });
        Step::Persistence {
            client,
            mask: p.mask,
            timeout: p.timeout,
            template,
        }
    }

    /// The state that a packet has brought a connection to.
    pub(super) fn moved(&self, id: ConnId, before: u8) -> Step {
        let c = self.conns.get(id);
        Step::State {
            from: state_name(c.protocol, before).to_owned(),
            to: state_name(c.protocol, c.state).to_owned(),
            timeout: c.timeout,
        }
    }

    /// A packet of no connection and no service.
    pub(super) fn strayed(&self, flow: &Flow, from_server: bool) -> Step {
        Step::Stray {
            from_server,
            owned: self.owned.contains(&flow.dst),
        }
    }
}

fn seconds(d: Duration) -> u32 {
    u32::try_from(d.as_secs()).unwrap_or(u32::MAX)
}
