//! `mode`, of a service and of each of its servers.

use uvs_core::service::Forwarding;

use super::fields::Fields;

/// The modes by their names.
const MODES: &[(&str, Forwarding)] = &[
    ("dr", Forwarding::Dr),
    ("nat", Forwarding::Nat),
    ("fullnat", Forwarding::FullNat),
    ("ipip", Forwarding::Tunnel),
];

/// The mode that is written here, else `default`. After a wrong word the rest is checked as for NAT,
/// which forbids least, so that one mistake does not look like several.
pub(super) fn read(fields: &Fields<'_>, default: Forwarding) -> Forwarding {
    let written = fields.get("mode").map(|value| value.choice(MODES));
    written.map_or(default, |mode| mode.unwrap_or(Forwarding::Nat))
}
