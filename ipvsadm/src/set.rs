//! What each option does to the [`Line`]: its value is read when it is met, and ipvsadm's result
//! depends on the order (`-6` after `-f`, `-r` after `-t`, `-M` after both).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::scheduler::{FLAG_1, FLAG_2, FLAG_3};
use uvs_core::service::{ClientAddress, ServiceKey, Timestamps, TunnelChecksum, TunnelKind};
use uvs_core::snapshot::Timeouts;

use super::line::Line;
use super::names::Names;
use super::options::{Opt, Verb};
use super::popt::Token;
use super::stop::{Stop, usage};
use super::values::{endpoint, ipv4, ipv6_mask, number};

/// What `-p` without a value means, whatever the man page says.
const DEFAULT_PERSISTENCE: u32 = 360;
/// The longest time-out: 31 days.
const TIMEOUT_MAX: u32 = 31 * 86400;
/// The longest name of a scheduler or persistence engine; more is cut off.
const NAME_MAX: usize = 15;
/// The longest sync message: a datagram less its IP and UDP headers.
const SYNC_MAX: u32 = 65535 - 20 - 8;
const INT_MAX: u32 = i32::MAX as u32;

/// A name that `-b` takes.
struct SchedFlag {
    name: &'static str,
    /// The only scheduler it goes with.
    scheduler: Option<&'static str>,
    bit: u32,
}

/// What `-b` takes.
const SCHED_FLAGS: &[SchedFlag] = &[
    SchedFlag {
        name: "flag-1",
        scheduler: None,
        bit: FLAG_1,
    },
    SchedFlag {
        name: "flag-2",
        scheduler: None,
        bit: FLAG_2,
    },
    SchedFlag {
        name: "flag-3",
        scheduler: None,
        bit: FLAG_3,
    },
    SchedFlag {
        name: "sh-fallback",
        scheduler: Some("sh"),
        bit: FLAG_1,
    },
    SchedFlag {
        name: "sh-port",
        scheduler: Some("sh"),
        bit: FLAG_2,
    },
    SchedFlag {
        name: "mh-fallback",
        scheduler: Some("mh"),
        bit: FLAG_1,
    },
    SchedFlag {
        name: "mh-port",
        scheduler: Some("mh"),
        bit: FLAG_2,
    },
];

/// Takes in one option.
pub(super) fn option(line: &mut Line, token: Token<'_>, names: &dyn Names) -> Result<(), Stop> {
    if let Some(kind) = token.kind
        && !line.given.insert(kind)
    {
        return Err(usage(format!(
            "multiple '{}' options specified",
            kind.name()
        )));
    }
    let value = token.value.unwrap_or_default();
    match token.opt {
        Opt::Tcp => address(line, Protocol::Tcp, value, names)?,
        Opt::Udp => address(line, Protocol::Udp, value, names)?,
        Opt::Sctp => address(line, Protocol::Sctp, value, names)?,
        Opt::Mark => mark(line, value)?,
        Opt::Ipv6 => ipv6(line)?,
        Opt::Scheduler => line.scheduler = cut(value),
        Opt::Persistent => line.persistence = Some(persistence(token.value)?),
        Opt::Netmask => line.mask = netmask(line, value)?,
        Opt::Engine => line.engine = Some(cut(value)).filter(|e| !e.is_empty()),
        Opt::LocalAddresses => line.local = local_addresses(value)?,
        Opt::ProxyProtocol => line.introduction.client_address = proxy_protocol(value)?,
        Opt::ProxyAuthority => line.introduction.authority = value.to_owned(),
        Opt::Toa => {
            line.introduction.client_address = ClientAddress::Toa;
            line.introduction.toa_kind = narrowed(ranged(value, 0, 255, "toa")?);
        }
        Opt::Timestamps => line.introduction.timestamps = timestamps(value)?,
        Opt::Server => server(line, value, names)?,
        Opt::Method(method) => line.server.forwarding = method,
        Opt::Weight => line.server.weight = ranged(value, 0, INT_MAX, "weight")?,
        Opt::Upper => line.server.upper = ranged(value, 0, INT_MAX, "u_threshold")?,
        Opt::Lower => line.server.lower = ranged(value, 0, INT_MAX, "l_threshold")?,
        Opt::TunType => line.server.tunnel.kind = tunnel_kind(value)?,
        Opt::TunPort => line.server.tunnel.port = tunnel_port(value)?,
        Opt::TunCsum => line.server.tunnel.checksum = TunnelChecksum::Full,
        Opt::TunRemCsum => line.server.tunnel.checksum = TunnelChecksum::Remote,
        Opt::SyncId => line.sync.syncid = narrowed(ranged(value, 0, 255, "syncid")?),
        Opt::SyncMaxLen => {
            line.sync.maxlen = Some(narrowed(ranged(value, 1, SYNC_MAX, "sync-maxlen")?));
        }
        Opt::McastInterface => line.sync.interface = cut(value),
        Opt::McastGroup => line.sync.group = Some(mcast_group(value)?),
        Opt::McastPort => {
            line.sync.port = Some(narrowed(ranged(value, 1, 65535, "mcast-port")?));
        }
        Opt::McastTtl => line.sync.ttl = Some(narrowed(ranged(value, 1, 255, "mcast-ttl")?)),
        _ => {}
    }
    Ok(())
}

