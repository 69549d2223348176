//! What a service wants, one by one; and what of a table is refused for what the host is. What all services together want is
//! in [`derived`](super::derived).

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use uvs_control::config::{self, Config, ConfigError, Step};
use uvs_control::protocol::{Errno, Refusal};
use uvs_core::engine::ConnReport;
use uvs_core::fib::Fib;
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::marks::{MarkRule, destinations};
use uvs_core::service::{Replies, ServerSpec, ServiceKey, ServiceSpec};
use uvs_core::services::{Difference, Services};
use uvs_core::shared::Set;
use uvs_core::snapshot::{Sysctls, Timeouts};

use crate::guard::{Idle, Nat, Server};

/// Local addresses that are not the host's, with their services: replies to them go nowhere.
pub(super) fn foreign_local_addresses<'a>(
    services: impl Iterator<Item = &'a Arc<ServiceSpec>> + 'a,
    fib: &'a Fib,
) -> impl Iterator<Item = (ServiceKey, Addr)> + 'a {
    services.flat_map(move |service| {
        let foreign = service.local.iter().filter(|a| !fib.is_local(**a));
        foreign.map(|a| (service.key, *a))
    })
}

/// Refuses local addresses that are not the host's, where they were not there before: one that the host
/// has lost since does not stand in the way of other changes.
pub(super) fn check_local_addresses(changed: &Difference<'_>, fib: &Fib) -> Result<(), Refusal> {
    let foreign = |of: &[&Arc<ServiceSpec>]| -> Vec<_> {
        foreign_local_addresses(of.iter().copied(), fib).collect()
    };
    let known: HashSet<_> = foreign(&changed.gone).into_iter().collect();
    let new = foreign(&changed.new)
        .into_iter()
        .find(|pair| !known.contains(pair));
    let Some((service, foreign)) = new else {
        return Ok(());
    };
    Err(Refusal {
        errno: Errno::Invalid,
        message: format!(
            "{service}: the local address {foreign} is on none of this host's interfaces; {}",
            how_to_add(foreign)
        ),
    })
}

/// Refuses a file with such an address, at its place. One of a pair of directors has them only while it serves.
pub(super) fn check_config(config: &Config, file: &Path, fib: &Fib) -> Result<(), ConfigError> {
    if !config.sync.is_empty() {
        return Ok(());
    }
    for (i, service) in config.services.iter().enumerate() {
        let foreign = service.local.iter().position(|a| !fib.is_local(*a));
        if let Some(n) = foreign {
            let steps = [
                Step::Key("service"),
                Step::Item(i),
                Step::Key("local_addresses"),
                Step::Item(n),
            ];
            let addr = service.local[n];
            let what = format!("{addr} is on none of this host's interfaces");
            return Err(config::refuse(file, &steps, what, &how_to_add(addr)));
        }
    }
    Ok(())
}

fn how_to_add(addr: Addr) -> String {
    let bits = if addr.is_v4() { 32 } else { 128 };
    format!("add it first: ip addr add {addr}/{bits} dev INTERFACE")
}

/// A server whose replies pass the director.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(crate) struct Replier {
    /// Its service.
    pub(super) service: ServiceKey,
    /// Itself.
    pub(super) server: Endpoint,
    /// The port it replies from, 0 = any.
    pub(super) port: u16,
    /// The protocols it replies in.
    pub(super) protocols: BTreeSet<Protocol>,
    /// FULLNAT's local addresses, to one of which it replies; NAT has none.
    pub(super) local: Vec<Addr>,
}

impl Replier {
    /// Whether it is of NAT, whose servers reply to the client itself.
    pub(super) const fn is_nat(&self) -> bool {
        self.local.is_empty()
    }
}

/// The services' servers whose replies pass the director.
pub(crate) fn repliers(services: &Services, marks: &[MarkRule]) -> Set<Replier> {
    let of_service = |service: &Arc<ServiceSpec>| repliers_of(service, marks);
    services.iter().flat_map(of_service).collect()
}

/// Those of one service.
pub(super) fn repliers_of(service: &ServiceSpec, marks: &[MarkRule]) -> Vec<Replier> {
    let to = destinations(service.key, marks);
    let protocols: BTreeSet<Protocol> = to.flat_map(|to| to.protocols()).collect();
    let replier = |server: &ServerSpec| {
        let local = match server.forwarding.replies() {
            Replies::Direct => return None,
            Replies::Gateway => Vec::new(),
            Replies::Local => service.local.clone(),
        };
        Some(Replier {
            service: service.key,
            server: server.endpoint,
            port: service.reply_port(server),
            protocols: protocols.clone(),
            local,
        })
    };
    service.servers.iter().filter_map(replier).collect()
}

/// NAT's servers among these, with their services.
pub(super) fn removed<'a>(
    repliers: impl Iterator<Item = &'a Replier>,
) -> impl Iterator<Item = (ServiceKey, Addr)> {
    let nat = repliers.filter(|r| r.is_nat());
    nat.map(|r| (r.service, r.server.addr))
}

/// What the guard must know of NAT beside its services.
pub(crate) fn nat(timeouts: Timeouts, sysctls: &Sysctls) -> Nat {
    Nat {
        idle: Idle {
            tcp: timeouts.tcp.max(timeouts.tcp_fin),
            udp: timeouts.udp,
        },
        answers_strays: sysctls.nat_icmp_send != 0,
        ..Nat::default()
    }
}

/// The clients that these connections' replies go to by themselves.
pub(super) fn clients(of: &[ConnReport]) -> Vec<Server> {
    let client = |c: &ConnReport| {
        let replied_to = c.local.is_none() && c.client.port != 0;
        Some((
            c.client.addr,
            c.protocol.filter(|_| replied_to)?,
            c.client.port,
        ))
    };
    of.iter().filter_map(client).collect()
}
