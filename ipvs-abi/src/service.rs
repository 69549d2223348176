//! A virtual service as attributes (`ip_vs_genl_parse_service`, `ip_vs_genl_fill_service` of
//! net/netfilter/ipvs/ip_vs_ctl.c).

use uvs_control::protocol::ServiceStatus;
use uvs_core::flow::{Addr, Protocol};
use uvs_core::scheduler::{FLAG_1, FLAG_2, FLAG_3};
use uvs_core::service::{Persistence, ServiceKey, ServiceSpec};

use crate::attribute::{Attributes, Received};
use crate::errno::Errno;
use crate::stats;

/// IPVS_SVC_ATTR_*.
mod kind {
    pub(super) const FAMILY: u16 = 1;
    pub(super) const PROTOCOL: u16 = 2;
    pub(super) const ADDRESS: u16 = 3;
    pub(super) const PORT: u16 = 4;
    pub(super) const MARK: u16 = 5;
    pub(super) const SCHEDULER: u16 = 6;
    pub(super) const FLAGS: u16 = 7;
    pub(super) const TIMEOUT: u16 = 8;
    pub(super) const NETMASK: u16 = 9;
    pub(super) const STATS: u16 = 10;
    pub(super) const ENGINE: u16 = 11;
    pub(super) const STATS64: u16 = 12;
}

/// IP_VS_SVC_F_PERSISTENT.
pub(crate) const PERSISTENT: u32 = 1;
/// IP_VS_SVC_F_HASHED, the kernel's own: each service that it lists has it.
const HASHED: u32 = 2;
/// IP_VS_SVC_F_ONEPACKET.
pub(crate) const ONE_PACKET: u32 = 4;
/// The schedulers' flags.
const SCHEDULER_FLAGS: u32 = FLAG_1 | FLAG_2 | FLAG_3;

/// AF_INET.
pub(crate) const IPV4: u16 = 2;
/// AF_INET6.
pub(crate) const IPV6: u16 = 10;

/// Which service a request is about: family with protocol, address and port, or with a firewall mark.
///
/// # Errors
/// One of these is missing or unknown.
pub fn key(received: &Received<'_>) -> Result<ServiceKey, Errno> {
    let ipv6 = is_ipv6(received.u16(kind::FAMILY).ok_or(Errno::Invalid)?)?;
    if let Some(mark) = received.u32(kind::MARK).filter(|mark| *mark != 0) {
        return Ok(ServiceKey::Mark { mark, ipv6 });
    }
    let number = received.u16(kind::PROTOCOL).ok_or(Errno::Invalid)?;
    let port = received.port(kind::PORT).ok_or(Errno::Invalid)?;
    let addr = address(received.get(kind::ADDRESS).ok_or(Errno::Invalid)?, ipv6)?;
    let protocol = u8::try_from(number).ok().and_then(Protocol::from_number);
    // IPVS without this protocol: its services are looked for in vain, and cannot be made (EFAULT).
    let protocol = protocol.ok_or(Errno::Fault)?;
    Ok(ServiceKey::Address {
        protocol,
        addr,
        port,
    })
}

/// A whole service, as it is added or edited.
///
/// # Errors
/// Something is missing or unknown.
pub fn spec(received: &Received<'_>) -> Result<ServiceSpec, Errno> {
    let key = key(received)?;
    let scheduler = received.text(kind::SCHEDULER).ok_or(Errno::Invalid)?;
    let [flags, mask] = flags(received).ok_or(Errno::Invalid)?;
    let flags = flags & mask;
    let timeout = received.u32(kind::TIMEOUT).ok_or(Errno::Invalid)?;
    let netmask = received.array(kind::NETMASK).ok_or(Errno::Invalid)?;
    let mask = match key_is_ipv6(&key) {
        true => u32::from_ne_bytes(netmask),
        false => u32::from_be_bytes(netmask),
    };
    let engine = received.text(kind::ENGINE).filter(|name| !name.is_empty());
    Ok(ServiceSpec {
        flags: flags & SCHEDULER_FLAGS,
        persistence: (flags & PERSISTENT != 0).then_some(Persistence { timeout, mask }),
        engine: engine.map(str::to_owned),
        one_packet: flags & ONE_PACKET != 0,
        ..ServiceSpec::new(key, scheduler)
    })
}

