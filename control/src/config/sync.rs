//! The table `[sync]`: the sync daemons that run from the start, which are ipvsadm's `--start-daemon` otherwise.

use std::net::IpAddr;

use super::fields::{Fields, Value};
use crate::protocol::{SyncRequest, SyncRole};

const ROLES: &[&str] = &["master", "backup"];
const KEYS: &[&str] = &["interface", "syncid", "maxlen", "group", "port", "ttl"];
/// Bytes of an interface's name (`IFNAMSIZ` less its NUL).
const MAX_INTERFACE: usize = 15;

/// Reads the table, where there is one; the master first.
pub(super) fn read(top: &Fields<'_>) -> Vec<SyncRequest> {
    let Some(both) = top.get("sync").and_then(|value| value.fields(ROLES)) else {
        return Vec::new();
    };
    let one = |(role, key): (SyncRole, &'static str)| daemon(role, &both.get(key)?);
    let roles = [(SyncRole::Master, "master"), (SyncRole::Backup, "backup")];
    roles.into_iter().filter_map(one).collect()
}

fn daemon(role: SyncRole, value: &Value<'_>) -> Option<SyncRequest> {
    let fields = value.fields(KEYS)?;
    let Some(interface) = fields.get("interface") else {
        value.refuse(
            format!("the {role} sync daemon has no interface"),
            "name the one by which the directors speak: interface = \"eth1\"",
        );
        return None;
    };
    Some(SyncRequest {
        role,
        interface: name(&interface)?,
        syncid: fields.integer("syncid", 0..=255).unwrap_or_default(),
        maxlen: fields.integer("maxlen", 1..=65_507),
        group: fields.get("group").and_then(|value| group(&value)),
        port: fields.integer("port", 1..=65_535),
        ttl: fields.integer("ttl", 1..=255),
    })
}

fn name(value: &Value<'_>) -> Option<String> {
    let name = value.string()?;
    if name.is_empty() || name.len() > MAX_INTERFACE {
        let help = format!("use the name of an interface, 1 to {MAX_INTERFACE} bytes");
        value.refuse(format!("\"{name}\" cannot be an interface"), help);
        return None;
    }
    Some(name.to_owned())
}

fn group(value: &Value<'_>) -> Option<IpAddr> {
    let text = value.string()?;
    let group = text.parse().ok().filter(IpAddr::is_multicast);
    if group.is_none() {
        value.refuse(
            format!("\"{text}\" is not a multicast address"),
            "use one such as 224.0.0.81 or ff02::81",
        );
    }
    group
}
