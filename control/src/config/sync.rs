//! The table `[sync]`: the sync daemons that run from the start, which are ipvsadm's `--start-daemon` otherwise.

use std::net::IpAddr;
use std::path::PathBuf;

use super::address;
use super::fields::{Fields, Value};
use super::names::interface_name;
use crate::protocol::{SyncRequest, SyncRole};

pub(super) const ROLES: &[&str] = &["master", "backup"];
pub(super) const KEYS: &[&str] = &[
    "interface",
    "syncid",
    "maxlen",
    "group",
    "port",
    "ttl",
    "peers",
    "key_file",
    "bulk",
];
/// Other directors at most: each datagram goes to each of them.
const MAX_PEERS: usize = 16;

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
        interface: interface_name(&interface)?.to_owned(),
        syncid: fields.integer("syncid", 0..=255).unwrap_or_default(),
        maxlen: fields.integer("maxlen", 1..=65_507),
        group: fields.get("group").and_then(|value| group(&value)),
        port: fields.integer("port", 1..=65_535),
        ttl: fields.integer("ttl", 1..=255),
        peers: peers(&fields),
        key_file: fields.get("key_file").and_then(|value| key_file(&value)),
        bulk: bulk(&fields),
    })
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

/// The other directors, where there is such a list.
fn peers(fields: &Fields<'_>) -> Vec<IpAddr> {
    let Some(list) = fields.get("peers") else {
        return Vec::new();
    };
    if fields.get("group").is_some() {
        list.refuse("there is a group, too", "remove group, or peers");
    }
    let items = list.items();
    if list.is_array() && !(1..=MAX_PEERS).contains(&items.len()) {
        let help = format!("name the other directors, 1 to {MAX_PEERS}");
        list.refuse(format!("{} addresses", items.len()), help);
    }
    let peers: Vec<IpAddr> = items
        .iter()
        .filter_map(|item| address::plain(item).map(IpAddr::from))
        .collect();
    if peers.iter().any(|p| p.is_ipv4() != peers[0].is_ipv4()) {
        list.refuse(
            "addresses of both families",
            "speak IPv4 or IPv6 to all of them",
        );
    }
    peers
}

/// Whether all is asked for and told, which is only for who has the key.
fn bulk(fields: &Fields<'_>) -> bool {
    let Some(value) = fields.get("bulk") else {
        return false;
    };
    let bulk = value.boolean().unwrap_or_default();
    if bulk && fields.get("key_file").is_none() {
        value.refuse(
            "there is no key",
            "name the file that all directors have a copy of: key_file = \"/etc/uvs/sync.key\"",
        );
    }
    bulk
}

fn key_file(value: &Value<'_>) -> Option<PathBuf> {
    let path = PathBuf::from(value.string()?);
    if !path.is_absolute() {
        value.refuse(
            format!("\"{}\" is not an absolute path", path.display()),
            "write it from / on, as /etc/uvs/sync.key",
        );
        return None;
    }
    Some(path)
}
