//! Which VIPs this host serves, and how: told, noted by `uvs rs up`, or seen by where it has addresses.

use std::net::IpAddr;

use uvs_realserver::host::Device;
use uvs_realserver::{self as rs, tunnel};

use super::Mode;
use crate::DoctorError;

/// Finds what this host serves: by what `uvs rs up` noted, else by where it has addresses. `vips` narrows
/// it; `mode` says how, where the host does not show it.
///
/// # Errors
/// Nothing says which VIP, or how it is forwarded.
pub fn find(mode: Option<Mode>, vips: &[IpAddr]) -> Result<Vec<(Mode, IpAddr)>, DoctorError> {
    if let Some(mode) = mode.filter(|_| !vips.is_empty()) {
        return Ok(vips.iter().map(|vip| (mode, *vip)).collect());
    }
    let mut shown: Vec<(Mode, IpAddr)> = Vec::new();
    for (mode, vip) in rs::held()? {
        let mode = match mode {
            rs::Mode::Dr => Mode::Dr,
            rs::Mode::Ipip => Mode::Ipip,
            rs::Mode::Nat => Mode::Nat,
        };
        shown.push((mode, vip));
    }
    for device in rs::host::devices()? {
        let found = device.host_addresses().map(|vip| (mode_by(&device), vip));
        let new = found.filter(|(_, vip)| !shown.iter().any(|(_, known)| known == vip));
        let new: Vec<_> = new.filter_map(|(mode, vip)| Some((mode?, vip))).collect();
        shown.extend(new);
    }
    shown.retain(|(m, vip)| {
        mode.is_none_or(|mode| mode == *m) && (vips.is_empty() || vips.contains(vip))
    });
    let unknown = vips
        .iter()
        .find(|vip| !shown.iter().any(|(_, v)| v == *vip));
    match unknown {
        Some(vip) => Err(DoctorError::Untold(format!(
            "{vip} is neither on lo nor on a tunnel of this host: say how it is forwarded here with --mode dr|ipip|nat|fullnat"
        ))),
        None if shown.is_empty() => Err(DoctorError::Untold(
            "this host has no VIP on lo or on a tunnel: name the VIPs with --vip, and --mode dr|ipip|nat|fullnat"
                .to_owned(),
        )),
        None => Ok(shown),
    }
}

/// By the device a VIP is on.
fn mode_by(device: &Device) -> Option<Mode> {
    if device.ifname == "lo" {
        Some(Mode::Dr)
    } else if tunnel::NAMES.contains(&device.ifname.as_str()) {
        Some(Mode::Ipip)
    } else {
        None
    }
}
