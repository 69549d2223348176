//! The guard's rules as nft's text. Pure.
//!
//! Only IPv4 frames to this host are looked at, so ARP always passes. Everything is looked up in hash
//! sets: a frame costs the same with one service and with thousands.
//!
//! Fragments: only the first has ports. The set `fragments` remembers a datagram whose first fragment
//! was dropped, and the others follow it. Where they overtake it they reach the kernel, which does no
//! harm: without the first it neither completes nor answers the datagram (RFC 1122 §3.3.2), and a
//! client discards it the same way.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use uvs_core::flow::{Addr, Protocol};

use super::GuardError;

/// The table's name.
pub(super) const TABLE: &str = "uvs";

/// Before every other chain at the ingress hook: what is ours is nobody else's.
const PRIORITY: i32 = -500;
/// The kernel's own reassembly time (net.ipv4.ipfrag_time).
const FRAGMENT_SECONDS: u32 = 30;
/// Datagrams remembered; of more, the later fragments reach the kernel.
const FRAGMENT_LIMIT: u32 = 65_535;

/// Address and port of a real server, port 0 = all ports.
pub(crate) type Server = (Addr, Protocol, u16);

/// What the kernel shall leave to UVS. IPv4; other addresses are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GuardSpec {
    /// The interfaces that UVS runs on.
    pub(crate) interfaces: Vec<String>,
    /// Services; port 0 = all ports of the VIP for that protocol. What else goes to the VIP, ICMP
    /// included, stays the kernel's.
    pub(crate) services: Vec<(Protocol, Addr, u16)>,
    /// VIPs that are on no interface: everything to them is dropped, since UVS answers.
    pub(crate) owned: Vec<Addr>,
    /// NAT's real servers: their replies through the host are dropped, and ICMP errors about what they
    /// were sent.
    pub(crate) nat_servers: Vec<Server>,
    /// FULLNAT's side.
    pub(crate) fullnat: FullNat,
    /// The host's own addresses: what a NAT server sends to them (a health check's answer) is spared.
    pub(crate) local: Vec<Addr>,
}

/// FULLNAT's replies: from a server to a local address, to a port in the range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FullNat {
    /// Local addresses.
    pub(crate) local: Vec<Addr>,
    /// First and last local port.
    pub(crate) ports: (u16, u16),
    /// Real servers.
    pub(crate) servers: Vec<Server>,
}

/// The script that replaces the table in one transaction, with a chain on each of `interfaces`.
///
/// # Errors
/// An interface name that cannot be quoted.
pub(super) fn render(spec: &GuardSpec, interfaces: &[String]) -> Result<String, GuardError> {
    if let Some(name) = interfaces.iter().find(|n| n.contains('"')) {
        return Err(GuardError::InterfaceName(name.clone()));
    }
    let mut out = String::new();
    // Adding first makes the deletion succeed where there is no table.
    let _ = writeln!(out, "add table netdev {TABLE}\ndelete table netdev {TABLE}");
    let _ = writeln!(out, "table netdev {TABLE} {{");
    counters(&mut out);
    sets(&mut out, spec);
    chains(&mut out, spec);
    for (i, name) in interfaces.iter().enumerate() {
        let _ = writeln!(
            out,
            "chain ingress_{i} {{\n\
             type filter hook ingress device \"{name}\" priority {PRIORITY}; policy accept;\n\
             meta protocol ip meta pkttype host jump ours\n}}"
        );
    }
    out.push_str("}\n");
    Ok(out)
}

/// One counter a reason.
fn counters(out: &mut String) {
    for name in [
        "service",
        "owned",
        "nat_reply",
        "fullnat_reply",
        "icmp_error",
        "fragment",
    ] {
        let _ = writeln!(out, "counter {name} {{ }}");
    }
}

fn sets(out: &mut String, spec: &GuardSpec) {
    let services = spec
        .services
        .iter()
        .map(|&(protocol, vip, port)| (vip, protocol, port));
    tuples(
        out,
        "service",
        "ip daddr . ip protocol",
        "th dport",
        services,
    );
    set(out, "owned", "ip daddr", addresses(&spec.owned));
    set(out, "local", "ip daddr", addresses(&spec.local));
    let servers = spec.nat_servers.iter().copied();
    tuples(
        out,
        "nat_server",
        "ip saddr . ip protocol",
        "th sport",
        servers.clone(),
    );
    let servers_fullnat = spec.fullnat.servers.iter().copied();
    tuples(
        out,
        "fullnat_server",
        "ip saddr . ip protocol",
        "th sport",
        servers_fullnat,
    );
    set(
        out,
        "fullnat_local",
        "ip daddr",
        addresses(&spec.fullnat.local),
    );
    // The packet within an ICMP error (RFC 792): its destination, protocol and destination port, in
    // bits from the start of the ICMP header, for an inner header without options.
    set(
        out,
        "inner",
        "@th,192,32 . @th,136,8 . @th,240,16",
        inner(servers.clone(), false),
    );
    set(
        out,
        "inner_any_port",
        "@th,192,32 . @th,136,8",
        inner(servers, true),
    );
    let _ = writeln!(
        out,
        "set fragments {{\ntypeof ip saddr . ip daddr . ip id . ip protocol\n\
         flags dynamic,timeout\ntimeout {FRAGMENT_SECONDS}s\nsize {FRAGMENT_LIMIT}\n}}"
    );
}

