//! What a command can change of the table. Only these may travel together, in a batch.

use std::fmt;

use serde::{Deserialize, Serialize};
use uvs_core::flow::Endpoint;
use uvs_core::marks::Destination;
use uvs_core::service::{ServerSpec, ServiceKey, ServiceSpec};
use uvs_core::snapshot::Timeouts;

use super::AccessChange;
use crate::access::name;

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
    /// Sets a server's weight, and nothing else of it.
    SetWeight(ServiceKey, Endpoint, u32),
    /// Gives a server of weight 0 the weight that it had before; one of another weight keeps it.
    Undrain(ServiceKey, Endpoint),
}

/// What it asks for, as it comes after "refused: to": `add the server 10.0.0.2:80 to TCP 10.0.0.1:80`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddService(spec) => {
                write!(f, "add the service {} ({})", spec.key, spec.scheduler)
            }
            Self::EditService(spec) => {
                write!(f, "edit the service {} ({})", spec.key, spec.scheduler)
            }
            Self::DeleteService(key) => write!(f, "remove the service {key}"),
            Self::Clear => f.write_str("remove all services"),
            Self::AddServer(key, server) => {
                let (at, mode, weight) = (server.endpoint, server.mode(), server.weight);
                write!(f, "add the server {at} to {key} ({mode}, weight {weight})")
            }
            Self::EditServer(key, server) => {
                let (at, mode, weight) = (server.endpoint, server.mode(), server.weight);
                write!(f, "edit the server {at} in {key} ({mode}, weight {weight})")
            }
            Self::DeleteServer(key, at) => write!(f, "remove the server {at} from {key}"),
            Self::Mark(mark, to) => {
                write!(f, "give the mark {mark} to {}", several(to))
            }
            Self::Unmark(mark, to) if to.is_empty() => {
                write!(f, "remove all rules of the mark {mark}")
            }
            Self::Unmark(mark, to) => {
                write!(f, "take the mark {mark} from {}", several(to))
            }
            Self::AddAccess(change) => write!(f, "add {}", entries(change)),
            Self::DeleteAccess(change) => write!(f, "remove {}", entries(change)),
            Self::SetTimeouts(to) => {
                let Timeouts { tcp, tcp_fin, udp } = to;
                write!(f, "set the time-outs {tcp} {tcp_fin} {udp}")
            }
            Self::SetWeight(key, at, weight) => {
                write!(f, "set the weight of {at} in {key} to {weight}")
            }
            Self::Undrain(key, at) => write!(f, "undrain {at} in {key}"),
        }
    }
}

fn entries(change: &AccessChange) -> String {
    let list = name(change.action);
    let of = change
        .service
        .map_or_else(|| "every service".to_owned(), |key| key.to_string());
    format!("{list} {} for {of}", several(&change.prefixes))
}

/// The first of them, and how many there are more.
fn several<T: fmt::Display>(all: &[T]) -> String {
    const MOST: usize = 3;
    let shown: Vec<String> = all.iter().take(MOST).map(ToString::to_string).collect();
    let shown = shown.join(", ");
    match all.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
