//! The table `[metrics]`: where Prometheus finds the daemon's numbers, and how many there may be.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::str::FromStr;

use super::fields::Fields;

pub(super) const KEYS: &[&str] = &["address", "max_backends", "compat"];
/// Where metrics are served unless something else is said.
const DEFAULT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9650));
/// Real servers with series of their own, unless something else is said: about 75000 series.
const MAX_BACKENDS: usize = 5000;

/// What is exported, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Where.
    pub listen: Listen,
    /// Real servers above which only services are exported.
    pub max_backends: usize,
    /// Whether node_exporter's series are served too.
    pub node_ipvs: bool,
}

/// Where metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// At the default address, if it is free.
    Default,
    /// Nowhere.
    Off,
    /// At this address.
    At(SocketAddr),
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            listen: Listen::Default,
            max_backends: MAX_BACKENDS,
            node_ipvs: false,
        }
    }
}

impl Listen {
    /// The address, unless metrics are off.
    pub const fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Default => Some(DEFAULT),
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            _ => text.parse().map(Self::At).map_err(|_| {
                "use ADDRESS:PORT, such as 127.0.0.1:9650 or [::]:9650, or \"off\"".to_owned()
            }),
        }
    }
}

/// Reads the table, where there is one.
pub(super) fn read(top: &Fields<'_>) -> Metrics {
    let mut metrics = Metrics::default();
    let Some(fields) = top.get("metrics").and_then(|value| value.fields(KEYS)) else {
        return metrics;
    };
    if let Some(value) = fields.get("address")
        && let Some(text) = value.string()
    {
        match text.parse() {
            Ok(listen) => metrics.listen = listen,
            Err(help) => value.refuse(format!("metrics cannot be served on \"{text}\""), help),
        }
    }
    if let Some(max) = fields.integer("max_backends", 0..=1_000_000) {
        metrics.max_backends = max;
    }
    if let Some(value) = fields.get("compat") {
        let choice = value.choice(&[("none", false), ("node_ipvs", true)]);
        metrics.node_ipvs = choice.unwrap_or_default();
    }
    metrics
}
