//! Scheduler plugins in the control protocol.

use serde::{Deserialize, Serialize};
use uvs_core::service::ServiceKey;

/// The plugin directory and what is loaded from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plugins {
    /// The directory.
    pub directory: String,
    /// The loaded plugins by name.
    pub plugins: Vec<PluginStatus>,
    /// Other files in the directory: path, remark.
    pub files: Vec<(String, String)>,
}

/// A loaded scheduler plugin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PluginStatus {
    /// The scheduler's name.
    pub name: String,
    /// The plugin's version.
    pub version: String,
    /// One line about it.
    pub about: String,
    /// The ABI it was built for.
    pub abi: u32,
    /// The file it came from.
    pub file: String,
    /// Services that name it.
    pub services: Vec<ServiceKey>,
    /// Faults of all services, by reason.
    pub faults: Vec<(String, u64)>,
    /// Services that fell back to wrr.
    pub fallen_back: Vec<String>,
}

/// What a reload or another try did for one plugin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PluginReloaded {
    /// The scheduler's name.
    pub name: String,
    /// Whether a file called after it was refused.
    pub refused: bool,
    /// What was done, as a sentence without the name.
    pub what: String,
}
