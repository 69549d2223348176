//! Several engines as one director: whichever of them a frame comes to, it ends at its connection's; and what is one
//! director's, load, thresholds, limits, is so over all of them.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use uvs_core::crew::{Board, Crew, Fan, Steering};
use uvs_core::engine::SchedulerSource;
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::fragment::{self, Cut};
use uvs_core::frame::Frame;
use uvs_core::outbox::{HEADROOM, Outbox};
use uvs_core::service::{
    Forwarding, NewConnections, Persistence, ServerSpec, ServiceKey, ServiceSpec,
};
use uvs_core::snapshot::Limits;
use uvs_core::testing::bed::{Bed, CLIENTS, SERVERS, SERVERS_MAC, VIP};
use uvs_core::testing::net::LOCAL;
use uvs_core::testing::packets::{tcp, udp};
use uvs_core::verdict::{DropReason, Egress, PortId, Verdict};
use uvs_core::wire::ipv4;
use uvs_core::wire::tcp::flag::{ACK, SYN};

/// Workers over which each test goes.
const SIZES: [u32; 3] = [1, 2, 4];

const fn server(n: u8) -> Endpoint {
    Endpoint::new(Addr::v4([10, 0, 2, 10 + n]), 80)
}

fn client(n: u16) -> Endpoint {
    // Ports of one parity, as Linux gives them to one program.
    Endpoint::new(Addr::v4([192, 0, 2, 7]), 20_000 + 2 * n)
}

fn service(
    protocol: Protocol,
    scheduler: &str,
    servers: u8,
    forwarding: Forwarding,
) -> ServiceSpec {
    let mut spec = ServiceSpec::new(ServiceKey::address(protocol, VIP), scheduler);
    let servers = (0..servers).map(|n| ServerSpec::new(server(n), forwarding));
    spec.servers = servers.collect();
    spec.local = vec![LOCAL];
    spec
}

fn limits(connections: u32) -> Limits {
    Limits {
        connections,
        ..Limits::default()
    }
}

/// The workers of a director, without threads.
struct Workers {
    beds: Vec<Bed>,
}

/// Where a frame ended, what was said of it, and what left.
struct Ended {
    worker: usize,
    verdict: Verdict,
    left: Vec<Vec<u8>>,
    handed_on: u32,
}

impl Workers {
    fn new(of: u32, limits: &Limits, spec: ServiceSpec) -> Self {
        let (fan, board) = (
            Fan::new(of, 7),
            Arc::new(Board::new(of, limits.connections)),
        );
        let bed = |number| {
            let crew = (of > 1).then(|| Crew::new(number, fan, Arc::clone(&board)));
            let source: SchedulerSource =
                Box::new(|name, params| uvs_schedulers::find(name).map(|d| (d.new)(params)));
            let mut bed = Bed::in_crew(uvs_modes::BUILTIN, limits.clone(), source, crew);
            bed.change_fib(|fib| {
                for n in 0..20 {
                    fib.set_neighbour(3, server(n).addr, [2, 0, 0, 0, 2, n]);
                }
            });
            bed
        };
        let mut workers = Self {
            beds: (0..of).map(bed).collect(),
        };
        workers.serve(spec);
        workers
    }

    fn serve(&mut self, spec: ServiceSpec) {
        let services = vec![Arc::new(spec)].into();
        let steering = Arc::new(Steering::of(&services, &[], std::iter::empty()));
        for bed in &mut self.beds {
            bed.snapshot.services.clone_from(&services);
            bed.snapshot.steering = Arc::clone(&steering);
            bed.apply();
        }
    }

    /// Time goes on, at all of them.
    fn wait(&mut self, time: Duration) {
        self.beds.iter_mut().for_each(|bed| bed.wait(time));
    }

