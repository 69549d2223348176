//! The metrics of a daemon that carries real traffic in the lab: they agree with what its clients counted,
//! with the interfaces' own counters, with node_exporter and, in Prometheus, with the dashboards and alerts.

mod expressions;
mod lab;
mod node_exporter;
mod pair;
mod prometheus;
mod relay;
mod scrape;
