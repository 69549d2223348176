//! The engine's decisions as steps of a trace. Nothing here decides: each function tells what its caller has found.

use std::time::Duration;

use super::Engine;
use super::flows::state_name;
use crate::conn::{ConnId, Side};
use crate::fib::{NextHop, Unreachable};
use crate::flow::Flow;
use crate::frame::Frame;
use crate::narrow;
use crate::packet::{Packet, Parsed};
use crate::service::ServiceKey;
use crate::time::Instant;
use crate::trace::{Aside, Hop, Known, NoHop, Recorder, SetAside, Step, kind, protocol_name};
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
        Parsed::Ip(p) => return packet(frame, p),
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

/// The way out that a packet is to take.
pub(super) fn leaving(
    mode: &str,
    forward: bool,
    overhead: usize,
    hop: &Result<NextHop, Unreachable>,
) -> Step {
    Step::Leave {
        mode: mode.to_owned(),
        forward,
        overhead: narrow::to_u32(overhead),
        hop: hop.as_ref().ok().map(|hop| Hop {
            port: hop.port.0,
            via: hop.via,
            mac: hop.mac,
            mtu: hop.mtu,
        }),
        unreachable: hop.as_ref().err().map(|why| match why {
            Unreachable::NoRoute => NoHop::NoRoute,
            Unreachable::Refused(_) => NoHop::Refused,
            Unreachable::NotAPort => NoHop::NotAPort,
            Unreachable::Local => NoHop::Local,
        }),
    }
}

impl<R: Recorder> Engine<R> {
    /// What the connection table has for a packet.
    pub(super) fn looked_up(&self, now: Instant, found: Option<(ConnId, Side)>) -> Step {
        let known = |(id, side): (ConnId, Side)| {
            let c = self.flows.conn(id);
            let left = c.deadline.since(now);
            Known {
                from_client: side == Side::Client,
                client: c.ends.client,
                vip: c.ends.vip,
                server: c.ends.server,
                local: c.ends.local_end(),
                state: state_name(c.protocol, c.state).to_owned(),
                idle: seconds(c.idle(now)),
                expires: seconds(left),
                removed: self.flows.server_of(c).is_removed(),
            }
        };
        Step::Lookup {
            found: found.map(known),
        }
    }

    /// The service of a flow's destination; where there is none, the VIP's other services.
    pub(super) fn matched(&self, flow: &Flow, slot: Option<u32>) -> Step {
        let found = slot.map(|slot| self.desired.service(slot).key);
        let all = self.desired.services().iter().map(|spec| spec.key);
        let mut others: Vec<ServiceKey> = all
            .filter(|key| found.is_none() && key.vip().addr == flow.dst)
            .collect();
        others.sort_unstable();
        Step::Service { found, others }
    }

    /// The state that a packet has brought a connection to.
    pub(super) fn moved(&self, id: ConnId, before: u8) -> Step {
        let c = self.flows.conn(id);
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
            owned: self.desired.owns(flow.dst),
        }
    }
}

fn seconds(d: Duration) -> u32 {
    u32::try_from(d.as_secs()).unwrap_or(u32::MAX)
}
