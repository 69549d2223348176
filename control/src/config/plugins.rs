//! `[plugins]`: where scheduler plugins are, which ones to load, and what is borne of them.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::fields::{Fields, Value};
use crate::plugins::{PluginSettings, Schedulers};

pub(super) const KEYS: &[&str] = &["directory", "max_faults", "scheduler_budget", "load"];

/// Faults, 0 = any number.
const MAX_FAULTS: RangeInclusive<i64> = 0..=u32::MAX as i64;
/// Microseconds, 0 = any time. A worker that is kept for longer than a second does not answer in time.
const SCHEDULER_BUDGET: RangeInclusive<i64> = 0..=1_000_000;

/// The settings, and where the file names what to load; nothing is loaded.
pub(super) fn read<'a>(top: &Fields<'a>) -> (PluginSettings, Vec<Value<'a>>) {
    let Some(fields) = top.get("plugins").and_then(|value| value.fields(KEYS)) else {
        return (PluginSettings::default(), Vec::new());
    };
    let load = fields.get("load").map(|value| value.items());
    let mut named = load.unwrap_or_default();
    let mut files = Vec::new();
    named.retain(|value| {
        let file = value.string();
        files.extend(file.map(PathBuf::from));
        file.is_some()
    });
    let settings = PluginSettings {
        directory: directory(&fields),
        max_faults: fields.integer("max_faults", MAX_FAULTS),
        scheduler_budget: fields.integer("scheduler_budget", SCHEDULER_BUDGET),
        load: files,
    };
    (settings, named)
}

/// Loads what the settings name, and notes at its place in the file what is refused.
pub(super) fn load(settings: &PluginSettings, named: &[Value<'_>], schedulers: &Schedulers) {
    for (file, value) in settings.load.iter().zip(named) {
        if let Err(why) = schedulers.load(file) {
            value.refuse(why, "try it: uvs plugin check FILE");
        }
    }
}

fn directory(fields: &Fields<'_>) -> Option<PathBuf> {
    let value = fields.get("directory")?;
    let path = value.string()?;
    if !Path::new(path).is_absolute() {
        value.refuse(
            format!("\"{path}\" cannot be the plugin directory"),
            "use an absolute path",
        );
        return None;
    }
    Some(path.into())
}
