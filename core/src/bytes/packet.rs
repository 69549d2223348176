//! Parse once: a frame's headers, bounds checked, as offsets.
//!
//! Every length is checked here; what comes after reads at these offsets and cannot fail. The typed
//! views are pnet_packet's, which check only fixed header sizes, so they stay behind this.

use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use pnet_packet::ipv4::{Ipv4Flags, Ipv4Packet};
use pnet_packet::tcp::TcpPacket;
use pnet_packet::udp::UdpPacket;

use crate::flow::{Addr, Flow, Protocol};
use crate::frame::{ETH_LEN, Frame, Gso};
use crate::sctp::chunk;
use crate::verdict::DropReason;
use crate::wire::checksum;

/// Largest IPv4 header, bytes (RFC 791 §3.1).
pub const IPV4_MAX_HEADER: usize = 60;
/// Smallest IPv4 header, bytes.
pub const IPV4_MIN_HEADER: usize = 20;

/// TCP flags by their bits in the header's 14th byte (RFC 9293 §3.1).
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 0x10;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;
}

/// What lies above IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment.
    Tcp {
        /// [`tcp_flags`].
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
    let Some(eth) = EthernetPacket::new(frame.bytes()) else {
        return Parsed::Foreign;
    };
    match eth.get_ethertype() {
        EtherTypes::Ipv4 => {}
        EtherTypes::Arp => return Parsed::Arp,
        _ => return Parsed::Foreign,
    }
    let Some(ip) = Ipv4Packet::new(&frame.bytes()[ETH_LEN..]) else {
        return Parsed::Foreign;
    };
    let dst = Addr::from(ip.get_destination());
    let bad = |reason| Parsed::Malformed { dst, reason };
    let available = frame.len() - ETH_LEN;
    let header = usize::from(ip.get_header_length()) * 4;
    if ip.get_version() != 4 || header < IPV4_MIN_HEADER {
        return bad(DropReason::BadIpHeader);
    }
    if header > available {
        return bad(DropReason::Truncated);
    }
    let super_frame = frame.offload.gso != Gso::None;
    let total = match usize::from(ip.get_total_length()) {
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
    if checksum::of(&frame.bytes()[ETH_LEN..ETH_LEN + header]) != 0 {
        return bad(DropReason::BadIpChecksum);
    }
    let mut packet = Packet {
        ip: ETH_LEN as u16,
        ip_header: header as u8,
        ip_len: total as u32,
        protocol: ip.get_next_level_protocol().0,
        ttl: ip.get_ttl(),
        dont_fragment: ip.get_flags() & Ipv4Flags::DontFragment != 0,
        fragment_size: None,
        flow: Flow {
            src: Addr::from(ip.get_source()),
            dst,
            src_port: 0,
            dst_port: 0,
            protocol: ip.get_next_level_protocol().0,
            reserved: [0; 3],
        },
        transport: Transport::Other,
    };
    if !frame.offload.lies_within(ETH_LEN + total) {
        return bad(DropReason::Truncated);
    }
    let fragment = ip.get_fragment_offset() != 0 || ip.get_flags() & Ipv4Flags::MoreFragments != 0;
    frame.truncate(ETH_LEN + total);
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
    let ports = |p: &mut Packet| {
        p.flow.src_port = u16::from_be_bytes([l4[0], l4[1]]);
        p.flow.dst_port = u16::from_be_bytes([l4[2], l4[3]]);
    };
    match IpNextHeaderProtocol(packet.protocol) {
        IpNextHeaderProtocols::Tcp => {
            let tcp = TcpPacket::new(l4).ok_or(DropReason::Truncated)?;
            let header = usize::from(tcp.get_data_offset()) * 4;
            if header < TcpPacket::minimum_packet_size() || header > l4.len() {
                return Err(DropReason::BadTcpHeader);
            }
            ports(packet);
            packet.transport = Transport::Tcp {
                flags: tcp.get_flags(),
                header: header as u8,
            };
        }
        IpNextHeaderProtocols::Udp => {
            UdpPacket::new(l4).ok_or(DropReason::Truncated)?;
            ports(packet);
            packet.transport = Transport::Udp;
        }
        IpNextHeaderProtocols::Sctp => {
            if l4.len() < SCTP_MIN {
                return Err(DropReason::Truncated);
            }
            ports(packet);
            packet.transport = Transport::Sctp {
                chunk: telling_chunk(l4),
            };
        }
        IpNextHeaderProtocols::Icmp => {
            if l4.len() < 8 {
                return Err(DropReason::Truncated);
            }
            packet.transport = Transport::Icmp {
                kind: l4[0],
                code: l4[1],
            };
        }
        _ => {}
    }
    Ok(())
}

/// SCTP's common header and one chunk header, bytes (RFC 9260 §3).
const SCTP_MIN: usize = 16;

/// Control chunks may come before an ABORT (RFC 9260 §3.3.7); those of a set-up would hide it.
fn telling_chunk(l4: &[u8]) -> u8 {
    let first = l4[12];
    let len = usize::from(u16::from_be_bytes([l4[14], l4[15]]));
    let cookie = matches!(first, chunk::COOKIE_ECHO | chunk::COOKIE_ACK);
    let second = l4.get(12 + len.next_multiple_of(4)..);
    match second {
        Some([chunk::ABORT, _, _, _, ..]) if cookie && len >= 4 => chunk::ABORT,
        _ => first,
    }
}
