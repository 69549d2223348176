//! What ipvsadm checks when it has seen all options, in its order: which message a line with two
//! mistakes gets depends on it.

use uvs_core::flow::Protocol;
use uvs_core::service::{Forwarding, ServiceKey, TunnelChecksum};

use super::line::Line;
use super::options::{Kind, Kinds, Verb};
use super::stop::{Stop, missing, usage};

/// Checks a whole command line.
pub(super) fn line(line: &Line) -> Result<(), Stop> {
    check_options(line)?;
    match line.verb {
        Verb::AddService | Verb::EditService => check_service(line),
        Verb::AddServer | Verb::EditServer => check_server(line),
        Verb::List => check_list(line.given),
        _ => Ok(()),
    }
}

fn check_options(line: &Line) -> Result<(), Stop> {
    let Line { verb, given, .. } = *line;
    let (needs, takes) = (verb.needs(), verb.takes());
    let mut exclusive = None;
    for &kind in Kind::ALL {
        if needs.has(kind) && !given.has(kind) {
            return Err(missing(kind, verb));
        }
        if given.has(kind) && !needs.has(kind) && !takes.has(kind) {
            let (option, command) = (kind.name(), verb.name());
            return Err(usage(format!(
                "Illegal '{option}' option with the '{command}' command"
            )));
        }
        if verb == Verb::List
            && given.has(kind)
            && LIST_ALTERNATIVES.has(kind)
            && let Some(other) = exclusive.replace(kind)
        {
            return Err(conflict(kind, other, "the 'list' command"));
        }
    }
    Ok(())
}

/// What `-L` can list one of.
const LIST_ALTERNATIVES: Kinds =
    Kinds::of(&[Kind::Connection, Kind::Service, Kind::Timeout, Kind::Daemon]);

fn check_list(given: Kinds) -> Result<(), Stop> {
    let no_services = Kinds::of(&[Kind::Connection, Kind::Timeout, Kind::Daemon]);
    let no_persistence = Kinds::of(&[Kind::Timeout, Kind::Daemon]);
    let columns = Kinds::of(&[Kind::Stats, Kind::Rate, Kind::Thresholds]);
    if given.has_any(no_services) && given.has_any(columns)
        || given.has_any(no_persistence) && given.has(Kind::PersistentConn)
    {
        return Err(usage("options conflicts in the list command"));
    }
    Ok(())
}

fn check_service(line: &Line) -> Result<(), Stop> {
    if line.given.has(Kind::ProxyProtocol) && line.given.has(Kind::Toa) {
        let command = format!("the '{}' command", line.verb.name());
        return Err(conflict(Kind::Toa, Kind::ProxyProtocol, &command));
    }
    let ServiceKey::Address { protocol, port, .. } = line.key()? else {
        return Ok(());
    };
    if port == 0 && line.persistence.is_none() {
        return Err(usage("Zero port specified for non-persistent service"));
    }
    if protocol != Protocol::Udp && line.given.has(Kind::OnePacket) {
        return Err(usage(
            "One-Packet Scheduling is only for UDP virtual services",
        ));
    }
    Ok(())
}

fn check_server(line: &Line) -> Result<(), Stop> {
    let v4 = line.key()?.is_v4();
    let forwarding = line.server.forwarding;
    let tunnel = forwarding == Forwarding::Tunnel;
    if v4 != line.server.endpoint.addr.is_v4() && !forwarding.def().mixes_families {
        return Err(usage(
            "Different address family is allowed only for tunneling servers",
        ));
    }
    let options = Kinds::of(&[
        Kind::TunType,
        Kind::TunPort,
        Kind::TunNoCsum,
        Kind::TunCsum,
        Kind::TunRemCsum,
    ]);
    match (tunnel, line.given.has_any(options)) {
        (false, true) => Err(usage("Tunnel options conflict with forward method")),
        (false, false) => Ok(()),
        (true, _) => check_tunnel(line),
    }
}

fn check_tunnel(line: &Line) -> Result<(), Stop> {
    let def = line.server.tunnel.kind.def();
    let name = def.word;
    if def.has_port && !line.given.has(Kind::TunPort) {
        return Err(usage(format!(
            "You need to supply the 'tun-port' option for the '{name}' tunnel type"
        )));
    }
    let takes = |checksum| def.checksums.contains(&checksum);
    let mut checksum = None;
    for (kind, takes) in [
        (Kind::TunPort, def.has_port),
        (Kind::TunNoCsum, takes(TunnelChecksum::None)),
        (Kind::TunCsum, takes(TunnelChecksum::Full)),
        (Kind::TunRemCsum, takes(TunnelChecksum::Remote)),
    ] {
        if !line.given.has(kind) {
            continue;
        }
        if !takes {
            let option = kind.name();
            return Err(usage(format!(
                "Illegal '{option}' option with the '{name}' tunnel type"
            )));
        }
        if kind != Kind::TunPort
            && let Some(other) = checksum.replace(kind)
        {
            return Err(conflict(kind, other, &format!("the '{name}' tunnel type")));
        }
    }
    Ok(())
}

fn conflict(kind: Kind, other: Kind, what: &str) -> Stop {
    let (kind, other) = (kind.name(), other.name());
    usage(format!(
        "The option '{kind}' conflicts with the '{other}' option in {what}"
    ))
}
