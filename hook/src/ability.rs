//! What this kernel, and this process, can do: found out by trying, on maps of a few elements.

use uvs_core::offload::Reach;

use crate::error::HookError;
use crate::hook::{Hook, Setup};
use crate::maps::Limits;
use uvs_core::time::Instant;

/// What can be done here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ability {
    /// How far a hook goes here; `None` = there can be none.
    pub reach: Option<Reach>,
    /// What lacks for more, with the remedy.
    pub lack: Option<String>,
}

/// Tries.
pub fn ability() -> Ability {
    let setup = Setup {
        limits: Limits {
            connections: 64,
            servers: 64,
            hops: 64,
            rules: 64,
            ports: 4,
        },
        ..Setup::default()
    };
    match Hook::load(&setup, Instant::ZERO) {
        Ok(hook) => Ability {
            reach: Some(hook.reach()),
            lack: hook.shortfall().map(str::to_owned),
        },
        Err(e) => Ability {
            reach: None,
            lack: Some(e.to_string()),
        },
    }
}

/// Maps are laid out for little-endian machines.
pub(crate) fn check_machine() -> Result<(), HookError> {
    if cfg!(target_endian = "little") {
        return Ok(());
    }
    let error = std::io::ErrorKind::Unsupported.into();
    Err(HookError::refused(
        "hook frames on a big-endian machine",
        error,
    ))
}
