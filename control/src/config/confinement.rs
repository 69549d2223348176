//! The table `[confinement]`: what the daemon gives up at its start.

use std::str::FromStr;

use super::fields::Fields;

pub(super) const KEYS: &[&str] = &["capabilities", "seccomp"];
const CAPABILITIES: &[(&str, bool)] = &[("drop", true), ("keep", false)];

/// What becomes of system calls that neither the daemon nor a plugin needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// They are refused, counted and logged.
    #[default]
    On,
    /// They are carried out, counted and logged.
    Log,
    /// They are carried out.
    Off,
}

impl Seccomp {
    /// All, by their names.
    pub const ALL: &[(&'static str, Self)] = &[
        (Self::On.name(), Self::On),
        (Self::Log.name(), Self::Log),
        (Self::Off.name(), Self::Off),
    ];

    /// As the configuration and the command line write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Log => "log",
            Self::Off => "off",
        }
    }
}

impl FromStr for Seccomp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, mode)| *mode)
            .ok_or_else(|| "use on, log or off".to_owned())
    }
}

/// What the daemon gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// Whether capabilities that it does not need go.
    pub drops_capabilities: bool,
    /// What becomes of system calls.
    pub seccomp: Seccomp,
}

impl Confinement {
    /// Nothing is given up.
    pub const NONE: Self = Self {
        drops_capabilities: false,
        seccomp: Seccomp::Off,
    };
}

impl Default for Confinement {
    fn default() -> Self {
        Self {
            drops_capabilities: true,
            seccomp: Seccomp::On,
        }
    }
}

/// As a file has it; `seccomp` = `None` where that does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confining {
    /// Whether capabilities are kept.
    pub keeps_capabilities: bool,
    /// What becomes of system calls.
    pub seccomp: Option<Seccomp>,
}

/// Reads the table, where there is one.
pub(super) fn read(top: &Fields<'_>) -> Confining {
    let mut confining = Confining::default();
    let Some(fields) = top.get("confinement").and_then(|value| value.fields(KEYS)) else {
        return confining;
    };
    let capabilities = fields.get("capabilities");
    if let Some(drops) = capabilities.and_then(|value| value.choice(CAPABILITIES)) {
        confining.keeps_capabilities = !drops;
    }
    confining.seccomp = fields
        .get("seccomp")
        .and_then(|value| value.choice(Seccomp::ALL));
    confining
}
