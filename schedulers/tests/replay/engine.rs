//! The recorded runs through the engine itself: ipvsadm's commands as snapshots, packets as frames, picks
//! read off the frames' destinations, and the final counts from the engine's report. Services of a firewall
//! mark get frames of that mark.

use std::collections::HashMap;
use std::sync::Arc;

use uvs_core::engine::{Engine, EngineConfig};
use uvs_core::fib::{Fib, Hop, Interface, ReversePath, Route, Target};
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::outbox::Outbox;
use uvs_core::service::{Forwarding, ServerSpec, ServiceKey, ServiceSpec};
use uvs_core::snapshot::{Limits, Snapshot};
use uvs_core::testing::packets::{DIRECTOR_MAC, PacketBuilder, TestFrame, tcp, udp};
use uvs_core::time::Instant;
use uvs_core::verdict::{PortId, Verdict};
use uvs_core::wire::ethernet::Mac;
use uvs_core::wire::tcp::flag::{ACK, FIN, RST, SYN};

use super::{Make, Run, compare_counts, endpoint, flag_bits, server, service};

const IFINDEX: u32 = 2;
/// The director's addresses, and how long the prefixes of the servers' networks are.
const DIRECTOR: [(Addr, u8); 2] = [
    (Addr::v4([10, 0, 2, 1]), 24),
    (
        Addr([0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        64,
    ),
];
/// The firewall mark of the recorded services that have one.
const MARK: u32 = 9;

/// Plays one run; the first difference as text.
pub(super) fn play(make: Make, name: &str, run: &Run) -> Result<(), String> {
    let mut director = Director::new(make);
    run.setup
        .iter()
        .for_each(|command| director.ipvsadm(command));
    for (n, event) in run.events.iter().enumerate() {
        let event: Vec<&str> = event
            .iter()
            .map(|word| word.as_deref().unwrap_or("none"))
            .collect();
        let got = match event[..] {
            ["ipvsadm", command] => {
                director.ipvsadm(command);
                continue;
            }
            ["fin", client, vip] => {
                director.send(tcp(endpoint(client), endpoint(vip), FIN | ACK));
                continue;
            }
            ["rst", client, vip] => {
                director.send(tcp(endpoint(client), endpoint(vip), RST));
                continue;
            }
            ["new", client, vip, _] => {
                director.open(endpoint(client), endpoint(vip), &run.lifetime)
            }
            _ => panic!("{name}: unknown event {event:?}"),
        };
        let expected = event[3];
        if got != expected {
            return Err(format!("{name}: event {n}: expected {expected}, got {got}"));
        }
    }
    compare_counts(name, run, director.counts())
}

/// An engine with one interface, on which the clients' router and all servers are.
struct Director {
    engine: Engine,
    snapshot: Snapshot,
    /// What the recording calls the services.
    names: HashMap<ServiceKey, String>,
    fib: Fib,
    now: Instant,
}

impl Director {
    fn new(make: Make) -> Self {
        let mut fib = Fib::new();
        fib.forwarding = true;
        fib.set_interface(Interface {
            port: PortId(0),
            ifindex: IFINDEX,
            mac: DIRECTOR_MAC,
            mtu: 1500,
            up: true,
            reverse_path: ReversePath::Off,
        });
        for (own, prefix) in DIRECTOR {
            fib.add_local(IFINDEX, own);
            let hop = Hop {
                source: Some(own),
                ..Hop::by(IFINDEX, None)
            };
            fib.add_route(Route::new(own.masked(prefix), prefix, Target::Hop(hop)));
        }
        let engine = Engine::new(EngineConfig {
            limits: Limits {
                connections: 10_000,
                ..Limits::default()
            },
            keys: (1, 2),
            seed: 0,
            modes: uvs_modes::BUILTIN,
            crew: None,
            schedulers: Box::new(make),
        });
        Self {
            engine,
            snapshot: Snapshot::default(),
            names: HashMap::new(),
            fib,
            now: Instant::from_secs(1000),
        }
    }

    fn ipvsadm(&mut self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let option = |name| words.iter().position(|w| *w == name).map(|i| words[i + 1]);
        let number = |name| option(name).map(|n| n.parse().expect("a number"));
        if let "-A" | "-E" = words[0] {
            self.service(
                &words,
                option("-s").expect("-s"),
                option("-b").unwrap_or(""),
            );
            return self.apply();
        }
        let at = server(option("-r").expect("-r"));
        let slot = self.slot(key(&words)).expect("a service");
        let mut spec = ServiceSpec::clone(&self.snapshot.services[slot]);
        let place = spec.servers.iter().position(|s| s.endpoint.addr == at.addr);
        match (words[0], place) {
            ("-a", None) => {
                let mac = mac_of(at.addr);
                self.fib.set_neighbour(IFINDEX, at.addr, mac);
                self.engine.set_fib(Arc::new(self.fib.clone()));
                let mut new = ServerSpec::new(at, Forwarding::Dr);
                (new.weight, new.upper) = (number("-w").unwrap_or(1), number("-x").unwrap_or(0));
                spec.servers.insert(0, new);
            }
            ("-e", Some(i)) => {
                let edited = &mut spec.servers[i];
                (edited.weight, edited.upper) =
                    (number("-w").unwrap_or(1), number("-x").unwrap_or(0));
            }
            ("-d", Some(i)) => drop(spec.servers.remove(i)),
            _ => panic!("unknown command {command}"),
        }
        self.snapshot.services[slot] = Arc::new(spec);
        self.apply();
    }

    fn slot(&self, key: ServiceKey) -> Option<usize> {
        self.snapshot.services.iter().position(|s| s.key == key)
    }

    fn service(&mut self, words: &[&str], scheduler: &str, flags: &str) {
        let key = key(words);
        let mut spec = ServiceSpec::new(key, scheduler);
        spec.flags = flag_bits(flags);
        self.names.insert(key, service(words));
        match self.slot(key) {
            Some(slot) => {
                let old = &mut self.snapshot.services[slot];
                spec.servers.clone_from(&old.servers);
                *old = Arc::new(spec);
            }
            None => {
                self.snapshot.services.push(Arc::new(spec));
            }
        }
    }

    fn apply(&mut self) {
        let snapshot = Arc::new(self.snapshot.clone());
        self.engine.apply(snapshot).expect("applied");
    }

    /// A new connection: the address of its server, or `none`.
    fn open(&mut self, client: Endpoint, vip: Endpoint, lifetime: &str) -> String {
        match lifetime {
            "udp" => self.send(udp(client, vip)),
            "syn" => self.send(tcp(client, vip, SYN)),
            "est" => {
                let server = self.send(tcp(client, vip, SYN));
                if server != "none" {
                    assert_eq!(self.send(tcp(client, vip, ACK)), server);
                }
                server
            }
            _ => panic!("unknown lifetime {lifetime}"),
        }
    }

    /// Sends a client's packet; the server whose MAC address it left for.
    fn send(&mut self, packet: PacketBuilder) -> String {
        let mut sent = TestFrame::finished(&packet.frame());
        let mut frame = sent.frame();
        let mut services = self.snapshot.services.iter();
        if services.any(|s| matches!(s.key, ServiceKey::Mark { .. })) {
            frame.mark = MARK;
        }
        let mut out = Outbox::new();
        let verdict = self
            .engine
            .handle_frame(self.now, PortId(0), &mut frame, &mut out);
        if !matches!(verdict, Verdict::Send(_)) {
            return "none".to_owned();
        }
        let to = &frame.bytes()[..6];
        let mut servers = self.snapshot.services.iter().flat_map(|s| &s.servers);
        let server = servers.find(|s| mac_of(s.endpoint.addr) == to);
        server.map_or_else(|| format!("{to:02x?}"), |s| s.endpoint.addr.to_string())
    }

    fn counts(&self) -> Vec<String> {
        let report = self.engine.report(self.now);
        let line = |(spec, server): (&Arc<ServiceSpec>, &ServerSpec)| {
            let mut reported = report.services.iter();
            let reported = reported.find(|s| s.key == spec.key).expect("reported");
            let mut counted = reported.servers.iter();
            let counted = counted
                .find(|c| c.endpoint == server.endpoint)
                .expect("counted");
            format!(
                "{} -> {} weight {} active {} inact {}",
                self.names[&spec.key],
                server.endpoint.addr,
                server.weight,
                counted.numbers.active,
                counted.numbers.inactive
            )
        };
        let services = self.snapshot.services.iter();
        services
            .flat_map(|spec| spec.servers.iter().map(move |server| (spec, server)))
            .map(line)
            .collect()
    }
}

/// The service that a command is about.
fn key(words: &[&str]) -> ServiceKey {
    match words[1..] {
        ["-t", vip, ..] => ServiceKey::address(Protocol::Tcp, endpoint(vip)),
        ["-u", vip, ..] => ServiceKey::address(Protocol::Udp, endpoint(vip)),
        ["-f", mark, ..] => {
            assert_eq!(mark.parse(), Ok(MARK));
            ServiceKey::Mark {
                mark: MARK,
                ipv6: words.get(3) == Some(&"-6"),
            }
        }
        _ => panic!("unknown service {words:?}"),
    }
}

/// A MAC address that tells servers of either family apart.
fn mac_of(addr: Addr) -> Mac {
    let [.., a, b, c, d] = addr.0;
    [2, u8::from(!addr.is_v4()), a, b, c, d]
}
