//! A real server as attributes (`ip_vs_genl_parse_dest`, `ip_vs_genl_dump_dest` of
//! net/netfilter/ipvs/ip_vs_ctl.c).

use uvs_control::protocol::ServerStatus;
use uvs_core::flow::Endpoint;
use uvs_core::service::{Forwarding, ServerSpec, Tunnel, TunnelChecksum, TunnelKind};

use crate::attribute::{Attributes, Received};
use crate::errno::Errno;
use crate::service::{IPV4, IPV6, address, address_bytes, is_ipv6};
use crate::stats;

/// IPVS_DEST_ATTR_*.
mod kind {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const PORT: u16 = 2;
    pub(super) const METHOD: u16 = 3;
    pub(super) const WEIGHT: u16 = 4;
    pub(super) const UPPER: u16 = 5;
    pub(super) const LOWER: u16 = 6;
    pub(super) const ACTIVE: u16 = 7;
    pub(super) const INACTIVE: u16 = 8;
    pub(super) const PERSISTENT: u16 = 9;
    pub(super) const STATS: u16 = 10;
    pub(super) const FAMILY: u16 = 11;
    pub(super) const STATS64: u16 = 12;
    pub(super) const TUNNEL: u16 = 13;
    pub(super) const TUNNEL_PORT: u16 = 14;
    pub(super) const TUNNEL_FLAGS: u16 = 15;
}

/// IP_VS_CONN_F_MASQ, _LOCALNODE, _TUNNEL and _DROUTE. FULLNAT has no number of its own.
const MASQ: u32 = 0;
const LOCAL: u32 = 1;
const TUNNEL: u32 = 2;
const ROUTE: u32 = 3;
/// IP_VS_CONN_F_FWD_MASK.
const METHOD_MASK: u32 = 7;

/// IP_VS_TUNNEL_ENCAP_FLAG_CSUM and _REMCSUM.
const CHECKSUM: u16 = 1;
const REMOTE_CHECKSUM: u16 = 2;

/// What a server is known by; its family is the service's where it does not say.
///
/// # Errors
/// Address or port are missing.
pub fn endpoint(received: &Received<'_>, service_is_ipv6: bool) -> Result<Endpoint, Errno> {
    let bytes = received.get(kind::ADDRESS).ok_or(Errno::Invalid)?;
    let port = received.port(kind::PORT).ok_or(Errno::Invalid)?;
    let ipv6 = match received.u16(kind::FAMILY).filter(|family| *family != 0) {
        Some(family) => is_ipv6(family)?,
        None => service_is_ipv6,
    };
    Ok(Endpoint::new(address(bytes, ipv6)?, port))
}

/// A whole server, as it is added or edited.
///
/// # Errors
/// Something is missing or unknown.
pub fn spec(received: &Received<'_>, service_is_ipv6: bool) -> Result<ServerSpec, Errno> {
    let endpoint = endpoint(received, service_is_ipv6)?;
    let number = |kind| received.u32(kind).ok_or(Errno::Invalid);
    let forwarding = method(number(kind::METHOD)?)?;
    // A weight below 0 is out of range for the kernel as one above 2^31 - 1 is for the table.
    let weight = number(kind::WEIGHT)?;
    Ok(ServerSpec {
        endpoint,
        forwarding,
        tunnel: tunnel(received)?,
        weight,
        upper: number(kind::UPPER)?,
        lower: number(kind::LOWER)?,
    })
}

/// A server with its counters, as it is listed.
pub fn listed(status: &ServerStatus) -> Attributes {
    let spec = &status.spec;
    let ipv4 = spec.endpoint.addr.is_v4();
    let (tunnel, flags) = (spec.tunnel.kind, spec.tunnel.checksum);
    Attributes::new()
        .bytes(kind::ADDRESS, &address_bytes(spec.endpoint.addr))
        .port(kind::PORT, spec.endpoint.port)
        .u32(kind::METHOD, method_number(spec.forwarding, status.local))
        .u32(kind::WEIGHT, spec.weight)
        .u8(kind::TUNNEL, tunnel_number(tunnel))
        .port(kind::TUNNEL_PORT, spec.tunnel.port)
        .u16(kind::TUNNEL_FLAGS, checksum_flags(flags))
        .u32(kind::UPPER, spec.upper)
        .u32(kind::LOWER, spec.lower)
        .u32(kind::ACTIVE, status.numbers.active)
        .u32(kind::INACTIVE, status.numbers.inactive)
        .u32(kind::PERSISTENT, status.numbers.persistent)
        .u16(kind::FAMILY, if ipv4 { IPV4 } else { IPV6 })
        .nest(
            kind::STATS,
            &stats::in_32_bits(&status.numbers.stats, &status.rates),
        )
        .nest(
            kind::STATS64,
            &stats::in_64_bits(&status.numbers.stats, &status.rates),
        )
}

/// A forwarding method from its number; an IPVS server at an own address is Local, whatever it was added as.
pub(crate) fn method(number: u32) -> Result<Forwarding, Errno> {
    match number & METHOD_MASK {
        MASQ => Ok(Forwarding::Nat),
        TUNNEL => Ok(Forwarding::Tunnel),
        LOCAL | ROUTE => Ok(Forwarding::Dr),
        _ => Err(Errno::Invalid),
    }
}

/// A forwarding method's number.
pub(crate) const fn method_number(forwarding: Forwarding, local: bool) -> u32 {
    match forwarding {
        _ if local => LOCAL,
        Forwarding::Nat | Forwarding::FullNat => MASQ,
        Forwarding::Tunnel => TUNNEL,
        Forwarding::Dr => ROUTE,
    }
}

fn tunnel(received: &Received<'_>) -> Result<Tunnel, Errno> {
    let kind = match received.u8(kind::TUNNEL).unwrap_or(0) {
        0 => TunnelKind::Ipip,
        1 => TunnelKind::Gue,
        2 => TunnelKind::Gre,
        _ => return Err(Errno::Invalid),
    };
    let flags = received.u16(kind::TUNNEL_FLAGS).unwrap_or(0);
    Ok(Tunnel {
        kind,
        port: received.port(kind::TUNNEL_PORT).unwrap_or(0),
        checksum: match flags {
            _ if flags & REMOTE_CHECKSUM != 0 => TunnelChecksum::Remote,
            _ if flags & CHECKSUM != 0 => TunnelChecksum::Full,
            _ => TunnelChecksum::None,
        },
    })
}

const fn tunnel_number(kind: TunnelKind) -> u8 {
    match kind {
        TunnelKind::Ipip => 0,
        TunnelKind::Gue => 1,
        TunnelKind::Gre => 2,
    }
}

const fn checksum_flags(checksum: TunnelChecksum) -> u16 {
    match checksum {
        TunnelChecksum::None => 0,
        TunnelChecksum::Full => CHECKSUM,
        TunnelChecksum::Remote => REMOTE_CHECKSUM,
    }
}
