//! The forwarding modes, and who needs something for the sake of one.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The forwarding modes that ask something of a real server; FULLNAT asks nothing.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The director rewrites the MAC address only (ipvsadm -g)
    Dr,
    /// The director wraps packets in an outer IP header (ipvsadm -i)
    Ipip,
    /// The director rewrites addresses and is the way back (ipvsadm -m)
    Nat,
}

impl Mode {
    /// As written on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Dr => "dr",
            Self::Ipip => "ipip",
            Self::Nat => "nat",
        }
    }
}

/// Who needs a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Holder {
    pub(super) mode: Mode,
    pub(super) vip: IpAddr,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.vip, self.mode.name())
    }
}
