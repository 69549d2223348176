//! The connections, and the servers that have them: opened, tracked, counted, ended.

pub(super) mod clients;
pub(super) mod handshake;
mod lifetime;
pub(super) mod sequence;
pub(super) mod servers;
pub(super) mod slow_start;
mod track;
