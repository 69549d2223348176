//! One `[[service]]`: its address, its scheduler and its options.

use std::collections::HashMap;
use std::iter;
use std::net::Ipv6Addr;
use std::ops::{Range, RangeInclusive};

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::scheduler::{FLAG_1, FLAG_2, FLAG_3};
use uvs_core::service::{Forwarding, ServerSpec, ServiceKey, ServiceSpec};
use uvs_plugin::host::{CAN_LOAD, NO_PLUGINS};

use super::fields::{Fields, Value, suggest};
use super::marks::{self, Distinct};
use super::{
    ConnectionLogging, access, address, connection_log, introduction, modes, persistence, server,
    teardown,
};
use crate::access::Configured;
use crate::plugins::{Schedulers, Unfound, check_settings};

pub(super) const KEYS: &[&str] = &[
    "tcp",
    "udp",
    "sctp",
    "fwmark",
    "match",
    "scheduler",
    "flags",
    "persistent",
    "one_packet",
    "mode",
    "local_addresses",
    "table_size",
    "slow_start",
    "on_removal",
    "on_expiry",
    "drain_timeout",
    "deny",
    "allow",
    "deny_file",
    "allow_file",
    "connection_log",
    "new_connections_per_second",
    "new_connections_burst",
    "new_connections_per_client",
    "new_connections_per_client_burst",
    "client_prefix",
    "client_address",
    "proxy_authority",
    "toa_kind",
    "timestamps",
    "server",
];

/// Scheduler flags: name, bit, and the only scheduler that takes it.
const FLAGS: &[(&str, (u32, Option<&str>))] = &[
    ("sh-fallback", (FLAG_1, Some("sh"))),
    ("sh-port", (FLAG_2, Some("sh"))),
    ("mh-fallback", (FLAG_1, Some("mh"))),
    ("mh-port", (FLAG_2, Some("mh"))),
    ("flag-1", (FLAG_1, None)),
    ("flag-2", (FLAG_2, None)),
    ("flag-3", (FLAG_3, None)),
];

/// ipvsadm's.
const DEFAULT_SCHEDULER: &str = "wlc";

/// Entries of a look-up table; which of them a scheduler takes is its own matter.
const TABLE_SIZE: RangeInclusive<i64> = 1..=u32::MAX as i64;
/// Seconds, up to a day.
const SLOW_START: RangeInclusive<i64> = 0..=86_400;

/// Reads a service with its deny and allow list, and says where its address is written; `None` where that is
/// wrong. What a firewall mark matches goes to `marks`.
pub(super) fn read<'a>(
    value: &Value<'a>,
    (schedulers, log): (&Schedulers, Option<&ConnectionLogging>),
    marks: &mut Distinct,
) -> Option<(Value<'a>, ServiceSpec, Configured)> {
    let fields = value.fields(KEYS)?;
    let scheduler = scheduler(&fields, value, schedulers);
    let flags = flags(&fields, &scheduler);
    let mode = modes::mode(&fields, Forwarding::Dr);
    let (at, key) = key(&fields, value)?;
    let (protocol, vip, mark) = match key {
        ServiceKey::Address { protocol, .. } => (Some(protocol), key.vip(), None),
        ServiceKey::Mark { mark, ipv6: false } => (None, key.vip(), Some(mark)),
        ServiceKey::Mark { mark, ipv6: true } => {
            let any = Endpoint::new(Addr::from(Ipv6Addr::UNSPECIFIED), 0);
            (None, any, Some(mark))
        }
    };
    marks.read(&fields, value, key);

    let mut spec = ServiceSpec::new(key, &scheduler);
    spec.flags = flags;
    persistence::read(&fields, vip.addr, &mut spec);
    spec.one_packet = one_packet(&fields, protocol);
    spec.teardown = teardown::read(&fields, protocol);
    spec.new_connections = access::new_connections(&fields, vip.addr);
    if vip.port == 0 && mark.is_none() && fields.get("persistent").is_none() {
        at.refuse(
            "port 0 (every port) needs persistence",
            "use a port from 1 to 65535, or add: persistent = 300",
        );
    }
    spec.servers = servers(&fields, vip, mode);
    spec.local = local_addresses(&fields, value, mode, &spec);
    spec.introduction = Box::new(introduction::read(&fields, &spec));
    scheduler_settings(&fields, &mut spec);
    connection_log::of_service(&fields, log, &mut spec);
    Some((at, spec, access::read(&fields)))
}

