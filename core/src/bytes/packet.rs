//! Parse once: a frame's headers, bounds checked, as offsets.
//!
//! Every length is checked here; what comes after takes [`wire`](crate::wire)'s views at these offsets, and
//! cannot fail.

use crate::flow::{Addr, Family, Flow, Protocol};
use crate::frame::{Frame, Gso};
use crate::narrow;
use crate::verdict::DropReason;
use crate::wire::ports::Ports;
use crate::wire::sctp::chunk;
use crate::wire::{Malformed, checksum, ethernet, icmp, ipv4, ipv6, protocol, sctp, tcp, udp};

/// What lies above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment.
    Tcp {
        /// [`tcp::flag`]s.
        flags: u8,
        /// Bytes of the TCP header.
        header: u8,
    },
    /// A UDP datagram.
    Udp,
    /// An SCTP packet.
    Sctp {
        /// Type of the chunk that tells what happens: the first one (RFC 9260 §3.2), or an ABORT behind a
        /// cookie.
        chunk: u8,
    },
    /// An ICMP message (RFC 792).
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// An ICMPv6 message (RFC 4443), whose types are other ones.
    Icmpv6 {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// A fragment: of the first one too, since it is looked at only when its datagram is whole.
    Fragment,
    /// Anything else.
    Other,
}

/// An IP packet's place and meaning within its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Which IP it is of.
    pub family: Family,
    /// Offset of the IP header in the frame.
    pub ip: u16,
    /// Bytes from there to the transport header: IPv4's header, 20 to 60, or IPv6's with all extension headers.
    pub ip_header: u16,
    /// Bytes from the IP header to IPv6's Fragment header, of a [`Transport::Fragment`]; 0 = it has none.
    pub fragment: u16,
    /// Bytes of the whole IP packet, as long as the frame where the header's own length is 0 (BIG TCP).
    pub ip_len: u32,
    /// IP protocol number of the transport, behind all extension headers.
    pub protocol: u8,
    /// Time to live; IPv6 calls it hop limit.
    pub ttl: u8,
    /// Don't fragment; nobody but its source fragments an IPv6 packet.
    pub dont_fragment: bool,
    /// Bytes of the longest fragment that it was put together from.
    pub fragment_size: Option<u16>,
    /// Addresses, and ports where the transport has them; else 0.
    pub flow: Flow,
    /// What lies above.
    pub transport: Transport,
}

impl Packet {
    /// Offset of the transport header in the frame.
    pub const fn l4(&self) -> usize {
        self.ip as usize + self.ip_header as usize
    }

    /// Whether extension headers lie between IPv6's header and the transport's.
    #[inline(always)]
    pub fn has_extensions(&self) -> bool {
        self.family == Family::V6 && usize::from(self.ip_header) != ipv6::LEN
    }

