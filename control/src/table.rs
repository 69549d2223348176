//! The desired state the daemon owns: services with their servers, sysctls and time-outs.
//!
//! Every change is checked whole before anything is written, and is refused with the errno the kernel's
//! IPVS would answer, so that a refused change changes nothing. The engine gets the result as a
//! [`Snapshot`].

mod access;
mod check;
mod configured;
mod marks;
mod places;
mod succession;
mod sync;
#[cfg(test)]
mod tests;
mod unassigned;
mod weights;

use std::sync::Arc;

use uvs_core::flow::Endpoint;
use uvs_core::marks::MarkRule;
use uvs_core::service::{ServerSpec, ServiceKey, ServiceSpec};
use uvs_core::services::Services;
use uvs_core::snapshot::{Snapshot, SysctlError, Sysctls, Timeouts};

use super::protocol::{Change, Errno, Refusal, SyncDaemon, SysctlValue};
use crate::access::Lists;
use crate::config::OwnVips;
use crate::firewall::DropRule;
use crate::plugins::Schedulers;

use places::Places;
pub use succession::Estate;
pub use unassigned::UnassignedVips;
use weights::Drained;
pub use weights::Server;

/// Services in the order they were added, sysctls and time-outs.
#[derive(Clone, Debug, Default)]
pub struct Table {
    schedulers: Arc<Schedulers>,
    services: Services,
    places: Places,
    /// What servers of weight 0 had before.
    drained: Drained,
    marks: Vec<MarkRule>,
    lists: Lists,
    /// What the host's firewall keeps out.
    drop_rules: Arc<[DropRule]>,
    sysctls: Sysctls,
    timeouts: Timeouts,
    own_vips: OwnVips,
    /// The sync daemons that run, the master first.
    sync: Vec<SyncDaemon>,
}

impl Table {
    /// An empty table that accepts services of these schedulers.
    pub fn new(schedulers: Arc<Schedulers>) -> Self {
        Self {
            schedulers,
            ..Self::default()
        }
    }

    /// All services, oldest first.
    pub const fn services(&self) -> &Services {
        &self.services
    }

    /// The service with this key; refused where there is none.
    pub fn find(&self, key: &ServiceKey) -> Result<&Arc<ServiceSpec>, Refusal> {
        self.service(key).ok_or_else(|| no_service(key))
    }

    /// The service with this key.
    pub fn service(&self, key: &ServiceKey) -> Option<&Arc<ServiceSpec>> {
        self.services.get(self.places.get(key)?)
    }

    /// The time-outs.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// The sysctls.
    pub const fn sysctls(&self) -> &Sysctls {
        &self.sysctls
    }

    /// Which VIPs are to be owned.
    pub fn own_vips(&self) -> &OwnVips {
        &self.own_vips
    }

    /// Changes which VIPs are to be owned.
    pub fn set_own_vips(&mut self, own: OwnVips) {
        self.own_vips = own;
    }

    /// What the engine is to run.
    pub fn snapshot(&self, unassigned: &UnassignedVips) -> Snapshot {
        Snapshot {
            services: self.services.clone(),
            marks: self.marks.clone(),
            sysctls: self.sysctls.clone(),
            timeouts: self.timeouts,
            peers: self.peers(),
            owned_vips: unassigned.owned.clone(),
            yielded_vips: unassigned.yielded.clone(),
            absent_vips: unassigned.absent.clone(),
            access: self.lists.built(),
            steering: Arc::default(),
        }
    }

    /// Makes one change.
    ///
    /// # Errors
    /// It is refused, and nothing is changed.
    pub fn apply(&mut self, change: &Change) -> Result<(), Refusal> {
        match change {
            Change::AddService(spec) => self.add_service(spec.clone()),
            Change::EditService(spec) => self.edit_service(spec.clone()),
            Change::DeleteService(key) => self.delete_service(key),
            Change::Clear => {
                self.clear();
                Ok(())
            }
            Change::AddServer(key, server) => self.add_server(key, *server),
            Change::EditServer(key, server) => self.edit_server(key, *server),
            Change::DeleteServer(key, endpoint) => self.delete_server(key, *endpoint),
            Change::Mark(mark, to) => self.mark(*mark, to),
            Change::Unmark(mark, to) => self.unmark(*mark, to),
            Change::AddAccess(change) => self.add_access(change),
            Change::DeleteAccess(change) => self.lists.delete(change),
            Change::SetTimeouts(timeouts) => self.set_timeouts(*timeouts),
            Change::SetWeight(key, at, weight) => self.set_weight(key, *at, *weight),
            Change::Undrain(key, at) => self.undrain(key, *at),
        }
    }

