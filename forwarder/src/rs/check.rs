//! `uvs rs check`: what is not as a mode needs it, why that matters, and the command that mends it.
//!
//! The plan's steps say most of it. Beyond them lie mistakes that `up` does not touch, since it never takes
//! away what it found: a VIP on a device that answers ARP for it, or with a whole network behind it on `lo`.

use std::fmt;
use std::net::Ipv4Addr;

use super::host::Device;
use super::ledger::Holder;
use super::plan::{self, Mode, Probe};
use super::step::Key;
use super::{Request, RsError, host};

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    what: String,
    why: &'static str,
    fix: String,
}

/// One line.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; fix: {}", self.what, self.why, self.fix)
    }
}

/// Everything that is wrong, each thing once, in the order in which it is best mended. Changes nothing and
/// needs no privilege.
pub(crate) fn check(request: &Request) -> Result<Vec<Finding>, RsError> {
    host::require_interfaces(&request.interfaces)?;
    let devices = host::devices()?;
    let mut findings: Vec<Finding> = Vec::new();
    for holder in request.holders() {
        let mut of_vip = unmet_steps(request, holder, &devices)?;
        of_vip.extend(match request.mode {
            Mode::Dr | Mode::Ipip => answers_arp(holder.vip, &devices)?,
            Mode::Nat => not_a_nat_server(request, holder, &devices)?,
        });
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
                what: wrong.what,
                why: step.why(),
                fix: step.fix(holder),
            });
        }
    }
    Ok(findings)
}

/// Devices that answer their network's ARP for the VIP, or will, by the kernel's rules (`arp_ignore()` in
/// net/ipv4/arp.c), and a VIP on `lo` that takes a network with it.
fn answers_arp(vip: Ipv4Addr, devices: &[Device]) -> Result<Vec<Finding>, RsError> {
    let mut findings = Vec::new();
    for device in devices {
        let name = &device.ifname;
        if device.does_arp() {
            findings.extend(device.prefixes_of(vip).map(|len| Finding {
                what: format!("{vip}/{len} is on {name}, which answers ARP for it"),
                why: "clients then reach this host and not the director",
                fix: format!("ip address del {vip}/{len} dev {name}"),
            }));
            findings.extend(overrides_all(name)?);
        } else {
            findings.extend(device.prefixes_of(vip).filter(|&len| len < 32).map(|len| Finding {
                what: format!("{vip}/{len} is on {name}, and with it the whole network"),
                why: "the host takes its neighbours' addresses for its own and cannot reach them",
                fix: format!("ip address del {vip}/{len} dev {name}"),
            }));
        }
    }
    Ok(findings)
}

/// The larger value of `all` and the device counts, and arp_ignore 3 to 7 answers for addresses of other
/// devices again. (A smaller one than `all` changes nothing; `all` itself is one of the steps.)
fn overrides_all(device: &str) -> Result<Option<Finding>, RsError> {
    let own = host::read_sysctl(device, Key::ArpIgnore.name())?;
    if own == "0" || Key::ArpIgnore.accepts(&own) {
        return Ok(None);
    }
    let path = host::sysctl_path(device, Key::ArpIgnore.name());
    Ok(Some(Finding {
        what: format!("net.ipv4.conf.{device}.arp_ignore is {own}, not 1"),
        why: "it outweighs the 1 of `all`, and the device answers ARP for addresses of other devices",
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
    let mut findings = Vec::new();
    for device in devices {
        findings.extend(device.prefixes_of(vip).map(|len| Finding {
            what: format!("{vip}/{len} is on {}", device.ifname),
            why: "under NAT the VIP is the director's alone; this host would answer for it",
            fix: format!("ip address del {vip}/{len} dev {}", device.ifname),
        }));
    }
    if request.gateway.is_none() && host::default_routes()?.is_empty() {
        findings.push(Finding {
            what: "there is no default route".to_owned(),
            why: "replies have no way back through the director",
            fix: format!("uvs rs up --mode nat --vip {vip} --gateway DIRECTOR"),
        });
    }
    Ok(findings)
}
