//! The configuration's keys in words: what /etc/uvs/uvs.toml and the manual page uvs.toml(5) are made of.
//!
//! What is read, and what is right, is said by the files beside this one; a test holds the rows to the keys that they read.

mod keys;
mod sample;
#[cfg(test)]
mod tests;

use uvs_core::snapshot::Sysctls;

pub use sample::sample;

/// A table of the file.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// From the top, as messages name it: `service.server`; empty for the top itself.
    pub path: &'static str,
    /// As a file opens it; empty where its keys stand at the top, or between braces.
    pub header: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

/// A key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub values: &'static str,
    /// What is so without it.
    pub default: &'static str,
    /// What it does.
    pub about: &'static str,
}

/// One of IPVS's sysctls, as the table `[sysctl]` has it.
#[derive(Clone, Debug)]
pub struct Sysctl {
    /// Its name under `net.ipv4.vs`.
    pub name: &'static str,
    /// What it may be.
    pub values: String,
    /// Its default, as TOML.
    pub default: String,
    /// What it does, or that it has no effect, and why.
    pub about: String,
}

/// All tables but `[sysctl]`, in the order in which people read them.
pub const fn tables() -> &'static [Table] {
    keys::TABLES
}

/// The keys of `[sysctl]`.
pub fn sysctls() -> Vec<Sysctl> {
    let defaults = Sysctls::default();
    let one = |name: &&'static str| {
        let default = defaults.get(name)?.replace('\t', " ");
        let default = match default.parse::<i64>() {
            Ok(number) => number.to_string(),
            Err(_) => format!("\"{default}\""),
        };
        let about = Sysctls::about(name)?;
        let about = match Sysctls::no_effect(name) {
            None => about.to_owned(),
            Some(why) => format!("{about} Without an effect here: {why}."),
        };
        Some(Sysctl {
            name,
            values: Sysctls::values(name)?,
            default,
            about: about.replace('`', ""),
        })
    };
    Sysctls::NAMES.iter().filter_map(one).collect()
}

/// The row of a key.
fn find(path: &str, name: &str) -> Option<&'static Key> {
    let table = tables().iter().find(|table| table.path == path)?;
    table.keys.iter().find(|key| key.name == name)
}
