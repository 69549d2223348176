//! The engine: frame, time and desired state in; verdicts and counters out.
//!
//! One engine per worker; it shares nothing. `apply` takes the desired state, `set_fib` the kernel's
//! routes and neighbours, `handle_frame` a frame, `handle_timeout` the time. Nothing here blocks or asks the
//! world for anything, and a packet of an established connection costs no allocation unless it is fragmented.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::conn::{Conn, ConnTable, Side};
use crate::counters::Counters;
use crate::fib::{self, Fib};
use crate::flow::{Addr, Endpoint, Flow, Protocol};
use crate::fragment::{Reassembler, Whole};
use crate::frame::{Frame, Offload};
use crate::marks::Marks;
use crate::mode::ModeDef;
use crate::outbox::{HEADROOM, Outbox};
use crate::packet::{self, Parsed, Transport};
use crate::ports::LocalPorts;
use crate::rewrite;
use crate::scheduler::{Scheduler, SchedulerParams};
use crate::service::{Forwarding, ServiceKey, TunnelKind};
use crate::snapshot::{Limits, Snapshot};
use crate::time::Instant;
use crate::trace::{Aside, Off, Recorder, Step};
use crate::verdict::{DropReason, Egress, PortId, Verdict};
use crate::wire::{ethernet, protocol};

mod admission;
mod answer;
mod apply;
mod claims;
mod defence;
mod describe;
mod drain;
mod ends;
mod farewell;
mod fork;
mod handshake;
mod host;
mod input;
mod lifetime;
mod martian;
mod outer;
mod persistence;
mod pmtu;
mod related;
mod reopen;
mod reply;
mod report;
mod schedule;
mod sequence;
mod servers;
mod shared;
mod slow_start;
mod sweep;
mod track;
mod transit;
mod transmit;
mod unreachable;
mod voice;

pub use claims::Claim;
pub use drain::{Event, Happened};
pub use fork::Rehearsal;
pub use report::{ConnReport, Report, ServerReport, ServiceReport};
use servers::Servers;
use transit::Transit;
use voice::Voice;

/// The first port that needs no privilege (net.ipv4.ip_unprivileged_port_start): passive FTP uses them.
const UNPRIVILEGED: u16 = 1024;

/// How often schedulers are told the time, as the kernel's lblc and lblcr look at theirs.
const SCHEDULER_TICK: Duration = Duration::from_secs(60);

/// Makes a scheduler by name; `None` for an unknown one.
pub type SchedulerSource = Box<dyn Fn(&str, &SchedulerParams) -> Option<Box<dyn Scheduler>> + Send>;

/// What an engine is made from.
pub struct EngineConfig {
    /// Fixed sizes.
    pub limits: Limits,
    /// Key of the connection table's hash and of the order of FULLNAT's local ports: random and secret.
    pub keys: (u64, u64),
    /// Seed of the schedulers.
    pub seed: u64,
    /// The modes, bound to connections by their place.
    pub modes: &'static [ModeDef],
    /// Where schedulers come from.
    pub schedulers: SchedulerSource,
}

/// The engine. Which recorder it has is decided when it is compiled: [`Off`] costs nothing.
pub struct Engine<R = Off> {
    recorder: R,
    modes: &'static [ModeDef],
    schedulers: SchedulerSource,
    seed: u64,
    snapshot: Arc<Snapshot>,
    services: Vec<Option<Service>>,
    lookup: HashMap<ServiceKey, u32>,
    marks: Option<Marks>,
    /// Addresses whose malformed packets are ours to drop: VIPs.
    vips: HashSet<Addr>,
    owned: HashSet<Addr>,
    /// Owned VIPs that another host claims.
    yielded: HashSet<Addr>,
    /// VIPs that the director does not have: all to them is the host's.
    absent: HashSet<Addr>,
    /// Other hosts' claims to owned VIPs.
    claims: claims::Claims,
    /// Endpoints whose packets reach clients only through us; port 0 = any.
    repliers: HashSet<(Protocol, Endpoint)>,
    /// Those among them that are NAT's.
    nat_servers: HashSet<(Protocol, Endpoint)>,
    replier_addrs: HashSet<Addr>,
    /// NAT's clients.
    clients: ends::Clients,
    /// FULLNAT's local addresses.
    locals: HashSet<Addr>,
    /// Tunnels' ends: address, GUE's port or 0, kind.
    tunnels: HashSet<(Addr, u16, TunnelKind)>,
    path_mtus: pmtu::PathMtus,
    servers: Servers,
    conns: ConnTable,
    ports: LocalPorts,
    fib: Arc<Fib>,
    /// The ways of established connections.
    ways: fib::Cache,
    reassembler: Reassembler,
    /// What the director says itself.
    voice: Voice,
    /// The time as of the last time-out handled.
    now: Instant,
    /// The search for connections whose server lets them go.
    sweep: sweep::Sweep,
    /// Servers of weight 0.
    draining: Vec<u32>,
    /// When they are looked at again.
    next_look: Instant,
    /// What happened to servers, until it is taken.
    events: Vec<Event>,
    /// A connection that gave way to the one just made, where its ends are to be told.
    replaced: Option<Conn>,
    /// FULLNAT clients' SYNs, until their servers have answered.
    syns: reopen::Syns,
    /// When schedulers are told the time again. It is no reason to wake up: [`Engine::poll_timeout`] leaves it out.
    next_tick: Instant,
    /// When servers' handshakes are looked at again; no reason to wake up either.
    next_second: Instant,
    defence: defence::Defence,
    rates: admission::Rates,
    counters: Counters,
    /// Traffic of services that were removed.
    retired: crate::counters::Stats,
}

