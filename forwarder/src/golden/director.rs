//! The recording's director: an engine between two interfaces, and the kernel around it as far as the
//! records need one (routes, neighbours, and next hops that do not answer).

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use uvs_core::engine::{Engine, EngineConfig};
use uvs_core::fib::{Fib, Hop, Interface, ReversePath, Route, Target};
use uvs_core::flow::{Addr, Protocol};
use uvs_core::frame::{Frame, Offload};
use uvs_core::outbox::Outbox;
use uvs_core::service::ServiceKey;
use uvs_core::snapshot::{Limits, Snapshot};
use uvs_core::testing::hook::{self, Model, Passage};
use uvs_core::time::Instant;
use uvs_core::verdict::{Egress, Verdict};
use uvs_core::wire::ethernet::{self, Mac};

#[cfg(test)]
use super::program::Program;
use super::{SIDES, addr, list, mac, text};
use crate::port::port_id;

/// Bytes before a frame, as in the shell's rings.
const HEADROOM: usize = 64;
/// In the recordings of packets.
const STEP: Duration = Duration::from_millis(80);
/// The kernel gives up on a neighbour after three probes a second apart.
const PATIENCE: Duration = Duration::from_secs(3);

/// An engine with its surroundings.
pub struct Director {
    /// The engine.
    pub engine: Engine,
    /// What it has to do, from the next [`Self::apply`] on.
    pub snapshot: Snapshot,
    /// The virtual time.
    pub now: Instant,
    /// What passes between two steps of the recording.
    pub step: Duration,
    /// The routes and neighbours.
    pub fib: Fib,
    /// The kernel's hook, where connections are handed over to it.
    hook: Option<Model>,
    /// The program itself, in a test that runs it.
    #[cfg(test)]
    program: Option<Program>,
    /// Frames whose next hop is asked for, and until when.
    held: Vec<Held>,
    /// What left between two steps.
    late: Vec<(usize, Vec<u8>)>,
}

/// A frame that waits for its next hop's MAC address.
struct Held {
    until: Instant,
    egress: Egress,
    /// Behind [`HEADROOM`].
    bytes: Vec<u8>,
}

/// What became of a frame.
pub enum Outcome {
    /// These frames left, by side.
    Left(Vec<(usize, Vec<u8>)>),
    /// The host's own stack has it.
    Host,
    /// It is delivered to the host's own stack as a real server's.
    Local,
}

impl Director {
    /// Between the interfaces of a recording, with their MTUs.
    pub fn new(topology: &Value, mtu: &Value) -> Self {
        let engine = Engine::new(EngineConfig {
            limits: Limits {
                connections: 10_000,
                ..Limits::default()
            },
            keys: (1, 2),
            seed: 3,
            modes: uvs_modes::BUILTIN,
            crew: None,
            schedulers: Box::new(|name, params| {
                uvs_schedulers::find(name).map(|d| (d.new)(params))
            }),
        });
        let mut d = Self {
            engine,
            snapshot: Snapshot::default(),
            now: Instant::from_secs(1000),
            step: STEP,
            fib: fib(topology, mtu),
            hook: None,
            #[cfg(test)]
            program: None,
            held: Vec::new(),
            late: Vec::new(),
        };
        d.change_fib(|_| {});
        #[cfg(test)]
        if let Some(program) = Program::wanted(topology) {
            program.attach(&mut d.engine);
            d.program = Some(program);
            return d;
        }
        if let Some(reach) = hook::wanted() {
            let model = Model::default();
            let hook = Box::new(model.clone());
            d.engine.attach(hook, reach, hook::room());
            d.hook = Some(model);
        }
        d
    }

    /// Takes the snapshot up. VIPs that the director does not have are the host's, as the daemon has it.
    pub fn apply(&mut self) {
        let vips = self.snapshot.services.iter().map(|s| s.key.vip().addr);
        let absent = vips.filter(|vip| !vip.is_unspecified() && !self.fib.is_local(*vip));
        self.snapshot.absent_vips = absent.collect();
        self.engine.apply(Arc::new(self.snapshot.clone())).unwrap();
        #[cfg(test)]
        if let Some(program) = &self.program {
            program.set_rules(&self.snapshot);
        }
        self.expire();
    }

    /// Changes routes or neighbours.
    pub(super) fn change_fib(&mut self, change: impl FnOnce(&mut Fib)) {
        change(&mut self.fib);
        self.engine.set_fib(Arc::new(self.fib.clone()));
        self.engine.give_orders(self.now);
    }

    /// Lets time pass, a tick at a time as the shell does.
    pub fn wait(&mut self, d: Duration) {
        let end = self.now + d;
        while self.now < end {
            self.now = end.min(self.now + Duration::from_millis(500));
            self.expire();
        }
    }

