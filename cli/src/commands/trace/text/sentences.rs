//! One sentence for each decision: what was found, and why it went so.

use uvs_core::access::{Action, Rule};
use uvs_core::flow::{Addr, Endpoint};
use uvs_core::service::ServiceKey;
use uvs_core::trace::{Aside, Candidate, End, Fate, Known, Leaving, SetAside, Step, Template};

pub(super) fn packet(event: &Step) -> String {
    let Step::Packet {
        protocol,
        source,
        destination,
        kind,
        ttl,
        bytes,
    } = event
    else {
        return String::new();
    };
    let ends = if source.port == 0 && destination.port == 0 {
        format!("{} > {}", source.addr, destination.addr)
    } else {
        format!("{source} > {destination}")
    };
    let kind = if kind.is_empty() {
        String::new()
    } else {
        format!(" {kind}")
    };
    format!("{protocol}{kind} {ends}, TTL {ttl}, {bytes} bytes")
}

/// When, after the first frame; nothing for the first.
pub(super) fn seconds(after_ns: u64) -> String {
    match after_ns {
        0 => String::new(),
        ns => format!("+{:.6} s  ", ns as f64 / 1e9),
    }
}

pub(super) const fn aside(why: Aside) -> &'static str {
    match why {
        Aside::UnknownInterface => "it came in by an interface that UVS does not run on",
        Aside::Foreign => "it is neither IPv4 nor ARP",
        Aside::Arp => "it is ARP",
        Aside::OtherMac => "it is for another MAC address than this interface's",
        Aside::Malformed => "its headers are inconsistent",
    }
}

pub(super) fn connection(found: Option<&Known>) -> String {
    let Some(known) = found else {
        return "none in the table".to_owned();
    };
    let side = if known.from_client {
        "from its client"
    } else {
        "from its server"
    };
    let local = known.local.map(|l| format!(" by {l}"));
    let removed = if known.removed {
        "; its server was removed"
    } else {
        ""
    };
    format!(
        "{} > {} > {}{}, {side}: {}, idle {} s, expires in {} s{removed}",
        known.client,
        known.vip,
        known.server,
        local.unwrap_or_default(),
        known.state,
        known.idle,
        known.expires
    )
}

/// What becomes of a packet to a VIP that the director does not have.
pub(super) const ABSENT: &str = "the VIP is on no interface of the director's and not owned (own_vips): the host's routing decides";
pub(super) fn access(client: Addr, service: Option<ServiceKey>, rule: Rule) -> String {
    let what = match rule.action {
        Action::Deny => "denied",
        Action::Allow => "allowed",
    };
    let list = service.map_or_else(|| "every service".to_owned(), |key| key.to_string());
    format!(
        "{client} is {what} by {} on the list of {list}",
        rule.prefix
    )
}

pub(super) const fn set_aside(why: SetAside) -> &'static str {
    match why {
        SetAside::NoService => "its service is gone: the packet is the host's",
        SetAside::Quiesced => {
            "its server has weight 0 and expire_nodest_conn is 1: a new connection is made"
        }
        SetAside::Over => "it is over, and conn_reuse_mode lets a new one begin",
        SetAside::ServerGone => {
            "its server was removed, and neither expire_nodest_conn nor on_removal ends it"
        }
        SetAside::LetGo => "its server was removed, and the connection is released",
    }
}

pub(super) fn service(found: Option<ServiceKey>, others: &[ServiceKey]) -> String {
    match (found, others) {
        (Some(key), _) => key.to_string(),
        (None, []) => "none: the destination is no VIP".to_owned(),
        (None, others) => {
            let list: Vec<String> = others.iter().map(ToString::to_string).collect();
            format!(
                "none for this port and protocol; this VIP has {}",
                list.join(", ")
            )
        }
    }
}

pub(super) fn template(found: &Template) -> String {
    match found {
        Template::Hit { server, expires } => {
            format!("stays with {server}, no scheduler is asked; expires in {expires} s")
        }
        Template::Stale { server } => format!("was with {server}, which takes no more"),
        Template::Miss => "no server yet".to_owned(),
    }
}

pub(super) fn begun(service: ServiceKey) -> String {
    format!("by a real server, as {service} where the packet is of a call")
}

pub(super) fn gave_way(vip: Endpoint, state: &str, over: bool) -> String {
    let why = if over {
        "it is over"
    } else {
        "no other server is left, and the newer one counts"
    };
    format!("the same client and port's connection to {vip}, {state}: {why}")
}

pub(super) fn taken(up: Option<&str>) -> String {
    match up {
        None => {
            "forwards this frame itself, by its connection; what follows is what it does".to_owned()
        }
        Some(why) => format!("forwards this connection, but this frame comes up. {why}"),
    }
}

pub(super) fn reopened(local: Endpoint) -> String {
    format!("the server has an old connection of {local}: it is reset, and the SYN sent again")
}

pub(super) fn introduced(bytes: u32) -> String {
    format!(
        "the server is told of its client: {bytes} bytes of the PROXY protocol go before this packet"
    )
}

pub(super) const fn stray(from_server: bool, owned: bool) -> &'static str {
    match (from_server, owned) {
        (true, _) => "a real server sent it, for no connection: its own traffic",
        (false, true) => "to a VIP that UVS answers for, as a host with nothing listening would",
        (false, false) => "of no connection, no service and no server",
    }
}

pub(super) fn row(candidate: &Candidate) -> Vec<String> {
    let why = match candidate.fate {
        Fate::Chosen => "chosen",
        Fate::NotPicked => "not picked",
        Fate::WeightZero => "weight 0: no new connections",
        Fate::Overloaded => "overloaded: at its upper threshold",
        Fate::SlowStart => "slow start: it has had its share",
        Fate::SharedPort => "has this client's port already, by another service",
    };
    vec![
        candidate.server.to_string(),
        candidate.weight.to_string(),
        candidate.active.to_string(),
        candidate.inactive.to_string(),
        candidate.connections.to_string(),
        why.to_owned(),
    ]
}

pub(super) fn said_of(answer: &Leaving) -> String {
    format!("{}, {} bytes", answer.kind, answer.bytes)
}

pub(super) fn verdict(end: &End) -> String {
    match end {
        End::Send => "sent".to_owned(),
        End::SendInParts => "sent in parts".to_owned(),
        End::Answered => "answered".to_owned(),
        End::Held => "held until its datagram is complete".to_owned(),
        End::Pass => "passed: the kernel's".to_owned(),
        End::Local => "given to the director's own stack".to_owned(),
        End::Elsewhere { worker } => format!("handed over to worker {worker}"),
        End::Drop { reason, .. } => format!("dropped: {reason}"),
    }
}