/// Takes in the arguments `--set` has; gives the first that nothing takes.
pub(super) fn arguments<'a>(
    line: &mut Line,
    arguments: &[&'a str],
) -> Result<Option<&'a str>, Stop> {
    if line.verb != Verb::Set {
        return Ok(arguments.first().copied());
    }
    let [tcp, tcp_fin, udp, rest @ ..] = arguments else {
        return Err(usage("--set option requires 3 timeout values"));
    };
    let seconds = |text| number(text, 0, TIMEOUT_MAX).ok_or_else(|| bad_timeout(text));
    line.timeouts = Timeouts {
        tcp: seconds(tcp)?,
        tcp_fin: seconds(tcp_fin)?,
        udp: seconds(udp)?,
    };
    Ok(rest.first().copied())
}

/// The bits of `-b`'s names, each of which must go with the scheduler.
pub(super) fn sched_flags(names: &str, scheduler: &str) -> Result<u32, Stop> {
    let mut bits = 0;
    for name in names.split(',').filter(|n| !n.is_empty()) {
        let Some(flag) = SCHED_FLAGS.iter().find(|f| f.name == name) else {
            return Err(usage(format!("invalid scheduler flag `{name}'")));
        };
        if flag.scheduler.is_some_and(|s| s != scheduler) {
            return Err(usage(format!("incompatible scheduler flag `{name}'")));
        }
        bits |= flag.bit;
    }
    Ok(bits)
}

fn address(
    line: &mut Line,
    protocol: Protocol,
    value: &str,
    names: &dyn Names,
) -> Result<(), Stop> {
    let (addr, port) = endpoint(value, Some(protocol), names)
        .ok_or_else(|| usage("illegal virtual server address[:port] specified"))?;
    line.service = Some(ServiceKey::Address {
        protocol,
        addr,
        port: port.unwrap_or(0),
    });
    if !addr.is_v4() {
        line.mask = 128;
    }
    Ok(())
}

fn mark(line: &mut Line, value: &str) -> Result<(), Stop> {
    let mark = number(value, 1, u32::MAX)
        .ok_or_else(|| usage(format!("invalid fwmark value `{value}' specified")))?;
    line.service = Some(ServiceKey::Mark { mark, ipv6: false });
    Ok(())
}

fn ipv6(line: &mut Line) -> Result<(), Stop> {
    let Some(ServiceKey::Mark { ipv6, .. }) = &mut line.service else {
        return Err(usage("-6 used before -f\n"));
    };
    *ipv6 = true;
    line.mask = 128;
    Ok(())
}

