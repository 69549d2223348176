//! IP protocol numbers (IANA, "Assigned Internet Protocol Numbers"): what an IP header says lies behind it.

/// ICMP for IPv4.
pub const ICMP: u8 = 1;
/// An IPv4 packet (RFC 2003), also within GUE.
pub const IPIP: u8 = 4;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// An IPv6 packet (RFC 2473, RFC 4213), also within GUE.
pub const IPV6: u8 = 41;
/// GRE.
pub const GRE: u8 = 47;
/// SCTP.
pub const SCTP: u8 = 132;
