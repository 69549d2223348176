//! The table `[hook]`: how much of its work the daemon gives to the kernel.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::fields::{Fields, Value};
use crate::protocol::HookMode;

pub(super) const KEYS: &[&str] = &["mode", "connections", "heartbeat", "pins"];
/// Connections that the kernel may forward at a time; beyond some millions its memory ends first.
const CONNECTIONS: RangeInclusive<i64> = 1..=1 << 22;
/// Seconds for which the kernel keeps its part without a daemon: time to start one again, and no eternity for
/// clients that nobody answers.
const HEARTBEAT: RangeInclusive<i64> = 2..=3600;
/// Where bpffs is on a host, by everybody's convention, and a directory of ours in it.
const PINS: &str = "/sys/fs/bpf/uvs";

/// How much of its work the daemon gives to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// What of it, where the configuration says it.
    pub mode: Option<HookMode>,
    /// Connections that the kernel forwards at most; those above stay in user space.
    pub connections: u32,
    /// Seconds after which the kernel gives up on a daemon that is silent: the host has everything back then.
    pub heartbeat: u32,
    /// The directory, in a bpffs, where what outlives a killed daemon is pinned.
    pub pins: PathBuf,
}

impl Default for Hook {
    fn default() -> Self {
        Self {
            mode: None,
            connections: 65_536,
            heartbeat: 60,
            pins: PINS.into(),
        }
    }
}

/// Reads the table, where there is one.
pub(super) fn read(top: &Fields<'_>) -> Hook {
    let mut hook = Hook::default();
    let Some(fields) = top.get("hook").and_then(|value| value.fields(KEYS)) else {
        return hook;
    };
    hook.mode = fields
        .get("mode")
        .and_then(|value| value.choice(HookMode::ALL));
    if let Some(connections) = fields.integer("connections", CONNECTIONS) {
        hook.connections = connections;
    }
    if let Some(heartbeat) = fields.integer("heartbeat", HEARTBEAT) {
        hook.heartbeat = heartbeat;
    }
    if let Some(pins) = fields.get("pins").and_then(|value| directory(&value)) {
        hook.pins = pins;
    }
    hook
}

fn directory(value: &Value<'_>) -> Option<PathBuf> {
    let text = value.string()?;
    if Path::new(text).is_absolute() {
        return Some(text.into());
    }
    value.refuse(
        format!("\"{text}\" is not an absolute path"),
        "name a directory in a bpffs, such as \"/sys/fs/bpf/uvs\"",
    );
    None
}