    /// The IPv4 header in the bytes of this packet's frame.
    ///
    /// # Panics
    /// As all views of a packet, where the bytes are another frame's that is shorter.
    #[inline(always)]
    pub fn ipv4<'a>(&self, frame: &'a [u8]) -> ipv4::Header<&'a [u8; ipv4::MIN_LEN]> {
        ipv4::Header::new(&frame[usize::from(self.ip)..])
    }

    /// The IPv4 header in the bytes of this packet's frame, to be changed.
    #[inline(always)]
    pub fn ipv4_mut<'a>(&self, frame: &'a mut [u8]) -> ipv4::Header<&'a mut [u8; ipv4::MIN_LEN]> {
        ipv4::Header::new_mut(&mut frame[usize::from(self.ip)..])
    }

    /// The IPv6 header in the bytes of this packet's frame.
    #[inline(always)]
    pub fn ipv6<'a>(&self, frame: &'a [u8]) -> ipv6::Header<&'a [u8; ipv6::LEN]> {
        ipv6::Header::new(&frame[usize::from(self.ip)..])
    }

    /// The IPv6 header in the bytes of this packet's frame, to be changed.
    #[inline(always)]
    pub fn ipv6_mut<'a>(&self, frame: &'a mut [u8]) -> ipv6::Header<&'a mut [u8; ipv6::LEN]> {
        ipv6::Header::new_mut(&mut frame[usize::from(self.ip)..])
    }

    /// The Fragment header of an IPv6 [`Transport::Fragment`] in the bytes of this packet's frame.
    pub fn fragment_header<'a>(
        &self,
        frame: &'a [u8],
    ) -> ipv6::Fragment<&'a [u8; ipv6::FRAGMENT_LEN]> {
        ipv6::Fragment::new(&frame[usize::from(self.ip + self.fragment)..])
    }

    /// A first fragment of IPv6 as if it were the whole datagram; `None` for another packet, or where the transport's
    /// header is not whole.
    pub fn alone(&self, frame: &[u8]) -> Option<Self> {
        let is_fragment = self.transport == Transport::Fragment && self.family == Family::V6;
        let ip = usize::from(self.ip);
        let (protocol, len) = ipv6::first_transport(&frame[ip..]).filter(|_| is_fragment)?;
        let mut packet = Self {
            ip_header: narrow::to_u16(len),
            protocol,
            ..*self
        };
        packet.flow.protocol = protocol;
        let l4 = parse_transport(&frame[packet.l4()..], protocol, self.family).ok()?;
        (packet.flow.src_port, packet.flow.dst_port) = l4.ports;
        packet.transport = l4.transport;
        (packet.transport != Transport::Other).then_some(packet)
    }

    /// The sum of the transport's pseudo-header, with the addresses as they are in the bytes of this packet's
    /// frame now.
    pub fn pseudo_header(&self, frame: &[u8]) -> u16 {
        let len = narrow::to_u32(self.l4_len());
        match self.family {
            Family::V4 => {
                let ip = self.ipv4(frame);
                checksum::pseudo_header_v4(ip.src(), ip.dst(), self.protocol, len)
            }
            Family::V6 => {
                let ip = self.ipv6(frame);
                checksum::pseudo_header_v6(ip.src(), ip.dst(), self.protocol, len)
            }
        }
    }

    /// The TCP header of a [`Transport::Tcp`] in the bytes of this packet's frame.
    #[inline(always)]
    pub fn tcp<'a>(&self, frame: &'a [u8]) -> tcp::Header<&'a [u8; tcp::MIN_LEN]> {
        tcp::Header::new(&frame[self.l4()..])
    }

    /// What a UDP datagram holds, in the bytes of this packet's frame; nothing of another packet.
    pub fn datagram<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        match self.transport {
            Transport::Udp => &frame[self.l4() + udp::LEN..self.end()],
            _ => &[],
        }
    }

    /// Offset of the packet's end in the frame.
    pub const fn end(&self) -> usize {
        self.ip as usize + self.ip_len as usize
    }

    /// Bytes from the transport header to the packet's end.
    pub const fn l4_len(&self) -> usize {
        self.ip_len as usize - self.ip_header as usize
    }

    /// The protocol, where UVS balances it and this is not a fragment.
    pub fn balanced(&self) -> Option<Protocol> {
        match self.transport {
            Transport::Tcp { .. } => Some(Protocol::Tcp),
            Transport::Udp => Some(Protocol::Udp),
            Transport::Sctp { .. } => Some(Protocol::Sctp),
            Transport::Icmp { .. }
            | Transport::Icmpv6 { .. }
            | Transport::Fragment
            | Transport::Other => None,
        }
    }
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// An IP packet with sound headers.
    Ip(Packet),
    /// An IP packet to `dst` that must not be forwarded.
    Malformed {
        /// Its destination, as far as it can be read.
        dst: Addr,
        /// What is wrong.
        reason: DropReason,
    },
    /// An ARP packet over Ethernet and IPv4.
    Arp,
    /// None of these.
    Foreign,
}

/// Parses a frame, and cuts Ethernet padding off what holds a sound packet.
pub fn parse(frame: &mut Frame<'_>) -> Parsed {
    let Ok(eth) = ethernet::Header::new_checked(frame.bytes()) else {
        return Parsed::Foreign;
    };
    match eth.ethertype() {
        ethernet::ethertype::IPV4 => parse_ipv4(frame),
        ethernet::ethertype::IPV6 => parse_ipv6(frame),
        ethernet::ethertype::ARP => Parsed::Arp,
        _ => Parsed::Foreign,
    }
}

