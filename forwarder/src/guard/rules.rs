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
use std::fmt::Write;
use std::net::Ipv4Addr;

use uvs_core::flow::{Addr, Protocol};
use uvs_core::marks::Destination;

use super::GuardError;

/// The table's name.
pub(super) const TABLE: &str = "uvs";

/// Before every other chain at the ingress hook: what is ours is nobody else's.
const PRIORITY: i32 = -500;
/// The kernel's own reassembly time (net.ipv4.ipfrag_time).
const FRAGMENT_SECONDS: u32 = 30;
/// Datagrams remembered; of more, the later fragments reach the kernel.
const FRAGMENT_LIMIT: u32 = 65_535;

/// What is looked up in a set: address and protocol, and the port where the set has ports.
type Key = (&'static str, &'static str);
const DESTINATION: Key = ("ip daddr . ip protocol", "th dport");
const SOURCE: Key = ("ip saddr . ip protocol", "th sport");
/// Destination, protocol and destination port of the packet within an ICMP error (RFC 792), in bits
/// from the start of the ICMP header, where the inner IP header has no options.
const INNER_DESTINATION: Key = ("@th,192,32 . @th,136,8", "@th,240,16");
/// IPv4, header of five words.
const INNER_IS_PLAIN: &str = "@th,64,8 0x45";
/// Destination unreachable, source quench, time exceeded, parameter problem.
const ICMP_ERRORS: &str = "{ 3, 4, 11, 12 }";
/// Active FTP's data port, and those that passive FTP's are of.
const FTP_DATA: &str = "tcp dport { 20, 1024-65535 }";
/// What the fragments of one datagram have in common (RFC 791 §3.2).
const DATAGRAM: &str = "ip saddr . ip daddr . ip id . ip protocol";

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
    /// What services have beside these: ranges of ports, and networks without the host's own addresses.
    pub(crate) wide: Vec<Destination>,
    /// VIPs with a persistent FTP service, which has all TCP ports that its data connections may use.
    pub(crate) ftp: Vec<Addr>,
    /// VIPs that UVS owns: everything to them is dropped, since UVS answers.
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

impl GuardSpec {
    /// What keeps all that either keeps, its lists in order: for the moment between two states.
    #[must_use]
    pub(crate) fn union(&self, other: &Self) -> Self {
        fn both<T: Clone + PartialEq + Ord>(a: &[T], b: &[T]) -> Vec<T> {
            let mut all: Vec<T> = a.iter().chain(b).cloned().collect();
            all.sort();
            all.dedup();
            all
        }
        Self {
            interfaces: self.interfaces.clone(),
            services: both(&self.services, &other.services),
            wide: both(&self.wide, &other.wide),
            ftp: both(&self.ftp, &other.ftp),
            owned: both(&self.owned, &other.owned),
            nat_servers: both(&self.nat_servers, &other.nat_servers),
            fullnat: FullNat {
                local: both(&self.fullnat.local, &other.fullnat.local),
                ports: self.fullnat.ports,
                servers: both(&self.fullnat.servers, &other.fullnat.servers),
            },
            local: both(&self.local, &[]),
        }
    }
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
    let services = spec.services.iter().map(|&(p, vip, port)| (vip, p, port));
    tuples(out, "service", DESTINATION, services);
    tuples(out, "nat_server", SOURCE, spec.nat_servers.iter().copied());
    tuples(
        out,
        "fullnat_server",
        SOURCE,
        spec.fullnat.servers.iter().copied(),
    );
    set(
        out,
        "fullnat_local",
        "ip daddr",
        addresses(&spec.fullnat.local),
    );
    set(out, "ftp", "ip daddr", addresses(&spec.ftp));
    set(out, "owned", "ip daddr", addresses(&spec.owned));
    set(out, "local", "ip daddr", addresses(&spec.local));
    let (any_port, with_port) = spec.nat_servers.iter().partition(|s| s.2 == 0);
    let any_port_key = INNER_DESTINATION.0;
    let key = format!("{any_port_key} . {}", INNER_DESTINATION.1);
    set(out, "inner", &key, inner(with_port));
    set(out, "inner_any_port", any_port_key, inner(any_port));
    let _ = writeln!(
        out,
        "set fragments {{\ntypeof {DATAGRAM}\n\
         flags dynamic,timeout\ntimeout {FRAGMENT_SECONDS}s\nsize {FRAGMENT_LIMIT}\n}}"
    );
}

