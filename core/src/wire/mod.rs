//! What lies on the wire: one protocol a file.

pub mod arp;
pub mod checksum;
pub mod ipv4;
