//! One thing that must be so on a real server: how to see it, how to bring it about, why.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::family::Family;
use super::finding::Fault;
use super::mode::Holder;
use super::sysctl::Key;
use super::tunnel::Tunnel;
use super::undo::Undo;
use super::{RsError, host};

/// One thing that must be so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    /// A sysctl of one device, or of `all`.
    Sysctl { device: String, key: Key },
    /// A tunnel device that takes outer headers off.
    Tunnel { kind: Tunnel },
    /// The VIP alone, as a /32 or /128, on a device that neighbours ask nothing.
    Address { device: String, vip: IpAddr },
    /// A device is up.
    LinkUp { device: String },
    /// The director is the default gateway.
    DefaultRoute {
        gateway: IpAddr,
        interface: Option<String>,
    },
}

/// What is not as it must be.
#[derive(Debug)]
pub(super) struct Wrong {
    /// In words.
    pub(super) what: String,
    /// How to come back to it, should it be changed now.
    pub(super) undo: Undo,
}

impl Step {
    /// What is wrong, if it is not so.
    pub(super) fn inspect(&self) -> Result<Option<Wrong>, RsError> {
        match self {
            Self::Sysctl { device, key } => inspect_sysctl(device, *key),
            Self::Tunnel { kind } => Ok((!kind.is_there()?).then(|| Wrong {
                what: kind.absence(),
                undo: Undo::Tunnel { kind: *kind },
            })),
            Self::Address { device, vip } => {
                let found = host::device(device)?.is_some_and(|d| d.has_alone(*vip));
                let undo = Undo::RemoveAddress {
                    device: device.clone(),
                    vip: *vip,
                };
                Ok((!found).then(|| Wrong {
                    what: format!("{} is not on {device}", alone(*vip)),
                    undo,
                }))
            }
            Self::LinkUp { device } => {
                let up = host::device(device)?.is_some_and(|d| d.is_up());
                let undo = Undo::LinkDown {
                    device: device.clone(),
                };
                Ok((!up).then(|| Wrong {
                    what: format!("{device} is down"),
                    undo,
                }))
            }
            Self::DefaultRoute { gateway, interface } => {
                inspect_route(*gateway, interface.as_deref())
            }
        }
    }

    /// Brings it about.
    pub(super) fn apply(&self) -> Result<(), RsError> {
        match self {
            Self::Sysctl { device, key } => host::write_sysctl(device, *key, key.wanted()),
            Self::Tunnel { kind } => kind.start(),
            Self::Address { .. } | Self::LinkUp { .. } | Self::DefaultRoute { .. } => host::ip(
                &self
                    .ip_words()
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>(),
            )
            .map(drop),
        }
    }

    /// What it is where it is not so.
    pub(super) const fn fault(&self) -> Fault {
        match self {
            Self::Sysctl { key, .. } => key.fault(),
            Self::Tunnel { .. } => Fault::Tunnel,
            Self::Address { .. } => Fault::VipAbsent,
            Self::LinkUp { .. } => Fault::LinkDown,
            Self::DefaultRoute { .. } => Fault::DefaultRoute,
        }
    }

    /// The command that brings it about by hand.
    pub(super) fn fix(&self, holder: Holder) -> String {
        match self {
            Self::Sysctl { device, key } => {
                format!(
                    "echo {} > {}",
                    key.wanted(),
                    host::sysctl_path(key.family(), device, key.name()).display()
                )
            }
            Self::Tunnel { .. } => format!(
                "uvs rs up --mode {} --vip {}",
                holder.mode.name(),
                holder.vip
            ),
            Self::Address { .. } | Self::LinkUp { .. } | Self::DefaultRoute { .. } => {
                format!("ip {}", self.ip_words().join(" "))
            }
        }
    }

    /// The device it is about, where that must exist before anything can be said.
    pub(super) fn device(&self) -> Option<&str> {
        match self {
            Self::Sysctl { device, .. }
            | Self::Address { device, .. }
            | Self::LinkUp { device } => (device != "all").then_some(device),
            Self::Tunnel { .. } | Self::DefaultRoute { .. } => None,
        }
    }

    fn ip_words(&self) -> Vec<String> {
        let words = match self {
            Self::Address { device, vip } => {
                let nodad = match Family::of(*vip) {
                    Family::Ipv4 => "",
                    Family::Ipv6 => " nodad",
                };
                format!("address add {} dev {device}{nodad}", alone(*vip))
            }
            Self::LinkUp { device } => format!("link set {device} up"),
            Self::DefaultRoute { gateway, interface } => {
                let dev = interface
                    .as_ref()
                    .map_or_else(String::new, |dev| format!(" dev {dev}"));
                let metric = match Family::of(*gateway) {
                    Family::Ipv4 => String::new(),
                    Family::Ipv6 => format!(" metric {}", Family::Ipv6.route_metric()),
                };
                format!("route replace default via {gateway}{dev}{metric}")
            }
            Self::Sysctl { .. } | Self::Tunnel { .. } => String::new(),
        };
        words.split_whitespace().map(str::to_owned).collect()
    }
}

/// A VIP with the prefix length that leaves its neighbours out.
fn alone(vip: IpAddr) -> String {
    format!("{vip}/{}", Family::of(vip).host_bits())
}

/// What was done.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl { device, key } => {
                write!(f, "set {} = {}", key.dotted(device), key.wanted())
            }
            Self::Tunnel { kind } => write!(f, "made {kind}"),
            Self::Address { device, vip } => write!(f, "added {} to {device}", alone(*vip)),
            Self::LinkUp { device } => write!(f, "set {device} up"),
            Self::DefaultRoute { gateway, .. } => write!(f, "made {gateway} the default gateway"),
        }
    }
}

fn inspect_sysctl(device: &str, key: Key) -> Result<Option<Wrong>, RsError> {
    let found = host::read_sysctl(device, key)?;
    if key.accepts(&found) {
        return Ok(None);
    }
    let what = format!("{} is {found}, not {}", key.dotted(device), key.wanted());
    Ok(Some(Wrong {
        what,
        undo: Undo::Sysctl {
            device: device.to_owned(),
            key,
            found,
        },
    }))
}

fn inspect_route(gateway: IpAddr, interface: Option<&str>) -> Result<Option<Wrong>, RsError> {
    let family = Family::of(gateway);
    let routes = host::default_routes(family)?;
    let right = routes.first().is_some_and(|r| {
        r.gateway == Some(gateway) && interface.is_none_or(|want| r.dev.as_deref() == Some(want))
    });
    if right {
        return Ok(None);
    }
    let what = match routes.first().map(|r| r.gateway) {
        None => format!(
            "there is no {}, it should be via {gateway}",
            default_route(family)
        ),
        Some(Some(other)) if other != gateway => {
            format!(
                "the {} is via {other}, not {gateway}",
                default_route(family)
            )
        }
        Some(_) => format!(
            "the {} is by another device, not via {gateway}",
            default_route(family)
        ),
    };
    let undo = Undo::DefaultRoute {
        ours: gateway,
        found: host::replaced_default_route(family)?,
    };
    Ok(Some(Wrong { what, undo }))
}

/// What a family's default route is called.
pub(super) const fn default_route(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "default route",
        Family::Ipv6 => "IPv6 default route",
    }
}