fn persistence(value: Option<&str>) -> Result<u32, Stop> {
    let Some(value) = value else {
        return Ok(DEFAULT_PERSISTENCE);
    };
    number(value, 1, TIMEOUT_MAX).ok_or_else(|| bad_timeout(value))
}

fn netmask(line: &Line, value: &str) -> Result<u32, Stop> {
    let six = match line.service {
        Some(ServiceKey::Address { addr, .. }) => !addr.is_v4(),
        Some(ServiceKey::Mark { ipv6, .. }) => ipv6,
        None => false,
    };
    if six {
        return ipv6_mask(value).ok_or_else(|| usage("illegal ipv6 netmask specified"));
    }
    let mask =
        ipv4(value).ok_or_else(|| usage("illegal virtual server persistent mask specified"))?;
    Ok(mask.into())
}

fn local_addresses(value: &str) -> Result<Vec<Addr>, Stop> {
    let addr = |text: &str| text.parse::<IpAddr>().map(Into::into);
    value
        .split(',')
        .map(|text| {
            addr(text).map_err(|_| usage(format!("illegal local address `{text}' specified")))
        })
        .collect()
}

fn proxy_protocol(value: &str) -> Result<ClientAddress, Stop> {
    match value {
        "v1" => Ok(ClientAddress::ProxyV1),
        "v2" => Ok(ClientAddress::ProxyV2),
        _ => Err(usage(format!(
            "illegal version `{value}' of the PROXY protocol specified: v1 or v2"
        ))),
    }
}

fn timestamps(value: &str) -> Result<Timestamps, Stop> {
    let mut words = Timestamps::WORDS.iter();
    let found = words.find(|(word, _)| *word == value);
    found.map(|(_, how)| *how).ok_or_else(|| {
        usage(format!(
            "illegal way `{value}' with timestamps specified: keep, strip or offset"
        ))
    })
}

fn server(line: &mut Line, value: &str, names: &dyn Names) -> Result<(), Stop> {
    let (protocol, port) = match line.service {
        Some(ServiceKey::Address { protocol, port, .. }) => (Some(protocol), port),
        Some(ServiceKey::Mark { .. }) => (Some(Protocol::Tcp), 0),
        None => (None, 0),
    };
    let (addr, given) = endpoint(value, protocol, names)
        .ok_or_else(|| usage("illegal real server address[:port] specified"))?;
    line.server.endpoint = Endpoint::new(addr, given.unwrap_or(port));
    Ok(())
}

fn tunnel_kind(value: &str) -> Result<TunnelKind, Stop> {
    let mut kinds = TunnelKind::ALL.iter().copied();
    let found = kinds.find(|kind| kind.def().word == value);
    found.ok_or_else(|| usage("illegal tunnel type specified"))
}

fn tunnel_port(value: &str) -> Result<u16, Stop> {
    let port = ranged(value, 1, 65535, "tunnel port")?;
    Ok(u16::try_from(port).unwrap_or(u16::MAX))
}

fn mcast_group(value: &str) -> Result<IpAddr, Stop> {
    let bad = |family| usage(format!("invalid {family} mcast-group `{value}'"));
    if let Ok(group) = value.parse::<Ipv6Addr>() {
        let group = Some(group).filter(Ipv6Addr::is_multicast);
        return group.map(IpAddr::V6).ok_or_else(|| bad("IPv6"));
    }
    let group = ipv4(value).filter(Ipv4Addr::is_multicast);
    group.map(IpAddr::V4).ok_or_else(|| bad("IPv4"))
}

/// A number that was checked to fit.
fn narrowed<T: TryFrom<u32> + Default>(number: u32) -> T {
    T::try_from(number).unwrap_or_default()
}

fn ranged(value: &str, low: u32, high: u32, what: &str) -> Result<u32, Stop> {
    number(value, low, high).ok_or_else(|| usage(format!("illegal {what} specified")))
}

fn bad_timeout(value: &str) -> Stop {
    usage(format!("invalid timeout value `{value}' specified"))
}

fn cut(name: &str) -> String {
    name.chars().take(NAME_MAX).collect()
}
