//! Putting the table in force: engines, sockets, guard and neighbours, in the order in which the kernel never sees what is
//! ours; and only what has changed.

use std::sync::Arc;

use uvs_control::protocol::Refusal;
use uvs_core::crew::Steering;
use uvs_core::shared::Set;
use uvs_core::snapshot::Snapshot;

use super::derived::Ground;
use super::footing::{Division, Footing, InForce};
use super::{Daemon, derive, failed, vips};
use crate::clock::monotonic;
use crate::guard::{FullNat, GuardSpec, LOOPBACK};
use crate::port::fan_out::FanOut;
use crate::worker::Desired;

impl Daemon {
    /// Brings engine, sockets and guard to the table's state. Of the servers that leave, those with
    /// connections stay in sockets and guard.
    pub(super) fn publish(&mut self) -> Result<(), Refusal> {
        self.removed_servers
            .follow(self.table.services(), self.table.marks());
        self.put_in_force()?;
        if self.forget_idle()? {
            self.put_in_force()?;
        }
        Ok(())
    }

    /// Looks which removed servers have connections still; says whether one has lost its last.
    pub(super) fn forget_idle(&mut self) -> Result<bool, Refusal> {
        let left = self.removed_servers.left();
        if left.is_empty() {
            return Ok(false);
        }
        let connections = self.workers.connections_of(&left).map_err(failed)?;
        Ok(self.removed_servers.forget_idle(&connections))
    }

    /// Puts the table in force: all of it, or what the engines alone have to know.
    pub(super) fn put_in_force(&mut self) -> Result<(), Refusal> {
        let footing = Footing {
            services: self.table.services().clone(),
            marks: self.table.marks().to_vec(),
            own_vips: self.table.own_vips().clone(),
            fib: self.mirror.fib(),
            nat: derive::nat(self.table.timeouts(), self.table.sysctls()),
            yielded: self.yielded.vips(),
            repliers: self.removed_servers.version(),
        };
        let before = self.in_force.footing.take();
        if before.is_some_and(|before| before.carries(&footing)) {
            self.have_taken_up(self.table.snapshot(&self.unassigned))?;
            self.restore_clients();
        } else {
            self.put_all_in_force()?;
        }
        self.in_force.footing = Some(footing);
        Ok(())
    }

    /// The workers take a snapshot up.
    fn have_taken_up(&mut self, snapshot: Snapshot) -> Result<(), Refusal> {
        let InForce {
            filters: [filter, host_filter],
            division,
            ..
        } = &self.in_force;
        let desired = Desired {
            snapshot: Arc::new(Snapshot {
                steering: Arc::clone(&division.steering),
                ..snapshot
            }),
            filter: filter.last(),
            host_filter: host_filter.last(),
            fan_out: division.fan_out.clone(),
        };
        self.workers.put_in_force(desired).map_err(failed)
    }

    /// Says which worker a connection belongs to, where there are several; to the kernel as a program.
    fn divide(&self) -> Division {
        if self.fan.workers() == 1 {
            return Division::default();
        }
        let repliers = self.removed_servers.all();
        let removed = derive::removed(repliers.into_iter().flat_map(Set::iter));
        let steering = Steering::of(self.table.services(), self.table.marks(), removed);
        let program = FanOut::new(&steering, self.fan, self.limits.local_ports);
        if !program.exact {
            tracing::warn!(
                "more addresses than a fan-out program holds: servers' replies are handed over between workers"
            );
        }
        Division {
            steering: Arc::new(steering),
            fan_out: Some(Arc::new(program)),
        }
    }

    /// The guard grows before the engine serves, and shrinks after it has stopped to, so that the kernel
    /// never sees what is ours.
    fn put_all_in_force(&mut self) -> Result<(), Refusal> {
        let fib = self.mirror.fib();
        let local = self.mirror.local_addresses();
        let ground = Ground {
            marks: self.table.marks().to_vec(),
            own_vips: self.table.own_vips().clone(),
            fib: Arc::clone(&fib),
            local: local.clone(),
        };
        let derived = &mut self.in_force.derived;
        derived.follow(self.table.services(), self.removed_servers.all(), ground);
        let mut unassigned = derived.unassigned();
        self.yielded.retain(&unassigned.owned);
        unassigned.yielded = self.yielded.vips();
        let filters = [derived.filter(), derived.host_filter()];
        for (compiled, wanted) in self.in_force.filters.iter_mut().zip(filters) {
            compiled.compile(wanted);
        }
        let loopback = LOOPBACK.to_owned();
        let surroundings = GuardSpec {
            interfaces: self.interfaces.iter().cloned().chain([loopback]).collect(),
            nat: derive::nat(self.table.timeouts(), self.table.sysctls()),
            owned: unassigned.owned.iter().copied().collect(),
            local: local.into(),
            fullnat: FullNat {
                ports: self.limits.local_ports,
                ..FullNat::default()
            },
            ..GuardSpec::default()
        };
        let wanted = self.in_force.derived.guard(surroundings);
        let both = wanted.union(&self.in_force.guarded);
        // What is taken over is guarded already, by the daemon before; changing it would take while frames wait.
        let taken_over = self.options.predecessor.is_some();
        if both != self.in_force.guarded && !taken_over {
            self.isolation.apply(&both).map_err(failed)?;
        }
        if let Some(predecessor) = &self.options.predecessor {
            predecessor.take().map_err(failed)?;
            self.isolation.begin(monotonic(), &both).map_err(failed)?;
        }
        self.in_force.division = self.divide();
        self.have_taken_up(self.table.snapshot(&unassigned))?;
        if let Some(predecessor) = &self.options.predecessor {
            predecessor.serve();
        }
        if wanted != both || taken_over {
            self.isolation.apply(&wanted).map_err(failed)?;
        }
        self.restore_clients();
        self.in_force.guarded = wanted;
        if let Err(e) = self.mirror.keep(self.in_force.derived.ways()) {
            tracing::warn!("{e}");
        }
        vips::log_changes(&self.unassigned, &unassigned, &fib);
        self.unassigned = unassigned;
        self.announce_moved();
        Ok(())
    }
}
