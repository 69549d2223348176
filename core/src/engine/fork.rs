//! A rehearsal: the engine's double, to which frames are handed without any consequence.
//!
//! It is the same code with a recorder. It has copies of what the engine knows, but of the connection
//! table only what its frames ask for: a table may have millions of places. Packets of one rehearsal see
//! what those before them did.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::related::quote;
use super::{Engine, Service, ends};
use crate::conn::{Conn, ConnId, NONE};
use crate::flow::{Endpoint, Flow, Protocol};
use crate::frame::{Frame, Offload};
use crate::outbox::{HEADROOM, Outbox};
use crate::packet::{self, Packet, Parsed, Transport};
use crate::scheduler::{Fork, Scheduler};
use crate::service::ServiceKey;
use crate::time::Instant;
use crate::trace::{Leaving, Log, Step, Trace, changes, kind, protocol_name};
use crate::verdict::{Egress, PortId, Verdict};
use crate::wire::icmp;

/// Frames of one packet that are reported.
const MAX_LEAVING: usize = 64;
/// Places that a new connection takes: one, and one for its template.
const PLACES_OF_NEW: u32 = 2;
/// Connections looked at for expiry before a frame.
const EXPIRY_BUDGET: u32 = 1024;

/// An engine's double.
pub struct Rehearsal {
    engine: Engine<Log>,
    /// Where the original's connections are here.
    copied: HashMap<u32, ConnId>,
    /// Services whose scheduler could not be copied.
    examples: HashSet<ServiceKey>,
    outbox: Outbox,
    /// When the last frame came.
    last: Option<Instant>,
}

/// Stands in for a scheduler of which there is no copy.
struct FirstAvailable;

impl Scheduler for FirstAvailable {
    fn pick(&mut self, _: &Flow, backends: &[crate::backend::Backend]) -> Option<usize> {
        backends.iter().position(|b| b.is_available())
    }
}

impl Rehearsal {
    /// The double of an engine as it is now.
    pub fn of(original: &Engine) -> Self {
        let mut examples = HashSet::new();
        let services = original.services.iter().map(|service| {
            let (double, exact) = service.as_ref()?.double();
            if !exact {
                examples.insert(double.spec.key);
            }
            Some(double)
        });
        let services = services.collect();
        Self {
            engine: original.double(services),
            copied: HashMap::new(),
            examples,
            outbox: Outbox::new(),
            last: None,
        }
    }

    /// What the original would do with a frame that comes in by `port` at `now`.
    pub fn frame(
        &mut self,
        original: &Engine,
        now: Instant,
        port: PortId,
        frame: &Frame<'_>,
    ) -> Trace {
        let before = (frame.bytes(), frame.offload);
        let mut memory = vec![0; HEADROOM];
        memory.extend_from_slice(before.0);
        let mut frame = copy_of(frame, &mut memory, HEADROOM);
        // As in a worker's turn, the time passes after a frame and before the next.
        if self.last.replace(now).is_some_and(|last| last < now) {
            self.engine
                .handle_timeout(now, EXPIRY_BUDGET, &mut self.outbox);
        }
        self.copy_for(original, now, &frame);
        self.outbox.clear();
        let verdict = self.engine.take(now, port, &mut frame, &mut self.outbox);
        let leaving = match verdict {
            Verdict::Send(egress) => {
                vec![leaving(before, frame.bytes(), frame.offload, egress)]
            }
            Verdict::SendOutbox | Verdict::Answered => self.outbox_leaving(before),
            Verdict::Held | Verdict::Pass | Verdict::Local | Verdict::Drop(_) => Vec::new(),
        };
        Trace {
            port: port.0,
            steps: self.take_steps(),
            end: verdict.into(),
            leaving,
        }
    }

    fn outbox_leaving(&self, before: (&[u8], Offload)) -> Vec<Leaving> {
        let frames = self.outbox.iter().take(MAX_LEAVING);
        frames
            .map(|(bytes, offload, egress)| leaving(before, bytes, offload, egress))
            .collect()
    }

