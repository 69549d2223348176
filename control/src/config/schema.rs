//! The top of the configuration file: what is there beside the services, and that nothing is twice.

use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use toml::de::DeTable;
use uvs_core::marks::MarkRule;
use uvs_core::service::{ServiceKey, ServiceSpec};
use uvs_core::snapshot::{Limits, SysctlError, Sysctls, Timeouts};

use super::error::Problem;
use super::fields::{Fields, Problems, Value};
use super::names::{MAX_SOCKET, interface_name};
use super::{
    Config, ConnectionLogging, Early, Known, access, confinement, connection_log, hook, marks,
    metrics, own, plugins, service, sync, workers,
};
use crate::access::AllConfigured;
use crate::plugins::Schedulers;

pub(super) const KEYS: &[&str] = &[
    "interfaces",
    "own_vips",
    "socket",
    "metrics",
    "limits",
    "timeouts",
    "sysctl",
    "plugins",
    "deny",
    "allow",
    "deny_file",
    "allow_file",
    "host_firewall",
    "connection_log",
    "hook",
    "workers",
    "worker_cpus",
    "busy_poll",
    "confinement",
    "sync",
    "service",
];
pub(super) const LIMIT_KEYS: &[&str] = &["connections", "local_ports", "fragment_bytes"];
pub(super) const TIMEOUT_KEYS: &[&str] = &["tcp", "tcp_fin", "udp"];

/// Connections in the table (see [`Limits::connections`]).
const CONNECTIONS: RangeInclusive<i64> = 1..=1 << 24;
/// Bytes of fragments that may wait; more than a gigabyte is a slip of the keyboard.
const FRAGMENT_BYTES: RangeInclusive<i64> = 0..=1 << 30;
/// Seconds of a time-out: as many as the kernel takes at 1000 jiffies a second (`INT_MAX / HZ`).
const TIMEOUT: RangeInclusive<i64> = 1..=2_147_483;

/// Reads a whole file.
pub(super) fn read(text: &str, known: Known<'_>) -> Result<Config, Vec<Problem>> {
    // Past the first slip of syntax a parser only guesses, so that only that one is reported.
    let document = DeTable::parse(text).map_err(|error| vec![unparsable(&error, text)])?;
    let problems = Problems::default();
    let top = Fields::new(document.get_ref(), String::new(), KEYS, &problems);
    let (plugins, named) = plugins::read(&top);
    let schedulers = known(&plugins);
    plugins::load(&plugins, &named, &schedulers);
    let everywhere = access::read(&top);
    let mut lists = AllConfigured::from([(None, everywhere)]);
    let connection_log = connection_log::read(&top);
    let known = (&*schedulers, connection_log.as_ref());
    let (services, marks) = services(&top, known, &mut lists);
    lists.retain(|_, list| !list.is_empty());
    let config = Config {
        interfaces: interfaces(&top),
        own_vips: top
            .get("own_vips")
            .map_or_else(Default::default, |value| own::read(&value)),
        socket: top.get("socket").and_then(|value| socket(&value)),
        metrics: metrics::read(&top),
        limits: limits(&top),
        timeouts: timeouts(&top),
        sysctls: sysctls(&top),
        plugins,
        services,
        marks,
        access: lists,
        connection_log,
        host_firewall: access::host_firewall(&top),
        hook: hook::read(&top),
        workers: workers::read(&top),
        confinement: confinement::read(&top),
        sync: sync::read(&top),
    };
    match problems.into_inner() {
        none if none.is_empty() => Ok(config),
        problems => Err(problems),
    }
}

/// Reads what is needed first. What cannot be read is as if it were not there.
pub(super) fn read_early(text: &str) -> Early {
    let Ok(document) = DeTable::parse(text) else {
        return Early::default();
    };
    let problems = Problems::default();
    let top = Fields::new(document.get_ref(), String::new(), KEYS, &problems);
    Early {
        confinement: confinement::read(&top),
        hook: hook::read(&top),
    }
}

fn unparsable(error: &toml::de::Error, text: &str) -> Problem {
    Problem {
        span: error.span().unwrap_or(text.len()..text.len()),
        key: String::new(),
        what: format!("not TOML: {}", error.message()),
        help: "fix the syntax first; the rest of the file was not checked".to_owned(),
        first: None,
    }
}