#[inline(always)]
fn parse_ipv4(frame: &mut Frame<'_>) -> Parsed {
    let Ok(ip) = ipv4::Header::new_checked(&frame.bytes()[ethernet::LEN..]) else {
        return Parsed::Foreign;
    };
    let dst = Addr::v4(ip.dst());
    let bad = |reason| Parsed::Malformed { dst, reason };
    let available = frame.len() - ethernet::LEN;
    let header = ip.header_len();
    match ip.check(available) {
        Ok(()) => {}
        Err(Malformed::Header) => return bad(DropReason::BadIpHeader),
        Err(Malformed::Truncated) => return bad(DropReason::Truncated),
    }
    let total = whole_len(frame, available, usize::from(ip.total_len()));
    if total < header {
        return bad(DropReason::BadIpHeader);
    }
    if total > available {
        return bad(DropReason::Truncated);
    }
    let sound = match header {
        ipv4::MIN_LEN => ip.is_sound(),
        _ => checksum::of(&frame.bytes()[ethernet::LEN..ethernet::LEN + header]) == 0,
    };
    if !sound {
        return bad(DropReason::BadIpChecksum);
    }
    let headers = Headers {
        family: Family::V4,
        src: Addr::v4(ip.src()),
        dst,
        len: header,
        total,
        protocol: ip.protocol(),
        ttl: ip.ttl(),
        dont_fragment: ip.dont_fragment(),
        fragment: ip.is_fragment().then_some(0),
    };
    finish(frame, &headers)
}

fn parse_ipv6(frame: &mut Frame<'_>) -> Parsed {
    let bytes = &frame.bytes()[ethernet::LEN..];
    let Ok(ip) = ipv6::Header::new_checked(bytes) else {
        return Parsed::Foreign;
    };
    let (src, dst) = (Addr::v6(ip.src()), Addr::v6(ip.dst()));
    let bad = |reason| Parsed::Malformed { dst, reason };
    if ip.version() != 6 {
        return bad(DropReason::BadIpHeader);
    }
    let available = bytes.len();
    let total = match usize::from(ip.payload_len()) {
        0 => whole_len(frame, available, 0).max(ipv6::LEN),
        n => whole_len(frame, available, ipv6::LEN + n),
    };
    if total > available {
        return bad(DropReason::Truncated);
    }
    let chain = match ipv6::walk(&bytes[..total]) {
        Ok(chain) => chain,
        Err(Malformed::Header) => return bad(DropReason::BadIpHeader),
        Err(Malformed::Truncated) => return bad(DropReason::Truncated),
    };
    let headers = Headers {
        family: Family::V6,
        src,
        dst,
        len: chain.len,
        total,
        protocol: chain.protocol,
        ttl: ip.hop_limit(),
        dont_fragment: true,
        fragment: chain.fragment,
    };
    finish(frame, &headers)
}

/// Bytes of an IP packet that says it has `said`, where the frame has `available` for it.
#[inline(always)]
fn whole_len(frame: &Frame<'_>, available: usize, said: usize) -> usize {
    let super_frame = frame.offload.gso != Gso::None;
    match said {
        0 if super_frame => available,
        // A super-frame near 64 KiB has no room for its own length in 16 bits.
        n if super_frame && available > usize::from(u16::MAX) => available.max(n),
        n => n,
    }
}

/// What the IP headers of a packet say, which lie behind Ethernet's.
struct Headers {
    family: Family,
    src: Addr,
    dst: Addr,
    /// Bytes of the headers,
    len: usize,
    /// and of the whole packet.
    total: usize,
    /// What follows, behind all extension headers.
    protocol: u8,
    ttl: u8,
    dont_fragment: bool,
    /// Of a fragment, the bytes from the IP header to IPv6's Fragment header.
    fragment: Option<usize>,
}

/// What the transport's header says.
struct L4 {
    transport: Transport,
    /// Source and destination, 0 where there are none.
    ports: (u16, u16),
}

impl L4 {
    /// Of a transport that begins with its ports.
    #[inline(always)]
    fn with_ports(l4: &[u8], transport: Transport) -> Self {
        let ports = Ports::new(l4);
        Self {
            transport,
            ports: (ports.src(), ports.dst()),
        }
    }