    /// Makes changes in their order, all or none.
    ///
    /// # Errors
    /// One is refused: its place among them, and why.
    pub fn apply_together(&mut self, changes: &[Change]) -> Result<(), (usize, Refusal)> {
        let mut next = self.clone();
        for (place, change) in changes.iter().enumerate() {
            next.apply(change).map_err(|refusal| (place, refusal))?;
        }
        *self = next;
        Ok(())
    }

    /// Makes changes in their order, each unless it is refused.
    pub fn apply_all(&mut self, changes: &[Change]) -> Vec<Result<(), Refusal>> {
        changes.iter().map(|change| self.apply(change)).collect()
    }

    /// Adds a service without servers.
    pub(crate) fn add_service(&mut self, spec: ServiceSpec) -> Result<(), Refusal> {
        if self.service(&spec.key).is_some() {
            return Err(refuse(
                Errno::Exists,
                format!("{}: the service exists already", spec.key),
            ));
        }
        check::service(&spec, &self.schedulers)?;
        let key = spec.key;
        let serial = self.services.push(Arc::new(spec));
        self.places.insert(key, serial);
        Ok(())
    }

    /// Replaces a service's settings, all that ipvsadm knows of; its servers stay.
    pub(crate) fn edit_service(&mut self, spec: ServiceSpec) -> Result<(), Refusal> {
        let old = self.find(&spec.key)?;
        let spec = with_what_ipvsadm_lacks(spec, old);
        check::service(&spec, &self.schedulers)?;
        let servers = &old.servers;
        for server in servers.iter().filter(|s| s.forwarding.takes_local()) {
            check::has_local_address(&spec, server)?;
        }
        for server in servers {
            check::can_be_told(&spec, server)?;
        }
        let servers = servers.clone();
        *self.edited(&spec.key)? = ServiceSpec { servers, ..spec };
        Ok(())
    }

    /// Removes a service with its servers.
    pub(crate) fn delete_service(&mut self, key: &ServiceKey) -> Result<(), Refusal> {
        let serial = self.places.get(key).ok_or_else(|| no_service(key))?;
        self.services.remove(serial);
        self.places.remove(key);
        self.drained.forget_service(key);
        Ok(())
    }

    /// Removes all services.
    pub fn clear(&mut self) {
        self.services.clear();
        self.places = Places::default();
        self.drained = Drained::default();
    }

    /// Adds a server at the head of the service's list, where the kernel puts it.
    pub(crate) fn add_server(
        &mut self,
        key: &ServiceKey,
        server: ServerSpec,
    ) -> Result<(), Refusal> {
        let service = self.find(key)?;
        let server = check::server(service, server)?;
        if service
            .servers
            .iter()
            .any(|s| s.endpoint == server.endpoint)
        {
            let message = format!("{key}: the server {} exists already", server.endpoint);
            return Err(refuse(Errno::Exists, message));
        }
        check::unicast(server.endpoint.addr)?;
        self.check_for_sync(key, &server)?;
        self.edited(key)?.servers.insert(0, server);
        Ok(())
    }

    /// Replaces a server's settings; it keeps its place.
    pub(crate) fn edit_server(
        &mut self,
        key: &ServiceKey,
        server: ServerSpec,
    ) -> Result<(), Refusal> {
        let service = self.find(key)?;
        let server = check::server(service, server)?;
        let place = server_position(service, server.endpoint)?;
        let before = std::mem::replace(&mut self.edited(key)?.servers[place], server);
        self.drained
            .note((*key, server.endpoint), before.weight, server.weight);
        Ok(())
    }

