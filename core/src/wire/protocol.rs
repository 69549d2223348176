//! IP protocol numbers (IANA, "Assigned Internet Protocol Numbers"): what an IP header says lies behind it.

/// IPv6 options that every router looks at (RFC 8200 §4.3).
pub const HOP_BY_HOP: u8 = 0;
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
/// IPv6's routing header (RFC 8200 §4.4).
pub const ROUTING: u8 = 43;
/// IPv6's Fragment header (RFC 8200 §4.5).
pub const FRAGMENT: u8 = 44;
/// GRE.
pub const GRE: u8 = 47;
/// Encapsulating security payload (RFC 4303): what it holds cannot be read.
pub const ESP: u8 = 50;
/// Authentication header (RFC 4302).
pub const AH: u8 = 51;
/// ICMP for IPv6 (RFC 4443).
pub const ICMPV6: u8 = 58;
/// Nothing follows (RFC 8200 §4.7).
pub const NO_NEXT_HEADER: u8 = 59;
/// IPv6 options for the destination (RFC 8200 §4.6).
pub const DESTINATION_OPTIONS: u8 = 60;
/// SCTP.
pub const SCTP: u8 = 132;

/// Whether this is an IPv6 extension header that says what follows it and where.
#[inline]
pub const fn is_extension(number: u8) -> bool {
    matches!(
        number,
        HOP_BY_HOP | ROUTING | FRAGMENT | AH | DESTINATION_OPTIONS
    )
}
