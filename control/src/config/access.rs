//! Who may use services, and how fast: `deny`, `allow` and their files, at the top and in a service, and a
//! service's `new_connections_…`.

use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use uvs_core::access::{Action, Prefix, PrefixError, Rule};
use uvs_core::flow::Addr;
use uvs_core::service::NewConnections;

use super::HostFirewall;
use super::fields::{Fields, Value};
use crate::access::{Configured, prefixes};

/// What may become of the host's own rules.
const HOST_FIREWALL: &[(&str, HostFirewall)] = &[
    (HostFirewall::Follow.name(), HostFirewall::Follow),
    (HostFirewall::Ignore.name(), HostFirewall::Ignore),
];
/// Connections a second, and at once. More than ten million a second no worker makes.
const CONNECTIONS: RangeInclusive<i64> = 0..=10_000_000;

/// Reads the four keys of a list.
pub(super) fn read(fields: &Fields<'_>) -> Configured {
    let mut seen = HashMap::new();
    let mut rules = Vec::new();
    for (key, action) in [("deny", Action::Deny), ("allow", Action::Allow)] {
        let items = fields.get(key).map(|value| value.items());
        for item in items.unwrap_or_default() {
            let found = read_prefixes(&item, &mut seen);
            rules.extend(found.into_iter().map(|prefix| Rule { prefix, action }));
        }
    }
    let mut files = Vec::new();
    for (key, action) in [("deny_file", Action::Deny), ("allow_file", Action::Allow)] {
        let path = fields.get(key).and_then(|value| path(&value));
        files.extend(path.map(|path| (action, path)));
    }
    refuse_idle_allow(fields);
    Configured { rules, files }
}

/// Reads the key of that name.
pub(super) fn host_firewall(top: &Fields<'_>) -> HostFirewall {
    let written = top.get("host_firewall");
    let chosen = written.and_then(|value| value.choice(HOST_FIREWALL));
    chosen.unwrap_or_default()
}

fn read_prefixes(item: &Value<'_>, seen: &mut HashMap<Prefix, Range<usize>>) -> Vec<Prefix> {
    let Some(text) = item.string() else {
        return Vec::new();
    };
    let found = match prefixes(text) {
        Ok(found) => found,
        Err(PrefixError { what, help }) => {
            item.refuse(what, help);
            return Vec::new();
        }
    };
    for prefix in &found {
        if let Some(first) = seen.insert(*prefix, item.span()) {
            let help = "write each prefix once; what is denied and allowed is denied";
            item.refuse_again(format!("{prefix} twice"), help, first);
        }
    }
    found
}

fn path(value: &Value<'_>) -> Option<PathBuf> {
    let text = value.string()?;
    if Path::new(text).is_absolute() {
        return Some(text.into());
    }
    value.refuse(
        format!("\"{text}\" is not an absolute path"),
        "use an absolute path: it is read again while the daemon runs",
    );
    None
}

/// An allowed prefix is an exception to a denied one. Whoever writes only `allow` means more than that.
fn refuse_idle_allow(fields: &Fields<'_>) {
    let allow = fields.get("allow").or_else(|| fields.get("allow_file"));
    let deny = fields.get("deny").or_else(|| fields.get("deny_file"));
    if let (Some(allow), None) = (allow, deny) {
        let help = "add deny = [\"all\"] where nobody else may come in, or the deny list that this is an \
                    exception to";
        allow.refuse("allows nothing that is not allowed without it", help);
    }
}

/// Reads a service's limits; `vip` says its family.
pub(super) fn new_connections(fields: &Fields<'_>, vip: Addr) -> NewConnections {
    let number = |key| fields.integer(key, CONNECTIONS).unwrap_or(0);
    let family: i64 = if vip.is_v4() { 32 } else { 128 };
    let limits = NewConnections {
        per_second: number("new_connections_per_second"),
        burst: number("new_connections_burst"),
        per_client: number("new_connections_per_client"),
        per_client_burst: number("new_connections_per_client_burst"),
        client_prefix: fields.integer("client_prefix", 1..=family).unwrap_or(0),
    };
    for (key, needs) in [
        ("new_connections_burst", "new_connections_per_second"),
        (
            "new_connections_per_client_burst",
            "new_connections_per_client",
        ),
        ("client_prefix", "new_connections_per_client"),
    ] {
        if let Some(value) = fields.get(key).filter(|_| fields.get(needs).is_none()) {
            value.refuse(
                "has no effect",
                format!("add {needs} = NUMBER, or remove it"),
            );
        }
    }
    limits
}