/// A virtual service at work.
struct Service {
    spec: Arc<crate::service::ServiceSpec>,
    scheduler: Box<dyn Scheduler>,
    /// What the scheduler sees.
    backends: Vec<crate::backend::Backend>,
    /// The places in [`Engine::servers`] of `backends`.
    servers: Vec<u32>,
    stats: crate::counters::Stats,
    failures: crate::counters::ByFailure,
    /// Whose turn it is among the local addresses.
    next_local: usize,
    slow_start: slow_start::SlowStart,
    rate: admission::Rate,
}

impl Engine {
    /// An engine without services.
    pub fn new(config: EngineConfig) -> Self {
        let limits = config.limits;
        Self {
            recorder: Off,
            modes: config.modes,
            schedulers: config.schedulers,
            seed: config.seed,
            snapshot: Arc::new(Snapshot::default()),
            services: Vec::new(),
            lookup: HashMap::new(),
            marks: None,
            vips: HashSet::new(),
            owned: HashSet::new(),
            yielded: HashSet::new(),
            absent: HashSet::new(),
            claims: claims::Claims::default(),
            repliers: HashSet::new(),
            nat_servers: HashSet::new(),
            replier_addrs: HashSet::new(),
            clients: ends::Clients::default(),
            locals: HashSet::new(),
            tunnels: HashSet::new(),
            path_mtus: pmtu::PathMtus::default(),
            servers: Servers::default(),
            conns: ConnTable::new(limits.connections, config.keys),
            ports: LocalPorts::new(limits.local_ports, config.keys),
            fib: Arc::new(Fib::new()),
            ways: fib::Cache::new(),
            reassembler: Reassembler::new(limits.fragment_bytes as usize),
            voice: Voice::new(config.keys.0 as u16),
            now: Instant::ZERO,
            sweep: sweep::Sweep::default(),
            draining: Vec::new(),
            next_look: Instant::ZERO,
            events: Vec::new(),
            replaced: None,
            syns: reopen::Syns::default(),
            next_tick: Instant::ZERO,
            next_second: Instant::ZERO,
            defence: defence::Defence::new(),
            rates: admission::Rates::new(config.keys),
            counters: Counters::default(),
            retired: Default::default(),
        }
    }

    /// Decides about a frame received through `port`. What the engine makes beside it is in `out`, which
    /// must be empty.
    ///
    /// Of this recorder alone, so that it is compiled here, beside all that it calls: what is generic is
    /// compiled by whoever uses it, and was 2 % slower.
    pub fn handle_frame(
        &mut self,
        now: Instant,
        port: PortId,
        frame: &mut Frame<'_>,
        out: &mut Outbox,
    ) -> Verdict {
        self.take(now, port, frame, out)
    }
}

impl<R: Recorder> Engine<R> {
    /// Replaces what is known of interfaces, routes and neighbours.
    pub fn set_fib(&mut self, fib: Arc<Fib>) {
        self.fib = fib;
        self.ways.clear();
    }

    /// The engine's totals.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The connection table.
    pub fn connections(&self) -> &ConnTable {
        &self.conns
    }

    /// [`Engine::handle_frame`] of any recorder. This is the one place that counts frames.
    fn take(
        &mut self,
        now: Instant,
        port: PortId,
        frame: &mut Frame<'_>,
        out: &mut Outbox,
    ) -> Verdict {
        let verdict = self.decide(now, port, frame, out);
        self.counters.count(verdict);
        verdict
    }

    /// Takes a drop into account that the shell met: a frame that never reached the engine whole.
    pub fn count_unhandled(&mut self, reason: DropReason) {
        self.counters.count(Verdict::Drop(reason));
    }

    /// Takes a frame into account that the shell left to the kernel unseen.
    pub fn count_passed(&mut self) {
        self.counters.count(Verdict::Pass);
    }

