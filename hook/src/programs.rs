//! The programs: which of them this kernel takes, with the maps' addresses in their instructions.

use std::os::fd::{AsFd as _, AsRawFd as _};

use uvs_core::offload::Reach;

use crate::error::HookError;
use crate::maps::Maps;
use crate::object;
use crate::sys::program::{Program, Refused, SCHED_CLS, SYSCALL};

/// The programs' licence: none of the kernel's helpers that ask for the GPL is called.
const LICENSE: &std::ffi::CStr = c"MIT OR Apache-2.0";
/// BPF_PSEUDO_MAP_FD in an instruction's source register: the immediate is a map's file descriptor.
const MAP_FD: u64 = 1 << 12;

/// The loaded programs.
pub(crate) struct Programs {
    pub(crate) ingress: Program,
    pub(crate) egress: Program,
    /// Takes flows out; `None` where the kernel has no such programs.
    pub(crate) remove: Option<Program>,
    /// How far `ingress` goes.
    pub(crate) reach: Reach,
    /// Why it goes no further than that, though it was asked to.
    pub(crate) shortfall: Option<String>,
}

impl Programs {
    /// Loads the best that there is, up to `wanted`.
    ///
    /// # Errors
    /// Not even the least can be loaded.
    pub(crate) fn load(maps: &Maps, wanted: Reach) -> Result<Self, HookError> {
        let refused = match load(wanted.name(), SCHED_CLS, maps) {
            Ok(ingress) => {
                return Ok(Self {
                    ingress,
                    egress: load("egress", SCHED_CLS, maps)?,
                    remove: load("remove", SYSCALL, maps).ok(),
                    reach: wanted,
                    shortfall: None,
                });
            }
            Err(refused) => refused,
        };
        let lesser = match wanted {
            // What is not allowed at all is no question of the kernel's age.
            _ if is_forbidden(&refused) => return Err(refused),
            Reach::Everything => Reach::Established,
            Reach::Established => Reach::Guard,
            Reach::Guard => return Err(refused),
        };
        let mut programs = Self::load(maps, lesser)?;
        programs.shortfall = Some(refused.to_string());
        Ok(programs)
    }
}

fn is_forbidden(e: &HookError) -> bool {
    let HookError::Verifier { error, log, .. } = e else {
        return true;
    };
    error.raw_os_error() == Some(libc::EPERM) && log.is_empty()
}

/// Loads the program of this name.
pub(crate) fn load(name: &'static str, kind: u32, maps: &Maps) -> Result<Program, HookError> {
    let refused = |error, log| HookError::Verifier {
        program: name,
        error,
        log,
    };
    let invalid = |what: &str| refused(std::io::ErrorKind::InvalidData.into(), what.to_owned());
    let mut code = object::program(name).ok_or_else(|| invalid("it is not in the object"))?;
    for (at, map) in code.maps {
        let map = maps
            .get(&map)
            .ok_or_else(|| invalid("it has an unknown map"))?;
        let fd = u64::from(map.as_fd().as_raw_fd().cast_unsigned());
        // The low word of the two that load an address: register, and the file descriptor as the immediate.
        let low = code.instructions.get_mut(at);
        *low.ok_or_else(|| invalid("it ends early"))? |= MAP_FD | fd << 32;
    }
    Program::load(name, kind, &code.instructions, LICENSE)
        .map_err(|Refused { error, log }| refused(error, log))
}
