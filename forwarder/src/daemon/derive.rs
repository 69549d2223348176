//! What follows from the desired state and the host's addresses: what the guard keeps from the kernel,
//! what the sockets let in, whose next hops stay resolved.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use uvs_control::config::{self, Config, ConfigError, Step};
use uvs_control::protocol::{Errno, Refusal};
use uvs_core::engine::ConnReport;
use uvs_core::fib::{Fib, Query};
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::marks::{Destination, MarkRule, destinations};
use uvs_core::service::{Forwarding, Replies, ServerSpec, ServiceKey, ServiceSpec, TunnelKind};
use uvs_core::services::{Difference, Services};
use uvs_core::snapshot::{Sysctls, Timeouts};
use uvs_core::wire::protocol;

use crate::guard::{GuardSpec, HOST_MARK, Idle, Nat, Server, TunnelEnd};
use crate::port::filter::FilterSpec;

/// FTP's control port: where the service there is persistent, it has the data connections too.
const FTP: u16 = 21;

/// Where packets of all services go.
pub(super) fn all_destinations<'a>(
    services: &'a Services,
    marks: &'a [MarkRule],
) -> impl Iterator<Item = Destination> + 'a {
    services.iter().flat_map(|s| destinations(s.key, marks))
}

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

/// The services' servers whose replies pass the director.
pub(crate) fn repliers(services: &Services, marks: &[MarkRule]) -> BTreeSet<Replier> {
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
    let nat = repliers.filter(|r| r.local.is_empty());
    nat.map(|r| (r.service, r.server.addr))
}

/// What the kernel must not see. `spec` has what does not follow from services: interfaces, addresses and
/// FULLNAT's ports.
pub(crate) fn guard<'a>(
    services: &Services,
    marks: &[MarkRule],
    repliers: impl Iterator<Item = &'a Replier>,
    mut spec: GuardSpec,
) -> GuardSpec {
    let repliers: Vec<&Replier> = repliers.collect();
    let own: HashSet<Addr> = spec.local.iter().copied().collect();
    let of_nat = repliers.iter().filter(|r| r.local.is_empty());
    let mut nat: Vec<ServiceKey> = of_nat.map(|r| r.service).collect();
    // Nearly so already, as servers are in the order of their services.
    nat.sort();
    nat.dedup();
    for service in services.iter() {
        // One-packet scheduling keeps no connection whose replies could be UVS's.
        let is_nat = nat.binary_search(&service.key).is_ok() && !service.one_packet;
        let (exact, wide) = match is_nat {
            true => (&mut spec.nat.services, &mut spec.nat.wide),
            false => (&mut spec.services, &mut spec.wide),
        };
        for to in destinations(service.key, marks) {
            match to.port().filter(|_| to.is_host()) {
                Some(port) => exact.extend(to.protocols().map(|p| (p, to.addr, port))),
                None => wide.push(to),
            }
        }
        let ServiceKey::Address {
            protocol,
            addr,
            port,
        } = service.key
        else {
            continue;
        };
        if (protocol, port) == (Protocol::Tcp, FTP) && service.persistence.is_some() {
            spec.ftp.push(addr);
        }
    }
    for replier in repliers {
        let from = replier.protocols.iter();
        let servers = from.map(|p| (replier.server.addr, *p, replier.port));
        if replier.local.is_empty() {
            if own.contains(&replier.server.addr) {
                spec.nat.own_servers.extend(servers.clone());
            }
            spec.nat_servers.extend(servers);
        } else {
            spec.fullnat.servers.extend(servers);
            spec.fullnat.local.extend(&replier.local);
        }
    }
    spec.tunnels = tunnels(services);
    // In the form of a union, so that equal states compare equal.
    spec.put_in_order();
    spec
}

