//! The control plane: the protocol, the desired state, the socket.

pub(crate) mod client;
pub(crate) mod protocol;
pub(crate) mod server;
pub(crate) mod table;
