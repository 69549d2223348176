//! The control plane: the protocol, the desired state, the socket.

pub(crate) mod protocol;
