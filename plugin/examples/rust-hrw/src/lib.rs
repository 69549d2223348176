//! hrw, weighted rendezvous hashing: a client stays with its server, whatever others come and go.
//!
//! Every server gets a score from a hash of client and server, and the highest wins: -weight / ln(h), with h
//! the hash within 0 and 1. A server that leaves takes only its own clients along, and one whose weight
//! doubles gets twice the clients (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005).
//! With `ipvsadm -b flag-2` a client is an address and a port, so that its connections spread.

use uvs_plugin::{Addr, Backend, FLAG_2, Flow, Random, Scheduler, SchedulerParams};

uvs_plugin::export_scheduler!("hrw", Rendezvous, new = Rendezvous::new, deterministic);

struct Rendezvous {
    /// Whether the client's port is part of what is hashed.
    by_port: bool,
}

impl Rendezvous {
    fn new(params: &SchedulerParams) -> Self {
        Self {
            by_port: params.flags & FLAG_2 != 0,
        }
    }
}

impl Scheduler for Rendezvous {
    fn pick(&mut self, flow: &Flow, backends: &[Backend]) -> Option<usize> {
        let port = if self.by_port { flow.src_port } else { 0 };
        let client = hash(0, &flow.src, port);
        let usable = backends
            .iter()
            .enumerate()
            .filter(|(_, b)| b.is_available());
        let scored = usable.map(|(i, b)| (i, score(client, b)));
        let best = scored.max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        Some(best.0)
    }
}

fn score(client: u64, server: &Backend) -> f64 {
    // By address and port, not by id: every director must come to the same result.
    let h = hash(client, &server.addr, server.port);
    // 53 bits fill a float's mantissa; the half keeps it off 0 and 1, where the logarithm ends.
    let h = ((h >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(server.weight) / h.ln()
}

fn hash(seed: u64, addr: &Addr, port: u16) -> u64 {
    let [high, low] = [0, 8].map(|at| {
        let bytes = addr.0[at..at + 8].iter();
        bytes.fold(0, |word, &byte| word << 8 | u64::from(byte))
    });
    [high, low, u64::from(port)]
        .into_iter()
        .fold(seed, |state, word| Random::new(state ^ word).next_u64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_plugin::testing::conformance;
    use uvs_plugin::testing::servers::{backends, flow};

    fn new(flags: u32) -> Rendezvous {
        Rendezvous::new(&SchedulerParams {
            flags,
            ..SchedulerParams::default()
        })
    }

    #[test]
    fn it_conforms() {
        assert_eq!(conformance::check(true, &|| Box::new(new(0))), []);
    }

    #[test]
    fn clients_are_shared_by_weight() {
        let set = backends(&[(1, 3), (2, 1), (3, 2)]);
        let mut clients = [0; 3];
        for n in 0..60_000 {
            clients[new(0).pick(&flow(n), &set).expect("a server")] += 1;
        }
        for (got, expected) in clients.into_iter().zip([30_000_i32, 10_000, 20_000]) {
            assert!((got - expected).abs() < 600, "{clients:?}");
        }
    }

    #[test]
    fn a_server_that_leaves_takes_only_its_own_clients_along() {
        let set = backends(&[(1, 3), (2, 1), (3, 2)]);
        let fewer = backends(&[(1, 3), (3, 2)]);
        for n in 0..10_000 {
            let id = |set: &[Backend]| new(0).pick(&flow(n), set).map(|i| set[i].id);
            let before = id(&set);
            assert!(before == Some(2) || before == id(&fewer), "client {n}");
        }
    }

    #[test]
    fn the_port_counts_where_the_flag_says_so() {
        let set = backends(&[(1, 1), (2, 1)]);
        let picks = |flags| {
            let pick = |port| {
                let flow = Flow {
                    src_port: port,
                    ..flow(1)
                };
                new(flags).pick(&flow, &set)
            };
            (1..100)
                .map(pick)
                .collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!((picks(0).len(), picks(FLAG_2).len()), (1, 2));
    }
}
