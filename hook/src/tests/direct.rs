//! Orders straight into the maps, and frames through the program: what needs no engine.

use std::net::IpAddr;
use std::sync::Arc;

use uvs_core::counters::Stats;
use uvs_core::flow::{Addr, Endpoint, Flow, Protocol};
use uvs_core::offload::{
    Birth, Cell, Change, Hook as _, Hop, Kept, Leg, Orders, Released, Reply, ServerCell,
    ServerOrder, Taken, Tracked, Traffic,
};
use uvs_core::rewrite::Ends;
use uvs_core::service::ServiceKey;
use uvs_core::tcp::TcpState;
use uvs_core::time::Instant;
use uvs_core::verdict::PortId;

use super::load::small;
use crate::hook::{Hook, Setup};
use crate::testing::net::Net;
use crate::testing::{Arrival, Outcome};
use crate::worker::Worker;

/// The MAC address of the interface, and of both next hops.
pub(super) const MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub(super) const HOP: [u8; 6] = [2, 0, 0, 0, 2, 0x11];
/// The way out's MTU.
pub(super) const MTU: u32 = 1500;

/// A hook with an interface, a server and a next hop.
pub(super) struct Direct {
    pub(super) hook: Arc<Hook>,
    pub(super) worker: Worker,
    pub(super) ifindex: u32,
}

impl Direct {
    pub(super) fn new(net: &Net) -> Self {
        Self::with(net, &small())
    }

    /// As [`Direct::new`], with an interface of another name.
    pub(super) fn new_at(net: &Net, interface: &str) -> Self {
        Self::with_at(net, interface, &small())
    }

    pub(super) fn with(net: &Net, setup: &Setup) -> Self {
        Self::with_at(net, "c0", setup)
    }

    fn with_at(net: &Net, interface: &str, setup: &Setup) -> Self {
        let hook = Arc::new(Hook::load(setup, Hook::clock()).unwrap());
        let ifindex = net.interface(interface, "02:00:00:00:01:01");
        hook.attach(ifindex).unwrap();
        let mut direct = Self {
            worker: hook.worker().unwrap(),
            hook,
            ifindex,
        };
        direct.order(Orders {
            servers: vec![ServerOrder {
                cell: ServerCell(0),
                generation: 7,
                service: service(),
                server: end("10.0.2.11", 80),
                stats: Stats::default(),
                settled: Traffic::default(),
            }],
            hops: vec![(0, hop(Some(HOP)))],
            ..Orders::default()
        });
        direct
    }

    /// Carries orders out, of which none is refused.
    pub(super) fn order(&mut self, orders: Orders) {
        let mut refused = Vec::new();
        self.worker.apply(&orders, &mut refused);
        assert_eq!(refused, []);
    }

    pub(super) fn take(&mut self, taken: Taken) {
        self.order(Orders {
            taken: vec![taken],
            ..Orders::default()
        });
    }

    pub(super) fn run(&self, frame: &[u8]) -> Outcome {
        self.run_as(frame, Arrival::default())
    }

    pub(super) fn run_as(&self, frame: &[u8], arrival: Arrival) -> Outcome {
        let arrival = Arrival {
            ifindex: self.ifindex,
            ..arrival
        };
        self.hook.run(frame, arrival).unwrap()
    }
}

pub(super) fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<IpAddr>().unwrap())
}

pub(super) fn end(text: &str, port: u16) -> Endpoint {
    Endpoint::new(addr(text), port)
}

fn service() -> ServiceKey {
    ServiceKey::address(Protocol::Tcp, end("10.0.1.100", 80))
}

pub(super) fn hop(mac: Option<[u8; 6]>) -> Hop {
    Hop {
        port: PortId(0),
        ifindex: 1,
        source_mac: MAC,
        mac,
        mtu: MTU,
    }
}

/// Everything about a NAT connection of these ends.
pub(super) fn nat(
    cell: u32,
    birth: u64,
    protocol: Protocol,
    [client, vip, server]: [Endpoint; 3],
) -> Taken {
    let leg = |flow, change| Leg {
        flow,
        change,
        hop: 0,
        arrival: None,
    };
    let ends = |src, dst| Change::Ends(Ends { src, dst });
    let to_server = Flow::new(protocol, client, vip);
    let to_client = Flow::new(protocol, server, client);
    Taken {
        cell: Cell(cell),
        birth: Birth(birth),
        server: ServerCell(0),
        generation: 7,
        ways: 0,
        forward: Some(leg(to_server, ends(None, Some(server)))),
        reply: Reply::Taken(leg(to_client, ends(Some(vip), None))),
        up: false,
        tells_proven: false,
        counts: false,
        tracked: Tracked {
            state: match protocol {
                Protocol::Tcp => TcpState::Established as u8,
                Protocol::Udp | Protocol::Sctp => 0,
            },
            ..Tracked::default()
        },
        last: Instant::ZERO,
        kept: Kept {
            service: service(),
            member: server,
            protocol,
            client,
            vip,
            server,
            local: Endpoint::NONE,
            mode: 0,
            persistent: false,
            introduced: false,
            client_packets: 1,
            timeout: 900,
        },
    }
}

/// What ends a connection that was taken so.
pub(super) fn end_of(taken: &Taken) -> Orders {
    Orders {
        released: vec![Released {
            cell: taken.cell,
            birth: taken.birth,
            client: taken.client_key(),
            server: taken.server_key(),
        }],
        ..Orders::default()
    }
}