    /// `n` frames that were handed over to leave did not, whatever they were.
    pub fn count_lost(&mut self, n: u64, reason: DropReason) {
        self.counters.lost[reason as usize] += n;
    }

    /// Lets connections and fragments expire, servers drain and the defences act, at most `budget`
    /// connections each; call again at once where it returns `true`. What the ends of connections are told
    /// is in `out`, which must be empty.
    pub fn handle_timeout(&mut self, now: Instant, budget: u32, out: &mut Outbox) -> bool {
        self.counters.fragments_expired += self.reassembler.expire(now);
        let mut left = budget;
        while let Some(id) = self.conns.expired(now, &mut left) {
            self.time_out(now, id, out);
        }
        self.now = now;
        for service in self.services.iter_mut().flatten() {
            service.slow_start.advance(now);
        }
        self.drain(now);
        let sweeping = self.sweep(now, budget, out);
        self.tick_schedulers(now);
        self.forgive_handshakes(now);
        let defending = self.defend(now, budget);
        left == 0 || sweeping || defending
    }

    /// Tells schedulers the time, once a [`SCHEDULER_TICK`].
    fn tick_schedulers(&mut self, now: Instant) {
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + SCHEDULER_TICK;
        for service in self.services.iter_mut().flatten() {
            service.scheduler.tick(now);
        }
    }

