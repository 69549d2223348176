//! The control plane: the protocol, the desired state, the socket.

pub(crate) mod client;
pub(crate) mod protocol;
pub(crate) mod server;
mod starting;
pub(crate) mod table;