    fn take_steps(&mut self) -> Vec<Step> {
        let mut steps = std::mem::take(&mut self.engine.recorder.0);
        for step in &mut steps {
            if let Step::Schedule { service, exact, .. } = step {
                *exact = !self.examples.contains(service);
            }
        }
        steps
    }

    /// Copies the connections that a frame may ask for.
    fn copy_for(&mut self, original: &Engine, now: Instant, frame: &Frame<'_>) {
        if original.conns.limit() - original.conns.len() < PLACES_OF_NEW {
            for id in original.conns.willing().take(PLACES_OF_NEW as usize) {
                self.copy(original, now, id);
            }
        }
        let mut own = frame.bytes().to_vec();
        let mut frame = copy_of(frame, &mut own, 0);
        let Parsed::Ipv4(packet) = packet::parse(&mut frame) else {
            return;
        };
        let (protocol, to) = (packet.protocol, packet.flow.destination());
        if let Some(id) = original.of_client(protocol, to) {
            let here = self.copy(original, now, id);
            self.engine.clients.note(&self.engine.conns, here);
        }
        for flow in self.flows(now, frame.bytes(), &packet) {
            let keys = std::iter::once(flow).chain(original.keys_of_new(&flow, frame.mark));
            for (id, _) in keys.filter_map(|key| original.conns.find(&key)) {
                self.copy(original, now, id);
            }
        }
    }

    /// The flows that a packet may be looked up by: its own, or those it quotes.
    fn flows(&self, now: Instant, bytes: &[u8], packet: &Packet) -> Vec<Flow> {
        match packet.transport {
            Transport::Tcp { .. } | Transport::Udp | Transport::Sctp { .. } => vec![packet.flow],
            Transport::Icmp { .. } => {
                let quoted = packet.l4() + icmp::LEN;
                let inner = self.engine.tunnelled(bytes, quoted);
                let inner = inner.and_then(|at| quote(bytes, at)).map(|q| q.flow);
                let outer = quote(bytes, quoted).map(|q| q.flow.reversed());
                inner.into_iter().chain(outer).collect()
            }
            Transport::Fragment => self
                .flows_of_datagram(now, bytes, packet)
                .unwrap_or_default(),
            Transport::Other => Vec::new(),
        }
    }

    /// Those of the datagram that a fragment makes whole; before, nothing is looked up.
    fn flows_of_datagram(&self, now: Instant, bytes: &[u8], packet: &Packet) -> Option<Vec<Flow>> {
        let mut waiting = self.engine.reassembler.clone();
        let mut whole = waiting.add(now, bytes, packet).ok()??.frame;
        let end = whole.len();
        let mut frame = Frame::new(&mut whole, 0, end, Offload::default());
        match packet::parse(&mut frame) {
            Parsed::Ipv4(packet) => Some(self.flows(now, frame.bytes(), &packet)),
            Parsed::Malformed { .. } | Parsed::Arp | Parsed::Foreign => None,
        }
    }

    /// Copies a connection with its template, unless it has been copied before.
    fn copy(&mut self, original: &Engine, now: Instant, id: ConnId) -> ConnId {
        if let Some(here) = self.copied.get(&id.0) {
            return *here;
        }
        let conn: Conn = *original.conns.get(id);
        let control = match conn.control {
            NONE => NONE,
            template => self.copy(original, now, ConnId(template)).0,
        };
        let here = self.engine.conns.adopt(now, conn, control);
        self.copied.insert(id.0, here);
        if let Some(syn) = original.syns.of(id, &conn) {
            self.engine.syns.keep(syn.at(here));
        }
        here
    }
}

/// The frame as it is, with its bytes from `start` of `memory` on.
fn copy_of<'a>(frame: &Frame<'_>, memory: &'a mut [u8], start: usize) -> Frame<'a> {
    let end = memory.len();
    let mut copy = Frame::new(memory, start, end, frame.offload);
    copy.mark = frame.mark;
    copy
}

