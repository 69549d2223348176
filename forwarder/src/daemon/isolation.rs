//! What keeps from the host's stack what is UVS's: the hook's program, or the nft guard where there is no hook. Which
//! one is decided once, when the daemon starts; what the other has left from an earlier run goes as soon as this one
//! is in force.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use uvs_core::fib::Fib;
use uvs_core::time::Instant;
use uvs_core::verdict::PortId;
use uvs_hook::HookError;

use crate::guard::{self, Guard, GuardError, GuardSpec, LOOPBACK, Repairs, Unsure};
use crate::hook::{Keeper, NotHooked};
use crate::port::{Sight, port_id};

/// What keeps from the host's stack what is UVS's.
pub(super) struct Isolation {
    by: By,
    /// What an earlier run may have left of the other kind has not been looked for yet.
    leftover: bool,
    /// The hook's programs are another process's still.
    handed_down: bool,
}

enum By {
    Guard {
        guard: Guard,
        /// Why it is not the hook.
        why: Option<NotHooked>,
        /// Where the hook would be pinned.
        pins: PathBuf,
    },
    Hook(Box<Keeper>),
}

/// Why something is not kept from the host's stack.
#[derive(Debug, thiserror::Error)]
pub(super) enum IsolationError {
    #[error(transparent)]
    Guard(#[from] GuardError),
    #[error(transparent)]
    Hook(#[from] HookError),
}

type Done = Result<(), IsolationError>;

impl Isolation {
    pub(super) fn guard(guard: Guard, why: Option<NotHooked>, pins: &Path) -> Self {
        let by = By::Guard {
            guard,
            why,
            pins: pins.to_owned(),
        };
        Self {
            by,
            leftover: true,
            handed_down: false,
        }
    }

    pub(super) fn hook(keeper: Box<Keeper>) -> Self {
        Self {
            by: By::Hook(keeper),
            leftover: true,
            handed_down: false,
        }
    }

    /// The hook of another process, which goes on until this one [begins](Self::begin).
    pub(super) fn handed_down(keeper: Box<Keeper>) -> Self {
        Self {
            by: By::Hook(keeper),
            leftover: false,
            handed_down: true,
        }
    }

    /// The hook, where it is that.
    pub(super) fn keeper(&self) -> Option<&Keeper> {
        match &self.by {
            By::Guard { .. } => None,
            By::Hook(keeper) => Some(keeper),
        }
    }

    /// Why it is not the hook, although one was asked for.
    pub(super) fn why_not_hooked(&self) -> Option<&NotHooked> {
        match &self.by {
            By::Guard { why, .. } => why.as_ref(),
            By::Hook(_) => None,
        }
    }

    /// Which frames a port is to get.
    pub(super) fn sight(&self) -> Sight {
        match &self.by {
            By::Guard { .. } => Sight::Copies,
            By::Hook(_) => Sight::Marked(uvs_hook::OURS_MARK),
        }
    }

    /// Keeps all this from the host's stack, and nothing else.
    pub(super) fn apply(&mut self, spec: &GuardSpec) -> Done {
        match &mut self.by {
            By::Guard { guard, .. } => guard.apply(spec)?,
            By::Hook(keeper) => keeper.apply(spec)?,
        }
        if std::mem::take(&mut self.leftover) {
            self.remove_leftover();
        }
        if std::mem::take(&mut self.handed_down)
            && let By::Hook(keeper) = &mut self.by
        {
            keeper.replace_programs();
        }
        Ok(())
    }

    /// What another process has handed down is this one's from now on. What the guard keeps it keeps; the hook is told, as
    /// its rules are changed by the engine too.
    pub(super) fn begin(&self, now: Instant, spec: &GuardSpec) -> Done {
        if let By::Hook(keeper) = &self.by {
            keeper.begin(now, spec)?;
        }
        Ok(())
    }

    /// What the other kind would have left: two would be in each other's way.
    fn remove_leftover(&self) {
        let failed = match &self.by {
            By::Guard { pins, .. } => crate::hook::remove_leftover(pins)
                .err()
                .map(|e| e.to_string()),
            By::Hook(_) => guard::remove_leftover().err().map(|e| e.to_string()),
        };
        if let Some(why) = failed {
            tracing::error!("what an earlier run has left cannot be removed: {why}");
        }
    }

    /// Does so on interfaces that are back.
    pub(super) fn follow(
        &mut self,
        spec: &GuardSpec,
        back: &[(PortId, String)],
        fib: &Fib,
    ) -> Done {
        match &mut self.by {
            By::Guard { guard, .. } => guard.replace(spec)?,
            By::Hook(keeper) => {
                for (port, name) in back {
                    if let Some(interface) = fib.interface(*port) {
                        keeper.attach(name, interface.ifindex)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The table in force, where it knows no clients yet; the hook knows connections.
    pub(super) fn unsure(&self) -> Option<Unsure> {
        match &self.by {
            By::Guard { guard, .. } => guard.unsure(),
            By::Hook(_) => None,
        }
    }

    /// The guard, which is the one that may be unsure.
    pub(super) fn table(&self) -> Option<&Guard> {
        match &self.by {
            By::Guard { guard, .. } => Some(guard),
            By::Hook(_) => None,
        }
    }

    /// Says that the daemon was well at a time.
    pub(super) fn beat(&self, at: Instant) {
        if let By::Hook(keeper) = &self.by {
            keeper.beat(at);
        }
    }

    /// Puts right what others did to it; the guard has a thread for that.
    pub(super) fn look_after(&mut self, names: &[String], fib: &Fib) {
        let index = |name: &str| {
            if name == LOOPBACK {
                return Some(crate::hook::LOOPBACK_INDEX);
            }
            let port = names.iter().position(|n| n == name)?;
            fib.interface(port_id(port)).map(|i| i.ifindex)
        };
        if let By::Hook(keeper) = &mut self.by {
            keeper.look_after(index);
        }
    }

    /// What is otherwise than it was put up; `None` = nothing.
    pub(super) fn look(&self) -> Option<String> {
        match &self.by {
            By::Guard { guard, .. } => match guard.look() {
                Ok(tampering) => tampering.map(|tampering| tampering.to_string()),
                Err(error) => Some(error.to_string()),
            },
            By::Hook(keeper) => keeper.look(),
        }
    }

    /// What others did to it so far.
    pub(super) fn repairs(&self) -> Repairs {
        match &self.by {
            By::Guard { guard, .. } => guard.repairs(),
            By::Hook(keeper) => keeper.repairs().clone(),
        }
    }

    /// Lets another process change it, which gets the claim.
    pub(super) fn pause(&mut self) -> std::io::Result<OwnedFd> {
        match &mut self.by {
            By::Guard { guard, .. } => guard.pause(),
            By::Hook(keeper) => keeper.hand_down_claim(),
        }
    }

    /// Goes on after a [pause](Self::pause) with the guard as it was.
    pub(super) fn go_on(&mut self) -> Done {
        match &mut self.by {
            By::Guard { guard, .. } => guard.go_on()?,
            By::Hook(_) => {}
        }
        Ok(())
    }

    /// Leaves the guard to another process.
    pub(super) fn leave(&mut self) {
        match &mut self.by {
            By::Guard { guard, .. } => guard.leave(),
            By::Hook(_) => {}
        }
    }

    /// Takes it away: the host has everything again.
    pub(super) fn remove(&mut self) -> Done {
        match &mut self.by {
            By::Guard { guard, .. } => guard.remove().map(drop)?,
            By::Hook(keeper) => keeper.remove()?,
        }
        Ok(())
    }
}
