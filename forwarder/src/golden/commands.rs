//! The commands of a recording, `ipvsadm`, `ip`, `sysctl` and waits, as changes of the director.

use std::sync::Arc;
use std::time::Duration;

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::marks::MarkRule;
use uvs_core::service::{
    Forwarding, Persistence, ServerSpec, ServiceKey, ServiceSpec, Tunnel, TunnelChecksum,
    TunnelKind,
};

use super::director::{Director, ifindex};
use super::{addr, mac};

/// Runs a command.
///
/// # Errors
/// It is not one that recordings have.
pub(super) fn run(d: &mut Director, command: &str) -> Result<(), String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words[..] {
        ["ipvsadm", ..] => ipvsadm(d, &Args(&words[1..])),
        ["sysctl", setting] => {
            let (name, value) = setting.split_once('=').unwrap();
            sysctl(d, name, value);
        }
        [
            "iptables-legacy" | "ip6tables-legacy",
            "-t",
            "mangle",
            "-A",
            "PREROUTING",
            ref rule @ ..,
        ] => return mark_packets(d, rule),
        ["wait", seconds, ..] => {
            d.wait(Duration::from_secs_f64(seconds.parse().unwrap()));
        }
        [
            "ip",
            "neigh",
            "add",
            a,
            "lladdr",
            m,
            "nud",
            "permanent",
            "dev",
            dev,
        ] => {
            d.change_fib(|f| f.set_neighbour(ifindex(dev), addr(a), mac(m)));
        }
        ["ip", "neigh", "del", a, "dev", dev] => {
            d.change_fib(|f| f.remove_neighbour(ifindex(dev), addr(a)));
        }
        ["ip", "route", "del", "default"] => {
            d.change_fib(|f| f.remove_route(Addr::UNSPECIFIED, 0));
        }
        ["ip", "-6", "route", "del", "default"] => {
            d.change_fib(|f| f.remove_route(addr("::"), 0));
        }
        _ => return Err(format!("`{command}` cannot be played")),
    }
    Ok(())
}

/// What netfilter does before IPVS, a rule of UVS's own does: `-d ADDRESS [-p PROTOCOL] -j MARK --set-mark MARK`.
fn mark_packets(d: &mut Director, rule: &[&str]) -> Result<(), String> {
    let value = |name| rule.iter().position(|w| *w == name).map(|i| rule[i + 1]);
    let (Some(to), Some(mark)) = (value("-d"), value("--set-mark")) else {
        return Err(format!("`{}` cannot be played", rule.join(" ")));
    };
    let protocols = match value("-p") {
        Some(protocol) => vec![protocol],
        None => vec!["tcp", "udp"],
    };
    for protocol in protocols {
        d.snapshot.marks.push(MarkRule {
            mark: mark.parse().unwrap(),
            to: format!("{protocol} {to}").parse().unwrap(),
        });
    }
    d.apply();
    Ok(())
}

/// Sets one of IPVS's sysctls; the host's own are the host's.
pub(super) fn sysctl(d: &mut Director, name: &str, value: &str) {
    if let Some(name) = name.strip_prefix("net.ipv4.vs.") {
        d.snapshot.sysctls.set(name, value).unwrap();
        d.apply();
    }
}