/// A frame that leaves, beside the one that came.
fn leaving(before: (&[u8], Offload), bytes: &[u8], offload: Offload, egress: Egress) -> Leaving {
    let mut own = bytes.to_vec();
    let end = own.len();
    let what = match packet::parse(&mut Frame::new(&mut own, 0, end, offload)) {
        Parsed::Ipv4(p) => {
            let detail = kind(&bytes[usize::from(p.ip)..]);
            format!("{} {detail}", protocol_name(p.protocol))
        }
        Parsed::Arp => "ARP".to_owned(),
        Parsed::Malformed { .. } | Parsed::Foreign => String::new(),
    };
    Leaving {
        port: egress.port.0,
        unresolved: egress.unresolved,
        kind: what.trim_end().to_owned(),
        bytes: bytes.len() as u32,
        changes: changes(before, (bytes, offload)),
    }
}

impl Service {
    /// A copy, and whether its scheduler picks as this one's.
    fn double(&self) -> (Self, bool) {
        let (mut scheduler, exact): (Box<dyn Scheduler>, bool) = match self.scheduler.fork() {
            Fork::Exact(copy) => (copy, true),
            Fork::Example(new) => (new, false),
            Fork::None => (Box::new(FirstAvailable), false),
        };
        if !exact {
            scheduler.backends_changed(&self.backends);
        }
        let double = Self {
            spec: Arc::clone(&self.spec),
            scheduler,
            backends: self.backends.clone(),
            servers: self.servers.clone(),
            stats: self.stats,
            failures: self.failures,
            next_local: self.next_local,
            slow_start: self.slow_start.clone(),
            rate: self.rate,
        };
        (double, exact)
    }
}

impl Engine {
    /// What a new connection of `flow` asks the table for: its template, and whether the tuple that its
    /// replies will have at one of the servers is taken.
    fn keys_of_new(&self, flow: &Flow, mark: u32) -> Vec<Flow> {
        let slot = self.service_for(flow, mark);
        let service = slot.and_then(|slot| Some((slot, self.services[slot as usize].as_ref()?)));
        let (Some((slot, service)), Some(protocol)) =
            (service, Protocol::from_number(flow.protocol))
        else {
            return Vec::new();
        };
        let persistence = service.spec.persistence;
        let template = persistence.and_then(|p| self.template_key(slot, flow, p));
        let servers = service.servers.iter().map(|place| self.servers.get(*place));
        let replies = servers.flat_map(|server| {
            let end = server.spec.endpoint;
            [end.port, flow.dst_port].map(|port| {
                let from = Endpoint::new(end.addr, port);
                Flow::new(protocol, from, flow.source())
            })
        });
        template
            .map(|key| key.flow())
            .into_iter()
            .chain(replies)
            .collect()
    }

    /// A copy that records, with these services and no connections.
    fn double(&self, services: Vec<Option<Service>>) -> Engine<Log> {
        Engine {
            recorder: Log::default(),
            modes: self.modes,
            // It is never handed a snapshot, so it makes no schedulers.
            schedulers: Box::new(|_, _| None),
            seed: self.seed,
            snapshot: Arc::clone(&self.snapshot),
            services,
            lookup: self.lookup.clone(),
            marks: self.marks.clone(),
            vips: self.vips.clone(),
            owned: self.owned.clone(),
            yielded: self.yielded.clone(),
            absent: self.absent.clone(),
            claims: self.claims.clone(),
            repliers: self.repliers.clone(),
            nat_servers: self.nat_servers.clone(),
            clients: ends::Clients::default(),
            replier_addrs: self.replier_addrs.clone(),
            locals: self.locals.clone(),
            tunnels: self.tunnels.clone(),
            path_mtus: self.path_mtus.clone(),
            servers: self.servers.clone(),
            conns: self.conns.excerpt(),
            ports: self.ports.clone(),
            fib: Arc::clone(&self.fib),
            ways: Default::default(),
            reassembler: self.reassembler.clone(),
            voice: self.voice.clone(),
            sweep: Default::default(),
            draining: self.draining.clone(),
            next_look: self.next_look,
            events: Vec::new(),
            replaced: None,
            syns: Default::default(),
            next_tick: self.next_tick,
            next_second: self.next_second,
            now: self.now,
            defence: self.defence.clone(),
            rates: self.rates.clone(),
            counters: self.counters.clone(),
            retired: self.retired,
        }
    }
}
