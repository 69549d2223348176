//! One thing that must be so on a real server: how to see it, how to bring it about, why.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

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
    /// The VIP as a /32 on a device that does no ARP.
    Address { device: String, vip: Ipv4Addr },
    /// A device is up.
    LinkUp { device: String },
    /// The director is the default gateway.
    DefaultRoute {
        gateway: Ipv4Addr,
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
                what: kind.absence().to_owned(),
                undo: Undo::Tunnel { kind: *kind },
            })),
            Self::Address { device, vip } => {
                let found =
                    host::device(device)?.is_some_and(|d| d.prefixes_of(*vip).any(|len| len == 32));
                let undo = Undo::RemoveAddress {
                    device: device.clone(),
                    vip: *vip,
                };
                Ok((!found).then(|| Wrong {
                    what: format!("{vip}/32 is not on {device}"),
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
            Self::Sysctl { device, key } => host::write_sysctl(device, key.name(), key.wanted()),
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
                    host::sysctl_path(device, key.name()).display()
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
            Self::Address { device, vip } => format!("address add {vip}/32 dev {device}"),
            Self::LinkUp { device } => format!("link set {device} up"),
            Self::DefaultRoute {
                gateway,
                interface: None,
            } => format!("route replace default via {gateway}"),
            Self::DefaultRoute {
                gateway,
                interface: Some(dev),
            } => {
                format!("route replace default via {gateway} dev {dev}")
            }
            Self::Sysctl { .. } | Self::Tunnel { .. } => String::new(),
        };
        words.split_whitespace().map(str::to_owned).collect()
    }
}

/// What was done.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl { device, key } => {
                write!(
                    f,
                    "set net.ipv4.conf.{device}.{} = {}",
                    key.name(),
                    key.wanted()
                )
            }
            Self::Tunnel { kind } => write!(f, "made {kind}"),
            Self::Address { device, vip } => write!(f, "added {vip}/32 to {device}"),
            Self::LinkUp { device } => write!(f, "set {device} up"),
            Self::DefaultRoute { gateway, .. } => write!(f, "made {gateway} the default gateway"),
        }
    }
}

fn inspect_sysctl(device: &str, key: Key) -> Result<Option<Wrong>, RsError> {
    let found = host::read_sysctl(device, key.name())?;
    if key.accepts(&found) {
        return Ok(None);
    }
    let what = format!(
        "net.ipv4.conf.{device}.{} is {found}, not {}",
        key.name(),
        key.wanted()
    );
    Ok(Some(Wrong {
        what,
        undo: Undo::Sysctl {
            device: device.to_owned(),
            key,
            found,
        },
    }))
}

fn inspect_route(gateway: Ipv4Addr, interface: Option<&str>) -> Result<Option<Wrong>, RsError> {
    let routes = host::default_routes()?;
    let right = routes.first().is_some_and(|r| {
        r.gateway == Some(gateway) && interface.is_none_or(|want| r.dev.as_deref() == Some(want))
    });
    if right {
        return Ok(None);
    }
    let what = match routes.first().map(|r| r.gateway) {
        None => format!("there is no default route, it should be via {gateway}"),
        Some(Some(other)) if other != gateway => {
            format!("the default route is via {other}, not {gateway}")
        }
        Some(_) => format!("the default route is by another device, not via {gateway}"),
    };
    let undo = Undo::DefaultRoute {
        ours: gateway,
        found: host::plain_default_route()?,
    };
    Ok(Some(Wrong { what, undo }))
}
