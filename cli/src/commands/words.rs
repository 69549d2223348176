//! Words that several commands show.

use uvs_core::service::{Forwarding, ServerSpec, TunnelKind};

/// How packets reach a server, in a word.
pub(crate) const fn mode(server: &ServerSpec, local: bool) -> &'static str {
    match (server.forwarding, server.tunnel.kind) {
        (Forwarding::Dr | Forwarding::Tunnel, _) if local => "local",
        (Forwarding::Dr, _) => "dr",
        (Forwarding::Nat, _) => "nat",
        (Forwarding::FullNat, _) => "fullnat",
        (Forwarding::Tunnel, TunnelKind::Ipip) => "ipip",
        (Forwarding::Tunnel, TunnelKind::Gue) => "gue",
        (Forwarding::Tunnel, TunnelKind::Gre) => "gre",
    }
}
