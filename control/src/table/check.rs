//! What the kernel's IPVS accepts of a service and of a server, and what UVS asks beyond it.
//!
//! The order of the checks is the kernel's (`ip_vs_genl_set_cmd`, `ip_vs_add_dest`), since it decides
//! which errno a command with two mistakes gets.

use std::net::IpAddr;

use uvs_core::flow::{Addr, Protocol};
use uvs_core::service::{
    Forwarding, OnExpiry, OnRemoval, PERSISTENCE_ENGINES, Persistence, ServerSpec, ServiceKey,
    ServiceSpec, Tunnel,
};

use super::super::protocol::{Errno, Refusal};
use super::refuse;
use crate::plugins::{Schedulers, Unfound, check_settings};

/// The longest time-out ipvsadm takes: 31 days.
const TIMEOUT_MAX: u32 = 31 * 86400;
/// The kernel's weights are signed.
const WEIGHT_MAX: u32 = i32::MAX as u32;

/// A service as it is added or edited.
pub(super) fn service(spec: &ServiceSpec, schedulers: &Schedulers) -> Result<(), Refusal> {
    let key = spec.key;
    let invalid = |what: String| Err(refuse(Errno::Invalid, format!("{key}: {what}")));
    if let Err(unfound) = schedulers.find(&spec.scheduler) {
        // The kernel has no word for a plugin that is there and refused: UVS says why.
        let errno = match unfound {
            Unfound::Unknown(_) => Errno::NoScheduler,
            Unfound::Refused(_) => Errno::Failed,
        };
        return Err(refuse(errno, format!("{key}: {unfound}")));
    }
    if let Err(unfit) = check_settings(spec) {
        return invalid(format!("{}: {}: {}", unfit.key, unfit.what, unfit.help));
    }
    if let Some(engine) = spec
        .engine
        .as_deref()
        .filter(|e| !PERSISTENCE_ENGINES.contains(e))
    {
        let known = PERSISTENCE_ENGINES.join(", ");
        let message =
            format!("{key}: no persistence engine is called {engine:?}; there is {known}");
        return Err(refuse(Errno::NoScheduler, message));
    }
    if !spec.servers.is_empty() {
        return invalid("servers are added one by one, after their service".to_owned());
    }
    match key {
        ServiceKey::Mark { mark: 0, .. } => {
            return invalid("a firewall mark is above 0".to_owned());
        }
        ServiceKey::Address { port: 0, .. } if spec.persistence.is_none() => {
            return invalid("port 0 (every port) needs persistence: give a port, or -p".to_owned());
        }
        ServiceKey::Address {
            protocol: Protocol::Tcp | Protocol::Sctp,
            ..
        } if spec.one_packet => {
            return invalid("one-packet scheduling is for UDP services".to_owned());
        }
        ServiceKey::Address { .. } | ServiceKey::Mark { .. } => {}
    }
    check_care(spec)?;
    if let Err(unfit) = spec.introduction.check(&key) {
        return invalid(format!("{}: {}: {}", unfit.key, unfit.what, unfit.help));
    }
    match spec.persistence {
        Some(persistence) => check_persistence(&key, persistence),
        None => Ok(()),
    }
}

/// What the configuration refuses too: there is nothing to tell the ends of such connections by.
fn check_care(spec: &ServiceSpec) -> Result<(), Refusal> {
    let ServiceKey::Address { protocol, .. } = spec.key else {
        return Ok(());
    };
    let key = spec.key;
    let (removal, expiry) = (spec.teardown.on_removal, spec.teardown.on_expiry);
    let what = if removal == OnRemoval::Tell && protocol == Protocol::Sctp {
        "on_removal \"tell\" is for TCP and UDP services: use \"drop\""
    } else if expiry == OnExpiry::Tell && protocol != Protocol::Tcp {
        "on_expiry \"tell\" is for TCP services"
    } else if spec.teardown.drain_timeout > TIMEOUT_MAX {
        "drain_timeout is at most 2678400 s"
    } else {
        return Ok(());
    };
    Err(refuse(Errno::Invalid, format!("{key}: {what}")))
}