    /// A frame comes in at a worker, and is handed on as it says.
    fn put(&mut self, first: usize, port: PortId, bytes: &[u8]) -> Ended {
        let (mut worker, mut asked, mut handed_on) = (first, 0, 0);
        let mut whole = None;
        loop {
            let bed = &mut self.beds[worker];
            let (mut own, mut out) = (vec![0; HEADROOM], Outbox::new());
            own.extend_from_slice(bytes);
            let end = own.len();
            let mut frame = Frame::new(&mut own, HEADROOM, end, Default::default());
            frame.asked = asked;
            let verdict = match whole.take() {
                Some(whole) => {
                    let rest = (0, asked);
                    bed.engine
                        .handle_reassembled(bed.now, port, whole, rest, &mut out)
                }
                None => bed.engine.handle_frame(bed.now, port, &mut frame, &mut out),
            };
            if let Verdict::Elsewhere(handing) = verdict {
                whole = bed.engine.take_elsewhere();
                (worker, asked) = (handing.to as usize, handing.asked);
                handed_on += 1;
                assert!(handed_on < 200, "it never ends");
                continue;
            }
            let made = out.iter().map(|(bytes, ..)| bytes.to_vec());
            let left = match verdict {
                Verdict::Send(_) => vec![frame.bytes().to_vec()],
                _ => made.collect(),
            };
            return Ended {
                worker,
                verdict,
                left,
                handed_on,
            };
        }
    }

    /// A client's SYN comes in at a worker; the server that it goes to.
    fn open(&mut self, first: usize, client: Endpoint) -> Option<Addr> {
        let ended = self.put(first, CLIENTS, &tcp(client, VIP, SYN).frame());
        let sent = matches!(ended.verdict, Verdict::Send(_));
        sent.then(|| Addr::v4(ipv4::Header::new(&ended.left[0][14..]).dst()))
    }

    fn connections(&self) -> Vec<u32> {
        let each = self.beds.iter();
        each.map(|bed| bed.engine.connections().len()).collect()
    }

    /// Each server's connections at all workers.
    fn loads(&self) -> Vec<u32> {
        let service = self.beds[0].snapshot.services[0].key;
        let servers = self.beds[0].snapshot.services[0].servers.iter();
        let at = |end| {
            let each = self.beds.iter();
            each.map(|bed| bed.engine.connections_of(service, end))
                .sum()
        };
        servers.map(|spec| at(spec.endpoint)).collect()
    }

    /// All frames of all workers have one end, and what is counted of servers is what the tables have.
    fn audit(&self) {
        for bed in &self.beds {
            let counters = bed.engine.counters();
            assert_eq!(counters.accounted(), counters.received);
            bed.engine.audit();
        }
    }
}

#[test]
fn both_directions_end_at_one_worker_wherever_they_come_in() {
    for of in SIZES {
        for forwarding in [Forwarding::Nat, Forwarding::FullNat] {
            let spec = service(Protocol::Tcp, "rr", 3, forwarding);
            let mut workers = Workers::new(of, &limits(1000), spec);
            let all = of as usize;
            for n in 0..40 {
                let client = client(n);
                let syn = tcp(client, VIP, SYN).frame();
                let opened = workers.put(usize::from(n) % all, CLIENTS, &syn);
                assert!(opened.handed_on <= 1, "to its owner at once");
                let ip = ipv4::Header::new(&opened.left[0][14..]);
                let ports = &opened.left[0][34..38];
                let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
                let from = Endpoint::new(Addr::v4(ip.dst()), port(2));
                let to = Endpoint::new(Addr::v4(ip.src()), port(0));
                if forwarding == Forwarding::FullNat {
                    let named = usize::from(to.port) % all;
                    assert_eq!(named, opened.worker);
                }
                let reply = tcp(from, to, SYN | ACK).to_mac(SERVERS_MAC).frame();
                for first in 0..all {
                    let back = workers.put(first, SERVERS, &reply);
                    assert_eq!(back.worker, opened.worker);
                    assert!(
                        matches!(back.verdict, Verdict::Send(_)),
                        "{:?}",
                        back.verdict
                    );
                    let again = workers.put(first, CLIENTS, &tcp(client, VIP, ACK).frame());
                    assert_eq!(again.worker, opened.worker);
                }
            }
            assert_eq!(workers.connections().iter().sum::<u32>(), 40);
            assert!(
                workers.connections().iter().all(|n| *n > 0),
                "all have some"
            );
            workers.audit();
        }
    }
}