    /// Removes a server.
    pub(crate) fn delete_server(
        &mut self,
        key: &ServiceKey,
        endpoint: Endpoint,
    ) -> Result<(), Refusal> {
        let place = server_position(self.find(key)?, endpoint)?;
        self.edited(key)?.servers.remove(place);
        self.drained.forget((*key, endpoint));
        Ok(())
    }

    /// Sets the time-outs; 0 keeps the old value.
    pub fn set_timeouts(&mut self, new: Timeouts) -> Result<(), Refusal> {
        for seconds in [new.tcp, new.tcp_fin, new.udp] {
            check::timeout(seconds)?;
        }
        let keep = |new: u32, old: u32| if new == 0 { old } else { new };
        self.timeouts = Timeouts {
            tcp: keep(new.tcp, self.timeouts.tcp),
            tcp_fin: keep(new.tcp_fin, self.timeouts.tcp_fin),
            udp: keep(new.udp, self.timeouts.udp),
        };
        Ok(())
    }

    /// The value of one of [`Sysctls::NAMES`].
    pub fn sysctl(&self, name: &str) -> Result<SysctlValue, Refusal> {
        let value = self.sysctls.get(name).map(SysctlValue::from);
        value.ok_or_else(|| unknown_sysctl(name))
    }

    /// Replaces all sysctls.
    pub fn replace_sysctls(&mut self, sysctls: Sysctls) {
        self.sysctls = sysctls;
    }

    /// Sets one of [`Sysctls::NAMES`].
    pub fn set_sysctl(&mut self, name: &str, value: &SysctlValue) -> Result<(), Refusal> {
        let set = self.sysctls.set(name, &value.to_string());
        set.map_err(|e| match e {
            SysctlError::Unknown => unknown_sysctl(name),
            SysctlError::Value { what, wanted } => refuse(
                Errno::Invalid,
                format!("net.ipv4.vs.{name}: {what}; use {wanted}"),
            ),
        })
    }

    /// Replaces all services, or none where any of them is refused. Each service's servers are given
    /// newest first, as [`ServiceSpec::servers`] keeps them.
    pub fn replace(&mut self, services: Vec<ServiceSpec>) -> Result<(), Refusal> {
        let mut next = self.clone();
        next.clear();
        for mut service in services {
            let (key, servers) = (service.key, std::mem::take(&mut service.servers));
            next.add_service(service)?;
            for server in servers.into_iter().rev() {
                next.add_server(&key, server)?;
            }
        }
        *self = next;
        Ok(())
    }

    /// The service with this key, to be changed.
    fn edited(&mut self, key: &ServiceKey) -> Result<&mut ServiceSpec, Refusal> {
        let serial = self.places.get(key);
        let service = serial.and_then(|serial| self.services.get_mut(serial));
        service.map(Arc::make_mut).ok_or_else(|| no_service(key))
    }
}

fn server_position(service: &ServiceSpec, endpoint: Endpoint) -> Result<usize, Refusal> {
    let mut servers = service.servers.iter();
    servers.position(|s| s.endpoint == endpoint).ok_or_else(|| {
        refuse(
            Errno::NoServer,
            format!("{}: no such server: {endpoint}", service.key),
        )
    })
}

fn no_service(key: &ServiceKey) -> Refusal {
    refuse(Errno::NotFound, format!("{key}: no such service"))
}

/// A service with the settings that only the configuration can name as they were. A table's size goes
/// with its scheduler.
fn with_what_ipvsadm_lacks(mut spec: ServiceSpec, old: &ServiceSpec) -> ServiceSpec {
    if spec.scheduler == old.scheduler {
        spec.table_size = old.table_size;
    }
    spec.slow_start = old.slow_start;
    spec.teardown = old.teardown;
    spec.new_connections = old.new_connections;
    spec.connection_log = old.connection_log;
    spec
}

fn refuse(errno: Errno, message: String) -> Refusal {
    Refusal { errno, message }
}

fn unknown_sysctl(name: &str) -> Refusal {
    refuse(
        Errno::NotFound,
        format!(
            "net.ipv4.vs.{name}: no such sysctl; there are {}",
            Sysctls::NAMES.join(", ")
        ),
    )
}