/// A server as it is added or edited, in its kept form: where nobody rewrites the port (DR and TUN) it listens
/// on the service's own, and only TUN servers have tunnel parameters.
pub(super) fn server(service: &ServiceSpec, mut server: ServerSpec) -> Result<ServerSpec, Refusal> {
    if let ServiceKey::Address { port, .. } = service.key
        && !server.forwarding.def().maps_port
    {
        server.endpoint.port = port;
    }
    if server.forwarding != Forwarding::Tunnel {
        server.tunnel = Tunnel::default();
    }
    let name = format!("{}: server {}", service.key, server.endpoint);
    if server.endpoint.addr.is_v4() != service.key.is_v4()
        && !server.forwarding.def().mixes_families
    {
        let message = format!(
            "{name}: its address family is not the service's, which only tunnels and FULLNAT allow"
        );
        return Err(refuse(Errno::Invalid, message));
    }
    if server.weight > WEIGHT_MAX || server.upper > WEIGHT_MAX {
        return Err(refuse(
            Errno::Range,
            format!("{name}: weight and thresholds end at {WEIGHT_MAX}"),
        ));
    }
    if server.lower > server.upper {
        let message = format!(
            "{name}: the lower threshold {} is above the upper {}",
            server.lower, server.upper
        );
        return Err(refuse(Errno::Range, message));
    }
    let tunnel = server.tunnel.kind.def();
    if tunnel.has_port && server.tunnel.port == 0 {
        let kind = tunnel.word.to_uppercase();
        return Err(refuse(
            Errno::Invalid,
            format!("{name}: a {kind} tunnel needs a port"),
        ));
    }
    if server.forwarding.takes_local() {
        has_local_address(service, &server)?;
    }
    can_be_told(service, &server)?;
    Ok(server)
}

/// A server that is told of its clients must answer by the director.
pub(super) fn can_be_told(service: &ServiceSpec, server: &ServerSpec) -> Result<(), Refusal> {
    if service.introduction.suits(server.forwarding) {
        return Ok(());
    }
    let message = format!(
        "{}: the {} server {} answers its clients past the director, which has to change both directions for what the \
         service says of its clients: use NAT (-m) or FULLNAT (--fullnat), or take that from the service",
        service.key,
        server.forwarding.def().title,
        server.endpoint
    );
    Err(refuse(Errno::Unsupported, message))
}

/// FULLNAT takes its source addresses from the service.
pub(super) fn has_local_address(service: &ServiceSpec, server: &ServerSpec) -> Result<(), Refusal> {
    let v4 = server.endpoint.addr.is_v4();
    if service.local.iter().any(|a| a.is_v4() == v4) {
        return Ok(());
    }
    let family = if v4 { "IPv4" } else { "IPv6" };
    let message = format!(
        "{}: the FULLNAT server {} needs an {family} local address of the service: give it with --laddr",
        service.key, server.endpoint
    );
    Err(refuse(Errno::Invalid, message))
}

/// An address a server may have: the kernel asks for one host's, local ones included.
pub(super) fn unicast(addr: Addr) -> Result<(), Refusal> {
    let refused = match IpAddr::from(addr) {
        IpAddr::V4(a) => a.octets()[0] == 0 || a.is_multicast() || a.is_broadcast(),
        // One on a link means nothing without its interface, and an IPv4-mapped one no host has
        // (`ipv6_addr_type`).
        IpAddr::V6(a) => {
            a.is_unspecified()
                || a.is_multicast()
                || a.is_unicast_link_local()
                || a.to_ipv4_mapped().is_some()
        }
    };
    if refused {
        return Err(refuse(
            Errno::Invalid,
            format!("{addr} is no unicast address a server can have"),
        ));
    }
    Ok(())
}

/// A time-out of `--set`.
pub(super) fn timeout(seconds: u32) -> Result<(), Refusal> {
    if seconds > TIMEOUT_MAX {
        return Err(refuse(
            Errno::Invalid,
            format!("a time-out of {seconds} s is over {TIMEOUT_MAX} s"),
        ));
    }
    Ok(())
}

fn check_persistence(key: &ServiceKey, persistence: Persistence) -> Result<(), Refusal> {
    if !(1..=TIMEOUT_MAX).contains(&persistence.timeout) {
        let message = format!("{key}: a persistence time-out is 1 to {TIMEOUT_MAX} s");
        return Err(refuse(Errno::Invalid, message));
    }
    if !key.is_v4() && !(1..=128).contains(&persistence.mask) {
        let message = format!("{key}: an IPv6 persistence mask is a prefix length, 1 to 128");
        return Err(refuse(Errno::Invalid, message));
    }
    Ok(())
}
