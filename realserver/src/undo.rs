//! Taking a step back: each names what was found, so that nothing but the ledger is needed for `down`.
//!
//! What is gone already stays gone, and a default route that somebody else has set meanwhile is theirs.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::family::Family;
use super::sysctl::Key;
use super::tunnel::Tunnel;
use super::{RsError, host};

/// How to take a step back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Undo {
    /// It was so before.
    Nothing,
    /// Set the sysctl to what it was.
    Sysctl {
        device: String,
        key: Key,
        found: String,
    },
    /// Remove the VIP.
    RemoveAddress { device: String, vip: IpAddr },
    /// Set the device down.
    LinkDown { device: String },
    /// Remove the tunnel.
    Tunnel { kind: Tunnel },
    /// Put the former default route back, or have none.
    DefaultRoute { ours: IpAddr, found: Option<String> },
}

impl Undo {
    /// Takes the step back; says what was done, or nothing where there was nothing left to do.
    pub(super) fn run(&self) -> Result<Option<String>, RsError> {
        match self {
            Self::Nothing => Ok(None),
            Self::Sysctl { device, key, found } => {
                // With its device the setting is gone too.
                if device != "all" && host::device(device)?.is_none() {
                    return Ok(None);
                }
                host::write_sysctl(device, *key, found)?;
                Ok(Some(format!("restored {} = {found}", key.dotted(device))))
            }
            Self::RemoveAddress { device, vip } => {
                if !host::device(device)?.is_some_and(|d| d.has_alone(*vip)) {
                    return Ok(None);
                }
                let alone = format!("{vip}/{}", Family::of(*vip).host_bits());
                host::ip(&["address", "del", &alone, "dev", device])?;
                Ok(Some(format!("removed {alone} from {device}")))
            }
            Self::LinkDown { device } => {
                if !host::device(device)?.is_some_and(|d| d.is_up()) {
                    return Ok(None);
                }
                host::ip(&["link", "set", device, "down"])?;
                Ok(Some(format!("set {device} down")))
            }
            Self::Tunnel { kind } => Ok(kind.stop()?.then(|| format!("removed {kind}"))),
            Self::DefaultRoute { ours, found } => restore_route(*ours, found.as_deref()),
        }
    }
}

fn restore_route(ours: IpAddr, found: Option<&str>) -> Result<Option<String>, RsError> {
    let family = Family::of(ours);
    // Somebody has changed it since: theirs to keep.
    if !host::default_routes(family)?
        .iter()
        .any(|r| r.metric == family.route_metric() && r.gateway == Some(ours))
    {
        return Ok(None);
    }
    match found {
        Some(words) => {
            let mut all = vec![family.option(), "route", "replace"];
            all.extend(words.split_whitespace());
            host::ip(&all)?;
            Ok(Some(format!("restored the route {words}")))
        }
        None => {
            let (metric, ours) = (family.route_metric().to_string(), ours.to_string());
            let words = ["route", "del", "default", "via", &ours, "metric", &metric];
            host::ip(&words)?;
            Ok(Some(format!("removed the default route via {ours}")))
        }
    }
}