/// The far ends of all tunnels. An IPv6 packet in IP has a protocol of its own (RFC 2473).
fn tunnels(services: &Services) -> Vec<TunnelEnd> {
    let servers = services.iter().flat_map(|service| &service.servers);
    let tunnelled = servers.filter(|server| server.forwarding == Forwarding::Tunnel);
    let ends = |server: &ServerSpec| {
        let (protocols, port): (&[u8], u16) = match server.tunnel.kind {
            TunnelKind::Ipip => (&[protocol::IPIP, protocol::IPV6], 0),
            TunnelKind::Gue => (&[protocol::UDP], server.tunnel.port),
            TunnelKind::Gre => (&[protocol::GRE], 0),
        };
        let addr = server.endpoint.addr;
        let end = move |protocol: &u8| TunnelEnd {
            addr,
            protocol: *protocol,
            port,
        };
        protocols.iter().map(end).collect::<Vec<_>>()
    };
    tunnelled.flat_map(ends).collect()
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

/// What the engine must see of what the host itself sends: to VIPs that are its own, and from servers that
/// it is itself.
pub(super) fn host_filter<'a>(
    services: &Services,
    marks: &[MarkRule],
    repliers: impl Iterator<Item = &'a Replier>,
    fib: &Fib,
) -> FilterSpec {
    let mut spec = FilterSpec {
        without_mark: Some(HOST_MARK),
        ..FilterSpec::default()
    };
    let hosts = all_destinations(services, marks).filter(Destination::is_host);
    for vip in hosts.map(|to| to.addr).filter(|a| fib.is_local(*a)) {
        put(vip, &mut spec.to, &mut spec.ipv6.to);
    }
    for server in repliers.map(|r| r.server.addr).filter(|a| fib.is_local(*a)) {
        put(server, &mut spec.from, &mut spec.ipv6.from);
    }
    spec
}

/// What the engine must see.
pub(super) fn filter<'a>(
    services: &Services,
    marks: &[MarkRule],
    repliers: impl Iterator<Item = &'a Replier>,
    owned: &[Addr],
    local: &[Addr],
) -> FilterSpec {
    let mut spec = FilterSpec::default();
    for vip in owned {
        put(*vip, &mut spec.arp_for, &mut spec.ipv6.solicited);
    }
    for replier in repliers {
        let server = replier.server.addr;
        put(server, &mut spec.from, &mut spec.ipv6.from);
        // FULLNAT's come to its local addresses.
        match server.is_v4() {
            true => spec.icmp_errors |= replier.local.is_empty(),
            false => spec.ipv6.icmp_errors |= replier.local.is_empty(),
        }
        for local in &replier.local {
            put(*local, &mut spec.to, &mut spec.ipv6.to);
        }
    }
    for to in all_destinations(services, marks) {
        match (to.is_host(), to.addr.into()) {
            (true, _) => put(to.addr, &mut spec.to, &mut spec.ipv6.to),
            (false, IpAddr::V4(network)) => spec.networks.push((network, to.prefix)),
            (false, IpAddr::V6(network)) => spec.ipv6.networks.push((network, to.prefix)),
        }
    }
    for service in services.iter() {
        for local in &service.local {
            put(*local, &mut spec.to, &mut spec.ipv6.to);
        }
        // Of what routers say of a tunnel's packets only IPv4's is passed on, of IPv4 in it.
        let by_tunnel = |s: &ServerSpec| s.forwarding == Forwarding::Tunnel;
        if service.servers.iter().any(by_tunnel) {
            let v4 = local.iter().filter_map(Addr::as_v4);
            spec.icmp_to = v4.map(Ipv4Addr::from).collect();
        }
    }
    spec
}

/// Puts an address to its family's.
fn put(addr: Addr, v4: &mut Vec<Ipv4Addr>, v6: &mut Vec<Ipv6Addr>) {
    match addr.into() {
        IpAddr::V4(addr) => v4.push(addr),
        IpAddr::V6(addr) => v6.push(addr),
    }
}

/// The ways to the servers whose next hops the kernel is to keep resolved, as the engine looks them up.
pub(super) fn servers(services: &Services) -> Vec<Query> {
    let mut ways = Vec::new();
    for service in services.iter() {
        let locals = service.local.iter().map(|a| Some(*a));
        let locals: Vec<_> = match service.local.is_empty() {
            true => vec![None],
            false => locals.collect(),
        };
        for server in &service.servers {
            let way = |local| Query::to_server(server.endpoint.addr, server.forwarding, local);
            ways.extend(locals.iter().map(|local| way(*local)));
        }
    }
    ways.sort_unstable();
    ways.dedup();
    ways
}
