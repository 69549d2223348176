//! A bed with the schedulers that there are, and another process's engine that goes on from it.

use uvs_core::engine::{EngineConfig, SchedulerSource};
use uvs_core::snapshot::Limits;
use uvs_core::testing::bed::Bed;

fn limits(connections: u32) -> Limits {
    Limits {
        connections,
        ..Limits::default()
    }
}

fn schedulers() -> SchedulerSource {
    Box::new(|name, params| uvs_schedulers::find(name).map(|d| (d.new)(params)))
}

/// A bed without services that has so many connections at most.
pub(crate) fn bed(connections: u32) -> Bed {
    Bed::with_schedulers(uvs_modes::BUILTIN, limits(connections), schedulers())
}

/// Another process's engine goes on with so many at most, as in an upgrade.
pub(crate) fn hand_down(bed: &mut Bed, connections: u32) {
    bed.hand_down_to(EngineConfig {
        limits: limits(connections),
        keys: (0, 0),
        seed: 0,
        modes: uvs_modes::BUILTIN,
        crew: None,
        schedulers: schedulers(),
    });
}
