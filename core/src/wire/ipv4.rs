//! IPv4 (RFC 791).

pub mod options;
