//! The reports of several engines as one, number by number. The empty report changes nothing, and it does not matter which are joined first.

use std::collections::HashMap;
use std::ops::AddAssign;

use super::{Report, ServiceReport};
use crate::service::ServiceKey;

impl AddAssign<&Self> for Report {
    fn add_assign(&mut self, other: &Self) {
        let Self { services, retired } = other;
        let known = self.services.iter().map(|s| s.key).zip(0..);
        let known: HashMap<ServiceKey, usize> = known.collect();
        for service in services {
            match known.get(&service.key) {
                Some(at) => self.services[*at].add(service),
                None => self.services.push(service.clone()),
            }
        }
        self.retired += *retired;
    }
}

impl ServiceReport {
    fn add(&mut self, other: &Self) {
        let Self {
            key: _,
            numbers,
            local_ports,
            servers,
        } = other;
        self.numbers += *numbers;
        for (at, (addr, ports)) in local_ports.iter().enumerate() {
            match find(&mut self.local_ports, at, |(a, _)| a == addr) {
                Some((_, sum)) => *sum += ports,
                None => self.local_ports.push((*addr, *ports)),
            }
        }
        for (at, server) in servers.iter().enumerate() {
            match find(&mut self.servers, at, |s| s.endpoint == server.endpoint) {
                Some(sum) => sum.numbers += server.numbers,
                None => self.servers.push(*server),
            }
        }
    }
}

/// The entry that is asked for. Engines that applied the same snapshots most often have it at the same place.
fn find<T>(list: &mut [T], at: usize, is: impl Fn(&T) -> bool) -> Option<&mut T> {
    let at = match list.get(at) {
        Some(entry) if is(entry) => Some(at),
        _ => list.iter().position(is),
    };
    at.map(|at| &mut list[at])
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::ServerReport;
    use super::*;
    use crate::counters::{ByFailure, Stats};
    use crate::flow::{Addr, Endpoint, Protocol};
    use crate::numbers::{HandshakeNumbers, ServerNumbers, ServiceNumbers};
    use crate::plugins::{Fallback, PickTimes, PluginFault, PluginNumbers};

    fn at(last: u8) -> Endpoint {
        Endpoint::new(Addr::v4([10, 0, 0, last]), 80)
    }

    fn stats(n: u64) -> Stats {
        Stats {
            connections: n,
            in_packets: 2 * n,
            out_packets: 3 * n,
            in_bytes: 5 * n,
            out_bytes: 7 * n,
        }
    }

    fn server((host, n, overloaded): (u8, u32, bool)) -> ServerReport {
        ServerReport {
            endpoint: at(host),
            numbers: ServerNumbers {
                active: n,
                inactive: n / 2,
                persistent: n / 3,
                open: n / 4,
                draining: overloaded.then_some(n.into()),
                overloaded,
                effective_weight: f64::from(n % 7),
                handshake: n % 11,
                handshakes: HandshakeNumbers {
                    ok: u64::from(n),
                    reset: u64::from(n / 5),
                    timeout: u64::from(n / 6),
                    failed_in_a_row: n % 4,
                    ok_ago: (n % 2 == 0).then_some(n.into()),
                    failed_ago: (n % 3 == 0).then_some(n.into()),
                },
                stats: stats(u64::from(n)),
            },
        }
    }

    fn plugin(n: u32) -> Option<PluginNumbers> {
        let mut picks = PickTimes::default();
        (0..n % 5).for_each(|i| picks.record(u64::from(n) * 1000 + u64::from(i)));
        let fault = PluginFault::ALL[n as usize % PluginFault::ALL.len()];
        let fallback = Fallback {
            ago: u64::from(n % 3),
            fault,
            workers: 1,
        };
        (!n.is_multiple_of(4)).then_some(PluginNumbers {
            picks,
            over_budget: u64::from(n % 3),
            fallback: n.is_multiple_of(3).then_some(fallback),
        })
    }

    prop_compose! {
        fn service()(vip in 0..3_u8, n in 0..1000_u32, servers in vec((0..4_u8, 0..1000_u32, any::<bool>()), 0..4))
            -> ServiceReport
        {
            let mut list: Vec<ServerReport> = Vec::new();
            for new in servers.into_iter().map(server) {
                if list.iter().all(|s| s.endpoint != new.endpoint) {
                    list.push(new);
                }
            }
            let mut failures = ByFailure::default();
            failures.fill(n.into());
            ServiceReport {
                key: ServiceKey::address(Protocol::Tcp, at(vip)),
                numbers: ServiceNumbers { stats: stats(n.into()), failures, plugin: plugin(n) },
                local_ports: vec![(at(100 + vip).addr, n)],
                servers: list,
            }
        }
    }

    prop_compose! {
        fn report()(services in vec(service(), 0..4), n in 0..1000_u64) -> Report {
            let mut report = Report { services: Vec::new(), retired: stats(n) };
            for new in services {
                if report.services.iter().all(|s| s.key != new.key) {
                    report.services.push(new);
                }
            }
            report
        }
    }

    fn sum(parts: &[&Report]) -> Report {
        let mut sum = Report::default();
        parts.iter().for_each(|part| sum += part);
        sum
    }

    fn in_all(report: &Report) -> (u64, u32) {
        let servers = || report.services.iter().flat_map(|s| &s.servers);
        let packets: u64 = servers().map(|s| s.numbers.stats.in_packets).sum();
        (packets, servers().map(|s| s.numbers.active).sum())
    }

    proptest! {
        #[test]
        fn reports_add_up_whichever_are_joined_first(a in report(), b in report(), c in report()) {
            let left = sum(&[&sum(&[&a, &b]), &c]);
            let right = sum(&[&a, &sum(&[&b, &c])]);
            prop_assert_eq!(&left, &right);
            prop_assert_eq!(&sum(&[&Report::default(), &a]), &a);
            prop_assert_eq!(&sum(&[&a, &Report::default()]), &a);
            let each = [&a, &b, &c].map(in_all);
            let all = each.iter().fold((0, 0), |s, n| (s.0 + n.0, s.1 + n.1));
            prop_assert_eq!(in_all(&left), all);
        }
    }

    #[test]
    fn a_server_of_two_engines_promises_no_more_than_either() {
        let one = ServerNumbers {
            draining: Some(7),
            effective_weight: 3.0,
            handshake: 0,
            ..server((1, 10, false)).numbers
        };
        let mut both = ServerNumbers {
            draining: None,
            effective_weight: 2.0,
            handshake: 900,
            ..server((1, 4, true)).numbers
        };
        both += one;
        assert_eq!(
            (both.active, both.overloaded, both.draining),
            (14, true, Some(7))
        );
        assert_eq!((both.effective_weight, both.handshake), (2.0, 900));
    }
}
