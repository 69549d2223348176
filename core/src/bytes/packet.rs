//! Parse once: a frame's headers, bounds checked, as offsets.
//!
//! Every length is checked here; what comes after takes [`wire`](crate::wire)'s views at these offsets, and
//! cannot fail.

use crate::flow::{Addr, Flow, Protocol};
use crate::frame::{Frame, Gso};
use crate::narrow;
use crate::verdict::DropReason;
use crate::wire::ports::Ports;
use crate::wire::sctp::chunk;
use crate::wire::{Malformed, checksum, ethernet, icmp, ipv4, protocol, sctp, tcp, udp};

/// What lies above IPv4.
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
    /// A fragment: of the first one too, since it is looked at only when its datagram is whole.
    Fragment,
    /// Anything else.
    Other,
}

/// An IPv4 packet's place and meaning within its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Offset of the IPv4 header in the frame.
    pub ip: u16,
    /// Bytes of the IPv4 header, 20 to 60.
    pub ip_header: u8,
    /// Bytes of the whole IP packet, as long as the frame where total length is 0 (IPv4 BIG TCP).
    pub ip_len: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// Don't fragment.
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

    /// The IPv4 header in the bytes of this packet's frame.
    ///
    /// # Panics
    /// As all views of a packet, where the bytes are another frame's that is shorter.
    #[inline]
    pub fn ipv4<'a>(&self, frame: &'a [u8]) -> ipv4::Header<&'a [u8; ipv4::MIN_LEN]> {
        ipv4::Header::new(&frame[usize::from(self.ip)..])
    }

    /// The IPv4 header in the bytes of this packet's frame, to be changed.
    #[inline]
    pub fn ipv4_mut<'a>(&self, frame: &'a mut [u8]) -> ipv4::Header<&'a mut [u8; ipv4::MIN_LEN]> {
        ipv4::Header::new_mut(&mut frame[usize::from(self.ip)..])
    }

    /// The TCP header of a [`Transport::Tcp`] in the bytes of this packet's frame.
    #[inline]
    pub fn tcp<'a>(&self, frame: &'a [u8]) -> tcp::Header<&'a [u8; tcp::MIN_LEN]> {
        tcp::Header::new(&frame[self.l4()..])
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
            Transport::Icmp { .. } | Transport::Fragment | Transport::Other => None,
        }
    }
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// An IPv4 packet with sound headers.
    Ipv4(Packet),
    /// An IPv4 packet to `dst` that must not be forwarded.
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

/// Parses a frame and cuts Ethernet padding off it.
pub fn parse(frame: &mut Frame<'_>) -> Parsed {
    let Ok(eth) = ethernet::Header::new_checked(frame.bytes()) else {
        return Parsed::Foreign;
    };
    match eth.ethertype() {
        ethernet::ethertype::IPV4 => {}
        ethernet::ethertype::ARP => return Parsed::Arp,
        _ => return Parsed::Foreign,
    }
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
    let super_frame = frame.offload.gso != Gso::None;
    let total = match usize::from(ip.total_len()) {
        0 if super_frame => available,
        // A super-frame near 64 KiB has no room for its own length in 16 bits.
        n if super_frame && available > usize::from(u16::MAX) => available.max(n),
        n => n,
    };
    if total < header {
        return bad(DropReason::BadIpHeader);
    }
    if total > available {
        return bad(DropReason::Truncated);
    }
    if checksum::of(&frame.bytes()[ethernet::LEN..ethernet::LEN + header]) != 0 {
        return bad(DropReason::BadIpChecksum);
    }
    let mut packet = Packet {
        ip: narrow::to_u16(ethernet::LEN),
        ip_header: narrow::to_u8(header),
        ip_len: narrow::to_u32(total),
        protocol: ip.protocol(),
        ttl: ip.ttl(),
        dont_fragment: ip.dont_fragment(),
        fragment_size: None,
        flow: Flow {
            src: Addr::v4(ip.src()),
            dst,
            src_port: 0,
            dst_port: 0,
            protocol: ip.protocol(),
            reserved: [0; 3],
        },
        transport: Transport::Other,
    };
    if !frame.offload.lies_within(ethernet::LEN + total) {
        return bad(DropReason::Truncated);
    }
    let fragment = ip.is_fragment();
    frame.truncate(ethernet::LEN + total);
    if fragment {
        packet.transport = Transport::Fragment;
        return Parsed::Ipv4(packet);
    }
    match parse_transport(&frame.bytes()[packet.l4()..], &mut packet) {
        Ok(()) => Parsed::Ipv4(packet),
        Err(reason) => bad(reason),
    }
}

/// Reads the transport header in `l4` into `packet`.
fn parse_transport(l4: &[u8], packet: &mut Packet) -> Result<(), DropReason> {
    let truncated = |_| DropReason::Truncated;
    let ports = |p: &mut Packet| {
        let ports = Ports::new(l4);
        (p.flow.src_port, p.flow.dst_port) = (ports.src(), ports.dst());
    };
    match packet.protocol {
        protocol::TCP => {
            let tcp = tcp::Header::new_checked(l4).map_err(truncated)?;
            let header = tcp.header_len();
            if header < tcp::MIN_LEN || header > l4.len() {
                return Err(DropReason::BadTcpHeader);
            }
            ports(packet);
            packet.transport = Transport::Tcp {
                flags: tcp.flags(),
                header: narrow::to_u8(header),
            };
        }
        protocol::UDP => {
            udp::Header::new_checked(l4).map_err(truncated)?;
            ports(packet);
            packet.transport = Transport::Udp;
        }
        protocol::SCTP => {
            let chunk = telling_chunk(l4).ok_or(DropReason::Truncated)?;
            ports(packet);
            packet.transport = Transport::Sctp { chunk };
        }
        protocol::ICMP => {
            let icmp = icmp::Header::new_checked(l4).map_err(truncated)?;
            packet.transport = Transport::Icmp {
                kind: icmp.kind(),
                code: icmp.code(),
            };
        }
        _ => {}
    }
    Ok(())
}

/// Control chunks may come before an ABORT (RFC 9260 §3.3.7); those of a set-up would hide it. `None` where
/// there is no chunk.
fn telling_chunk(l4: &[u8]) -> Option<u8> {
    let mut kinds = sctp::chunks(l4).map(|chunk| chunk.kind());
    let first = kinds.next()?;
    let cookie = matches!(first, chunk::COOKIE_ECHO | chunk::COOKIE_ACK);
    let aborts = cookie && kinds.next() == Some(chunk::ABORT);
    Some(if aborts { chunk::ABORT } else { first })
}
