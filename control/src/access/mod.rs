//! Deny and allow lists as they are asked for: from the configuration, from files that are read again when
//! they change, and from `uvs deny` and `uvs allow`. What the engine gets of them is built here, off the
//! packet path, and again only for what has changed.

mod file;
mod lists;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use uvs_core::access::{Action, Prefix, PrefixError, Rule};
use uvs_core::service::ServiceKey;

pub use file::{FileError, ListFiles};
pub use lists::Lists;

/// Whose list it is: one service's, or that of every service.
pub type Scope = Option<ServiceKey>;

/// What the configuration says of each list.
pub(crate) type AllConfigured = BTreeMap<Scope, Configured>;

/// What the configuration says of one list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// `deny` and `allow`.
    pub rules: Vec<Rule>,
    /// `deny_file` and `allow_file`.
    pub files: Vec<(Action, PathBuf)>,
}

impl Configured {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.files.is_empty()
    }
}

/// The prefixes that a word stands for: one, or both families whole.
pub fn prefixes(word: &str) -> Result<Vec<Prefix>, PrefixError> {
    if word == "all" {
        let none = [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ];
        return Ok(none.map(|addr| Prefix::around(addr.into(), 0)).to_vec());
    }
    word.parse().map(|prefix| vec![prefix])
}

/// What an action does, as the commands are called.
pub const fn name(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Deny => "deny",
    }
}