/// The one of `tcp`, `udp`, `sctp` and `fwmark` that is there.
fn key<'a>(fields: &Fields<'a>, service: &Value<'a>) -> Option<(Value<'a>, ServiceKey)> {
    let protocols = [
        ("tcp", Protocol::Tcp),
        ("udp", Protocol::Udp),
        ("sctp", Protocol::Sctp),
    ];
    let mut given = protocols
        .iter()
        .filter_map(|&(key, p)| Some((fields.get(key)?, p)));
    if let Some((value, mark)) = marks::mark(fields) {
        if let Some((second, _)) = given.next() {
            second.refuse(
                "a second address",
                "a service of a firewall mark has none: its packets are those of match",
            );
        }
        return Some((
            value,
            ServiceKey::Mark {
                mark: mark?,
                ipv6: marks::is_ipv6(fields),
            },
        ));
    }
    let Some((value, protocol)) = given.next() else {
        service.refuse(
            "has no address",
            "add: tcp = \"VIP:PORT\" (or udp, sctp, or fwmark)",
        );
        return None;
    };
    if let Some((second, _)) = given.next() {
        second.refuse(
            "a second address",
            "write one [[service]] for each protocol",
        );
    }
    let (addr, port) = address::with_port(&value)?;
    let Some(port) = port else {
        let example = Endpoint::new(addr, 80);
        value.refuse("has no port", format!("write \"{example}\""));
        return None;
    };
    let key = ServiceKey::address(protocol, Endpoint::new(addr, port));
    Some((value, key))
}

fn scheduler(fields: &Fields<'_>, service: &Value<'_>, known: &Schedulers) -> String {
    let given = fields.get("scheduler");
    let name = match &given {
        Some(value) => value.string(),
        None => Some(DEFAULT_SCHEDULER),
    };
    let Some(name) = name else {
        return String::new();
    };
    let (what, help) = match known.find(name) {
        Ok(()) => return name.to_owned(),
        Err(Unfound::Unknown(_)) => {
            let names = known.names();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let what = format!("unknown scheduler \"{name}\"");
            let mut help = suggest(name, &names, "schedulers");
            if !CAN_LOAD {
                help = format!("{help}; {NO_PLUGINS}");
            }
            (what, help)
        }
        Err(Unfound::Refused(why)) => {
            let what = format!("the plugin \"{name}\" is refused: {why}");
            (what, "try it: uvs plugin check FILE".to_owned())
        }
    };
    given.as_ref().unwrap_or(service).refuse(what, help);
    name.to_owned()
}

fn flags(fields: &Fields<'_>, scheduler: &str) -> u32 {
    let mut flags = 0;
    for item in fields
        .get("flags")
        .map(|value| value.items())
        .unwrap_or_default()
    {
        let Some((bit, only)) = item.choice(FLAGS) else {
            continue;
        };
        match only.filter(|&only| only != scheduler) {
            Some(only) => item.refuse(
                format!("is not a flag of scheduler \"{scheduler}\""),
                format!("it belongs to scheduler = \"{only}\""),
            ),
            None => flags |= bit,
        }
    }
    flags
}

