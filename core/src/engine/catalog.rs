//! What services are made from.

use crate::mode::ModeDef;
use crate::scheduler::{Scheduler, SchedulerParams};
use crate::service::{Forwarding, ServiceSpec, TunnelKind};

/// Makes a scheduler by name; `None` for an unknown one.
pub type SchedulerSource = Box<dyn Fn(&str, &SchedulerParams) -> Option<Box<dyn Scheduler>> + Send>;

/// The modes and schedulers that there are.
pub(super) struct Catalog {
    /// Bound to connections by their place.
    pub(super) modes: &'static [ModeDef],
    pub(super) schedulers: SchedulerSource,
    /// Seed of the schedulers.
    pub(super) seed: u64,
}

impl Catalog {
    /// The mode at a place.
    #[inline]
    pub(super) fn mode(&self, place: u8) -> &'static ModeDef {
        &self.modes[usize::from(place)]
    }

    /// The place of the mode for a forwarding method.
    pub(super) fn mode_for(&self, forwarding: Forwarding, tunnel: TunnelKind) -> Option<u8> {
        (0..=u8::MAX)
            .zip(self.modes)
            .find(|(_, m)| m.reaches(forwarding, tunnel))
            .map(|(i, _)| i)
    }

    /// A new instance of a service's scheduler.
    pub(super) fn scheduler(&self, spec: &ServiceSpec) -> Option<Box<dyn Scheduler>> {
        let params = SchedulerParams {
            flags: spec.flags,
            seed: self.seed,
            table_size: spec.table_size,
        };
        (self.schedulers)(&spec.scheduler, &params)
    }

    /// The same modes, and no schedulers: for an engine that is never handed a snapshot.
    pub(super) fn fork(&self) -> Self {
        Self {
            modes: self.modes,
            schedulers: Box::new(|_, _| None),
            seed: self.seed,
        }
    }
}
