//! The hook in force goes on in another process ([`crate::succession`]): what the running daemon offers of it before it
//! gives anything up, and what it hands down when it does.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uvs_control::config;
use uvs_control::protocol::HookMode;
use uvs_core::offload::Reach;
use uvs_core::time::Instant;
use uvs_hook::{HandedDown, Hook, HookError};

use super::start::setup;
use super::{Keeper, Place, bpffs, rules};
use crate::guard::{Claim, GuardError, GuardSpec, Repairs};

/// The hook of a running daemon, as another process needs it to load its own programs for the same maps.
#[derive(Debug)]
pub(crate) struct Offer {
    reach: Reach,
    pins: Option<PathBuf>,
    /// The maps.
    pub(crate) maps: Vec<OwnedFd>,
}

/// A hook that could go on from a running daemon's.
pub(crate) struct Beside {
    /// It.
    pub(crate) hook: Arc<Hook>,
    pins: Option<PathBuf>,
}

/// What the control thread knows of the hook.
#[derive(Serialize, Deserialize)]
pub(crate) struct Estate {
    hook: HandedDown,
    places: BTreeMap<String, Place>,
}

impl Estate {
    /// How many descriptors come with it.
    pub(crate) fn descriptors(&self) -> usize {
        self.hook.descriptors()
    }
}

/// Why a hook cannot go on here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotBeside {
    /// One of the two has one, and the other is to have none.
    #[error("the hook is asked for (--hook {}), and the running daemon has {has}", .mode.name())]
    Mode {
        /// What is asked for here.
        mode: HookMode,
        /// What there is.
        has: &'static str,
    },
    /// It goes further there than here, or less far.
    #[error("the kernel would forward by the program `{}` (--hook {}{why}), and in the running daemon it does by `{}`", .here.name(), .mode.name(), .there.name())]
    Reach {
        /// What is asked for here.
        mode: HookMode,
        /// How far it goes here.
        here: Reach,
        /// And there.
        there: Reach,
        /// Why it goes no further.
        why: String,
    },
    /// Things are pinned elsewhere.
    #[error("hook.pins leads to {}, and the running daemon has pinned in {}", .here.display(), .there.display())]
    Pins {
        /// Where they would be.
        here: PathBuf,
        /// Where they are.
        there: PathBuf,
    },
    /// The kernel does not tell which network namespace this is.
    #[error("the network namespace's number: {0}")]
    Namespace(#[from] std::io::Error),
    /// The maps do not fit, or a program cannot be loaded.
    #[error(transparent)]
    Hook(#[from] HookError),
}

impl Offer {
    /// In words: how far it goes, and where it is pinned.
    pub(crate) fn words(&self) -> String {
        let pins = self.pins.as_ref();
        let pins = pins.map_or_else(String::new, |pins| pins.display().to_string());
        format!("{} {pins}", self.reach.name())
    }

    /// What the words say; `None` where they say something else.
    pub(crate) fn of(words: &str, maps: Vec<OwnedFd>) -> Option<Self> {
        let (reach, pins) = words.split_once(' ').unwrap_or((words, ""));
        let all = [Reach::Guard, Reach::Established, Reach::Everything];
        Some(Self {
            reach: all.into_iter().find(|r| r.name() == reach)?,
            pins: (!pins.is_empty()).then(|| PathBuf::from(pins)),
            maps,
        })
    }
}

/// Loads this release's programs for the maps of a running daemon; nothing is changed by that.
///
/// # Errors
/// This daemon's hook would be another one.
pub(crate) fn beside(
    mode: HookMode,
    config: &config::Hook,
    offer: Offer,
) -> Result<Beside, NotBeside> {
    if mode == HookMode::Off {
        let has = "one in force";
        return Err(NotBeside::Mode { mode, has });
    }
    if let Some(there) = offer.pins.clone() {
        let here = bpffs::of_namespace(&config.pins)?;
        if here != there {
            return Err(NotBeside::Pins { here, there });
        }
    }
    let setup = setup(mode, config, offer.pins.clone());
    let hook = Arc::new(Hook::beside(&setup, offer.maps)?);
    let asked = mode != HookMode::Tier || hook.reach() != Reach::Guard;
    if hook.reach() != offer.reach || !asked {
        let why = hook.shortfall();
        return Err(NotBeside::Reach {
            mode,
            here: hook.reach(),
            there: offer.reach,
            why: why.map_or_else(String::new, |why| format!("; {why}")),
        });
    }
    Ok(Beside {
        hook,
        pins: offer.pins,
    })
}

impl Keeper {
    /// What another process needs to prepare itself.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub(crate) fn offer(&self) -> std::io::Result<Offer> {
        Ok(Offer {
            reach: self.hook.reach(),
            pins: self.pins.as_ref().map(PathBuf::from),
            maps: self.hook.hand_down_maps()?,
        })
    }

    /// All that another process needs to go on: what is known, and the links. Nothing is changed here until that is over.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub(crate) fn hand_down(&self) -> std::io::Result<(Estate, Vec<OwnedFd>)> {
        let (hook, links) = self.hook.hand_down()?;
        let places = self.places.clone();
        Ok((Estate { hook, places }, links))
    }

    /// The claim, for another process.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub(crate) fn hand_down_claim(&self) -> std::io::Result<OwnedFd> {
        self.claim.hand_down()
    }

    /// Goes on with what another process has handed down, and changes nothing until it [begins](Self::begin).
    ///
    /// # Errors
    /// What was handed down does not fit together; the kernel's.
    pub(crate) fn succeed(
        beside: Beside,
        (estate, links): (Estate, Vec<OwnedFd>),
        claim: OwnedFd,
        (removed, damaged): (u64, u64),
    ) -> Result<Self, SuccessionError> {
        beside.hook.succeed(&estate.hook, links)?;
        let egress = estate.hook.links.iter().filter(|l| l.is_at_egress());
        Ok(Self {
            hook: beside.hook,
            claim: Claim::succeed(claim)?,
            places: estate.places,
            egress: egress.map(|l| l.ifindex).collect(),
            pins: beside.pins.map(|pins| pins.display().to_string()),
            repairs: Repairs {
                removed,
                damaged,
                ..Repairs::default()
            },
        })
    }

    /// All is this process's now: the maps say what this one wants, before an engine orders anything.
    ///
    /// # Errors
    /// As [`Keeper::apply`].
    pub(crate) fn begin(&self, now: Instant, spec: &GuardSpec) -> Result<(), HookError> {
        self.hook.begin(now);
        self.hook.set_rules(&rules::of(spec))
    }

    /// Puts this process's program where the other's is, each in one step.
    pub(crate) fn replace_programs(&mut self) {
        for (name, place) in self.places.clone() {
            if let Err(error) = self.attach(&name, place.ifindex) {
                tracing::error!(
                    interface = name,
                    "the hook's program of the daemon before is not replaced: {error}"
                );
            }
        }
        for ifindex in &self.egress {
            if let Err(error) = self.hook.attach_egress(*ifindex) {
                tracing::error!(
                    ifindex,
                    "the hook's program of the daemon before is not replaced: {error}"
                );
            }
        }
    }
}

/// Why a hook that was handed down cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SuccessionError {
    /// The maps or the links.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The claim.
    #[error(transparent)]
    Claim(#[from] GuardError),
}
