//! What a command can change of the table. Only these may travel together, in a batch.

use serde::{Deserialize, Serialize};
use uvs_core::flow::Endpoint;
use uvs_core::marks::Destination;
use uvs_core::service::{ServerSpec, ServiceKey, ServiceSpec};
use uvs_core::snapshot::Timeouts;

use super::AccessChange;

/// A change of the table, carried out whole or refused whole, and answered `"done"`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Adds a service. Its `servers` must be empty.
    AddService(ServiceSpec),
    /// Replaces a service's settings; its servers stay. `servers` must be empty.
    EditService(ServiceSpec),
    /// Removes a service and its servers.
    DeleteService(ServiceKey),
    /// Removes all services. Connections stay.
    Clear,
    /// Adds a server at the head of the service's list.
    AddServer(ServiceKey, ServerSpec),
    /// Replaces a server's settings, found by its endpoint.
    EditServer(ServiceKey, ServerSpec),
    /// Removes a server.
    DeleteServer(ServiceKey, Endpoint),
    /// Gives packets to these destinations a firewall mark.
    Mark(u32, Vec<Destination>),
    /// Removes rules of a mark, all of them where none is named.
    Unmark(u32, Vec<Destination>),
    /// Adds entries to a deny or allow list. Those that are there already are no mistake.
    AddAccess(AccessChange),
    /// Removes entries that were added by commands.
    DeleteAccess(AccessChange),
    /// Sets time-outs in seconds; 0 keeps the old value.
    SetTimeouts(Timeouts),
}