fn chains(out: &mut String, spec: &GuardSpec) {
    for (chain, counter) in [
        ("service", "service"),
        ("nat_reply", "nat_reply"),
        ("fullnat_reply", "fullnat_reply"),
    ] {
        let _ = writeln!(
            out,
            "chain drop_{chain} {{\n\
             ip frag-off & 0x2000 != 0 update @fragments {{ ip saddr . ip daddr . ip id . ip protocol }}\n\
             counter name {counter} drop\n}}"
        );
    }
    let (low, high) = spec.fullnat.ports;
    let _ = writeln!(
        out,
        "chain ours {{\n\
         ip frag-off & 0x1fff != 0 ip saddr . ip daddr . ip id . ip protocol @fragments counter name fragment drop\n\
         ip daddr @owned counter name owned drop\n\
         ip daddr . ip protocol . th dport @service goto drop_service\n\
         ip daddr . ip protocol @service_any_port goto drop_service\n\
         ip daddr @fullnat_local th dport >= {low} th dport <= {high} ip saddr . ip protocol . th sport @fullnat_server goto drop_fullnat_reply\n\
         ip daddr @fullnat_local th dport >= {low} th dport <= {high} ip saddr . ip protocol @fullnat_server_any_port goto drop_fullnat_reply\n\
         ip daddr @local accept\n\
         ip saddr . ip protocol . th sport @nat_server goto drop_nat_reply\n\
         ip saddr . ip protocol @nat_server_any_port goto drop_nat_reply\n\
         icmp type {{ 3, 4, 11, 12 }} @th,64,8 0x45 @th,192,32 . @th,136,8 . @th,240,16 @inner counter name icmp_error drop\n\
         icmp type {{ 3, 4, 11, 12 }} @th,64,8 0x45 @th,192,32 . @th,136,8 @inner_any_port counter name icmp_error drop\n\
         }}"
    );
}

/// Two sets: those with a port, and those for all ports.
fn tuples(
    out: &mut String,
    name: &str,
    key: &str,
    port_key: &str,
    of: impl Iterator<Item = Server> + Clone,
) {
    let v4 = of.filter_map(|(a, p, port)| Some((display(a)?, p as u8, port)));
    let with_port = v4.clone().filter(|(_, _, port)| *port != 0);
    let with_port = with_port.map(|(a, p, port)| format!("{a} . {p} . {port}"));
    set(
        out,
        name,
        &format!("{key} . {port_key}"),
        with_port.collect(),
    );
    let any_port = v4
        .filter(|(_, _, port)| *port == 0)
        .map(|(a, p, _)| format!("{a} . {p}"));
    set(out, &format!("{name}_any_port"), key, any_port.collect());
}

/// Elements as numbers, since the keys are raw bits.
fn inner(servers: impl Iterator<Item = Server>, any_port: bool) -> BTreeSet<String> {
    let matching = servers.filter(|(_, _, port)| (*port == 0) == any_port);
    let element = |(addr, protocol, port): Server| {
        let addr = u32::from_be_bytes(addr.as_v4()?);
        let start = format!("{addr} . {}", protocol as u8);
        Some(if any_port {
            start
        } else {
            format!("{start} . {port}")
        })
    };
    matching.filter_map(element).collect()
}

fn set(out: &mut String, name: &str, key: &str, elements: BTreeSet<String>) {
    let _ = writeln!(out, "set {name} {{\ntypeof {key}");
    if !elements.is_empty() {
        let _ = writeln!(out, "elements = {{");
        for element in elements {
            let _ = writeln!(out, "{element},");
        }
        let _ = writeln!(out, "}}");
    }
    out.push_str("}\n");
}

fn addresses(of: &[Addr]) -> BTreeSet<String> {
    of.iter()
        .filter_map(|a| display(*a))
        .map(|a| a.to_string())
        .collect()
}

/// An IPv4 address, `None` for IPv6.
fn display(a: Addr) -> Option<impl fmt::Display> {
    a.as_v4().map(std::net::Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> GuardSpec {
        let (vip, server) = (Addr::v4([10, 0, 1, 100]), Addr::v4([10, 0, 2, 1]));
        GuardSpec {
            services: vec![
                (Protocol::Tcp, vip, 80),
                (Protocol::Udp, vip, 0),
                (Protocol::Tcp, vip, 80),
            ],
            nat_servers: vec![
                (server, Protocol::Tcp, 8080),
                (Addr([0x20; 16]), Protocol::Tcp, 8080),
            ],
            ..GuardSpec::default()
        }
    }

    #[test]
    fn the_table_is_replaced_in_one_script() {
        let script = render(&spec(), &["eth0".into(), "eth1".into()]).unwrap();
        assert!(
            script.starts_with("add table netdev uvs\ndelete table netdev uvs\ntable netdev uvs {")
        );
        assert!(script.contains("device \"eth0\"") && script.contains("device \"eth1\""));
    }

    #[test]
    fn every_element_stands_once_in_the_set_for_its_ports() {
        let script = render(&spec(), &[]).unwrap();
        assert_eq!(script.matches("10.0.1.100 . 6 . 80,").count(), 1);
        assert_eq!(script.matches("10.0.1.100 . 17,").count(), 1);
        assert_eq!(script.matches("10.0.2.1 . 6 . 8080,").count(), 1);
        assert_eq!(
            script.matches("167772673 . 6 . 8080,").count(),
            1,
            "10.0.2.1 as a number"
        );
        assert!(!script.contains("2020:"), "IPv6 is left out");
    }

    #[test]
    fn the_same_services_in_another_order_are_the_same_script() {
        let mut other = spec();
        other.services.reverse();
        assert_eq!(render(&spec(), &[]).unwrap(), render(&other, &[]).unwrap());
    }

    #[test]
    fn a_name_that_would_end_the_quote_is_refused() {
        let error = render(&spec(), &["e\"; drop".into()]).unwrap_err();
        assert!(matches!(error, GuardError::InterfaceName(_)));
    }
}