/// The words after `ipvsadm`.
struct Args<'a>(&'a [&'a str]);

impl<'a> Args<'a> {
    fn has(&self, name: &str) -> bool {
        self.0.contains(&name)
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        let at = self.0.iter().position(|w| *w == name)?;
        self.0.get(at + 1).copied()
    }

    fn number(&self, name: &str, default: u32) -> u32 {
        self.value(name).map_or(default, |v| v.parse().unwrap())
    }

    fn key(&self) -> Option<ServiceKey> {
        if let Some(mark) = self.value("-f") {
            let mark = mark.parse().unwrap();
            let ipv6 = self.has("-6");
            return Some(ServiceKey::Mark { mark, ipv6 });
        }
        let by_option = [
            ("-t", Protocol::Tcp),
            ("-u", Protocol::Udp),
            ("--sctp-service", Protocol::Sctp),
        ];
        by_option
            .iter()
            .find_map(|(o, p)| Some(ServiceKey::address(*p, endpoint(self.value(o)?, 0))))
    }

    fn server(&self, port: u16) -> ServerSpec {
        let at = endpoint(self.value("-r").unwrap(), port);
        let mut methods = Forwarding::ALL.iter().copied();
        let given = methods.find(|method| self.has(&method.def().flag()));
        let forwarding = given.unwrap_or(Forwarding::Dr);
        ServerSpec {
            weight: self.number("-w", 1),
            upper: self.number("-x", 0),
            lower: self.number("-y", 0),
            tunnel: self.tunnel(),
            ..ServerSpec::new(at, forwarding)
        }
    }

    fn tunnel(&self) -> Tunnel {
        Tunnel {
            kind: self.value("--tun-type").map_or(TunnelKind::Ipip, |word| {
                let mut kinds = TunnelKind::ALL.iter().copied();
                kinds.find(|kind| kind.def().word == word).unwrap()
            }),
            port: self.number("--tun-port", 0).try_into().unwrap(),
            checksum: match () {
                () if self.has("--tun-csum") => TunnelChecksum::Full,
                () if self.has("--tun-remcsum") => TunnelChecksum::Remote,
                () => TunnelChecksum::None,
            },
        }
    }
}

fn ipvsadm(d: &mut Director, args: &Args<'_>) {
    match args.0[0] {
        "-C" => d.snapshot.services.clear(),
        "--set" => set_timeouts(d, &args.0[1..]),
        command if command.starts_with("-L") || command == "-S" => return,
        command => change(d, command, args),
    }
    d.apply();
}

fn set_timeouts(d: &mut Director, seconds: &[&str]) {
    let t = &mut d.snapshot.timeouts;
    for (field, s) in [&mut t.tcp, &mut t.tcp_fin, &mut t.udp]
        .into_iter()
        .zip(seconds)
    {
        match s.parse().unwrap() {
            0 => {}
            s => *field = s,
        }
    }
}

fn change(d: &mut Director, command: &str, args: &Args<'_>) {
    let key = args.key().unwrap();
    let services = &mut d.snapshot.services;
    let at = services.iter().position(|s| s.key == key);
    match (command, at) {
        ("-A", None) => {
            let mut s = ServiceSpec::new(key, args.value("-s").unwrap());
            s.one_packet = args.has("--ops") || args.has("-o");
            s.persistence = args.value("-p").map(|t| Persistence {
                timeout: t.parse().unwrap(),
                mask: args.value("-M").map_or(u32::MAX, netmask),
            });
            services.push(Arc::new(s));
        }
        ("-D", Some(_)) => {
            let others = services.iter().filter(|s| s.key != key);
            *services = others.cloned().collect();
        }
        (_, Some(at)) => {
            let mut s = ServiceSpec::clone(&services[at]);
            let new = args.server(key.vip().port);
            let known = s.servers.iter().position(|x| x.endpoint == new.endpoint);
            match (command, known) {
                ("-a", None) => s.servers.insert(0, new),
                ("-e", Some(known)) => s.servers[known] = new,
                ("-d", Some(known)) => {
                    s.servers.remove(known);
                }
                _ => panic!("{command} {new:?}"),
            }
            services[at] = Arc::new(s);
        }
        (_, None) => panic!("{command}: no such service"),
    }
}

/// `ADDRESS:PORT` or `[ADDRESS]:PORT`, or the address alone.
fn endpoint(s: &str, port: u16) -> Endpoint {
    if let Ok(at) = s.parse::<std::net::SocketAddr>() {
        return Endpoint::new(Addr::from(at.ip()), at.port());
    }
    Endpoint::new(addr(s.trim_matches(['[', ']'])), port)
}

/// A netmask of IPv4, or the length of an IPv6 prefix.
fn netmask(s: &str) -> u32 {
    let mask = s.parse::<std::net::Ipv4Addr>().map(u32::from);
    mask.unwrap_or_else(|_| s.parse().unwrap())
}
