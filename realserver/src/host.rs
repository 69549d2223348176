//! The host: its devices, addresses and routes through iproute2's `ip`, its sysctls through /proc/sys.
//!
//! `ip` rather than netlink of our own: these are a handful of commands a day, the very ones that `check`
//! prints for the user to run.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use rustix::thread::{CapabilitySet, capabilities};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::RsError;
use super::family::Family;
use super::sysctl::Key;

/// A device and its addresses, as `ip -j address` lists them.
#[derive(Debug, Deserialize)]
pub struct Device {
    /// Its name.
    #[serde(default)]
    pub ifname: String,
    /// As `ip` names it: `ether`, `loopback`, `ipip`.
    #[serde(default)]
    pub link_type: String,
    /// The MAC address, where the link has such.
    #[serde(default)]
    pub address: String,
    /// Bytes of the largest packet.
    #[serde(default)]
    pub mtu: u32,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    addr_info: Vec<Address>,
    linkinfo: Option<LinkInfo>,
    /// The bridge, bond or team that it is a port of.
    pub master: Option<String>,
    /// Queues that it receives by.
    #[serde(default)]
    pub num_rx_queues: u32,
}

#[derive(Debug, Deserialize)]
struct Address {
    #[serde(default)]
    local: String,
    #[serde(default)]
    prefixlen: u8,
}

#[derive(Debug, Deserialize)]
struct LinkInfo {
    #[serde(default)]
    info_kind: String,
}

impl Device {
    /// Whether it is administratively up.
    pub fn is_up(&self) -> bool {
        self.has_flag("UP")
    }

    /// Whether the wire is plugged in as well.
    pub fn has_carrier(&self) -> bool {
        self.has_flag("LOWER_UP")
    }

    /// Whether neighbours ask it for addresses, in either family: neither the loopback nor a tunnel.
    pub fn does_arp(&self) -> bool {
        !self.has_flag("LOOPBACK") && !self.has_flag("NOARP")
    }

    /// The prefix lengths with which it has this address.
    pub fn prefixes_of(&self, addr: IpAddr) -> impl Iterator<Item = u8> {
        self.addr_info
            .iter()
            .filter(move |a| a.local.parse() == Ok(addr))
            .map(|a| a.prefixlen)
    }

    /// Whether it has this address, and no network with it.
    pub(super) fn has_alone(&self, addr: IpAddr) -> bool {
        self.prefixes_of(addr)
            .any(|len| len == Family::of(addr).host_bits())
    }

    /// Its addresses that stand alone, without a network: where a VIP is as it should be.
    /// The loopback addresses are none.
    pub fn host_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let all = self.addr_info.iter();
        let parsed = all.filter_map(|a| Some((a.local.parse::<IpAddr>().ok()?, a.prefixlen)));
        parsed
            .filter(|(addr, len)| *len == Family::of(*addr).host_bits() && !addr.is_loopback())
            .map(|(addr, _)| addr)
    }

    /// The kind of a virtual device: `ipip`, `tun`, …
    pub(super) fn kind(&self) -> &str {
        self.linkinfo.as_ref().map_or("", |l| &l.info_kind)
    }

    fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|f| f == flag)
    }
}

/// A route, as `ip -j route` lists it.
#[derive(Debug, Deserialize)]
pub(crate) struct Route {
    dst: String,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) dev: Option<String>,
    #[serde(default)]
    pub(super) metric: u32,
    #[serde(default)]
    nexthops: Vec<NextHop>,
}

#[derive(Debug, Deserialize)]
struct NextHop {
    dev: Option<String>,
}

impl Route {
    fn prefix_len(&self) -> u8 {
        match self.dst.split_once('/') {
            Some((_, len)) => len.parse().unwrap_or(0),
            None => self
                .dst
                .parse()
                .map_or(0, |addr| Family::of(addr).host_bits()),
        }
    }
}

/// Refuses early, with one clear reason, what could only fail half-way.
pub(super) fn require_admin() -> Result<(), RsError> {
    let effective = capabilities(None)
        .map(|c| c.effective)
        .unwrap_or_else(|_| CapabilitySet::empty());
    if effective.contains(CapabilitySet::NET_ADMIN) {
        Ok(())
    } else {
        Err(RsError::Privilege)
    }
}

/// Refuses the name of a device that is not there.
pub(super) fn require_interfaces(names: &[String]) -> Result<(), RsError> {
    if names.is_empty() {
        return Ok(());
    }
    let known: Vec<_> = devices()?.into_iter().map(|d| d.ifname).collect();
    match names.iter().find(|n| !known.contains(n)) {
        None => Ok(()),
        Some(name) => Err(RsError::NoInterface {
            name: name.clone(),
            known: known.join(", "),
        }),
    }
}

/// Runs `ip` with these words and returns what it printed.
pub fn ip(words: &[&str]) -> Result<String, RsError> {
    let output = Command::new("ip")
        .args(words)
        .output()
        .map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => RsError::NoIp,
            _ => RsError::Ip {
                command: words.join(" "),
                message: e.to_string(),
            },
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(RsError::Ip {
        command: words.join(" "),
        message,
    })
}