    fn expire(&mut self) {
        let mut out = Outbox::new();
        while self.engine.handle_timeout(self.now, 1000, &mut out) {}
        self.engine.give_orders(self.now);
        let now = self.now;
        let gone: Vec<Held> = self.held.extract_if(.., |h| h.until <= now).collect();
        for mut held in gone {
            let mut out = Outbox::new();
            let mut frame = whole(&mut held.bytes);
            self.engine.handle_unreachable(now, &mut frame, &mut out);
            let left = self.collect(&out);
            self.late.extend(left);
        }
    }

    /// A frame comes in on a side, one step later.
    pub fn send(&mut self, side: &str, bytes: &[u8]) -> Outcome {
        self.send_with(side, bytes, Offload::default())
    }

    /// As [`Self::send`], with something left to do in the frame.
    pub(super) fn send_with(&mut self, side: &str, bytes: &[u8], offload: Offload) -> Outcome {
        let port = SIDES.iter().position(|t| *t == side).unwrap();
        let mut buf = vec![0; HEADROOM];
        buf.extend(bytes);
        let mut frame = whole(&mut buf);
        frame.offload = offload;
        let mut out = Outbox::new();
        self.now = self.now + self.step;
        self.expire();
        if let Some(left) = self.pass(port, &mut frame) {
            return Outcome::Left(left);
        }
        let verdict = self
            .engine
            .handle_frame(self.now, port_id(port), &mut frame, &mut out);
        self.engine.give_orders(self.now);
        let counters = self.engine.counters();
        assert_eq!(counters.accounted(), counters.received);
        #[cfg(test)]
        if let Some(program) = &self.program {
            program.compare(verdict, frame.bytes() == bytes);
        }
        let mut left = std::mem::take(&mut self.late);
        match verdict {
            Verdict::Send(e) => self.leave(e, frame.bytes(), &mut left),
            Verdict::SendOutbox | Verdict::Answered => left.extend(self.collect(&out)),
            Verdict::Pass => return Outcome::Host,
            Verdict::Local => return Outcome::Local,
            Verdict::Drop(_) | Verdict::Held | Verdict::Elsewhere(_) => {}
        }
        Outcome::Left(left)
    }

    /// Has the hook look at a frame first; what left, where that has forwarded it.
    fn pass(&mut self, port: usize, frame: &mut Frame<'_>) -> Option<Vec<(usize, Vec<u8>)>> {
        #[cfg(test)]
        if let Some(program) = &self.program {
            let sent = program.frame(self.now, port, frame);
            self.engine.catch_up();
            let sent = sent?;
            let mut left = std::mem::take(&mut self.late);
            left.push((self.side_of(&sent), sent));
            return Some(left);
        }
        let hook = self.hook.as_ref()?;
        let passage = hook.frame(self.now, &self.fib, port_id(port), frame);
        self.engine.catch_up();
        let Passage::Forwarded(sent) = passage else {
            return None;
        };
        let mut left = std::mem::take(&mut self.late);
        left.extend(sent.into_iter().map(|s| (usize::from(s.port.0), s.bytes)));
        Some(left)
    }

    /// The side that a frame leaves by, which has its source address.
    #[cfg(test)]
    fn side_of(&self, frame: &[u8]) -> usize {
        let mut sides = 0..SIDES.len();
        let is = |side: &usize| {
            let interface = self.fib.interface(port_id(*side)).unwrap();
            frame[6..12] == interface.mac
        };
        sides.find(is).unwrap()
    }

    /// What has left since the last frame.
    pub fn take_late(&mut self) -> Vec<(usize, Vec<u8>)> {
        std::mem::take(&mut self.late)
    }

    /// A neighbour has told where it is: what waits for it leaves.
    pub fn learn(&mut self, side: &str, neighbour: Addr, mac: Mac) {
        let port = SIDES.iter().position(|t| *t == side).unwrap();
        let ifindex = ifindex(DEVICES[port]);
        self.change_fib(|f| f.set_neighbour(ifindex, neighbour, mac));
        let here =
            |h: &mut Held| h.egress.port == port_id(port) && h.egress.unresolved == Some(neighbour);
        let freed: Vec<Held> = self.held.extract_if(.., here).collect();
        for mut held in freed {
            let mut frame = whole(&mut held.bytes);
            ethernet::Header::new_mut(frame.bytes_mut()).set_dst(mac);
            self.late.push((port, frame.bytes().to_vec()));
        }
    }

    fn collect(&mut self, out: &Outbox) -> Vec<(usize, Vec<u8>)> {
        let mut left = Vec::new();
        for (bytes, _, egress) in out.iter() {
            self.leave(egress, bytes, &mut left);
        }
        left
    }

    fn leave(&mut self, egress: Egress, bytes: &[u8], left: &mut Vec<(usize, Vec<u8>)>) {
        if egress.unresolved.is_some() {
            let mut buf = vec![0; HEADROOM];
            buf.extend(bytes);
            self.held.push(Held {
                until: self.now + PATIENCE,
                egress,
                bytes: buf,
            });
        } else {
            left.push((usize::from(egress.port.0), bytes.to_vec()));
        }
    }