fn chains(out: &mut String, spec: &GuardSpec) {
    for reason in ["service", "nat_reply", "fullnat_reply"] {
        let _ = writeln!(
            out,
            "chain drop_{reason} {{\n\
             ip frag-off & 0x2000 != 0 update @fragments {{ {DATAGRAM} }}\n\
             counter name {reason} drop\n}}"
        );
    }
    let (to, to_port) = DESTINATION;
    let (from, from_port) = SOURCE;
    let (inner, inner_port) = INNER_DESTINATION;
    let (low, high) = spec.fullnat.ports;
    let to_fullnat = format!("ip daddr @fullnat_local th dport >= {low} th dport <= {high}");
    let ranges = wide(spec.wide.iter().filter(|to| to.is_host()));
    let networks = wide(spec.wide.iter().filter(|to| !to.is_host()));
    let icmp_error = format!("icmp type {ICMP_ERRORS} {INNER_IS_PLAIN}");
    let _ = writeln!(
        out,
        "chain ours {{\n\
         ip frag-off & 0x1fff != 0 {DATAGRAM} @fragments counter name fragment drop\n\
         ip daddr @owned counter name owned drop\n\
         {to} . {to_port} @service goto drop_service\n\
         {to} @service_any_port goto drop_service\n\
         {ranges}\
         ip daddr @ftp {FTP_DATA} goto drop_service\n\
         {to_fullnat} {from} . {from_port} @fullnat_server goto drop_fullnat_reply\n\
         {to_fullnat} {from} @fullnat_server_any_port goto drop_fullnat_reply\n\
         ip daddr @local accept\n\
         {networks}\
         {from} . {from_port} @nat_server goto drop_nat_reply\n\
         {from} @nat_server_any_port goto drop_nat_reply\n\
         {icmp_error} {inner} . {inner_port} @inner counter name icmp_error drop\n\
         {icmp_error} {inner} @inner_any_port counter name icmp_error drop\n\
         }}"
    );
}

/// A rule each: a packet may be of several, so that no set could have them all.
fn wide<'a>(of: impl Iterator<Item = &'a Destination>) -> String {
    let rule = |to: &Destination| {
        let protocols: Vec<String> = to.protocols().map(|p| (p as u8).to_string()).collect();
        let (addr, (first, last)) = (v4(to.addr)?, to.ports);
        Some(format!(
            "ip daddr & {} == {addr} ip protocol {{ {} }} th dport >= {first} th dport <= {last} goto drop_service\n",
            Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(to.prefix)).unwrap_or(0)),
            protocols.join(", "),
        ))
    };
    of.filter_map(rule).collect()
}

/// Two sets: those with a port, and those for all ports.
fn tuples(out: &mut String, name: &str, key: Key, of: impl Iterator<Item = Server>) {
    let (mut with_port, mut any_port) = (BTreeSet::new(), BTreeSet::new());
    for (addr, protocol, port) in of {
        let Some(addr) = v4(addr) else { continue };
        let start = format!("{addr} . {}", protocol as u8);
        if port == 0 {
            any_port.insert(start);
        } else {
            with_port.insert(format!("{start} . {port}"));
        }
    }
    set(out, name, &format!("{} . {}", key.0, key.1), with_port);
    set(out, &format!("{name}_any_port"), key.0, any_port);
}

/// Elements as numbers, since the keys are raw bits.
fn inner(servers: Vec<&Server>) -> BTreeSet<String> {
    let element = |&&(addr, protocol, port): &&Server| {
        let start = format!("{} . {}", u32::from(v4(addr)?), protocol as u8);
        Some(if port == 0 {
            start
        } else {
            format!("{start} . {port}")
        })
    };
    servers.iter().filter_map(element).collect()
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
        .filter_map(|a| v4(*a))
        .map(|a| a.to_string())
        .collect()
}

/// The IPv4 address, `None` for IPv6.
fn v4(a: Addr) -> Option<Ipv4Addr> {
    a.as_v4().map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

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
    fn ranges_come_before_the_hosts_own_addresses_are_spared_and_networks_after() {
        let wide = ["any 10.0.1.100:5000-5100", "tcp 10.9.0.0/16:80"].map(|t| t.parse().unwrap());
        let spec = GuardSpec {
            wide: wide.to_vec(),
            ..spec()
        };
        let script = render(&spec, &[]).unwrap();
        let at = |rule: &str| {
            script
                .find(rule)
                .unwrap_or_else(|| panic!("{rule}: {script}"))
        };
        let range = "ip daddr & 255.255.255.255 == 10.0.1.100 ip protocol { 6, 17, 132 } \
                     th dport >= 5000 th dport <= 5100 goto drop_service";
        let network = "ip daddr & 255.255.0.0 == 10.9.0.0 ip protocol { 6 } \
                       th dport >= 80 th dport <= 80 goto drop_service";
        let own = at("ip daddr @local accept");
        assert!(at(range) < own && own < at(network));
    }

    #[test]
    fn a_name_that_would_end_the_quote_is_refused() {
        let error = render(&spec(), &["e\"; drop".into()]).unwrap_err();
        assert!(matches!(error, GuardError::InterfaceName(_)));
    }
}
