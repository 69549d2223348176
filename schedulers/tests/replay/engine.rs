//! The recorded runs through the engine itself: ipvsadm's commands as snapshots, packets as frames, picks
//! read off the frames' destinations, and the final counts from the engine's report. Services of a firewall
//! mark get frames of that mark.

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

use super::{Make, Run, endpoint, flag_bits, server, without_service};

const IFINDEX: u32 = 2;
const DIRECTOR: Addr = Addr::v4([10, 0, 2, 1]);

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
    let counts = director.counts();
    let expected: Vec<String> = run
        .counts
        .iter()
        .map(|line| without_service(line))
        .collect();
    if counts == expected {
        return Ok(());
    }
    Err(format!("{name}: expected {expected:?}, got {counts:?}"))
}

/// An engine with one interface, on which the clients' router and all servers are.
struct Director {
    engine: Engine,
    snapshot: Snapshot,
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
        fib.add_local(IFINDEX, DIRECTOR);
        let hop = Hop {
            source: Some(DIRECTOR),
            ..Hop::by(IFINDEX, None)
        };
        fib.add_route(Route::new(Addr::v4([10, 0, 2, 0]), 24, Target::Hop(hop)));
        let engine = Engine::new(EngineConfig {
            limits: Limits {
                connections: 10_000,
                ..Limits::default()
            },
            keys: (1, 2),
            seed: 0,
            modes: uvs_modes::BUILTIN,
            schedulers: Box::new(make),
        });
        Self {
            engine,
            snapshot: Snapshot::default(),
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
        let mut spec = ServiceSpec::clone(&self.snapshot.services[0]);
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
        self.snapshot.services[0] = Arc::new(spec);
        self.apply();
    }

    fn service(&mut self, words: &[&str], scheduler: &str, flags: &str) {
        let address = |flag| {
            words
                .iter()
                .position(|w| *w == flag)
                .map(|i| endpoint(words[i + 1]))
        };
        let key = match (address("-t"), address("-u")) {
            (Some(vip), _) => ServiceKey::address(Protocol::Tcp, vip),
            (_, Some(vip)) => ServiceKey::address(Protocol::Udp, vip),
            _ => {
                assert_eq!(words[1..3], ["-f", "9"]);
                ServiceKey::Mark {
                    mark: 9,
                    ipv6: false,
                }
            }
        };
        let mut spec = ServiceSpec::new(key, scheduler);
        spec.flags = flag_bits(flags);
        if let Some(old) = self.snapshot.services.first() {
            spec.servers.clone_from(&old.servers);
        }
        self.snapshot.services = vec![Arc::new(spec)];
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
        if let ServiceKey::Mark { mark, .. } = self.snapshot.services[0].key {
            frame.mark = mark;
        }
        let mut out = Outbox::new();
        let verdict = self
            .engine
            .handle_frame(self.now, PortId(0), &mut frame, &mut out);
        if !matches!(verdict, Verdict::Send(_)) {
            return "none".to_owned();
        }
        let to = &frame.bytes()[..6];
        let mut servers = self.snapshot.services[0].servers.iter();
        let server = servers.find(|s| mac_of(s.endpoint.addr) == to);
        server.map_or_else(|| format!("{to:02x?}"), |s| s.endpoint.addr.to_string())
    }

    fn counts(&self) -> Vec<String> {
        let report = self.engine.report(self.now);
        let line = |spec: &ServerSpec| {
            let mut counted = report.services[0].servers.iter();
            let counted = counted
                .find(|c| c.endpoint == spec.endpoint)
                .expect("counted");
            format!(
                "{} weight {} active {} inact {}",
                spec.endpoint.addr, spec.weight, counted.numbers.active, counted.numbers.inactive
            )
        };
        self.snapshot.services[0].servers.iter().map(line).collect()
    }
}

fn mac_of(addr: Addr) -> Mac {
    let [a, b, c, d] = addr.as_v4().expect("an IPv4 address");
    [2, 0, a, b, c, d]
}
