//! sh, source hashing: a client always comes to the same server, without any state.
//!
//! 256 buckets are dealt out in order, to each server as many in a row as its weight (a server of weight 0
//! still gets one, which then refuses), over and over until all are full. A client's bucket is the hash of
//! its address, with `sh-port` of address plus source port. An unavailable server refuses its clients;
//! with `sh-fallback` the buckets after it are tried in turn. Source: the behaviour of Linux's `ip_vs_sh.c`.

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::scheduler::{FLAG_1, FLAG_2, Fork, Scheduler, SchedulerDef, SchedulerParams};

use crate::hash::{BUCKETS, bucket, fold};

pub(crate) const DEF: SchedulerDef = SchedulerDef {
    name: "sh",
    about: "source hashing: a client always comes to the same server",
    new: |params| Box::new(SourceHashing::new(params)),
};

#[derive(Clone)]
struct SourceHashing {
    /// Index of each bucket's server; empty where there is no server.
    buckets: Vec<u32>,
    fallback: bool,
    use_port: bool,
}

impl SourceHashing {
    fn new(params: &SchedulerParams) -> Self {
        Self {
            buckets: Vec::with_capacity(BUCKETS),
            fallback: params.flags & FLAG_1 != 0,
            use_port: params.flags & FLAG_2 != 0,
        }
    }
}

impl Scheduler for SourceHashing {
    fn backends_changed(&mut self, backends: &[Backend]) {
        // More than BUCKETS in a row for one server cannot be seen.
        let turns = |b: &Backend| (b.weight as usize).clamp(1, BUCKETS);
        let round = (0..)
            .zip(backends)
            .flat_map(|(i, b)| std::iter::repeat_n(i, turns(b)));
        self.buckets.clear();
        self.buckets.extend(round.cycle().take(BUCKETS));
    }

    fn pick(&mut self, flow: &Flow, backends: &[Backend]) -> Option<usize> {
        let port = if self.use_port { flow.src_port } else { 0 };
        let start = bucket(fold(&flow.src).wrapping_add(u32::from(port)));
        let tries = if self.fallback { BUCKETS } else { 1 };
        let servers = (start..start + tries).filter_map(|i| self.buckets.get(i % BUCKETS));
        servers
            .map(|&i| i as usize)
            .find(|&i| backends[i].is_available())
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

    fn filled(flags: u32, set: &[Backend]) -> SourceHashing {
        let mut sh = SourceHashing::new(&SchedulerParams {
            flags,
            ..SchedulerParams::default()
        });
        sh.backends_changed(set);
        sh
    }

    #[test]
    fn each_server_takes_its_weight_in_a_row_and_weight_0_takes_one() {
        let sh = filled(0, &backends(&[(3, 2), (2, 0), (1, 3)]));
        assert_eq!(sh.buckets[..8], [0, 0, 1, 2, 2, 2, 0, 0]);
        assert_eq!(sh.buckets.len(), BUCKETS);
        let sh = filled(0, &backends(&[(2, u32::MAX / 2), (1, 1)]));
        assert!(sh.buckets.iter().all(|&i| i == 0));
    }

    #[test]
    fn an_unavailable_server_refuses_unless_there_is_a_fallback() {
        let mut set = backends(&[(2, 1), (1, 1)]);
        let client = flow(7);
        let mine = filled(0, &set).pick(&client, &set).expect("a server");
        set[mine].weight = 0;
        assert_eq!(filled(0, &set).pick(&client, &set), None);
        assert_eq!(filled(FLAG_1, &set).pick(&client, &set), Some(1 - mine));
    }

    #[test]
    fn with_sh_port_one_client_reaches_several_servers() {
        let set = backends(&[(2, 1), (1, 1)]);
        let servers = |flags| {
            let mut sh = filled(flags, &set);
            let ports = (0..50).map(|port| Flow {
                src_port: port,
                ..flow(7)
            });
            let mut seen: Vec<_> = ports.map(|f| sh.pick(&f, &set)).collect();
            seen.sort_unstable();
            seen.dedup();
            seen
        };
        assert_eq!(servers(0).len(), 1);
        assert_eq!(servers(FLAG_2), [Some(0), Some(1)]);
    }
}