/// What only some schedulers take.
fn scheduler_settings(fields: &Fields<'_>, spec: &mut ServiceSpec) {
    let number = |key, range| fields.integer(key, range).unwrap_or(0);
    spec.table_size = number("table_size", TABLE_SIZE);
    spec.slow_start = number("slow_start", SLOW_START);
    if let Err(unfit) = check_settings(spec)
        && let Some(value) = fields.get(unfit.key)
    {
        value.refuse(unfit.what, unfit.help);
    }
}

fn one_packet(fields: &Fields<'_>, protocol: Option<Protocol>) -> bool {
    let Some(value) = fields.get("one_packet") else {
        return false;
    };
    let on = value.boolean().unwrap_or(false);
    if let Some(protocol) = protocol.filter(|p| on && *p != Protocol::Udp) {
        value.refuse(
            format!("a {protocol} service cannot schedule packet by packet"),
            "one_packet is for udp services",
        );
    }
    on
}

fn servers(fields: &Fields<'_>, vip: Endpoint, mode: Forwarding) -> Vec<ServerSpec> {
    let mut seen: HashMap<Endpoint, Range<usize>> = HashMap::new();
    let mut servers = Vec::new();
    for value in fields
        .get("server")
        .map(|value| value.items())
        .unwrap_or_default()
    {
        let Some((at, spec)) = server::read(&value, vip, mode) else {
            continue;
        };
        if let Some(first) = seen.get(&spec.endpoint) {
            let what = format!("server {} twice in this service", spec.endpoint);
            at.refuse_again(
                what,
                "name each server once and give it a weight",
                first.clone(),
            );
            continue;
        }
        seen.insert(spec.endpoint, at.span());
        servers.push(spec);
    }
    servers.reverse();
    servers
}

fn local_addresses(
    fields: &Fields<'_>,
    service: &Value<'_>,
    mode: Forwarding,
    spec: &ServiceSpec,
) -> Vec<Addr> {
    let mut methods = iter::once(mode).chain(spec.servers.iter().map(|server| server.forwarding));
    let taker = methods.find(|method| method.takes_local());
    let Some(value) = fields.get("local_addresses") else {
        if let Some(taker) = taker {
            let help = "add: local_addresses = [\"ADDRESS\"], addresses of this host that the servers \
                        answer to";
            let at = fields.get("mode").filter(|_| mode.takes_local());
            let word = taker.def().word;
            at.as_ref()
                .unwrap_or(service)
                .refuse(format!("mode \"{word}\" needs local addresses"), help);
        }
        return Vec::new();
    };
    let items = value.items();
    if taker.is_none() {
        let takers = modes::one_method_that(Forwarding::takes_local);
        value.refuse(
            format!("no server here is of mode {takers}"),
            format!("remove it, or set mode = {takers}"),
        );
    } else if items.is_empty() {
        value.refuse("has no address", "name at least one address of this host");
    }
    let addresses = distinct(&items);
    let lacks = |server: &&ServerSpec| {
        let v4 = server.endpoint.addr.is_v4();
        server.forwarding.takes_local() && !addresses.iter().any(|a| a.is_v4() == v4)
    };
    if let Some(server) = spec
        .servers
        .iter()
        .find(lacks)
        .filter(|_| !addresses.is_empty())
    {
        let family = if server.endpoint.addr.is_v4() {
            "IPv4"
        } else {
            "IPv6"
        };
        value.refuse(
            format!(
                "no {family} address, as the server {} needs",
                server.endpoint
            ),
            format!("add an {family} address of this host that it answers to"),
        );
    }
    addresses
}

fn distinct(items: &[Value<'_>]) -> Vec<Addr> {
    let mut seen: HashMap<Addr, Range<usize>> = HashMap::new();
    let mut addresses = Vec::new();
    for item in items {
        let Some(addr) = address::plain(item) else {
            continue;
        };
        if let Some(first) = seen.get(&addr) {
            item.refuse_again(
                format!("{addr} twice"),
                "name each address once",
                first.clone(),
            );
            continue;
        }
        seen.insert(addr, item.span());
        addresses.push(addr);
    }
    addresses
}
