//! `uvs rs check`: what is not as a mode needs it, and the command that fixes it.
//!
//! The plan's steps say most of it. Beyond them lie mistakes that `up` does not touch, since it never takes
//! away what it found: a VIP on a device that answers ARP for it, or with a whole network behind it on `lo`.

use std::net::IpAddr;

use super::family::Family;
use super::finding::{Fault, Finding};
use super::host::Device;
use super::mode::{Holder, Mode};
use super::plan;
use super::step::default_route;
use super::sysctl::Key;
use super::tunnel::Probe;
use super::{Request, RsError, host};

/// Everything that is wrong, each thing once, in the order in which it is best fixed. Changes nothing and
/// needs no privilege.
pub fn check(request: &Request) -> Result<Vec<Finding>, RsError> {
    host::require_interfaces(&request.interfaces)?;
    let devices = host::devices()?;
    let mut findings: Vec<Finding> = Vec::new();
    for holder in request.holders() {
        let unmet = unmet_steps(request, holder, &devices)?;
        let misplaced = match request.mode {
            Mode::Dr | Mode::Ipip => answers(holder.vip, &devices)?,
            Mode::Nat => not_a_nat_server(request, holder, &devices)?,
        };
        // An IPv6 address is on a device once, with whatever prefix, and must go before it can come.
        let of_vip = match Family::of(holder.vip) {
            Family::Ipv4 => [unmet, misplaced],
            Family::Ipv6 => [misplaced, unmet],
        }
        .concat();
        for finding in of_vip {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    Ok(findings)
}

/// What `up` would do.
fn unmet_steps(
    request: &Request,
    holder: Holder,
    devices: &[Device],
) -> Result<Vec<Finding>, RsError> {
    let mut findings = Vec::new();
    for step in plan::steps(request, holder.vip, Probe::LookOnly)? {
        // Its absence is a finding of its own.
        if step
            .device()
            .is_some_and(|name| !devices.iter().any(|d| d.ifname == name))
        {
            continue;
        }
        if let Some(wrong) = step.inspect()? {
            findings.push(Finding {
                fault: step.fault(),
                seen: wrong.what,
                fix: step.fix(holder),
            });
        }
    }
    Ok(findings)
}

/// Devices that answer their network's questions for the VIP, or will, by the kernel's rules (`arp_ignore()` in
/// net/ipv4/arp.c, `ndisc_recv_ns()` in net/ipv6/ndisc.c), and a VIP on `lo` that takes a network with it.
fn answers(vip: IpAddr, devices: &[Device]) -> Result<Vec<Finding>, RsError> {
    let family = Family::of(vip);
    let mut findings = Vec::new();
    for device in devices {
        let name = &device.ifname;
        if device.does_arp() {
            findings.extend(device.prefixes_of(vip).map(|len| {
                let asked = family.question();
                let what = format!("{vip}/{len} is on {name}, which answers {asked} for it");
                misplaced(Fault::VipAnswers, what, vip, len, name)
            }));
            if family == Family::Ipv4 {
                findings.extend(overrides_all(name)?);
            }
        } else {
            let networks = device
                .prefixes_of(vip)
                .filter(|&len| len < family.host_bits());
            findings.extend(networks.map(|len| {
                let what = format!("{vip}/{len} is on {name}, and with it the whole network");
                misplaced(Fault::VipNetwork, what, vip, len, name)
            }));
        }
    }
    if family == Family::Ipv6 {
        findings.extend(host::proxies_of(vip, devices)?.iter().map(|name| Finding {
            fault: Fault::VipProxied,
            seen: format!("{name} answers neighbour solicitations for {vip} by proxy"),
            fix: format!("ip -6 neigh del proxy {vip} dev {name}"),
        }));
    }
    Ok(findings)
}

/// A VIP where it must not be.
fn misplaced(fault: Fault, seen: String, vip: IpAddr, len: u8, device: &str) -> Finding {
    Finding {
        fault,
        seen,
        fix: format!("ip address del {vip}/{len} dev {device}"),
    }
}

/// The larger value of `all` and the device counts, and arp_ignore 3 to 7 answers for addresses of other
/// devices again. (A smaller one than `all` changes nothing; `all` itself is one of the steps.)
fn overrides_all(device: &str) -> Result<Option<Finding>, RsError> {
    let own = host::read_sysctl(device, Key::ArpIgnore)?;
    if own == "0" || Key::ArpIgnore.accepts(&own) {
        return Ok(None);
    }
    let path = host::sysctl_path(Family::Ipv4, device, Key::ArpIgnore.name());
    Ok(Some(Finding {
        fault: Fault::ArpIgnore,
        seen: format!(
            "net.ipv4.conf.{device}.arp_ignore is {own}, not 1, and outweighs the 1 of `all`"
        ),
        fix: format!("echo 1 > {}", path.display()),
    }))
}

/// NAT's own: the VIP is the director's alone, and there is a way back.
fn not_a_nat_server(
    request: &Request,
    holder: Holder,
    devices: &[Device],
) -> Result<Vec<Finding>, RsError> {
    let vip = holder.vip;
    let mut findings = has_vip(vip, devices);
    let family = Family::of(vip);
    if request.gateway_for(vip).is_none() && host::default_routes(family)?.is_empty() {
        findings.push(Finding {
            fault: Fault::DefaultRoute,
            seen: format!("there is no {}", default_route(family)),
            fix: format!("uvs rs up --mode nat --vip {vip} --gateway DIRECTOR"),
        });
    }
    Ok(findings)
}

/// The VIP wherever this host has it, although it is the director's alone.
pub fn has_vip(vip: IpAddr, devices: &[Device]) -> Vec<Finding> {
    let on = |device: &Device| {
        let name = device.ifname.clone();
        let found = device.prefixes_of(vip).map(move |len| {
            let what = format!("{vip}/{len} is on {name}");
            misplaced(Fault::NatVip, what, vip, len, &name)
        });
        found.collect::<Vec<_>>()
    };
    devices.iter().flat_map(on).collect()
}