    /// When [`Engine::handle_timeout`] has work, `None` while there is nothing to wait for.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let times = [
            self.conns.next_expiry(),
            self.defence.next(),
            self.next_drain(),
            (!self.sweep.is_over()).then(|| self.voice.teardown_limit.next()),
        ];
        times.into_iter().flatten().min()
    }

    /// Notes a decision, where this engine has a recorder that does.
    fn record(&mut self, step: impl FnOnce(&Self) -> Step) {
        if R::ON {
            let step = step(self);
            self.recorder.note(step);
        }
    }

    fn decide(
        &mut self,
        now: Instant,
        port: PortId,
        frame: &mut Frame<'_>,
        out: &mut Outbox,
    ) -> Verdict {
        let Some(interface) = self.fib.interface(port) else {
            self.record(|_| Step::Aside {
                why: Aside::UnknownInterface,
            });
            return Verdict::Pass;
        };
        let mac = interface.mac;
        frame.arrival = interface.ifindex;
        let parsed = packet::parse(frame);
        self.record(|_| describe::frame(frame, &parsed, mac));
        match parsed {
            Parsed::Foreign => Verdict::Pass,
            Parsed::Arp => {
                self.note_claim(now, port, frame.bytes());
                let speaks_for =
                    |vip: Addr| self.owned.contains(&vip) && !self.yielded.contains(&vip);
                voice::answer_arp(frame, (port, mac), speaks_for, out)
            }
            // A bridge floods frames for others past us; forwarding those would loop. The host's own may bear
            // the address of a next hop.
            _ if ethernet::Header::new(frame.bytes()).dst() != mac && port != PortId::HOST => {
                Verdict::Pass
            }
            Parsed::Malformed { dst, reason } if self.is_vip(dst) => Verdict::Drop(reason),
            Parsed::Malformed { .. } => Verdict::Pass,
            Parsed::Ipv4(packet) => {
                let mut transit = Transit {
                    now,
                    frame,
                    packet: &packet,
                    out,
                };
                if martian::is_martian(transit.frame, &packet) {
                    self.refuse_source(&transit)
                } else {
                    self.handle_packet(&mut transit)
                }
            }
        }
    }

    fn handle_packet(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        if self.fib.filters() && self.is_spoofed(t) {
            return if self.is_ours(&t.packet.flow) {
                Verdict::Drop(DropReason::ReversePath)
            } else {
                Verdict::Pass
            };
        }
        match t.packet.transport {
            Transport::Fragment => self.handle_fragment(t),
            Transport::Icmp { .. } => self.handle_icmp(t),
            Transport::Tcp { .. } | Transport::Udp | Transport::Sctp { .. } => {
                rewrite::finish_crc(t.frame, t.packet);
                self.handle_transport(t)
            }
            Transport::Other => self.answer_as_host(t),
        }
    }

    /// Whether a packet has a source that the arrival interface's rp_filter refuses. As the kernel, which judges
    /// before IPVS sees it, each packet is asked about; what is not ours, the kernel refuses itself.
    fn is_spoofed(&self, t: &Transit<'_, '_>) -> bool {
        let flow = &t.packet.flow;
        self.fib.is_spoofed(flow.src, flow.dst, t.frame.arrival)
    }

    /// Whether a packet may be one of a service's or of a server's.
    fn is_ours(&self, flow: &Flow) -> bool {
        self.is_vip(flow.dst)
            || self.replier_addrs.contains(&flow.src)
            || self.locals.contains(&flow.dst)
    }

    fn handle_transport(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        let known = self.conns.find(&t.packet.flow);
        self.record(|e| e.looked_up(t.now, known));
        match known {
            Some((id, Side::Client)) => self.continue_connection(t, id),
            Some((id, Side::Server)) => self.reply(t, id),
            None => self.start_connection(t),
        }
    }

    fn handle_fragment(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        // An error about a tunnel's packet, which comes to an address of the host's.
        let tunnel_error = t.packet.protocol == protocol::ICMP
            && !self.tunnels.is_empty()
            && self.fib.is_local(t.packet.flow.dst);
        if !self.is_ours(&t.packet.flow) && !tunnel_error {
            return Verdict::Pass;
        }
        match self.reassembler.add(t.now, t.frame.bytes(), t.packet) {
            Err(reason) => Verdict::Drop(reason),
            Ok(None) => Verdict::Held,
            Ok(Some(whole)) => self.handle_datagram(t, whole),
        }
    }

    /// Handles the datagram that the fragment `t` has made whole, as if it had come in one frame.
    fn handle_datagram(&mut self, t: &mut Transit<'_, '_>, mut whole: Whole) -> Verdict {
        let end = HEADROOM + whole.frame.len();
        // Headroom as in the outbox: a mode may wrap the packet.
        whole.frame.splice(0..0, [0; HEADROOM]);
        let mut frame = Frame::new(&mut whole.frame, HEADROOM, end, Offload::default());
        (frame.mark, frame.arrival) = (t.frame.mark, t.frame.arrival);
        match packet::parse(&mut frame) {
            Parsed::Ipv4(mut p) => {
                self.record(|_| describe::packet(&frame, &p));
                p.fragment_size = Some(whole.largest);
                let mut datagram = Transit {
                    now: t.now,
                    frame: &mut frame,
                    packet: &p,
                    out: t.out,
                };
                let verdict = self.handle_packet(&mut datagram);
                if verdict == Verdict::Local {
                    t.out
                        .push_copy(frame.bytes(), frame.offload, Egress::default());
                }
                verdict
            }
            Parsed::Malformed { reason, .. } => Verdict::Drop(reason),
            Parsed::Arp | Parsed::Foreign => Verdict::Pass,
        }
    }

    /// The service for a packet of this mark to `flow`'s destination: its mark's, its own or a rule's, else
    /// its port's own, else persistent FTP's for its data connections, else the one for all ports
    /// (`ip_vs_service_find`).
    fn service_for(&self, flow: &Flow, mark: u32) -> Option<u32> {
        let ipv6 = flow.dst.as_v4().is_none();
        let mark = match &self.marks {
            Some(marks) if mark == 0 => marks.of(flow, |a| self.fib.is_local(a)),
            _ => mark,
        };
        let marked = (mark != 0).then(|| self.lookup.get(&ServiceKey::Mark { mark, ipv6 }));
        if let Some(slot) = marked.flatten() {
            return Some(*slot);
        }
        let protocol = Protocol::from_number(flow.protocol)?;
        let with_port = |port| {
            let vip = Endpoint::new(flow.dst, port);
            self.lookup.get(&ServiceKey::address(protocol, vip))
        };
        let is_data = protocol == Protocol::Tcp
            && (flow.dst_port == schedule::FTP_DATA || flow.dst_port >= UNPRIVILEGED);
        let found = with_port(flow.dst_port)
            .or_else(|| {
                let ftp = is_data.then(|| with_port(schedule::FTP)).flatten();
                ftp.filter(|slot| self.is_persistent(**slot))
            })
            .or_else(|| with_port(0));
        found.copied()
    }

    /// Whether an address is a VIP that the director does not have.
    fn is_absent(&self, addr: Addr) -> bool {
        !self.absent.is_empty() && self.absent.contains(&addr)
    }

    /// For a packet of a service whose VIP the director does not have, such as one that a stand-by gets from
    /// a neighbour with an old ARP entry: the guard has kept it from the host, whose routing is to decide.
    fn give_back(&mut self) -> Verdict {
        self.record(|_| Step::Absent);
        Verdict::Local
    }

    /// Whether packets to an address may be of a service.
    fn is_vip(&self, addr: Addr) -> bool {
        let in_network = |marks: &Marks| marks.has_network_of(addr);
        self.vips.contains(&addr) || self.marks.as_ref().is_some_and(in_network)
    }

    fn is_persistent(&self, slot: u32) -> bool {
        let service = self.services[slot as usize].as_ref();
        service.is_some_and(|s| s.spec.persistence.is_some())
    }

    /// The place of the mode for a forwarding method.
    fn mode_for(&self, forwarding: Forwarding, tunnel: TunnelKind) -> Option<u8> {
        self.modes
            .iter()
            .position(|m| m.reaches(forwarding, tunnel))
            .map(|i| i as u8)
    }
}
