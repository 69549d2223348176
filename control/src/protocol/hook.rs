//! What the daemon says of its hook: the program in the kernel that tells what is UVS's and forwards what is
//! established.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the hook is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookMode {
    /// As much as the kernel has what it needs for, nothing where it has not.
    #[default]
    Auto,
    /// To tell what is UVS's from what is the host's and forward established connections, or the daemon does
    /// not start.
    Tier,
    /// To tell what is UVS's from what is the host's and forward nothing, or the daemon does not start.
    Guard,
    /// Nothing: AF_PACKET and an nft table.
    Off,
}

impl HookMode {
    /// All, by their names.
    pub const ALL: &[(&'static str, Self)] = &[
        (Self::Auto.name(), Self::Auto),
        (Self::Tier.name(), Self::Tier),
        (Self::Guard.name(), Self::Guard),
        (Self::Off.name(), Self::Off),
    ];

    /// As the configuration and the command line write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tier => "tier",
            Self::Guard => "guard",
            Self::Off => "off",
        }
    }
}

impl FromStr for HookMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, mode)| *mode)
            .ok_or_else(|| "use auto, tier, guard or off".to_owned())
    }
}

/// The hook as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStatus {
    /// What was asked for.
    pub wanted: HookMode,
    /// What is in force.
    pub works: HookTier,
    /// Why that is less than what was asked for, in a sentence that names what lacks; `None` = it is not.
    pub why_not: Option<String>,
    /// The program; `None` = there is none.
    pub program: Option<HookProgram>,
    /// The interfaces that it is on.
    pub ports: Vec<HookPort>,
    /// Connections that the kernel forwards.
    pub taken: u64,
    /// Flows whose frames are given to user space.
    pub known: u64,
    /// As many connections as the kernel forwards at most.
    pub limit: u64,
    /// Connections that were handed to the kernel so far.
    pub installs: u64,
    /// Those that were taken back.
    pub releases: u64,
    /// Events of connections that the daemon has taken in.
    pub events: u64,
    /// Frames that were given to user space, by the reason.
    pub up: Vec<(String, u64)>,
    /// Connections whose frames all go to user space, by the reason when they were made.
    pub untaken: Vec<(String, u64)>,
    /// Events of connections that the kernel had no room to tell.
    pub events_lost: u64,
    /// What others did to it that was repaired, and what could not be.
    pub repaired: u64,
    /// What is wrong with it now; `None` = it is as it must be.
    pub wrong: Option<String>,
}

/// How much of the work the hook does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookTier {
    /// None: AF_PACKET sees everything, and an nft table keeps it from the kernel.
    #[default]
    Off,
    /// It tells what is UVS's from what is the host's.
    Guard,
    /// It forwards established connections too.
    Tier,
}

impl HookTier {
    /// As it is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Guard => "guard",
            Self::Tier => "tier",
        }
    }
}

/// The program in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookProgram {
    /// The kernel's hash of its instructions, as `bpftool prog` shows it.
    pub tag: String,
    /// Its number in the kernel.
    pub id: u32,
    /// Where it is pinned; `None` = it goes with the daemon.
    pub pinned: Option<String>,
    /// Milliseconds since the daemon last said that it lives.
    pub heartbeat_age_ms: u64,
    /// Milliseconds without that after which the host has everything back.
    pub heartbeat_limit_ms: u64,
}

/// The hook on an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookPort {
    /// The interface.
    pub interface: String,
    /// How it is attached: `tcx` or `clsact`; empty where it is not.
    pub attach: String,
    /// Programs of others' at the same place, which see what it leaves to the host.
    pub others: usize,
    /// Frames that the program kept from the host: the sum of those below.
    pub received: u64,
    /// Those that it forwarded.
    pub forwarded: u64,
    /// Their bytes.
    pub forwarded_bytes: u64,
    /// Those that were given to user space.
    pub ours: u64,
    /// Those that it could not change for want of memory.
    pub lost: u64,
    /// Super-frames that a ring cannot describe, which would stop it for good.
    pub gso_unsupported: u64,
}
