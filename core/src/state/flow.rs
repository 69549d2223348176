//! Addresses and flows as plain `#[repr(C)]` data: what schedulers see, built-in or plugin.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// `IPv4` or `IPv6`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// Bits of an address.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An IPv4 or IPv6 address in 16 bytes, network byte order; IPv4 as `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2).
///
/// An IPv6 packet may have such an address too. It stands here as `ffff:ffff:ffff:ffff:ffff:ffff:a.b.c.d`, which is
/// nobody's, so that an address is of one family whatever it came from: [`Addr::v6`] reads an address off the wire
/// and [`Addr::v6_octets`] gives it back, and so do conversions and text.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "IpAddr", into = "IpAddr")]
pub struct Addr(pub [u8; 16]);

/// The first 96 bits of an IPv4 address here, and of an IPv4-mapped one on the wire.
const MAPPED: u128 = 0xffff;
/// The first 96 bits that an IPv4-mapped address of IPv6 has here.
const STAND_IN: u128 = (1 << 96) - 1;

impl Addr {
    /// 0.0.0.0, "no address".
    pub const UNSPECIFIED: Self = Self::v4([0; 4]);

    /// The IPv4 address with these four bytes.
    #[inline]
    pub const fn v4(b: [u8; 4]) -> Self {
        // As one number, which is written at once.
        Self((MAPPED << 32 | u32::from_be_bytes(b) as u128).to_be_bytes())
    }

    /// The IPv6 address with these octets.
    pub const fn v6(octets: [u8; 16]) -> Self {
        let n = u128::from_be_bytes(octets);
        let n = match n >> 32 {
            MAPPED => n | STAND_IN << 32,
            // Multicast of a scope that there is not: it stays multicast, and is not taken for the other.
            STAND_IN => n & !(1 << 111),
            _ => n,
        };
        Self(n.to_be_bytes())
    }

    /// The octets of an IPv6 address; of an IPv4 one, its mapped form.
    pub const fn v6_octets(&self) -> [u8; 16] {
        let n = u128::from_be_bytes(self.0);
        if n >> 32 == STAND_IN {
            (n & 0xffff_ffff | MAPPED << 32).to_be_bytes()
        } else {
            self.0
        }
    }

    /// The four bytes of an IPv4 address, `None` for IPv6.
    #[inline]
    pub const fn as_v4(&self) -> Option<[u8; 4]> {
        // One comparison of the bytes as they lie: this is asked several times a packet.
        const FIRST_96: u128 = u128::from_ne_bytes((u128::MAX << 32).to_be_bytes());
        const MAPPED_96: u128 = u128::from_ne_bytes((MAPPED << 32).to_be_bytes());
        if u128::from_ne_bytes(self.0) & FIRST_96 == MAPPED_96 {
            let [.., a, b, c, d] = self.0;
            Some([a, b, c, d])
        } else {
            None
        }
    }

    /// Whether this is an IPv4 address.
    #[inline]
    pub const fn is_v4(&self) -> bool {
        self.as_v4().is_some()
    }

    /// Whether this is 0.0.0.0 or `::`.
    pub fn is_unspecified(&self) -> bool {
        IpAddr::from(*self).is_unspecified()
    }

    /// Its family.
    #[inline]
    pub const fn family(&self) -> Family {
        if self.is_v4() { Family::V4 } else { Family::V6 }
    }

    /// Whether this is an IPv6 address that is worth something on one link only (fe80::/10).
    pub const fn is_link_local(&self) -> bool {
        self.0[0] == 0xfe && self.0[1] & 0xc0 == 0x80
    }

    /// Whether no packet may come from this address, whoever sends it. Of IPv4: 0.0.0.0/8, 127.0.0.0/8 and all
    /// from 224.0.0.0 on (RFC 6890 §2.2.2). Of IPv6: ::1 and multicast, as `ip6_rcv_core` has it, which takes an
    /// IPv4-mapped source for an address like others.
    pub const fn is_martian(&self) -> bool {
        self.is_martian_of(self.family())
    }