/// A service with its counters, as it is listed.
pub fn listed(status: &ServiceStatus) -> Attributes {
    let spec = &status.spec;
    let ipv6 = key_is_ipv6(&spec.key);
    let named = Attributes::new().u16(kind::FAMILY, if ipv6 { IPV6 } else { IPV4 });
    let named = match spec.key {
        ServiceKey::Mark { mark, .. } => named.u32(kind::MARK, mark),
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => named
            .u16(kind::PROTOCOL, u16::from(protocol as u8))
            .bytes(kind::ADDRESS, &address_bytes(addr))
            .port(kind::PORT, port),
    };
    let persistence = spec.persistence;
    let (timeout, mask) = persistence.map_or((0, u32::MAX), |p| (p.timeout, p.mask));
    let netmask = match (ipv6, persistence) {
        (true, None) => 128u32.to_ne_bytes(),
        (true, Some(_)) => mask.to_ne_bytes(),
        (false, _) => mask.to_be_bytes(),
    };
    let shown = named
        .text(kind::SCHEDULER, &spec.scheduler)
        .bytes(
            kind::FLAGS,
            &[shown_flags(spec).to_ne_bytes(), u32::MAX.to_ne_bytes()].concat(),
        )
        .u32(kind::TIMEOUT, timeout)
        .bytes(kind::NETMASK, &netmask);
    let shown = match &spec.engine {
        Some(engine) => shown.text(kind::ENGINE, engine),
        None => shown,
    };
    shown
        .nest(
            kind::STATS,
            &stats::in_32_bits(&status.numbers.stats, &status.rates),
        )
        .nest(
            kind::STATS64,
            &stats::in_64_bits(&status.numbers.stats, &status.rates),
        )
}

/// IP_VS_SVC_F_* of a service as it is listed.
pub(crate) fn shown_flags(spec: &ServiceSpec) -> u32 {
    let flag = |set: bool, bit: u32| if set { bit } else { 0 };
    HASHED
        | spec.flags & SCHEDULER_FLAGS
        | flag(spec.persistence.is_some(), PERSISTENT)
        | flag(spec.one_packet, ONE_PACKET)
}

/// An address of 16 bytes of which IPv4 fills the first 4; what follows those may be anything.
pub(crate) fn address(bytes: &[u8], ipv6: bool) -> Result<Addr, Errno> {
    let addr = match ipv6 {
        true => bytes.first_chunk::<16>().map(|bytes| Addr::v6(*bytes)),
        false => bytes.first_chunk::<4>().map(|bytes| Addr::v4(*bytes)),
    };
    addr.ok_or(Errno::Invalid)
}

/// An address as it is sent.
pub(crate) fn address_bytes(addr: Addr) -> [u8; 16] {
    let Some([a, b, c, d]) = addr.as_v4() else {
        return addr.v6_octets();
    };
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// Whether a family is IPv6.
pub(crate) fn is_ipv6(family: u16) -> Result<bool, Errno> {
    match family {
        IPV4 => Ok(false),
        IPV6 => Ok(true),
        _ => Err(Errno::Family),
    }
}

/// Whether a service is an IPv6 one.
pub fn key_is_ipv6(key: &ServiceKey) -> bool {
    match key {
        ServiceKey::Address { addr, .. } => !addr.is_v4(),
        ServiceKey::Mark { ipv6, .. } => *ipv6,
    }
}

/// `struct ip_vs_flags`: the flags, and which of them count.
fn flags(received: &Received<'_>) -> Option<[u32; 2]> {
    let [a, b, c, d, e, f, g, h] = received.array(kind::FLAGS)?;
    Some([
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
    ])
}
