//! How a service's connections are torn down: `on_removal`, `on_expiry` and `drain_timeout`.

use std::ops::RangeInclusive;

use uvs_core::flow::Protocol;
use uvs_core::service::{OnExpiry, OnRemoval, TeardownPolicy};

use super::fields::Fields;

/// What may become of a removed server's connections.
const ON_REMOVAL: &[(&str, OnRemoval)] = &[
    ("keep", OnRemoval::Keep),
    ("drop", OnRemoval::Drop),
    ("tell", OnRemoval::Tell),
];
/// What may become of idle ones.
const ON_EXPIRY: &[(&str, OnExpiry)] = &[("drop", OnExpiry::Drop), ("tell", OnExpiry::Tell)];
/// Seconds: up to 31 days, as for persistence.
const SECONDS: RangeInclusive<i64> = 1..=2_678_400;

/// Reads a service's three keys; without them it does as IPVS does.
pub(super) fn read(fields: &Fields<'_>, protocol: Option<Protocol>) -> TeardownPolicy {
    TeardownPolicy {
        on_removal: on_removal(fields, protocol),
        on_expiry: on_expiry(fields, protocol),
        drain_timeout: fields.integer("drain_timeout", SECONDS).unwrap_or(0),
    }
}

fn on_removal(fields: &Fields<'_>, protocol: Option<Protocol>) -> OnRemoval {
    let Some(value) = fields.get("on_removal") else {
        return OnRemoval::default();
    };
    let chosen = value.choice(ON_REMOVAL).unwrap_or_default();
    if (chosen, protocol) == (OnRemoval::Tell, Some(Protocol::Sctp)) {
        value.refuse(
            "the ends of sctp associations cannot be notified",
            "use \"drop\"; \"tell\" is for tcp and udp services",
        );
    }
    chosen
}

fn on_expiry(fields: &Fields<'_>, protocol: Option<Protocol>) -> OnExpiry {
    let Some(value) = fields.get("on_expiry") else {
        return OnExpiry::default();
    };
    let chosen = value.choice(ON_EXPIRY).unwrap_or_default();
    let deaf = protocol.filter(|p| chosen == OnExpiry::Tell && *p != Protocol::Tcp);
    if let Some(protocol) = deaf {
        value.refuse(
            format!("an idle {protocol} flow has no end to be notified of"),
            "\"tell\" is for tcp services",
        );
    }
    chosen
}