#[test]
fn a_datagram_in_fragments_goes_to_its_worker_whole() {
    for of in SIZES {
        let spec = service(Protocol::Udp, "rr", 1, Forwarding::Nat);
        let mut workers = Workers::new(of, &limits(1000), spec);
        for n in 0..20 {
            let whole = udp(client(n), VIP)
                .id(n + 1)
                .may_fragment()
                .payload(&[7; 3000])
                .frame();
            let mut cut = Outbox::new();
            fragment::cut(&whole, &Cut::to(1500), Egress::default(), &mut cut);
            let pieces: Vec<_> = cut.iter().map(|(bytes, ..)| bytes.to_vec()).collect();
            let first = usize::from(n) % of as usize;
            let (last, before) = pieces.split_last().unwrap();
            for piece in before {
                let ended = workers.put(first, CLIENTS, piece);
                assert_eq!((ended.worker, ended.verdict), (first, Verdict::Held));
            }
            let ended = workers.put(first, CLIENTS, last);
            assert_eq!(ended.verdict, Verdict::SendOutbox);
            assert_eq!(ended.left.len(), 3, "in the pieces that it came in");
        }
        workers.audit();
        let received: u64 = workers
            .beds
            .iter()
            .map(|b| b.engine.counters().received)
            .sum();
        assert_eq!(received, 60, "each fragment once");
    }
}

#[test]
fn the_least_loaded_server_is_that_of_the_whole_director() {
    for of in SIZES {
        for scheduler in ["lc", "wlc", "sed", "nq"] {
            let spec = service(Protocol::Tcp, scheduler, 4, Forwarding::Nat);
            let mut workers = Workers::new(of, &limits(1000), spec);
            for n in 0..200 {
                assert!(workers.open(0, client(n)).is_some());
                workers.wait(Duration::from_millis(1));
            }
            assert_eq!(workers.loads(), [50; 4], "{scheduler} by {of}");
        }
    }
}

#[test]
fn what_is_not_known_yet_of_others_is_a_millisecond_old_at_most() {
    let spec = service(Protocol::Tcp, "lc", 2, Forwarding::Nat);
    let mut workers = Workers::new(4, &limits(1000), spec);
    // All at one moment: each worker sees its own alone, and is even for itself.
    for n in 0..200 {
        workers.open(0, client(n));
    }
    let loads = workers.loads();
    assert!(loads[0].abs_diff(loads[1]) <= 4, "{loads:?}");
    assert_eq!(loads.iter().sum::<u32>(), 200);
}

#[test]
fn who_goes_round_is_fair_to_a_connection_a_worker() {
    for of in SIZES {
        for scheduler in ["rr", "wrr"] {
            let spec = service(Protocol::Tcp, scheduler, 3, Forwarding::Dr);
            let mut workers = Workers::new(of, &limits(1000), spec);
            let mut got = BTreeSet::new();
            for n in 0..300 {
                got.extend(workers.open(0, client(n)));
                workers.wait(Duration::from_millis(1));
            }
            let off = workers.loads().into_iter().map(|n| n.abs_diff(100));
            assert!(
                off.max() <= Some(of.saturating_sub(1)),
                "{:?}",
                workers.loads()
            );
        }
    }
}

#[test]
fn a_servers_threshold_is_the_directors() {
    for of in SIZES {
        let mut spec = service(Protocol::Tcp, "rr", 2, Forwarding::Nat);
        (spec.servers[0].upper, spec.servers[0].lower) = (10, 5);
        let mut workers = Workers::new(of, &limits(1000), spec);
        for n in 0..100 {
            assert!(workers.open(0, client(n)).is_some());
            workers.wait(Duration::from_millis(1));
        }
        assert_eq!(workers.loads(), [10, 90], "by {of}");
    }
}

