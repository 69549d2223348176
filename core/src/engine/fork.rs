//! A dry run: the engine's double, to which frames are handed without any consequence.
//!
//! It is the same code with a recorder. It has copies of what the engine knows, but of the connection
//! table only what its frames ask for: a table may have millions of places. Packets of one dry run see
//! what those before them did.

use std::collections::{HashMap, HashSet};

use super::Engine;
use super::ahead::Seen;
use super::elsewhere::Strays;
use super::flows::{Flows, Shown};
use super::passage;
use super::related::quote;
use crate::conn::{ConnId, NONE};
use crate::flow::Flow;
use crate::frame::{Frame, Offload};
use crate::narrow;
use crate::outbox::{HEADROOM, Outbox};
use crate::packet::{self, Packet, Parsed, Transport};
use crate::ranks::Rank;
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
pub struct DryRun {
    engine: Engine<Log>,
    /// Where the original's connections are here.
    copied: HashMap<u32, ConnId>,
    /// Services whose scheduler could not be copied.
    examples: HashSet<ServiceKey>,
    outbox: Outbox,
    /// When the last frame came.
    last: Option<Instant>,
}

impl DryRun {
    /// The double of an engine as it is now.
    pub fn of(original: &Engine) -> Self {
        let (flows, examples) = original.flows.fork();
        Self {
            engine: original.fork(flows),
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
        let taken = self.taken(original, port, &frame);
        let seen = Seen::of(&mut frame);
        let verdict = self
            .engine
            .take(now, port, (&mut frame, &seen), &mut self.outbox);
        let leaving = match verdict {
            Verdict::Send(egress) => {
                vec![leaving(before, frame.bytes(), frame.offload, egress)]
            }
            Verdict::SendOutbox | Verdict::Answered => self.outbox_leaving(before),
            Verdict::Held
            | Verdict::Pass
            | Verdict::Local
            | Verdict::Elsewhere(_)
            | Verdict::Drop(_) => Vec::new(),
        };
        Trace {
            port: port.0,
            steps: self.take_steps(taken),
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

    /// Whether the kernel forwards this frame, where it is of a connection that the original has handed over.
    fn taken(&self, original: &Engine, port: PortId, frame: &Frame<'_>) -> Option<Step> {
        let mut own = frame.bytes().to_vec();
        let mut frame = copy_of(frame, &mut own, 0);
        let Parsed::Ip(packet) = packet::parse(&mut frame) else {
            return None;
        };
        packet.balanced()?;
        let (id, side) = original.flows.find(&packet.flow)?;
        let at = original.flows.standpoint(id, side)?;
        let interface = original.routes.fib.interface(port)?;
        let up = passage::comes_up(&frame, &packet, interface.ifindex, &at);
        Some(Step::Taken {
            up: up.map(|why| why.meaning().to_owned()),
        })
    }

    /// What was decided; behind the look-up of the connection, that the kernel has it.
    fn take_steps(&mut self, taken: Option<Step>) -> Vec<Step> {
        let mut steps = std::mem::take(&mut self.engine.recorder.0);
        let looked_up = |step: &Step| matches!(step, Step::Lookup { found: Some(_) });
        if let Some(taken) = taken
            && let Some(at) = steps.iter().position(looked_up)
        {
            steps.insert(at + 1, taken);
        }
        for step in &mut steps {
            if let Step::Schedule { service, exact, .. } = step {
                *exact = !self.examples.contains(service);
            }
        }
        steps
    }

    /// Copies the connections that a frame may ask for.
    fn copy_for(&mut self, original: &Engine, now: Instant, frame: &Frame<'_>) {
        let table = original.connections();
        if table.limit() - table.len() < PLACES_OF_NEW {
            // One that looks half-open may have been established in the kernel.
            let goes = |id: &ConnId| original.flows.shown(*id).rank != Rank::Protected;
            let order = table.eviction_order().filter(goes);
            for id in order.take(PLACES_OF_NEW as usize) {
                self.copy(original, now, id);
            }
        }
        let mut own = frame.bytes().to_vec();
        let mut frame = copy_of(frame, &mut own, 0);
        let Parsed::Ip(packet) = packet::parse(&mut frame) else {
            return;
        };
        let (protocol, to) = (packet.protocol, packet.flow.destination());
        if let Some(id) = original.flows.of_client(protocol, to) {
            let here = self.copy(original, now, id);
            self.engine.flows.note_client(here);
        }
        let data = packet.datagram(frame.bytes());
        if let Some(caller) = original.caller(&packet, data) {
            let met = original.flows.met_by_new(caller.slot, &caller.flow, data);
            for id in met {
                self.copy(original, now, id);
            }
        }
        for (flow, data) in self.flows(now, frame.bytes(), &packet) {
            let known = original.flows.find(&flow).map(|(id, _)| id);
            let slot = original.service_for(&flow, frame.mark);
            let met = slot.map(|slot| original.flows.met_by_new(slot, &flow, &data));
            for id in known.into_iter().chain(met.into_iter().flatten()) {
                self.copy(original, now, id);
            }
        }
    }

    /// The flows that a packet may be looked up by, its own with what it holds or those it quotes.
    fn flows(&self, now: Instant, bytes: &[u8], packet: &Packet) -> Vec<(Flow, Vec<u8>)> {
        match packet.transport {
            Transport::Tcp { .. } | Transport::Udp | Transport::Sctp { .. } => {
                vec![(packet.flow, packet.datagram(bytes).to_vec())]
            }
            Transport::Icmp { .. } | Transport::Icmpv6 { .. } => {
                let quoted = packet.l4() + icmp::LEN;
                let inner = self.engine.tunnelled(bytes, quoted);
                let inner = inner.and_then(|at| quote(bytes, at)).map(|q| q.flow);
                let outer = quote(bytes, quoted).map(|q| q.flow.reversed());
                let quoted = inner.into_iter().chain(outer);
                quoted.map(|flow| (flow, Vec::new())).collect()
            }
            Transport::Fragment => self
                .flows_of_datagram(now, bytes, packet)
                .unwrap_or_default(),
            Transport::Other => Vec::new(),
        }
    }

    /// Those of the datagram that a fragment makes whole; before, nothing is looked up.
    fn flows_of_datagram(
        &self,
        now: Instant,
        bytes: &[u8],
        packet: &Packet,
    ) -> Option<Vec<(Flow, Vec<u8>)>> {
        let mut waiting = self.engine.reassembler.clone();
        let mut whole = waiting.add(now, bytes, packet).ok()??.frame;
        let end = whole.len();
        let mut frame = Frame::new(&mut whole, 0, end, Offload::default());
        match packet::parse(&mut frame) {
            Parsed::Ip(packet) => Some(self.flows(now, frame.bytes(), &packet)),
            Parsed::Malformed { .. } | Parsed::Arp | Parsed::Foreign => None,
        }
    }

    /// Copies a connection with its template, unless it has been copied before.
    fn copy(&mut self, original: &Engine, now: Instant, id: ConnId) -> ConnId {
        if let Some(here) = self.copied.get(&id.0) {
            return *here;
        }
        let Shown { conn, rank, .. } = original.flows.shown(id);
        let control = match conn.control {
            NONE => NONE,
            template => self.copy(original, now, ConnId(template)).0,
        };
        let here = self.engine.flows.copy_in(now, conn, control, rank);
        self.copied.insert(id.0, here);
        if let Some(syn) = original.flows.syn_of(id) {
            self.engine.flows.keep_syn(syn.at(here));
        }
        if let Some(call) = original.flows.call_of(id) {
            self.engine.flows.copy_call(here, call);
        }
        if let Some(introduced) = original.flows.introduced(id) {
            self.engine.flows.copy_introduced(here, introduced);
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
        Parsed::Ip(p) => {
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
        bytes: narrow::to_u32(bytes.len()),
        changes: changes(before, (bytes, offload)),
    }
}

impl Engine {
    /// A copy that records, with these flows.
    fn fork(&self, flows: Flows) -> Engine<Log> {
        Engine {
            recorder: Log::default(),
            keys: self.keys,
            catalog: self.catalog.fork(),
            desired: self.desired.clone(),
            flows,
            upkeep: self.upkeep.fork(),
            routes: self.routes.fork(),
            reassembler: self.reassembler.clone(),
            claims: self.claims.clone(),
            voice: self.voice.clone(),
            counters: self.counters.clone(),
            crew: self.crew.clone(),
            strays: Strays::default(),
            elsewhere: None,
        }
    }
}
