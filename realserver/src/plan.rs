//! What each mode needs of a real server, as steps in the order in which they are taken.
//!
//! ARP is silenced before the VIP is added: in the other order the host would answer for it in between.

use std::net::Ipv4Addr;

use super::mode::Mode;
use super::step::Step;
use super::sysctl::Key;
use super::tunnel::{self, Probe};
use super::{Request, RsError, host};

/// The steps for one VIP.
pub(super) fn steps(request: &Request, vip: Ipv4Addr, probe: Probe) -> Result<Vec<Step>, RsError> {
    let mut steps = Vec::new();
    match request.mode {
        Mode::Dr => {
            let facing = facing(request, vip)?;
            silence_arp(
                &mut steps,
                ["all", "lo"]
                    .into_iter()
                    .chain(facing.iter().map(String::as_str)),
            );
            steps.push(Step::Address {
                device: "lo".to_owned(),
                vip,
            });
        }
        Mode::Ipip => {
            let tunnel = tunnel::choose(probe)?;
            let device = tunnel.device();
            let facing = facing(request, vip)?;
            steps.push(Step::Tunnel { kind: tunnel });
            silence_arp(
                &mut steps,
                ["all", device]
                    .into_iter()
                    .chain(facing.iter().map(String::as_str)),
            );
            for on in ["all", device] {
                steps.push(Step::Sysctl {
                    device: on.to_owned(),
                    key: Key::RpFilter,
                });
            }
            steps.push(Step::Address {
                device: device.to_owned(),
                vip,
            });
            steps.push(Step::LinkUp {
                device: device.to_owned(),
            });
        }
        Mode::Nat => {
            let interface = request.interfaces.first().cloned();
            steps.extend(
                request
                    .gateway
                    .map(|gateway| Step::DefaultRoute { gateway, interface }),
            );
        }
    }
    Ok(steps)
}

/// The devices on which the director's side may ask for the VIP.
fn facing(request: &Request, vip: Ipv4Addr) -> Result<Vec<String>, RsError> {
    if !request.interfaces.is_empty() {
        return Ok(request.interfaces.clone());
    }
    let mut devices = host::devices_towards(vip)?;
    devices.retain(|d| d != "lo" && !tunnel::NAMES.contains(&d.as_str()));
    Ok(devices)
}

/// The kernel takes the larger of `all` and the device's own value, so `all` alone would do against 0, and
/// the device's own is set because it may be something larger that answers again (arp_ignore 3 to 7).
fn silence_arp<'a>(steps: &mut Vec<Step>, devices: impl Iterator<Item = &'a str>) {
    for device in devices {
        for key in [Key::ArpIgnore, Key::ArpAnnounce] {
            steps.push(Step::Sysctl {
                device: device.to_owned(),
                key,
            });
        }
    }
}
