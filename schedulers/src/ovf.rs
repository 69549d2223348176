//! ovf, weighted overflow: the server of the highest weight until it is full, then the next.
//!
//! Full means more active connections than weight, so a server takes `weight + 1`. With all full, new
//! connections are refused. Inactive connections do not count: all UDP goes to the heaviest server. Source:
//! the behaviour of Linux's `ip_vs_ovf.c`.

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::scheduler::{Fork, Scheduler, SchedulerDef};

use crate::fo::heaviest;

pub(crate) const DEF: SchedulerDef = SchedulerDef {
    name: "ovf",
    about: "weighted overflow: the highest weight until its active connections exceed it",
    new: |_| Box::new(Overflow),
};

#[derive(Clone)]
struct Overflow;

impl Scheduler for Overflow {
    fn pick(&mut self, _flow: &Flow, backends: &[Backend]) -> Option<usize> {
        heaviest(backends, |b| b.is_available() && b.active <= b.weight)
    }

    fn fork(&self) -> Fork {
        Fork::Exact(Box::new(self.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::testing::servers::{backends, flow, ids_picked};

    #[test]
    fn each_server_takes_its_weight_plus_one_and_then_all_is_refused() {
        let mut set = backends(&[(2, 1), (1, 2)]);
        for expected in [1, 1, 1, 2, 2] {
            assert_eq!(ids_picked(&mut Overflow, &set, 1), [expected]);
            set.iter_mut()
                .filter(|b| b.id == expected)
                .for_each(|b| b.active += 1);
        }
        assert_eq!(Overflow.pick(&flow(0), &set), None);
    }
}
