//! UVS's Prometheus exporter: a plain [`MetricSnapshot`] in, `/metrics`, `/healthz` and `/readyz` out.
//!
//! The crate knows nothing of sockets with packets or of the daemon. Whoever has the numbers publishes a
//! snapshot when [`serve`] asks for one; the server, on its own thread, renders the last. So a scrape
//! shares one lock with the publisher, for the length of a pointer's copy, and none with the data path.
//!
//! [`catalog`] is the closed list of metrics: what is served, documented and used in dashboards is in it.

#![forbid(unsafe_code)]

pub mod catalog;
mod collect;
mod family;
mod http;
mod node_ipvs;
mod process;
mod server;
mod snapshot;
#[cfg(feature = "testing")]
pub mod testing;
mod text;

pub use http::render;
pub use server::{Exporter, serve};
pub use snapshot::{
    BackendMetrics, Build, Histogram, HookMetrics, HookPortMetrics, HookState, LATENCY_BOUNDS,
    LocalAddress, MetricSnapshot, PluginMetrics, PortMetrics, Reloads, SCHEDULE_BOUNDS,
    ServiceMetrics, State, SyncMetrics, WorkerMetrics,
};