fn interfaces(top: &Fields<'_>) -> Vec<String> {
    let mut seen: HashMap<&str, Range<usize>> = HashMap::new();
    let mut names = Vec::new();
    for item in top
        .get("interfaces")
        .map(|value| value.items())
        .unwrap_or_default()
    {
        let Some(name) = interface_name(&item) else {
            continue;
        };
        if let Some(first) = seen.get(name) {
            item.refuse_again(
                format!("{name} twice"),
                "name each interface once",
                first.clone(),
            );
        } else {
            seen.insert(name, item.span());
            names.push(name.to_owned());
        }
    }
    names
}

fn socket(value: &Value<'_>) -> Option<PathBuf> {
    let path = value.string()?;
    if !Path::new(path).is_absolute() || path.ends_with('/') || path.len() > MAX_SOCKET {
        value.refuse(
            format!("\"{path}\" cannot be the control socket"),
            format!("use an absolute path of at most {MAX_SOCKET} bytes"),
        );
        return None;
    }
    Some(path.into())
}

fn limits(top: &Fields<'_>) -> Limits {
    let mut limits = Limits::default();
    let Some(fields) = top.get("limits").and_then(|value| value.fields(LIMIT_KEYS)) else {
        return limits;
    };
    if let Some(connections) = fields.integer("connections", CONNECTIONS) {
        limits.connections = connections;
    }
    if let Some(ports) = fields.get("local_ports").and_then(|value| ports(&value)) {
        limits.local_ports = ports;
    }
    if let Some(bytes) = fields.integer("fragment_bytes", FRAGMENT_BYTES) {
        limits.fragment_bytes = bytes;
    }
    limits
}

/// `"FIRST-LAST"`.
fn ports(value: &Value<'_>) -> Option<(u16, u16)> {
    let text = value.string()?;
    let number = |s: &str| s.trim().parse::<u16>().ok().filter(|&port| port != 0);
    let range = text
        .split_once('-')
        .and_then(|(a, b)| Some((number(a)?, number(b)?)));
    let range = range.filter(|(first, last)| first <= last);
    if range.is_none() {
        value.refuse(
            format!("\"{text}\" is not a range of ports"),
            "write \"FIRST-LAST\" within 1 and 65535, the smaller one first: \"10000-32767\"",
        );
    }
    range
}

fn timeouts(top: &Fields<'_>) -> Timeouts {
    let mut timeouts = Timeouts::default();
    let Some(fields) = top
        .get("timeouts")
        .and_then(|value| value.fields(TIMEOUT_KEYS))
    else {
        return timeouts;
    };
    for (key, field) in [
        ("tcp", &mut timeouts.tcp),
        ("tcp_fin", &mut timeouts.tcp_fin),
        ("udp", &mut timeouts.udp),
    ] {
        if let Some(seconds) = fields.integer(key, TIMEOUT) {
            *field = seconds;
        }
    }
    timeouts
}

fn sysctls(top: &Fields<'_>) -> Sysctls {
    let mut sysctls = Sysctls::default();
    let Some(fields) = top
        .get("sysctl")
        .and_then(|value| value.fields(Sysctls::NAMES))
    else {
        return sysctls;
    };
    for name in Sysctls::NAMES {
        let Some(value) = fields.get(name) else {
            continue;
        };
        let Some(text) = value.number_or_string() else {
            continue;
        };
        match sysctls.set(name, &text) {
            Err(SysctlError::Value { what, wanted }) => value.refuse(what, format!("use {wanted}")),
            Err(SysctlError::Unknown) => unreachable!("{name} is one of Sysctls::NAMES"),
            Ok(()) => {}
        }
    }
    sysctls
}

/// The services, and what their firewall marks match; their deny and allow lists go to `lists`.
fn services(
    top: &Fields<'_>,
    known: (&Schedulers, Option<&ConnectionLogging>),
    lists: &mut AllConfigured,
) -> (Vec<ServiceSpec>, Vec<MarkRule>) {
    let mut seen: HashMap<ServiceKey, Range<usize>> = HashMap::new();
    let mut services = Vec::new();
    let mut marks = marks::Distinct::default();
    for value in top
        .get("service")
        .map(|value| value.items())
        .unwrap_or_default()
    {
        let Some((address, spec, list)) = service::read(&value, known, &mut marks) else {
            continue;
        };
        if let Some(first) = seen.get(&spec.key) {
            let what = format!("service {} twice", spec.key);
            address.refuse_again(
                what,
                "put all its servers under one [[service]]",
                first.clone(),
            );
            continue;
        }
        seen.insert(spec.key, address.span());
        lists.insert(Some(spec.key), list);
        services.push(spec);
    }
    (services, marks.into_rules())
}
