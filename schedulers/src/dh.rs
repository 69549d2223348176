//! dh, destination hashing: all connections to one destination address go to the same server.
//!
//! For services that cover many addresses, such as a transparent cache. 256 buckets are dealt out to the
//! servers in turn, one each, whatever their weight; the bucket is the hash of the destination address
//! alone. An unavailable server refuses its destinations. Source: the behaviour of Linux's `ip_vs_dh.c`.

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::scheduler::{Fork, Scheduler, SchedulerDef};

use crate::hash::{BUCKETS, bucket, fold};

pub(crate) const DEF: SchedulerDef = SchedulerDef {
    name: "dh",
    about: "destination hashing: a destination always comes to the same server",
    new: |_| Box::new(DestinationHashing { servers: 0 }),
};

#[derive(Clone)]
struct DestinationHashing {
    /// Servers the buckets are dealt out to; bucket `i` belongs to server `i % servers`.
    servers: usize,
}

impl Scheduler for DestinationHashing {
    fn backends_changed(&mut self, backends: &[Backend]) {
        // Those after the last bucket get none.
        self.servers = backends.len().min(BUCKETS);
    }

    fn pick(&mut self, flow: &Flow, backends: &[Backend]) -> Option<usize> {
        let mine = bucket(fold(&flow.dst)).checked_rem(self.servers)?;
        backends[mine].is_available().then_some(mine)
    }

    fn fork(&self) -> Fork {
        Fork::Exact(Box::new(self.clone()))
    }

    fn is_consistent(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::testing::servers::{backends, flow};

    #[test]
    fn the_destination_alone_decides() {
        let mut set = backends(&[(3, 1), (2, 9), (1, 1)]);
        let mut dh = DestinationHashing { servers: 0 };
        dh.backends_changed(&set);
        // Clients 5, 105, 205 … have the same destination.
        let mine = dh.pick(&flow(5), &set).expect("a server");
        assert!((0..50).all(|n| dh.pick(&flow(100 * n + 5), &set) == Some(mine)));
        set[mine].flags = Backend::OVERLOADED;
        assert_eq!(dh.pick(&flow(5), &set), None);
    }
}
