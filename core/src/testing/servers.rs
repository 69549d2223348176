//! The small sets of servers and the clients that schedulers' tests are made of.

use crate::backend::Backend;
use crate::flow::{Addr, Endpoint, Flow, Protocol};
use crate::scheduler::Scheduler;

/// A server with this id and weight and no load; its address is 10.0.x.y with the id in x.y.
pub const fn backend(id: u64, weight: u32) -> Backend {
    let [.., x, y] = id.to_be_bytes();
    Backend {
        addr: Addr::v4([10, 0, x, y]),
        id,
        weight,
        active: 0,
        inactive: 0,
        flags: 0,
        port: 80,
        reserved: 0,
        handshake: 0,
    }
}

/// Servers of the given `(id, weight)`, in this order.
pub fn backends(servers: &[(u64, u32)]) -> Vec<Backend> {
    servers
        .iter()
        .map(|&(id, weight)| backend(id, weight))
        .collect()
}

/// The flow of client number `n`; destinations repeat every 100 clients.
pub fn flow(n: u64) -> Flow {
    let [.., a, b, c] = n.to_be_bytes();
    let client = Endpoint::new(Addr::v4([100, a, b, c]), 40_000 + (n % 20_000) as u16);
    let service = Endpoint::new(Addr::v4([192, 0, 2, (n % 100) as u8]), 80);
    Flow::new(Protocol::Tcp, client, service)
}

/// The ids of the servers that clients 0, 1, … `picks - 1` get; panics where one gets none.
pub fn ids_picked(scheduler: &mut dyn Scheduler, set: &[Backend], picks: usize) -> Vec<u64> {
    let ids = (0..picks as u64).map(|n| scheduler.pick(&flow(n), set).map(|i| set[i].id));
    ids.map(|id| id.expect("a server")).collect()
}
