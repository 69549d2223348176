//! The settings of services and servers by their keys in the configuration, as text: what is compared, and what is told.

use std::fmt::Write as _;

use uvs_core::scheduler::{FLAG_1, FLAG_2, FLAG_3};
use uvs_core::service::{
    ConnectionLog, Forwarding, OnExpiry, OnRemoval, ServerSpec, ServiceSpec, TunnelChecksum,
};

/// A service's.
pub(super) fn service_fields(service: &ServiceSpec) -> Vec<(&'static str, String)> {
    // Taken apart, so that a new setting is compared or does not compile.
    let ServiceSpec {
        key: _,
        scheduler,
        flags,
        persistence,
        engine,
        one_packet,
        local,
        table_size,
        slow_start,
        teardown,
        new_connections,
        connection_log,
        introduction,
        servers: _,
    } = service;
    let persistence = persistence.map_or_else(none, |p| match p.mask {
        u32::MAX | 128 => format!("{} s", p.timeout),
        mask if service.key.is_v4() => {
            let [a, b, c, d] = mask.to_be_bytes();
            format!("{} s with mask {a}.{b}.{c}.{d}", p.timeout)
        }
        length => format!("{} s with prefix {length}", p.timeout),
    });
    let addresses: Vec<String> = local.iter().map(ToString::to_string).collect();
    let new = new_connections;
    vec![
        ("scheduler", scheduler.clone()),
        ("flags", flag_names(*flags)),
        ("persistent", persistence),
        ("persistence_engine", engine.clone().unwrap_or_else(none)),
        ("one_packet", one_packet.to_string()),
        ("local_addresses", or_none(addresses.join(","))),
        ("table_size", table_size.to_string()),
        ("slow_start", slow_start.to_string()),
        ("on_removal", on_removal(teardown.on_removal).to_owned()),
        ("on_expiry", on_expiry(teardown.on_expiry).to_owned()),
        ("drain_timeout", teardown.drain_timeout.to_string()),
        ("new_connections_per_second", new.per_second.to_string()),
        ("new_connections_burst", new.burst.to_string()),
        ("new_connections_per_client", new.per_client.to_string()),
        (
            "new_connections_per_client_burst",
            new.per_client_burst.to_string(),
        ),
        ("client_prefix", new.client_prefix.to_string()),
        ("connection_log", logged(*connection_log).to_owned()),
        (
            "client_address",
            introduction.client_address.word().to_owned(),
        ),
        ("proxy_authority", or_none(introduction.authority.clone())),
        ("toa_kind", introduction.toa_kind.to_string()),
        ("timestamps", introduction.timestamps.word().to_owned()),
    ]
}

/// A server's.
pub(super) fn server_fields(server: &ServerSpec) -> Vec<(&'static str, String)> {
    let ServerSpec {
        endpoint: _,
        forwarding,
        tunnel,
        weight,
        upper,
        lower,
    } = server;
    let mut mode = server.mode().to_owned();
    if *forwarding == Forwarding::Tunnel {
        if tunnel.port != 0 {
            let _ = write!(mode, " port {}", tunnel.port);
        }
        mode += match tunnel.checksum {
            TunnelChecksum::None => "",
            TunnelChecksum::Full => " with checksums",
            TunnelChecksum::Remote => " with remote checksums",
        };
    }
    vec![
        ("mode", mode),
        ("weight", weight.to_string()),
        ("upper_threshold", upper.to_string()),
        ("lower_threshold", lower.to_string()),
    ]
}

fn none() -> String {
    "none".to_owned()
}

fn or_none(text: String) -> String {
    if text.is_empty() { none() } else { text }
}

fn flag_names(flags: u32) -> String {
    let names = [(FLAG_1, "flag-1"), (FLAG_2, "flag-2"), (FLAG_3, "flag-3")];
    let set = names.iter().filter(|(flag, _)| flags & flag != 0);
    let set: Vec<&str> = set.map(|(_, name)| *name).collect();
    or_none(set.join(","))
}

const fn on_removal(what: OnRemoval) -> &'static str {
    match what {
        OnRemoval::Keep => "keep",
        OnRemoval::Drop => "drop",
        OnRemoval::Tell => "tell",
    }
}

const fn on_expiry(what: OnExpiry) -> &'static str {
    match what {
        OnExpiry::Drop => "drop",
        OnExpiry::Tell => "tell",
    }
}

const fn logged(what: ConnectionLog) -> &'static str {
    match what {
        ConnectionLog::Off => "off",
        ConnectionLog::Ends => "ends",
        ConnectionLog::StartsAndEnds => "starts-and-ends",
    }
}