/// Every device with its addresses.
pub fn devices() -> Result<Vec<Device>, RsError> {
    ip_json(&["-j", "-d", "address", "show"])
}

/// The device of this name, if there is one.
pub(super) fn device(name: &str) -> Result<Option<Device>, RsError> {
    Ok(devices()?.into_iter().find(|d| d.ifname == name))
}

/// The default routes of the main table, the one that counts first.
pub(crate) fn default_routes(family: Family) -> Result<Vec<Route>, RsError> {
    let words = [
        "-j",
        family.option(),
        "route",
        "show",
        "default",
        "table",
        "main",
    ];
    let mut routes: Vec<Route> = ip_json(&words)?;
    routes.sort_by_key(|r| r.metric);
    Ok(routes)
}

/// The default route of the metric that ours has, in words that `ip route replace` takes.
pub(crate) fn replaced_default_route(family: Family) -> Result<Option<String>, RsError> {
    // States that `ip` shows and does not take.
    const STATES: [&str; 6] = ["\\", "dead", "linkdown", "offload", "rt_offload", "trap"];
    let shown = ip(&[
        "-o",
        family.option(),
        "route",
        "show",
        "default",
        "table",
        "main",
    ])?;
    let metric = family.route_metric().to_string();
    let has_metric = |words: &[String]| {
        let at = words.iter().position(|w| w == "metric");
        at.map_or("0", |at| words.get(at + 1).map_or("", String::as_str)) == metric
    };
    let words = |line: &str| -> Vec<String> {
        line.replace('\\', " \\ ")
            .split_whitespace()
            .filter(|w| !STATES.contains(w))
            .map(str::to_owned)
            .collect()
    };
    Ok(shown
        .lines()
        .map(words)
        .find(|w| !w.is_empty() && has_metric(w))
        .map(|w| w.join(" ")))
}

/// The devices by which the main table reaches `addr`, by its longest prefix; none where it has no route.
/// (The local table would name the device that has the VIP.)
pub fn devices_towards(addr: IpAddr) -> Result<Vec<String>, RsError> {
    let (family, addr) = (Family::of(addr).option(), addr.to_string());
    let words = [
        "-j", family, "route", "show", "match", &addr, "table", "main",
    ];
    let routes: Vec<Route> = ip_json(&words)?;
    let Some(longest) = routes.iter().map(Route::prefix_len).max() else {
        return Ok(Vec::new());
    };
    let best = routes.into_iter().filter(|r| r.prefix_len() == longest);
    let mut names: Vec<_> = best
        .flat_map(|r| {
            r.dev
                .into_iter()
                .chain(r.nexthops.into_iter().filter_map(|n| n.dev))
        })
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// The devices that answer neighbour solicitations for an IPv6 address by proxy: those with an entry for it,
/// with forwarding, and with `proxy_ndp` of their own or of `all` (`ndisc_recv_ns()` in net/ipv6/ndisc.c).
pub(super) fn proxies_of(addr: IpAddr, devices: &[Device]) -> Result<Vec<String>, RsError> {
    #[derive(Deserialize)]
    struct Entry {
        dst: IpAddr,
        dev: String,
    }
    let entries: Vec<Entry> = ip_json(&["-j", "-6", "neigh", "show", "proxy"])?;
    let is_on = |device: &str, key: &str| {
        // A device that has gone meanwhile answers nothing.
        fs::read_to_string(sysctl_path(Family::Ipv6, device, key))
            .is_ok_and(|value| value.trim() != "0")
    };
    let answers = |name: &&str| {
        is_on(name, "forwarding") && (is_on(name, "proxy_ndp") || is_on("all", "proxy_ndp"))
    };
    let of_addr = entries.iter().filter(|e| e.dst == addr);
    let named = of_addr.map(|e| e.dev.as_str());
    let known = named.filter(|name| devices.iter().any(|d| d.ifname == *name));
    Ok(known.filter(answers).map(str::to_owned).collect())
}

/// The file behind `net.FAMILY.conf.DEVICE.KEY`.
pub fn sysctl_path(family: Family, device: &str, key: &str) -> PathBuf {
    // By path, since a dot in a VLAN device's name is ambiguous in the dotted notation.
    PathBuf::from(format!(
        "/proc/sys/net/{}/conf/{device}/{key}",
        family.name()
    ))
}

/// The value of a sysctl.
pub(super) fn read_sysctl(device: &str, key: Key) -> Result<String, RsError> {
    let path = sysctl_path(key.family(), device, key.name());
    fs::read_to_string(&path)
        .map(|v| v.trim().to_owned())
        .map_err(RsError::file("read", path))
}

/// Sets a sysctl.
pub(super) fn write_sysctl(device: &str, key: Key, value: &str) -> Result<(), RsError> {
    let path = sysctl_path(key.family(), device, key.name());
    fs::write(&path, value).map_err(RsError::file("write", path))
}

fn ip_json<T: DeserializeOwned>(words: &[&str]) -> Result<Vec<T>, RsError> {
    let text = ip(words)?;
    // Old versions print nothing at all for an empty list.
    let text = if text.trim().is_empty() { "[]" } else { &text };
    serde_json::from_str(text).map_err(|source| RsError::IpAnswer {
        command: words.join(" "),
        source,
    })
}