    /// Connections in the recording's words.
    pub fn connections(&self) -> Vec<String> {
        let (conns, rest) = self.engine.report_connections(self.now, 0, 100_000);
        assert_eq!(rest, None);
        conns
            .iter()
            .map(|c| {
                format!(
                    "{} {} {} {} {} {}",
                    c.protocol.map_or("IP", Protocol::name),
                    c.client,
                    c.vip,
                    c.server,
                    c.state,
                    c.expires
                )
            })
            .collect()
    }

    /// Servers in the recording's words.
    pub fn servers(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for s in self.engine.report(self.now).services {
            let spec = self.snapshot.services.iter().find(|x| x.key == s.key);
            for r in &s.servers {
                let servers = &spec.unwrap().servers;
                let server = servers.iter().find(|x| x.endpoint == r.endpoint).unwrap();
                let word = server.forwarding.def().listed;
                lines.push(format!(
                    "{} {} {word} weight {} active {} inact {}",
                    named(s.key),
                    r.endpoint,
                    server.weight,
                    r.numbers.active,
                    r.numbers.inactive
                ));
            }
        }
        lines.sort();
        lines
    }

    /// `ipvsadm -Ln --stats`'s figures: service or server, and its five numbers.
    pub fn stats(&self) -> Vec<String> {
        let line = |name: String, s: &uvs_core::counters::Stats| {
            format!(
                "{name} {} {} {} {} {}",
                s.connections, s.in_packets, s.out_packets, s.in_bytes, s.out_bytes
            )
        };
        let mut lines = Vec::new();
        for s in self.engine.report(self.now).services {
            lines.push(line(s.key.to_string(), &s.numbers.stats));
            let servers = s.servers.iter();
            lines.extend(servers.map(|r| line(format!("-> {}", r.endpoint), &r.numbers.stats)));
        }
        lines.sort();
        lines
    }
}

fn whole(buf: &mut [u8]) -> Frame<'_> {
    let end = buf.len();
    Frame::new(buf, HEADROOM, end, Offload::default())
}

/// A service as recordings name it: of a mark they leave out the family.
fn named(key: ServiceKey) -> String {
    match key {
        ServiceKey::Mark { mark, .. } => format!("FWM {mark}"),
        ServiceKey::Address { .. } => key.to_string(),
    }
}

/// The interfaces, in the order of the ports.
pub(super) const DEVICES: [&str; 2] = ["c0", "s0"];

/// The recording's interfaces, routes and neighbours.
fn fib(topology: &Value, mtu: &Value) -> Fib {
    let mut fib = Fib::new();
    fib.forwarding = true;
    fib.forwarding_ipv6 = true;
    for (port, dev) in DEVICES.iter().enumerate() {
        let ifindex = ifindex(dev);
        let t = &topology[*dev];
        fib.set_interface(Interface {
            port: port_id(port),
            ifindex,
            mac: mac(text(&t["mac"])),
            mtu: mtu[dev].as_u64().unwrap().try_into().unwrap(),
            up: true,
            reverse_path: ReversePath::Off,
        });
        fib.add_address(ifindex, link_local(text(&t["mac"])), 64);
        for a in list(&t["addr"]) {
            let (a, prefix) = text(a).split_once('/').unwrap();
            let (a, prefix) = (addr(a), prefix.parse().unwrap());
            fib.add_address(ifindex, a, prefix);
            // IPv6's routes leave the choice of a source open.
            let hop = Hop {
                source: a.is_v4().then_some(a),
                ..Hop::by(ifindex, None)
            };
            fib.add_route(Route::new(a.masked(prefix), prefix, Target::Hop(hop)));
        }
    }
    for n in list(&topology["neigh"]) {
        fib.set_neighbour(ifindex(text(&n[0])), addr(text(&n[1])), mac(text(&n[2])));
    }
    for route in list(&topology["routes"]) {
        let words: Vec<&str> = text(route).split_whitespace().collect();
        let ["default", "via", gateway, "dev", dev] = words[..] else {
            panic!("`{route}` cannot be played");
        };
        let gateway = addr(gateway);
        let to = if gateway.is_v4() { "0.0.0.0" } else { "::" };
        let hop = Hop::by(ifindex(dev), Some(gateway));
        fib.add_route(Route::new(addr(to), 0, Target::Hop(hop)));
    }
    fib
}

/// The link-local address of the interface with this MAC address (RFC 4291 appendix A).
fn link_local(station: &str) -> Addr {
    let [a, b, c, d, e, f] = mac(station);
    let host = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    let mut addr = [0; 16];
    addr[..2].copy_from_slice(&[0xfe, 0x80]);
    addr[8..].copy_from_slice(&host);
    Addr::v6(addr)
}

/// The kernel's index of an interface.
pub(super) fn ifindex(dev: &str) -> u32 {
    if dev == "c0" { 2 } else { 3 }
}
