//! Workers over ports in memory, each with an engine of its own and one NAT service on one server.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant as Wall};

use uvs_core::backend::Backend;
use uvs_core::crew::Fan;
use uvs_core::engine::SchedulerSource;
use uvs_core::fib::Fib;
use uvs_core::flow::{Addr, Endpoint, Flow, Protocol};
use uvs_core::frame::Offload;
use uvs_core::narrow;
use uvs_core::offload::{Hook, Reach, Room};
use uvs_core::scheduler::Scheduler;
use uvs_core::service::{Forwarding, Tunnel};
use uvs_core::snapshot::{Limits, Snapshot};
use uvs_core::testing::bed::{Bed, CLIENTS, SERVERS, VIP};
use uvs_core::testing::packets::{ACK, SYN, tcp};
use uvs_core::verdict::PortId;

use crate::connection_log::ConnectionLog;
use crate::daemon::Placement;
use crate::port::Ends;
use crate::port::filter::FilterSpec;
use crate::port::memory::Wire;
use crate::worker::{Desired, Hooked, Inheritance, Ports};
use crate::workers::{Common, Cursor, NotInForce, Workers};

/// Picks as it is told.
struct Picks(Arc<dyn Fn() -> Option<usize> + Send + Sync>);

impl Scheduler for Picks {
    fn pick(&mut self, _: &Flow, _: &[Backend]) -> Option<usize> {
        (self.0)()
    }
}

/// Schedulers that all pick so.
pub(super) fn picks(pick: impl Fn() -> Option<usize> + Send + Sync + 'static) -> SchedulerSource {
    let pick: Arc<dyn Fn() -> _ + Send + Sync> = Arc::new(pick);
    Box::new(move |_, _| Some(Box::new(Picks(Arc::clone(&pick)))))
}

/// Schedulers that pick the first server.
pub(super) fn first() -> SchedulerSource {
    picks(|| Some(0))
}

pub(super) struct Rig {
    pub(super) workers: Workers,
    pub(super) snapshot: Snapshot,
    pub(super) fib: Arc<Fib>,
    /// Of each worker: the wires at its ports, and the one into the host's stack.
    wires: Vec<Vec<Wire>>,
}

impl Rig {
    /// So many workers that serve.
    pub(super) fn serving(n: usize) -> Self {
        let mut rig = Self::with((0..n).map(|_| first()).collect());
        rig.publish(&rig.snapshot.clone()).expect("in force");
        rig
    }

    /// One worker for each source of schedulers; nothing is published yet.
    pub(super) fn with(sources: Vec<SchedulerSource>) -> Self {
        Self::new(sources, |_| None)
    }

    /// One worker with a hook, which is made with the worker's wires, and what there is in it; nothing is published yet.
    pub(super) fn hooked(
        inheritance: Option<Inheritance>,
        hook: impl FnOnce(&[Wire]) -> Box<dyn Hook>,
    ) -> Self {
        let mut hook = Some(hook);
        let mut inheritance = inheritance;
        Self::new(vec![first()], |wires| {
            let hook = hook.take().map(|make| make(wires))?;
            Some(Hooked {
                hook,
                reach: Reach::Everything,
                room: Room {
                    cells: 0..64,
                    servers: 0..64,
                    hops: 0..64,
                    first_birth: 1,
                },
                inheritance: inheritance.take(),
            })
        })
    }

    fn new(
        sources: Vec<SchedulerSource>,
        mut hooked: impl FnMut(&[Wire]) -> Option<Hooked>,
    ) -> Self {
        let (mut wires, mut parts) = (Vec::new(), Vec::new());
        let (fib, snapshot) = desired();
        for source in sources {
            let (interfaces, mut plugged): (Vec<_>, Vec<_>) =
                [(); 2].map(|()| port()).into_iter().unzip();
            let (reinject, back) = port();
            plugged.push(back);
            let ports = Ports {
                interfaces,
                host: port().0,
                reinject: reinject.1,
                hooked: hooked(&plugged),
                handed_down: None,
            };
            parts.push((bed(source).engine, ports));
            wires.push(plugged);
        }
        let common = Common {
            placement: &Placement::default(),
            fan: Fan::new(narrow::to_u32(parts.len()), 0),
            local_ports: Limits::default().local_ports,
            log: &ConnectionLog::default(),
        };
        let workers = Workers::start(parts, Arc::clone(&fib), &common, || ());
        let workers = workers.expect("threads");
        Self {
            workers,
            snapshot,
            fib,
            wires,
        }
    }

