//! Words that several commands show.

use uvs_core::service::ServerSpec;

/// How packets reach a server, in a word.
pub(crate) const fn mode(server: &ServerSpec, local: bool) -> &'static str {
    if local && !server.forwarding.passes_replies() {
        "local"
    } else {
        server.mode()
    }
}