    /// As [`Addr::is_martian`], of an address whose family is known.
    #[inline]
    pub(crate) const fn is_martian_of(&self, family: Family) -> bool {
        match family {
            Family::V4 => {
                let [.., first, _, _, _] = self.0;
                first == 0 || first == 127 || first >= 224
            }
            Family::V6 => {
                let n = u128::from_be_bytes(self.0);
                n == 1 || n >> 120 == 0xff && n >> 32 != STAND_IN
            }
        }
    }

    /// The address with all bits after the first `prefix` cleared; `prefix` counts within the family
    /// (0 to 32 for IPv4, 0 to 128 for IPv6) and is clamped to it.
    pub const fn masked(&self, prefix: u8) -> Self {
        let most = self.family().bits();
        let kept = if prefix < most { prefix } else { most };
        let zeros = most - kept;
        let mask = if zeros == 128 { 0 } else { u128::MAX << zeros };
        if self.is_v4() {
            Self((u128::from_be_bytes(self.0) & mask).to_be_bytes())
        } else {
            Self::v6((u128::from_be_bytes(self.v6_octets()) & mask).to_be_bytes())
        }
    }
}

impl From<IpAddr> for Addr {
    fn from(a: IpAddr) -> Self {
        match a {
            IpAddr::V4(a) => Self::v4(a.octets()),
            IpAddr::V6(a) => Self::v6(a.octets()),
        }
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(a: Ipv4Addr) -> Self {
        Self::v4(a.octets())
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(a: Ipv6Addr) -> Self {
        Self::v6(a.octets())
    }
}

impl From<Addr> for IpAddr {
    fn from(a: Addr) -> Self {
        match a.as_v4() {
            Some(b) => Self::V4(b.into()),
            None => Self::V6(Ipv6Addr::from(a.v6_octets())),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

/// An address and a port (host byte order).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// The address.
    pub addr: Addr,
    /// The port, host byte order; 0 where there is none.
    pub port: u16,
}

impl Endpoint {
    /// No address, no port.
    pub const NONE: Self = Self {
        addr: Addr::UNSPECIFIED,
        port: 0,
    };

    /// An endpoint from its parts.
    pub const fn new(addr: Addr, port: u16) -> Self {
        Self { addr, port }
    }
}

/// Between whom a connection is. All is in one piece, as it is copied for each packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// The client.
    pub client: Endpoint,
    /// The VIP, and the port, as the client used it.
    pub vip: Endpoint,
    /// The real server.
    pub server: Endpoint,
    /// FULLNAT's local address and port; [`Endpoint::NONE`] in other modes.
    pub local: Endpoint,
}

impl Endpoints {
    /// FULLNAT's local address and port; `None` in other modes.
    pub fn local_end(&self) -> Option<Endpoint> {
        (self.local.port != 0).then_some(self.local)
    }

    /// Whom the server sees: FULLNAT's local endpoint, else the client.
    #[inline(always)]
    pub const fn facing_server(&self) -> &Endpoint {
        if self.local.port == 0 {
            &self.client
        } else {
            &self.local
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.addr.is_v4() {
            write!(f, "{}:{}", self.addr, self.port)
        } else {
            write!(f, "[{}]:{}", self.addr, self.port)
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A transport protocol UVS balances.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, protocol number 6.
    Tcp = 6,
    /// UDP, protocol number 17.
    Udp = 17,
    /// SCTP, protocol number 132.
    Sctp = 132,
}

impl Protocol {
    /// The protocol with this IP protocol number, where UVS balances it.
    pub const fn from_number(n: u8) -> Option<Self> {
        match n {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }

    /// `TCP`, `UDP` or `SCTP`, as ipvsadm prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One direction of a connection: what a packet's headers say.
///
/// `#[repr(C)]`, 40 bytes: plugins read it as it is.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Source port, host byte order.
    pub src_port: u16,
    /// Destination port, host byte order.
    pub dst_port: u16,
    /// IP protocol number: 6, 17 or 132.
    pub protocol: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

const _: () = assert!(size_of::<Flow>() == 40 && align_of::<Flow>() == 2);

impl Flow {
    /// A flow from its endpoints.
    pub const fn new(protocol: Protocol, src: Endpoint, dst: Endpoint) -> Self {
        Self {
            src: src.addr,
            dst: dst.addr,
            src_port: src.port,
            dst_port: dst.port,
            protocol: protocol as u8,
            reserved: [0; 3],
        }
    }

    /// The family of the packets, which have both addresses of it.
    #[inline]
    pub const fn family(&self) -> Family {
        self.dst.family()
    }

    /// Where the packet comes from.
    pub const fn source(&self) -> Endpoint {
        Endpoint::new(self.src, self.src_port)
    }

    /// Where the packet goes.
    pub const fn destination(&self) -> Endpoint {
        Endpoint::new(self.dst, self.dst_port)
    }

    /// The other direction.
    pub const fn reversed(&self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            src_port: self.dst_port,
            dst_port: self.src_port,
            protocol: self.protocol,
            reserved: [0; 3],
        }
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Protocol::from_number(self.protocol).map_or("?", Protocol::name);
        write!(f, "{name} {} > {}", self.source(), self.destination())
    }
}

/// Which packets the director has seen of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    Input,
    /// From the server.
    Output,
    /// From the client, and the server's are never seen (DR, tunnels).
    InputOnly,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_is_stored_mapped_and_shown_plain() {
        let a = Addr::from(Ipv4Addr::new(10, 0, 1, 100));
        assert_eq!(a.to_string(), "10.0.1.100");
        assert_eq!(a.as_v4(), Some([10, 0, 1, 100]));
        assert_eq!(Endpoint::new(a, 80).to_string(), "10.0.1.100:80");
        let six = Addr::from("2001:db8::1".parse::<IpAddr>().expect("an address"));
        assert_eq!(Endpoint::new(six, 80).to_string(), "[2001:db8::1]:80");
    }

    #[test]
    fn martians_are_told_at_the_edges_of_their_blocks() {
        let cases = [
            ([0, 0, 0, 0], true),
            ([0, 255, 255, 255], true),
            ([1, 0, 0, 0], false),
            ([126, 255, 255, 255], false),
            ([127, 0, 0, 1], true),
            ([127, 255, 255, 255], true),
            ([128, 0, 0, 0], false),
            ([223, 255, 255, 255], false),
            ([224, 0, 0, 1], true),
            ([240, 0, 0, 1], true),
            ([255, 255, 255, 255], true),
        ];
        for (bytes, martian) in cases {
            assert_eq!(Addr::v4(bytes).is_martian(), martian, "{bytes:?}");
        }
    }

    #[test]
    fn of_ipv6_only_loopback_and_multicast_are_martians() {
        let cases = [
            ("::1", true),
            ("ff02::1", true),
            ("ff0e::7", true),
            ("ffff:ffff:ffff:ffff:ffff:ffff:c000:201", true),
            ("::", false),
            ("::2", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("::ffff:127.0.0.1", false),
            ("2001:db8::1", false),
        ];
        for (text, martian) in cases {
            let addr = Addr::from(text.parse::<IpAddr>().expect("an address"));
            assert_eq!(addr.is_martian(), martian, "{text}");
        }
    }

    #[test]
    fn an_ipv4_mapped_address_of_ipv6_is_no_ipv4_address() {
        let octets = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets();
        let mapped = Addr::v6(octets);
        assert_eq!(mapped.family(), Family::V6);
        assert_ne!(mapped, Addr::v4([192, 0, 2, 1]));
        assert_eq!(mapped.v6_octets(), octets);
        assert_eq!(mapped.to_string(), "::ffff:192.0.2.1");
        let text: IpAddr = mapped.to_string().parse().expect("an address");
        assert_eq!(Addr::from(text), mapped);
        assert_eq!(mapped.masked(96).to_string(), "::ffff:0.0.0.0");
        assert_eq!(mapped.masked(64), Addr::v6([0; 16]));
        assert_eq!(mapped.masked(128), mapped);
        let json = serde_json::to_string(&mapped).expect("it is written");
        assert_eq!(
            serde_json::from_str::<Addr>(&json).expect("and read"),
            mapped
        );
        // What nobody has on the wire is not taken for it.
        assert_ne!(Addr::v6(mapped.0).v6_octets(), octets);
    }

    #[test]
    fn a_prefix_counts_within_its_family() {
        let a = Addr::v4([10, 1, 2, 3]);
        assert_eq!(a.masked(24), Addr::v4([10, 1, 2, 0]));
        assert_eq!(a.masked(0), Addr::UNSPECIFIED);
        assert_eq!(a.masked(40), a);
    }
}