    const fn without_ports(transport: Transport) -> Self {
        Self {
            transport,
            ports: (0, 0),
        }
    }
}

/// Cuts padding off a frame whose IP headers are read, and reads the transport's. The packet is put together once
/// all is known, and copied nowhere.
#[inline(always)]
fn finish(frame: &mut Frame<'_>, headers: &Headers) -> Parsed {
    let l4 = match read_l4(frame, headers) {
        Ok(l4) => l4,
        Err(reason) => {
            return Parsed::Malformed {
                dst: headers.dst,
                reason,
            };
        }
    };
    frame.truncate(ethernet::LEN + headers.total);
    Parsed::Ip(Packet {
        family: headers.family,
        ip: narrow::to_u16(ethernet::LEN),
        ip_header: narrow::to_u16(headers.len),
        fragment: narrow::to_u16(headers.fragment.unwrap_or_default()),
        ip_len: narrow::to_u32(headers.total),
        protocol: headers.protocol,
        ttl: headers.ttl,
        dont_fragment: headers.dont_fragment,
        fragment_size: None,
        flow: Flow {
            src: headers.src,
            dst: headers.dst,
            src_port: l4.ports.0,
            dst_port: l4.ports.1,
            protocol: headers.protocol,
            reserved: [0; 3],
        },
        transport: l4.transport,
    })
}

#[inline(always)]
fn read_l4(frame: &Frame<'_>, headers: &Headers) -> Result<L4, DropReason> {
    let end = ethernet::LEN + headers.total;
    if !frame.offload.lies_within(end) {
        return Err(DropReason::Truncated);
    }
    if headers.fragment.is_some() {
        return Ok(L4::without_ports(Transport::Fragment));
    }
    let l4 = &frame.bytes()[ethernet::LEN + headers.len..end];
    parse_transport(l4, headers.protocol, headers.family)
}

/// Reads the transport header that `l4` begins with.
#[inline(always)]
fn parse_transport(l4: &[u8], protocol: u8, family: Family) -> Result<L4, DropReason> {
    let truncated = |_| DropReason::Truncated;
    Ok(match protocol {
        protocol::TCP => {
            let tcp = tcp::Header::new_checked(l4).map_err(truncated)?;
            let header = tcp.header_len();
            if header < tcp::MIN_LEN || header > l4.len() {
                return Err(DropReason::BadTcpHeader);
            }
            let transport = Transport::Tcp {
                flags: tcp.flags(),
                header: narrow::to_u8(header),
            };
            L4::with_ports(l4, transport)
        }
        protocol::UDP => {
            udp::Header::new_checked(l4).map_err(truncated)?;
            L4::with_ports(l4, Transport::Udp)
        }
        protocol::SCTP => {
            let chunk = telling_chunk(l4).ok_or(DropReason::Truncated)?;
            L4::with_ports(l4, Transport::Sctp { chunk })
        }
        protocol::ICMP if family == Family::V4 => {
            let icmp = icmp::Header::new_checked(l4).map_err(truncated)?;
            L4::without_ports(Transport::Icmp {
                kind: icmp.kind(),
                code: icmp.code(),
            })
        }
        // The headers are of one form.
        protocol::ICMPV6 if family == Family::V6 => {
            let icmp = icmp::Header::new_checked(l4).map_err(truncated)?;
            L4::without_ports(Transport::Icmpv6 {
                kind: icmp.kind(),
                code: icmp.code(),
            })
        }
        _ => L4::without_ports(Transport::Other),
    })
}

/// Control chunks may come before an ABORT (RFC 9260 §3.3.7); those of a set-up would hide it. `None` where
/// there is no chunk.
pub(crate) fn telling_chunk(l4: &[u8]) -> Option<u8> {
    let mut kinds = sctp::chunks(l4).map(|chunk| chunk.kind());
    let first = kinds.next()?;
    let cookie = matches!(first, chunk::COOKIE_ECHO | chunk::COOKIE_ACK);
    let aborts = cookie && kinds.next() == Some(chunk::ABORT);
    Some(if aborts { chunk::ABORT } else { first })
}
