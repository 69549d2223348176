//! The control plane: the protocol of the control socket with its client and server, the desired state, and
//! what that is made from: the configuration file, lists of clients, the host's firewall, plugins.

pub mod access;
pub mod author;
pub mod client;
pub mod config;
pub mod difference;
pub mod firewall;
pub mod peer;
pub mod plugins;
pub mod protocol;
pub mod regular;
pub mod server;
pub mod starting;
pub mod table;
pub mod trace;