#[test]
fn the_limit_of_connections_is_the_directors() {
    for of in SIZES {
        let spec = service(Protocol::Tcp, "rr", 1, Forwarding::Nat);
        let mut workers = Workers::new(of, &limits(320), spec);
        for n in 0..1000 {
            workers.open(0, client(n));
            let all: u32 = workers.connections().iter().sum();
            assert!(all <= 320, "{all}");
        }
        let all: u32 = workers.connections().iter().sum();
        assert!(
            all >= 300,
            "what a worker has in hand and does not use is little: {all}"
        );
        // Whoever has few gives back what it had.
        workers.wait(Duration::from_secs(200));
        assert_eq!(workers.connections().iter().sum::<u32>(), 0);
        workers.audit();
    }
}

#[test]
fn a_services_limit_of_new_connections_is_the_directors() {
    for of in SIZES {
        let mut spec = service(Protocol::Tcp, "rr", 1, Forwarding::Nat);
        spec.new_connections = NewConnections {
            per_second: 50,
            burst: 10,
            ..NewConnections::default()
        };
        let mut workers = Workers::new(of, &limits(1000), spec);
        let opened = (0..100).filter(|n| workers.open(0, client(*n)).is_some());
        assert_eq!(opened.count(), 10, "at once, by {of}");
        workers.wait(Duration::from_millis(100));
        let opened = (100..200).filter(|n| workers.open(0, client(*n)).is_some());
        assert_eq!(opened.count(), 5, "in a tenth of a second, by {of}");
        let refused: u64 = workers
            .beds
            .iter()
            .map(|bed| bed.engine.counters().drops[DropReason::ServiceRate as usize])
            .sum();
        assert_eq!(refused, 185);
    }
}

#[test]
fn a_template_lives_with_its_connections_at_one_worker() {
    for of in SIZES {
        let mut spec = service(Protocol::Tcp, "rr", 4, Forwarding::Nat);
        spec.persistence = Some(Persistence {
            timeout: 300,
            mask: 0xffff_ff00,
        });
        let mut workers = Workers::new(of, &limits(1000), spec);
        let mut of_network = |network: u8| {
            let clients = (0..10).map(|n| {
                let addr = Addr::v4([198, 51, network, n]);
                Endpoint::new(addr, 30_000 + u16::from(n))
            });
            let servers =
                clients.map(|client| workers.open(usize::from(network) % of as usize, client));
            servers.collect::<BTreeSet<_>>().len()
        };
        for network in 0..40 {
            assert_eq!(of_network(network), 1, "one server for a network's clients");
        }
        assert_eq!(workers.connections().iter().sum::<u32>(), 40 * 11);
    }
}

#[test]
fn connections_are_found_where_they_were_made_by_other_rules() {
    for of in SIZES {
        let spec = service(Protocol::Tcp, "rr", 2, Forwarding::Nat);
        let mut workers = Workers::new(of, &limits(1000), spec.clone());
        let servers: Vec<_> = (0..60).map(|n| workers.open(0, client(n))).collect();
        let mut now = spec;
        now.persistence = Some(Persistence {
            timeout: 300,
            mask: u32::MAX,
        });
        workers.serve(now);
        // All these connections of one client would be one worker's now.
        let before = workers.connections();
        for (n, server) in (0..).zip(&servers) {
            let ended = workers.put(0, CLIENTS, &tcp(client(n), VIP, ACK).frame());
            let to = ipv4::Header::new(&ended.left[0][14..]).dst();
            assert_eq!(Some(Addr::v4(to)), *server, "of {of}");
        }
        assert_eq!(workers.connections(), before);
        // New ones are opened once all have been asked, and by one alone.
        for n in 100..120 {
            assert!(workers.open(0, client(n)).is_some());
        }
        workers.wait(Duration::from_secs(1000));
        // Once those are gone nobody is asked any more.
        let ended = workers.put(0, CLIENTS, &tcp(client(200), VIP, SYN).frame());
        assert!(ended.handed_on <= 1, "{}", ended.handed_on);
        workers.audit();
    }
}
