//! node_exporter's `ipvs` series, so that dashboards made for LVS go on working.

use std::collections::BTreeMap;

use uvs_core::service::ServiceKey;

use crate::MetricSnapshot;
use crate::catalog::NODE_IPVS;
use crate::text::Text;

pub(crate) fn collect(snapshot: &MetricSnapshot, to: &mut Text) {
    let mut total = snapshot.retired;
    for service in &snapshot.services {
        total += service.numbers.stats;
    }
    let totals = [
        total.connections,
        total.in_packets,
        total.out_packets,
        total.in_bytes,
        total.out_bytes,
    ];
    for (definition, value) in NODE_IPVS.iter().zip(totals) {
        to.add(definition, &[], value as f64);
    }
    for (labels, values) in backends(snapshot) {
        for (definition, value) in NODE_IPVS[totals.len()..].iter().zip(values) {
            to.add(definition, &labels.each_ref().map(String::as_str), value);
        }
    }
}

/// Active, inactive and weight by label values. As node_exporter does, what has the same labels is added.
fn backends(snapshot: &MetricSnapshot) -> BTreeMap<[String; 6], [f64; 3]> {
    let mut all = BTreeMap::new();
    for service in &snapshot.services {
        let (address, port, proto, mark) = match service.key {
            ServiceKey::Address {
                protocol,
                addr,
                port,
            } => (addr.to_string(), port, protocol.to_string(), String::new()),
            ServiceKey::Mark { mark, .. } => {
                (String::new(), 0, "FWM".to_owned(), format!("{mark:08X}"))
            }
        };
        for b in &service.backends {
            let labels = [
                address.clone(),
                port.to_string(),
                b.spec.endpoint.addr.to_string(),
                b.spec.endpoint.port.to_string(),
                proto.clone(),
                mark.clone(),
            ];
            let sums = all.entry(labels).or_insert([0.0; 3]);
            let values = [b.numbers.active, b.numbers.inactive, b.spec.weight];
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += f64::from(value);
            }
        }
    }
    all
}
