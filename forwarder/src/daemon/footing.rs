//! What the guard, the sockets' filters, the workers' shares and the neighbours that are kept follow from. Most changes of the table leave all
//! of it as it is, those of weights and of drains first of all: then only the engines have anything new to take up,
//! and nothing else is derived or asked for again.

use std::collections::HashMap;
use std::sync::Arc;

use uvs_control::config::OwnVips;
use uvs_core::crew::{Class, Steering};
use uvs_core::fib::Fib;
use uvs_core::flow::{Addr, Endpoint};
use uvs_core::marks::MarkRule;
use uvs_core::service::{Forwarding, ServiceKey, ServiceSpec, Tunnel};
use uvs_core::services::{Difference, Services};

use super::derive::{self, Replier};
use super::derived::{Admitted, Derived};
use crate::guard::{GuardSpec, Nat};
use crate::port::fan_out::FanOut;
use crate::port::filter::Program;

/// What something was derived from.
#[derive(Clone)]
pub(super) struct Footing {
    pub(super) services: Services,
    pub(super) marks: Vec<MarkRule>,
    pub(super) own_vips: OwnVips,
    pub(super) fib: Arc<Fib>,
    /// As [`derive::nat`] says.
    pub(super) nat: Nat,
    /// Owned VIPs that another host claims.
    pub(super) yielded: Vec<Addr>,
    /// The version of what [`RemovedServers`](super::removed_servers::RemovedServers) knows.
    pub(super) repliers: u64,
}

impl Footing {
    /// Whether the same follows from another.
    pub(super) fn carries(&self, other: &Self) -> bool {
        let Self {
            services,
            marks,
            own_vips,
            fib,
            nat,
            yielded,
            repliers,
        } = self;
        *repliers == other.repliers
            && (marks, own_vips, nat, yielded)
                == (&other.marks, &other.own_vips, &other.nat, &other.yielded)
            && Arc::ptr_eq(fib, &other.fib)
            && is_same(&other.services.since(services))
    }
}

/// What is in force beside the engines' state.
#[derive(Default)]
pub(super) struct InForce {
    /// What follows from the table.
    pub(super) derived: Derived,
    /// What the kernel is kept from.
    pub(super) guarded: GuardSpec,
    /// What is whose among several workers.
    pub(super) division: Division,
    /// The ports' filter, and the one for the host's own stack.
    pub(super) filters: [Compiled; 2],
    /// What these and the neighbours that are kept follow from; `None` where one of them may lag behind.
    pub(super) footing: Option<Footing>,
}

/// Which worker a connection belongs to, as the engines know it and as the kernel does.
#[derive(Clone, Default)]
pub(super) struct Division {
    pub(super) steering: Arc<Steering>,
    pub(super) fan_out: Option<Arc<FanOut>>,
}

/// What of a service it is that counts here.
#[derive(PartialEq, Eq)]
struct Footprint<'a> {
    persistent: bool,
    /// By what workers tell its clients' connections apart.
    class: Class,
    one_packet: bool,
    has_callers: bool,
    local: &'a [Addr],
    servers: Vec<(Endpoint, Forwarding, Tunnel)>,
}

impl<'a> Footprint<'a> {
    fn of(service: &'a ServiceSpec) -> Self {
        let servers = service.servers.iter();
        let mut servers: Vec<_> = servers
            .map(|s| (s.endpoint, s.forwarding, s.tunnel))
            .collect();
        servers.sort_unstable_by_key(|(endpoint, ..)| *endpoint);
        Self {
            persistent: service.persistence.is_some(),
            class: Class::of(service),
            one_packet: service.one_packet,
            has_callers: service.has_callers(),
            local: &service.local,
            servers,
        }
    }
}

/// Whether services have changed only in what does not count here.
fn is_same(changed: &Difference<'_>) -> bool {
    let gone = changed.gone.iter().map(|s| (s.key, s));
    let gone: HashMap<ServiceKey, _> = gone.collect();
    let stays = |new: &&Arc<ServiceSpec>| {
        let old = gone.get(&new.key);
        old.is_some_and(|old| Footprint::of(old) == Footprint::of(new))
    };
    changed.new.len() == gone.len() && changed.new.iter().all(stays)
}

/// A filter's program, with what it was compiled from. It stays the same one while that is the same, by which workers
/// see that there is nothing to be set.
pub(super) struct Compiled {
    of: Admitted,
    program: Arc<Program>,
}

impl Default for Compiled {
    fn default() -> Self {
        let of = Admitted::default();
        let program = Arc::new(of.spec().compile());
        Self { of, program }
    }
}

impl Compiled {
    /// Becomes the program for this.
    pub(super) fn compile(&mut self, of: Admitted) {
        if of == self.of {
            return;
        }
        let program = of.spec().compile();
        // Too many addresses for a program are let in by one that asks for none.
        if program.is_exact() || self.program.is_exact() {
            self.program = Arc::new(program);
        }
        self.of = of;
    }

