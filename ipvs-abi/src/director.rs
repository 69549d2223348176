//! Who carries out what programs ask.

use uvs_core::counters::Stats;
use uvs_core::flow::Endpoint;
use uvs_core::service::{ServerSpec, ServiceKey, ServiceSpec};
use uvs_core::snapshot::Timeouts;

use crate::errno::Errno;
use crate::server::Load;

/// The daemon, or a table in its place.
pub trait Director {
    /// Carries out a change.
    ///
    /// # Errors
    /// What the kernel's IPVS would answer; nothing is changed.
    fn change(&mut self, change: Change) -> Result<(), Errno>;

    /// All services, in the order in which they were added.
    ///
    /// # Errors
    /// The daemon cannot say.
    fn services(&mut self) -> Result<Vec<Service>, Errno>;

    /// The time-outs in force.
    ///
    /// # Errors
    /// The daemon cannot say.
    fn timeouts(&mut self) -> Result<Timeouts, Errno>;

    /// Slots of the connection table.
    ///
    /// # Errors
    /// The daemon cannot say.
    fn table_size(&mut self) -> Result<u32, Errno>;
}

/// A change of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    AddService(ServiceSpec),
    EditService(ServiceSpec),
    DeleteService(ServiceKey),
    Clear,
    AddServer(ServiceKey, ServerSpec),
    EditServer(ServiceKey, ServerSpec),
    DeleteServer(ServiceKey, Endpoint),
    Zero(Option<ServiceKey>),
    SetTimeouts(Timeouts),
}

/// A service as it is listed.
#[derive(Clone, Debug)]
pub struct Service {
    pub spec: ServiceSpec,
    pub totals: Stats,
    pub rates: Stats,
    pub servers: Vec<Server>,
}

/// A server as it is listed.
#[derive(Clone, Debug)]
pub struct Server {
    pub spec: ServerSpec,
    pub load: Load,
    pub totals: Stats,
    pub rates: Stats,
}
