//! What each mode needs of a real server, as steps in the order in which they are taken.
//!
//! In IPv4 ARP is silenced before the VIP is added: in the other order the host would answer for it in between.
//! In IPv6 there is nothing to silence: a device answers neighbour solicitations for its own addresses alone
//! (`ndisc_recv_ns()` in net/ipv6/ndisc.c), and solicits from them alone, so what is on `lo` or on a tunnel is
//! never told of ([ADR 0029](../../docs/adr/0029-a-real-server-is-silent-by-itself-in-ipv6.md)).

use std::net::IpAddr;

use super::family::Family;
use super::mode::Mode;
use super::step::Step;
use super::sysctl::Key;
use super::tunnel::{self, Carried, Probe};
use super::{Request, RsError, host};

/// The steps for one VIP.
pub(super) fn steps(request: &Request, vip: IpAddr, probe: Probe) -> Result<Vec<Step>, RsError> {
    match request.mode {
        Mode::Dr => direct(request, vip),
        Mode::Ipip => tunnelled(request, vip, probe),
        Mode::Nat => {
            let route = request.gateway_for(vip).map(|gateway| Step::DefaultRoute {
                gateway,
                interface: request.interfaces.first().cloned(),
            });
            Ok(route.into_iter().collect())
        }
    }
}

fn direct(request: &Request, vip: IpAddr) -> Result<Vec<Step>, RsError> {
    let mut steps = Vec::new();
    match Family::of(vip) {
        Family::Ipv4 => {
            let facing = facing(request, vip)?;
            let lo = ["all", "lo"].map(str::to_owned);
            silence_arp(&mut steps, lo.into_iter().chain(facing));
        }
        Family::Ipv6 => steps.push(ipv6_on("lo")),
    }
    steps.push(Step::Address {
        device: "lo".to_owned(),
        vip,
    });
    Ok(steps)
}

/// A tunnel for each family of outer headers; the VIP is on the first.
fn tunnelled(request: &Request, vip: IpAddr, probe: Probe) -> Result<Vec<Step>, RsError> {
    let inner = Family::of(vip);
    let outer: &[Family] = if request.outer.is_empty() {
        &[inner]
    } else {
        &request.outer
    };
    let mut steps = Vec::new();
    let mut devices: Vec<&'static str> = Vec::new();
    for &outer in outer {
        let kind = tunnel::choose(Carried::of(outer, inner), probe)?;
        steps.push(Step::Tunnel { kind });
        if !devices.contains(&kind.device()) {
            devices.push(kind.device());
        }
    }
    steps.dedup();
    match inner {
        Family::Ipv4 => {
            let facing = facing(request, vip)?;
            let named = ["all"].into_iter().chain(devices.iter().copied());
            let named: Vec<String> = named.map(str::to_owned).collect();
            silence_arp(&mut steps, named.iter().cloned().chain(facing));
            steps.extend(named.into_iter().map(|device| Step::Sysctl {
                device,
                key: Key::RpFilter,
            }));
        }
        Family::Ipv6 => steps.extend(devices.iter().map(|device| ipv6_on(device))),
    }
    steps.extend(devices.first().map(|device| Step::Address {
        device: (*device).to_owned(),
        vip,
    }));
    steps.extend(devices.iter().map(|device| Step::LinkUp {
        device: (*device).to_owned(),
    }));
    Ok(steps)
}

/// The devices on which the director's side may ask for the VIP.
fn facing(request: &Request, vip: IpAddr) -> Result<Vec<String>, RsError> {
    if !request.interfaces.is_empty() {
        return Ok(request.interfaces.clone());
    }
    let mut devices = host::devices_towards(vip)?;
    devices.retain(|d| d != "lo" && !tunnel::NAMES.contains(&d.as_str()));
    Ok(devices)
}

/// The kernel takes the larger of `all` and the device's own value, so `all` alone would do against 0, and
/// the device's own is set because it may be something larger that answers again (arp_ignore 3 to 7).
fn silence_arp(steps: &mut Vec<Step>, devices: impl Iterator<Item = String>) {
    for device in devices {
        for key in [Key::ArpIgnore, Key::ArpAnnounce] {
            let device = device.clone();
            steps.push(Step::Sysctl { device, key });
        }
    }
}

/// Where IPv6 is off no IPv6 address can be, whatever `all` says.
fn ipv6_on(device: &str) -> Step {
    Step::Sysctl {
        device: device.to_owned(),
        key: Key::DisableIpv6,
    }
}