    pub(super) fn publish(&mut self, snapshot: &Snapshot) -> Result<(), NotInForce> {
        self.workers.put_in_force(Desired {
            snapshot: Arc::new(snapshot.clone()),
            filter: Arc::new(FilterSpec::default().compile()),
            host_filter: Arc::new(FilterSpec::default().compile()),
            fan_out: None,
        })
    }

    /// A client's SYN comes in at a worker.
    pub(super) fn open(&self, worker: usize, client: Endpoint) {
        self.wires[worker][0].put(&tcp(client, VIP, SYN).frame(), Offload::default());
    }

    pub(super) fn acknowledge(&self, worker: usize, client: Endpoint) {
        self.wires[worker][0].put(&tcp(client, VIP, ACK).frame(), Offload::default());
    }

    /// The kernel stops filling a worker's ring.
    pub(super) fn stall(&self, worker: usize, port: PortId) {
        self.wires[worker][usize::from(port.0)].stall();
    }

    /// A frame comes in at the first worker's port on the servers' side.
    pub(super) fn put(&self, frame: &[u8]) {
        self.wires[0][1].put(frame, Offload::default());
    }

    /// What the first worker has given back to the host's stack.
    pub(super) fn given_back(&self) -> Vec<Vec<u8>> {
        let back = self.wires[0][2].take();
        back.into_iter().map(|(bytes, _)| bytes).collect()
    }

    /// The frames that a worker has sent by a port.
    pub(super) fn sent(&self, worker: usize, port: PortId) -> Vec<Vec<u8>> {
        let sent = self.wires[worker][usize::from(port.0)].take();
        sent.into_iter().map(|(bytes, _)| bytes).collect()
    }

    /// Waits until so many connections are open, at all workers together.
    pub(super) fn has_connections(&self, count: u32) {
        eventually(|| {
            self.workers
                .status()
                .is_ok_and(|c| c.all.connections == count)
        });
    }

    /// All connections' clients, and the cursors of the pages that they came in.
    pub(super) fn walk(&self) -> (Vec<Endpoint>, Vec<u64>) {
        let (mut clients, mut cursors) = (Vec::new(), vec![0]);
        while let Some(from) = cursors.last() {
            let page = self.workers.connections(Cursor::from(*from));
            let (page, next) = page.expect("a page");
            clients.extend(page.iter().map(|c| c.client));
            match next {
                Some(next) => cursors.push(next.into()),
                None => break,
            }
        }
        (clients, cursors)
    }

    /// Plugs new wires into the workers' ports on the clients' side.
    pub(super) fn plug_anew(&mut self) {
        let ports = self.wires.iter().map(|_| port());
        let (opened, plugged): (Vec<_>, Vec<_>) = ports.unzip();
        self.workers.replace_port(CLIENTS, opened);
        for (wires, wire) in self.wires.iter_mut().zip(plugged) {
            wires[0] = wire;
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.workers.stop();
    }
}

/// One of many clients.
pub(super) fn client(n: usize) -> Endpoint {
    let port = u16::try_from(10_000 + n).expect("a port");
    Endpoint::new(Addr::v4([192, 0, 2, 7]), port)
}

pub(super) fn eventually(mut is_so: impl FnMut() -> bool) {
    let end = Wall::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Wall::now() < end, "it never is");
        thread::sleep(Duration::from_millis(2));
    }
}

fn port() -> (Ends, Wire) {
    let (wire, rx, tx) = Wire::plug();
    ((Box::new(rx), Box::new(tx)), wire)
}

fn bed(source: SchedulerSource) -> Bed {
    Bed::with_schedulers(uvs_modes::BUILTIN, Limits::default(), source)
}

/// The test bed's network and its service.
fn desired() -> (Arc<Fib>, Snapshot) {
    let mut bed = bed(first());
    bed.add_service(Protocol::Tcp, Forwarding::Nat, Tunnel::default());
    let mut fib = Fib::new();
    bed.change_fib(|known| fib = known.clone());
    assert!(fib.interface(SERVERS).is_some());
    (Arc::new(fib), bed.snapshot)
}
