//! The snapshot as metric families: a `Collector` of the `prometheus` crate that keeps no counters of its
//! own, since the engine has them; and as text where there are as many as there are services.

mod daemon;
mod frames;
mod hook;
mod services;

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use crate::MetricSnapshot;
use crate::catalog::{self, Definition};
use crate::family::{Families, describe};
use crate::node_ipvs;
use crate::text::Text;

/// The last published snapshot, for who publishes and who collects.
#[derive(Clone, Default)]
pub(crate) struct Cell(Arc<Mutex<Option<Arc<MetricSnapshot>>>>);

impl Cell {
    pub(crate) fn set(&self, snapshot: Arc<MetricSnapshot>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
    }

    pub(crate) fn get(&self) -> Option<Arc<MetricSnapshot>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Collects from the cell.
pub(crate) struct SnapshotCollector {
    cell: Cell,
    descs: Vec<Desc>,
}

impl SnapshotCollector {
    pub(crate) fn new(cell: Cell) -> prometheus::Result<Self> {
        let served = |d: &&Definition| !own(d);
        let definitions = catalog::ALL.iter().filter(served);
        let descs = definitions.chain(&catalog::NODE_IPVS).map(describe);
        Ok(Self {
            cell,
            descs: descs.collect::<Result<_, _>>()?,
        })
    }
}

/// Whether another collector serves it.
fn own(definition: &Definition) -> bool {
    definition.name.starts_with("process_") || definition.name.starts_with("uvs_http_")
}

impl Collector for SnapshotCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(snapshot) = self.cell.get() else {
            return Vec::new();
        };
        let mut families = Families::default();
        frames::collect(&snapshot, &mut families);
        daemon::collect(&snapshot, &mut families);
        hook::collect(&snapshot.hook, &mut families);
        families.finish()
    }
}

/// The families of services and servers, which the collector leaves out, as text.
pub(crate) fn services(snapshot: &MetricSnapshot) -> String {
    let mut text = Text::default();
    services::collect(snapshot, &mut text);
    if snapshot.node_ipvs {
        node_ipvs::collect(snapshot, &mut text);
    }
    text.finish()
}
