//! Sysctls in the control protocol.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Right;

/// Which sysctl, and what it is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SysctlRequest {
    /// The name under `net.ipv4.vs.`, e.g. `expire_nodest_conn`.
    pub name: String,
    /// The new value.
    pub value: Option<SysctlValue>,
}

impl SysctlRequest {
    pub(super) const fn right(&self) -> Right {
        if self.value.is_some() {
            Right::Write
        } else {
            Right::Read
        }
    }
}

/// A sysctl's value: a number where it is one, else its words as the kernel would show them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SysctlValue {
    /// A whole number.
    Number(i32),
    /// Anything else.
    Words(String),
}

impl From<String> for SysctlValue {
    fn from(text: String) -> Self {
        text.parse().map_or(Self::Words(text), Self::Number)
    }
}

impl fmt::Display for SysctlValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Words(words) => f.write_str(words),
        }
    }
}
