//! Taking a snapshot up.

use std::sync::Arc;

use super::Engine;
use super::flows::NewSchedulers;
use crate::flow::Endpoint;
use crate::service::{ServiceKey, ServiceSpec};
use crate::services::Difference;
use crate::snapshot::{Snapshot, Sysctls};
use crate::trace::Recorder;

/// Why a snapshot was not applied; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// No such scheduler.
    UnknownScheduler(String),
    /// No mode implements a server's forwarding method.
    UnknownMode(ServiceKey, Endpoint),
    /// A server is of another address family than its service, and its forwarding method does not go from one to
    /// the other.
    OtherFamily(ServiceKey, Endpoint),
}

impl std::fmt::Display for ApplyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownScheduler(name) => write!(f, "there is no scheduler `{name}`"),
            Self::UnknownMode(service, server) => {
                write!(
                    f,
                    "{service}: no mode forwards to the server {server} in the way asked for"
                )
            }
            Self::OtherFamily(service, server) => {
                write!(
                    f,
                    "{service}: the server {server} is of the other address family, which only tunnels and FULLNAT reach"
                )
            }
        }
    }
}

impl std::error::Error for ApplyError {}

impl<R: Recorder> Engine<R> {
    /// Makes the desired state the engine's. Running connections stay.
    ///
    /// # Errors
    /// A service cannot be made; then nothing is changed.
    pub fn apply(&mut self, snapshot: Arc<Snapshot>) -> Result<(), ApplyError> {
        let before = Arc::clone(self.desired.snapshot());
        let schedulers = self.new_schedulers(&snapshot.services.since(&before.services))?;
        let slots = self.desired.take_up(snapshot);
        let (now, then) = (&self.desired.snapshot().steering, &before.steering);
        if !Arc::ptr_eq(now, then) && now.moves_any_of(then) {
            self.look_for_strays();
        }
        if self.flows.has_hook() {
            self.note_changes(&before);
        }
        let change = (&slots, schedulers);
        let touched = self.flows.apply(&self.desired, &self.catalog, change);
        let access = &self.desired.snapshot().access;
        if touched.released || !Arc::ptr_eq(access, &before.access) {
            self.upkeep.begin_sweep(&self.flows, touched.released);
        }
        self.upkeep.configure(self.desired.sysctls());
        self.flows.set_telling(self.desired.telling());
        self.upkeep.note_drains(&mut self.flows, &touched.servers);
        self.claims.retain(|vip| self.desired.owns(vip));
        let path_mtus = &mut self.routes.path_mtus;
        path_mtus.retain(|to| self.desired.ends_a_tunnel(to));
        Ok(())
    }

    /// What taken connections depend on beside their servers.
    fn note_changes(&mut self, before: &Snapshot) {
        self.flows.change_timeouts(self.desired.timeouts());
        let now = self.desired.snapshot();
        let by = |s: &Sysctls| (s.pmtu_disc, s.snat_reroute);
        if by(&now.sysctls) != by(&before.sysctls) || now.absent_vips != before.absent_vips {
            self.flows.change_ways();
        }
    }

    /// Everything that could fail, before anything is changed: the schedulers that have to be made.
    fn new_schedulers(&self, difference: &Difference<'_>) -> Result<NewSchedulers, ApplyError> {
        let mut new = NewSchedulers::new();
        for spec in &difference.new {
            let known = self.desired.slot(&spec.key);
            let keeps = known.is_some_and(|slot| is_of_one_make(self.desired.service(slot), spec));
            let unknown = || ApplyError::UnknownScheduler(spec.scheduler.clone());
            new.push(match keeps {
                true => None,
                false => Some(self.catalog.scheduler(spec).ok_or_else(unknown)?),
            });
            for server in &spec.servers {
                self.catalog
                    .mode_for(server.forwarding, server.tunnel.kind)
                    .ok_or(ApplyError::UnknownMode(spec.key, server.endpoint))?;
                let same = server.endpoint.addr.is_v4() == spec.key.is_v4();
                if !same && !server.forwarding.def().mixes_families {
                    return Err(ApplyError::OtherFamily(spec.key, server.endpoint));
                }
            }
        }
        Ok(new)
    }
}

/// Whether the scheduler of one of two specifications does for the other.
fn is_of_one_make(a: &ServiceSpec, b: &ServiceSpec) -> bool {
    let made_from = |s: &ServiceSpec| (s.flags, s.table_size);
    a.scheduler == b.scheduler && made_from(a) == made_from(b)
}
