//! `-S`: services and servers as the rules that make them, for `-R`.
//!
//! Thresholds are left out, as ipvsadm leaves them out.

use std::io::Write;
use std::net::Ipv4Addr;

use uvs_control::protocol::{ServerStatus, ServiceStatus};
use uvs_core::flow::{Addr, Protocol};
use uvs_core::service::{
    ClientAddress, Forwarding, Introduction, ServerSpec, ServiceKey, ServiceSpec, Timestamps,
    TunnelChecksum,
};

use super::format::{Style, mask, protocol, sched_flags};
use super::names::Names;
use super::order;
use super::stop::Stop;

/// Prints the rules, sorted.
pub(super) fn rules(
    services: Vec<ServiceStatus>,
    style: &Style<'_>,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    for service in order::table(services) {
        let name = service_name(&service.spec.key, style);
        writeln!(out, "-A {name}{}", service_options(&service.spec))?;
        for ServerStatus { spec, .. } in service.servers {
            let server = style.endpoint(spec.endpoint, protocol(&service.spec.key));
            writeln!(out, "-a {name} -r {server}{}", server_options(&spec))?;
        }
    }
    Ok(())
}

/// Service and server as the words after `-a` or `-e`, in numbers; thresholds are left out here too.
pub fn server_words(key: &ServiceKey, spec: &ServerSpec) -> String {
    let style = Style {
        numeric: true,
        names: &NumericNames,
    };
    let name = service_name(key, &style);
    let server = style.endpoint(spec.endpoint, None);
    format!("{name} -r {server}{}", server_options(spec))
}

/// Knows no names.
struct NumericNames;

impl Names for NumericNames {
    fn port(&self, _: &str, _: Protocol) -> Option<u16> {
        None
    }
    fn service(&self, _: u16, _: Protocol) -> Option<String> {
        None
    }
    fn address(&self, _: &str) -> Option<Ipv4Addr> {
        None
    }
    fn host(&self, _: Addr) -> Option<String> {
        None
    }
}

fn server_options(spec: &ServerSpec) -> String {
    let method = spec.forwarding.def().flag();
    format!(" {method} -w {}{}", spec.weight, tunnel_options(spec))
}

fn service_name(key: &ServiceKey, style: &Style<'_>) -> String {
    let option = match key {
        ServiceKey::Mark { mark, ipv6: false } => return format!("-f {}", mark.cast_signed()),
        ServiceKey::Mark { mark, ipv6: true } => return format!("-f {} -6", mark.cast_signed()),
        ServiceKey::Address {
            protocol: Protocol::Tcp,
            ..
        } => "-t",
        ServiceKey::Address {
            protocol: Protocol::Udp,
            ..
        } => "-u",
        ServiceKey::Address {
            protocol: Protocol::Sctp,
            ..
        } => "--sctp-service",
    };
    format!("{option} {}", style.endpoint(key.vip(), protocol(key)))
}

fn service_options(spec: &ServiceSpec) -> String {
    let mut text = format!(" -s {}", spec.scheduler);
    if let Some(persistence) = spec.persistence {
        text += &format!(" -p {}", persistence.timeout);
        text += &mask(spec).map_or_else(String::new, |m| format!(" -M {m}"));
    }
    text += &spec
        .engine
        .as_ref()
        .map_or_else(String::new, |e| format!(" --pe {e}"));
    if spec.one_packet {
        text += " -o";
    }
    text += &sched_flags(spec).map_or_else(String::new, |f| format!(" -b {f}"));
    if !spec.local.is_empty() {
        let local: Vec<String> = spec.local.iter().map(ToString::to_string).collect();
        text += &format!(" --laddr {}", local.join(","));
    }
    text + &introduction_options(&spec.introduction)
}

fn introduction_options(how: &Introduction) -> String {
    let mut text = match how.client_address {
        ClientAddress::Packet => String::new(),
        ClientAddress::ProxyV1 => " --proxy-protocol v1".to_owned(),
        ClientAddress::ProxyV2 => " --proxy-protocol v2".to_owned(),
        ClientAddress::Toa => format!(" --toa {}", how.toa_kind),
    };
    if !how.authority.is_empty() {
        text += &format!(" --proxy-authority {}", how.authority);
    }
    if how.timestamps != Timestamps::Keep {
        text += &format!(" --timestamps {}", how.timestamps.word());
    }
    text
}

fn tunnel_options(spec: &ServerSpec) -> String {
    if spec.forwarding != Forwarding::Tunnel {
        return String::new();
    }
    let checksum = match spec.tunnel.checksum {
        TunnelChecksum::None => "--tun-nocsum",
        TunnelChecksum::Full => "--tun-csum",
        TunnelChecksum::Remote => "--tun-remcsum",
    };
    let def = spec.tunnel.kind.def();
    let mut text = format!(" --tun-type {}", def.word);
    if def.has_port {
        text += &format!(" --tun-port {}", spec.tunnel.port);
    }
    if !def.checksums.is_empty() {
        text += &format!(" {checksum}");
    }
    text
}
