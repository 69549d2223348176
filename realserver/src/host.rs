//! The host: its devices, addresses and routes through iproute2's `ip`, its sysctls through /proc/sys.
//!
//! `ip` rather than netlink of our own: these are a handful of commands a day, the very ones that `check`
//! prints for the user to run.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use rustix::thread::{CapabilitySet, capabilities};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::RsError;

/// A device and its IPv4 addresses, as `ip -j address` lists them.
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

    /// Whether neighbours ask it for addresses: neither the loopback nor a tunnel.
    pub fn does_arp(&self) -> bool {
        !self.has_flag("LOOPBACK") && !self.has_flag("NOARP")
    }

    /// The prefix lengths with which it has this address.
    pub fn prefixes_of(&self, addr: Ipv4Addr) -> impl Iterator<Item = u8> {
        let addr = addr.to_string();
        self.addr_info
            .iter()
            .filter(move |a| a.local == addr)
            .map(|a| a.prefixlen)
    }

    /// Its addresses that stand alone, without a network: where a VIP is as it should be.
    pub fn host_addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let alone = self.addr_info.iter().filter(|a| a.prefixlen == 32);
        alone.filter_map(|a| a.local.parse().ok())
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
    pub(crate) gateway: Option<Ipv4Addr>,
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
            None if self.dst == "default" => 0,
            None => 32,
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
pub(crate) fn default_routes() -> Result<Vec<Route>, RsError> {
    let mut routes: Vec<Route> =
        ip_json(&["-j", "-4", "route", "show", "default", "table", "main"])?;
    routes.sort_by_key(|r| r.metric);
    Ok(routes)
}

/// The default route without a metric, in words that `ip route replace` takes.
pub(crate) fn plain_default_route() -> Result<Option<String>, RsError> {
    // States that `ip` shows and does not take.
    const STATES: [&str; 6] = ["\\", "dead", "linkdown", "offload", "rt_offload", "trap"];
    let shown = ip(&["-o", "-4", "route", "show", "default", "table", "main"])?;
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
        .find(|w| !w.is_empty() && !w.iter().any(|w| w == "metric"))
        .map(|w| w.join(" ")))
}

/// The devices by which the main table reaches `addr`, by its longest prefix; none where it has no route.
/// (The local table would name the device that has the VIP.)
pub fn devices_towards(addr: Ipv4Addr) -> Result<Vec<String>, RsError> {
    let addr = addr.to_string();
    let routes: Vec<Route> =
        ip_json(&["-j", "-4", "route", "show", "match", &addr, "table", "main"])?;
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

/// The file behind `net.ipv4.conf.DEVICE.KEY`.
pub fn sysctl_path(device: &str, key: &str) -> PathBuf {
    // By path, since a dot in a VLAN device's name is ambiguous in the dotted notation.
    PathBuf::from(format!("/proc/sys/net/ipv4/conf/{device}/{key}"))
}

/// The value of a sysctl.
pub(super) fn read_sysctl(device: &str, key: &str) -> Result<String, RsError> {
    let path = sysctl_path(device, key);
    fs::read_to_string(&path)
        .map(|v| v.trim().to_owned())
        .map_err(RsError::file("read", path))
}

/// Sets a sysctl.
pub(super) fn write_sysctl(device: &str, key: &str, value: &str) -> Result<(), RsError> {
    let path = sysctl_path(device, key);
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
