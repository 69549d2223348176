//! The configuration file: TOML in, a checked [`Config`] out, or everything that is wrong with it.
//!
//! A file is read whole and refused whole: every mistake is reported with its place, its key and what
//! would be right, so that one run of `uvs check` is enough. What depends on the host (interfaces,
//! whose address a local address is) is checked where it is applied, not here.

mod access;
mod address;
mod confinement;
mod connection_log;
mod error;
mod fields;
mod hook;
mod introduction;
mod marks;
mod metrics;
mod modes;
mod names;
mod own;
mod persistence;
mod place;
mod plugins;
pub mod reference;
mod schema;
mod server;
mod service;
mod sync;
mod teardown;
#[cfg(test)]
mod tests;
mod warnings;
mod workers;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uvs_core::marks::MarkRule;
use uvs_core::service::ServiceSpec;
use uvs_core::snapshot::{Limits, Sysctls, Timeouts};

use crate::access::AllConfigured;
use crate::plugins::{PluginSettings, Schedulers};
use crate::protocol::SyncRequest;
pub use confinement::{Confinement, Confining, Seccomp};
pub use connection_log::{ConnectionLogging, LogTo};
pub use error::{ConfigError, Finding};
pub use hook::Hook;
pub use metrics::{Listen, Metrics};
pub use own::OwnVips;
pub use place::{Step, refuse};
pub use workers::{WorkerCount, Workers};

/// Bytes of a configuration file. Ten thousand services of ten servers are about 8 MB.
const MAX_BYTES: u64 = 16 << 20;

/// What becomes of the host's own firewall rules that keep clients out by their address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostFirewall {
    /// Those at the head of an INPUT chain hold for services too.
    #[default]
    Follow,
    /// None does.
    Ignore,
}

impl HostFirewall {
    /// As the configuration writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Follow => "follow",
            Self::Ignore => "ignore",
        }
    }
}

/// A checked configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Interfaces to run on, in the file's order.
    pub interfaces: Vec<String>,
    /// The VIPs that UVS owns while the host does not have them.
    pub own_vips: OwnVips,
    /// The control socket, where the file names one.
    pub socket: Option<PathBuf>,
    /// What is exported, and where.
    pub metrics: Metrics,
    /// Fixed sizes.
    pub limits: Limits,
    /// Time-outs.
    pub timeouts: Timeouts,
    /// IPVS's sysctls.
    pub sysctls: Sysctls,
    /// Scheduler plugins.
    pub plugins: PluginSettings,
    /// Services in the file's order; the servers of each newest first, as `ipvsadm -a` in the file's
    /// order would have left them.
    pub services: Vec<ServiceSpec>,
    /// What the services of firewall marks match.
    pub marks: Vec<MarkRule>,
    /// Who is kept out.
    pub access: AllConfigured,
    /// Where connections are logged, where any are.
    pub connection_log: Option<ConnectionLogging>,
    /// Whether the host's own firewall is followed.
    pub host_firewall: HostFirewall,
    /// How much is given to the kernel.
    pub hook: Hook,
    /// How many workers there are, and where.
    pub workers: Workers,
    /// What the daemon gives up at its start.
    pub confinement: Confining,
    /// The sync daemons that run from the start, the master first.
    pub sync: Vec<SyncRequest>,
}

/// The schedulers that a file with these settings may name.
pub type Known<'a> = &'a dyn Fn(&PluginSettings) -> Arc<Schedulers>;

/// What of a file a daemon needs before it may have a plugin loaded; mistakes are found by [`parse`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Early {
    /// What the daemon gives up.
    pub confinement: Confining,
    /// How much is given to the kernel.
    pub hook: Hook,
}

/// Reads that of a configuration in memory.
pub fn early(text: &str) -> Early {
    schema::read_early(text)
}

/// The text of `path`, for [`early`] and [`parse`]: a pipe can be read but once.
///
/// # Errors
/// The file cannot be read.
pub fn text_of(path: &Path) -> Result<String, ConfigError> {
    let text = File::open(path).and_then(read);
    text.map_err(|source| ConfigError::Unreadable {
        file: path.display().to_string(),
        source,
    })
}

/// Reads and checks `path`; `known` says which schedulers may be used, and loads plugins for that.
///
/// # Errors
/// The file cannot be read, or something in it is wrong.
pub fn load(path: &Path, known: Known<'_>) -> Result<Config, ConfigError> {
    read_and_check(path, File::open(path), known)
}

/// As [`load`], of a file that is open already.
///
/// # Errors
/// As [`load`]'s.
pub fn load_from(path: &Path, file: File, known: Known<'_>) -> Result<Config, ConfigError> {
    read_and_check(path, Ok(file), known)
}

fn read_and_check(
    path: &Path,
    file: io::Result<File>,
    known: Known<'_>,
) -> Result<Config, ConfigError> {
    let name = path.display().to_string();
    match file.and_then(read) {
        Ok(text) => parse(&name, &text, known),
        Err(source) => Err(ConfigError::Unreadable { file: name, source }),
    }
}

/// Checks a configuration that is in memory; `name` is what errors call it.
///
/// # Errors
/// Something in it is wrong.
pub fn parse(name: &str, text: &str, known: Known<'_>) -> Result<Config, ConfigError> {
    schema::read(text, known).map_err(|problems| ConfigError::invalid(name, text, problems))
}

fn read(file: File) -> io::Result<String> {
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        let message = format!("larger than {MAX_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}