    /// The program.
    pub(super) fn last(&self) -> Arc<Program> {
        Arc::clone(&self.program)
    }
}

/// Servers whose replies pass the director: those of a table, and what changes of them with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Followed(Option<(Services, Vec<MarkRule>)>);

impl Followed {
    /// Those that are gone since this was called last, and those that are new; `None` where that cannot be told from
    /// what was changed: they are all to be compared.
    pub(super) fn follow(
        &mut self,
        services: &Services,
        marks: &[MarkRule],
    ) -> Option<(Vec<Replier>, Vec<Replier>)> {
        let before = self.0.replace((services.clone(), marks.to_vec()));
        let (before, _) = before.filter(|(_, before)| before == marks)?;
        let changed = services.since(&before);
        let repliers = |of: &[&Arc<ServiceSpec>]| {
            let of = of
                .iter()
                .flat_map(|service| derive::repliers_of(service, marks));
            of.collect()
        };
        Some((repliers(&changed.gone), repliers(&changed.new)))
    }
}

#[cfg(test)]
mod tests {
    use uvs_core::flow::Protocol;
    use uvs_core::service::{Persistence, ServerSpec};
    use uvs_core::shared::Set;

    use super::*;

    fn services() -> Services {
        let service = |port| {
            let vip = Endpoint::new(Addr::v4([10, 0, 0, 1]), port);
            let mut spec = ServiceSpec::new(ServiceKey::address(Protocol::Tcp, vip), "rr");
            for host in 1..=3 {
                let server = Endpoint::new(Addr::v4([10, 0, 1, host]), port);
                spec.servers.push(ServerSpec::new(server, Forwarding::Nat));
            }
            Arc::new(spec)
        };
        (1..=1000).map(service).collect()
    }

    fn footing(services: Services) -> Footing {
        Footing {
            services,
            marks: Vec::new(),
            own_vips: OwnVips::None,
            fib: Arc::new(Fib::new()),
            nat: Nat::default(),
            yielded: Vec::new(),
            repliers: 0,
        }
    }

    #[test]
    fn weights_and_schedulers_and_the_order_of_servers_change_nothing_but_addresses_do() {
        let before = footing(services());
        let carries = |change: fn(&mut ServiceSpec)| {
            let mut after = before.clone();
            change(Arc::make_mut(&mut after.services[500]));
            before.carries(&after)
        };
        assert!(carries(|s| s.servers[1].weight = 0));
        assert!(carries(|s| s.scheduler = "wlc".to_owned()));
        assert!(carries(|s| s.servers.reverse()));
        assert!(!carries(|s| s.servers[1].forwarding = Forwarding::Dr));
        assert!(!carries(|s| s.servers[1].endpoint.port = 9));
        assert!(!carries(|s| s.servers.truncate(2)));
        assert!(!carries(|s| s.one_packet = true));
        assert!(!carries(|s| s.persistence = Some(Persistence {
            timeout: 60,
            mask: u32::MAX
        })));
        assert!(!carries(|s| s.new_connections.per_client = 9));
        assert!(!carries(|s| s.local.push(Addr::v4([10, 0, 0, 9]))));
        let other = |change: fn(&mut Footing)| {
            let mut after = before.clone();
            change(&mut after);
            before.carries(&after)
        };
        assert!(other(|_| {}));
        assert!(!other(|f| f.repliers += 1));
        assert!(!other(|f| f.fib = Arc::new(Fib::new())));
        assert!(!other(|f| f.own_vips = OwnVips::All));
        assert!(!other(
            |f| f.services = f.services.iter().skip(1).cloned().collect()
        ));
    }

    #[test]
    fn a_filter_for_the_same_addresses_is_the_same_program() {
        let of = |addrs: &mut dyn Iterator<Item = [u8; 4]>| Admitted {
            to: [addrs.map(Addr::v4).collect(), Set::new()],
            ..Admitted::default()
        };
        let mut compiled = Compiled::default();
        let mut program = |addrs: &mut dyn Iterator<Item = [u8; 4]>| {
            compiled.compile(of(addrs));
            compiled.last()
        };
        let [a, b, c] = [1, 2, 3].map(|last| [10, 0, 0, last]);
        let one = program(&mut [a, b].into_iter());
        let same = program(&mut [b, a, b].into_iter());
        assert!(Arc::ptr_eq(&one, &same));
        assert!(!Arc::ptr_eq(&one, &program(&mut [c].into_iter())));
        // One that asks for no address does for any that are too many.
        let many = |count: u16| (0..count).map(|n| [10, 1, n.to_be_bytes()[0], n.to_be_bytes()[1]]);
        let all = program(&mut many(5000));
        assert!(!all.is_exact() && Arc::ptr_eq(&all, &program(&mut many(5001))));
    }
}
