//! What follows from the desired state and the host's addresses: which VIPs UVS owns, what the guard
//! keeps from the kernel, what the sockets let in, whose next hops stay resolved.

use std::collections::{BTreeSet, HashSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use uvs_core::fib::Fib;
use uvs_core::flow::Addr;
use uvs_core::service::{Forwarding, ServerSpec, ServiceKey, ServiceSpec};

use crate::config::{self, Config, ConfigError, Step};
use crate::control::protocol::{Errno, Refusal};
use crate::guard::{FullNat, GuardSpec};
use crate::port::filter::FilterSpec;

/// IPv4 VIPs on none of the host's interfaces: UVS answers for them.
pub(super) fn owned_vips(services: &[Arc<ServiceSpec>], fib: &Fib) -> Vec<Addr> {
    let vips: BTreeSet<Addr> = services.iter().map(|s| s.key.vip().addr).collect();
    vips.into_iter()
        .filter(|a| a.is_v4() && !a.is_unspecified() && !fib.is_local(*a))
        .collect()
}

/// Local addresses that are not the host's, with their services: replies to them go nowhere.
pub(super) fn foreign_local_addresses<'a>(
    services: &'a [Arc<ServiceSpec>],
    fib: &'a Fib,
) -> impl Iterator<Item = (ServiceKey, Addr)> + 'a {
    services.iter().flat_map(move |service| {
        let foreign = service.local.iter().filter(|a| !fib.is_local(**a));
        foreign.map(|a| (service.key, *a))
    })
}

/// Refuses local addresses that are not the host's, where they were not there `before`: one that the host
/// has lost since does not stand in the way of other changes.
pub(super) fn check_local_addresses(
    services: &[Arc<ServiceSpec>],
    before: &[Arc<ServiceSpec>],
    fib: &Fib,
) -> Result<(), Refusal> {
    let known: HashSet<_> = foreign_local_addresses(before, fib).collect();
    let new = foreign_local_addresses(services, fib).find(|pair| !known.contains(pair));
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

/// Refuses a file with such an address, at its place.
pub(super) fn check_config(config: &Config, file: &Path, fib: &Fib) -> Result<(), ConfigError> {
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

/// What the kernel must not see.
pub(super) fn guard(
    services: &[Arc<ServiceSpec>],
    owned: &[Addr],
    interfaces: &[String],
    local: Vec<Addr>,
    local_ports: (u16, u16),
) -> GuardSpec {
    let mut spec = GuardSpec {
        interfaces: interfaces.to_vec(),
        owned: owned.to_vec(),
        local,
        fullnat: FullNat {
            ports: local_ports,
            ..FullNat::default()
        },
        ..GuardSpec::default()
    };
    for service in services {
        let ServiceKey::Address {
            protocol,
            addr,
            port,
        } = service.key
        else {
            continue;
        };
        spec.services.push((protocol, addr, port));
        for server in &service.servers {
            let replier = (server.endpoint.addr, protocol, server.endpoint.port);
            match server.forwarding {
                Forwarding::Nat => spec.nat_servers.push(replier),
                Forwarding::FullNat => spec.fullnat.servers.push(replier),
                Forwarding::Dr | Forwarding::Tunnel => {}
            }
        }
        if service
            .servers
            .iter()
            .any(|s| s.forwarding == Forwarding::FullNat)
        {
            spec.fullnat.local.extend(&service.local);
        }
    }
    // In the form of a union, so that equal states compare equal.
    spec.union(&spec)
}

/// What the engine must see.
pub(super) fn filter(services: &[Arc<ServiceSpec>], owned: &[Addr], local: &[Addr]) -> FilterSpec {
    let v4 = |a: &Addr| a.as_v4().map(Ipv4Addr::from);
    let mut spec = FilterSpec {
        arp_for: owned.iter().filter_map(v4).collect(),
        ..FilterSpec::default()
    };
    for service in services {
        spec.to
            .extend(v4(&service.key.vip().addr).filter(|a| !a.is_unspecified()));
        spec.to.extend(service.local.iter().filter_map(v4));
        let replies =
            |s: &&ServerSpec| matches!(s.forwarding, Forwarding::Nat | Forwarding::FullNat);
        spec.from.extend(
            service
                .servers
                .iter()
                .filter(replies)
                .filter_map(|s| v4(&s.endpoint.addr)),
        );
        if service
            .servers
            .iter()
            .any(|s| s.forwarding == Forwarding::Tunnel)
        {
            spec.icmp_to = local.iter().filter_map(v4).collect();
        }
    }
    spec
}

/// The servers whose next hops the kernel is to keep resolved.
pub(super) fn servers(services: &[Arc<ServiceSpec>]) -> BTreeSet<Addr> {
    services
        .iter()
        .flat_map(|s| &s.servers)
        .map(|s| s.endpoint.addr)
        .collect()
}
