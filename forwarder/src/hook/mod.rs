//! The hook as the control thread has it: where its program is, which rules it has, and whether others have let it be.
//!
//! The program (`uvs-hook`) is at each interface's ingress, and at that of the loopback interface for what the
//! host's own programs send. It tells what is ours, hides it from the host's stack and marks it; a port gets what
//! is marked. So there is no nft table, and nothing of the host's rules is in its way.

mod bpffs;
mod leftover;
pub(crate) mod rules;
mod start;
mod succession;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use uvs_core::time::Instant;
use uvs_hook::{Attached, Hook, HookError};

use crate::guard::{Claim, GuardSpec, LOOPBACK, Repairs, Tampering};
pub(crate) use bpffs::prepare as prepare_pins;
pub(crate) use leftover::remove as remove_leftover;
pub use leftover::{LeftoverError, down, show};
pub(crate) use start::{Interface, NotHooked, Start, Wanted, start};
pub(crate) use succession::{Beside, Estate, NotBeside, Offer, beside};
pub use uvs_hook::{Ability, ability};

/// The loopback interface's index, the same in every network namespace (include/net/flow.h).
pub(crate) const LOOPBACK_INDEX: u32 = 1;

/// The hook of this network namespace. While this value lives, no other daemon can have one or a guard.
pub(crate) struct Keeper {
    hook: Arc<Hook>,
    claim: Claim,
    /// Where it is, by the interfaces' names.
    places: BTreeMap<String, Place>,
    /// The interfaces at whose egress it is too.
    egress: BTreeSet<u32>,
    /// What was pinned goes on after this process; `None` = nothing was.
    pins: Option<String>,
    repairs: Repairs,
}

/// The program at an interface.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The interface's index.
    pub(crate) ifindex: u32,
    /// How it was attached there.
    pub(crate) attached: Attached,
}

impl Keeper {
    /// The program's memory.
    pub(crate) fn hook(&self) -> &Hook {
        &self.hook
    }

    /// Where the program is.
    pub(crate) fn places(&self) -> &BTreeMap<String, Place> {
        &self.places
    }

    /// Where it is pinned.
    pub(crate) fn pins(&self) -> Option<&str> {
        self.pins.as_deref()
    }

    /// What others did to it so far.
    pub(crate) fn repairs(&self) -> &Repairs {
        &self.repairs
    }

    /// Says that the daemon was well at a time.
    pub(crate) fn beat(&self, at: Instant) {
        self.hook.heartbeat(at);
    }

    /// Has the program keep from the kernel what the guard would.
    ///
    /// # Errors
    /// It has not all of it; what it had before it still has.
    pub(crate) fn apply(&mut self, spec: &GuardSpec) -> Result<(), HookError> {
        self.hook.set_rules(&rules::of(spec))?;
        let wanted: BTreeSet<u32> = match spec.nat.own_servers.is_empty() {
            true => BTreeSet::new(),
            false => self.indices().filter(|i| *i != LOOPBACK_INDEX).collect(),
        };
        for ifindex in wanted.difference(&self.egress) {
            self.hook.attach_egress(*ifindex)?;
        }
        for ifindex in self.egress.difference(&wanted) {
            self.hook.detach_egress(*ifindex);
        }
        self.egress = wanted;
        Ok(())
    }

    fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        self.places.values().map(|place| place.ifindex)
    }

    /// Puts the program where an interface is now: it is back, or has another index.
    ///
    /// # Errors
    /// The program cannot be there.
    pub(crate) fn attach(&mut self, name: &str, ifindex: u32) -> Result<(), HookError> {
        let attached = self.hook.attach(ifindex)?;
        if attached.others > 0 {
            tracing::info!(
                interface = name,
                "{} programs of others are there too: they see what the hook leaves to the host",
                attached.others
            );
        }
        let place = Place { ifindex, attached };
        self.places.insert(name.to_owned(), place);
        Ok(())
    }

    /// Looks whether the program is where it was put, and puts it there again; `present` tells an interface's
    /// index now.
    pub(crate) fn look_after(&mut self, present: impl Fn(&str) -> Option<u32>) {
        if let Some(pins) = &self.pins {
            bpffs::touch(Path::new(pins));
        }
        let names: Vec<String> = self.places.keys().cloned().collect();
        for name in names {
            let Some(ifindex) = present(&name).filter(|i| !self.is_at(*i)) else {
                continue;
            };
            match self.attach(&name, ifindex) {
                Ok(()) => {
                    tracing::warn!(
                        interface = name,
                        "the hook's program had been taken off; it is there again"
                    );
                    self.repairs.note(Tampering::Removed, SystemTime::now());
                    self.repairs.broken = None;
                }
                Err(error) => {
                    let broken = format!("{name}: {error}");
                    if self.repairs.broken.as_ref() != Some(&broken) {
                        tracing::error!("the hook's program cannot be put back on {broken}");
                    }
                    self.repairs.broken = Some(broken);
                }
            }
        }
    }

    /// Whether the program is at an interface.
    pub(crate) fn is_at(&self, ifindex: u32) -> bool {
        self.hook.is_attached(ifindex).unwrap_or(false)
    }

    /// What is otherwise than it was put up; `None` = nothing.
    pub(crate) fn look(&self) -> Option<String> {
        let off = |(_, place): &(&String, &Place)| !self.is_at(place.ifindex);
        let off: Vec<&str> = self
            .places
            .iter()
            .filter(off)
            .map(|(n, _)| n.as_str())
            .collect();
        (!off.is_empty()).then(|| format!("the hook's program is not on {}", off.join(", ")))
    }

    /// Takes the program off and all that is pinned away.
    ///
    /// # Errors
    /// Something of it stays.
    pub(crate) fn remove(&mut self) -> Result<(), HookError> {
        self.hook.remove()
    }
}

/// The name and the index of the loopback interface.
fn loopback() -> (String, u32) {
    (LOOPBACK.to_owned(), LOOPBACK_INDEX)
}
