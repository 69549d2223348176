//! Packets for tests: built field by field as a sender's kernel would, and checked whole as a receiver's
//! would.
//!
//! A builder's defaults are those of a plain Linux sender: TTL 64, DF, identification 0x1234.

use pnet_packet::Packet as _;
use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
use pnet_packet::gre::GrePacket;
use pnet_packet::ip::IpNextHeaderProtocols as Protocols;
use pnet_packet::ipv4::{Ipv4Flags, Ipv4Packet};
use pnet_packet::udp::UdpPacket;
use pnet_packet::util;

use crate::flow::{Addr, Endpoint};
use crate::frame::{Frame, Gso, Offload};
use crate::narrow;
use crate::wire::checksum;
use crate::wire::ethernet::{self, Mac};
use crate::wire::protocol::{ICMP, SCTP, TCP, UDP};
use crate::wire::{tcp as wire_tcp, udp as wire_udp};

/// The client-side MAC address of the director in tests.
pub const DIRECTOR_MAC: Mac = [2, 0, 0, 0, 1, 1];
/// The MAC address of whoever sends in tests.
pub const SENDER_MAC: Mac = [2, 0, 0, 0, 1, 0x10];
/// Free bytes before a test's frame, as the shell leaves them.
const HEADROOM: usize = 64;

/// Where a TCP and a UDP header have their checksums.
const TCP_CHECKSUM: usize = wire_tcp::offset::CHECKSUM;
const UDP_CHECKSUM: usize = wire_udp::offset::CHECKSUM;

/// A packet in the making; every setter takes and gives it back.
#[derive(Clone, Debug)]
pub struct PacketBuilder {
    src: Endpoint,
    dst: Endpoint,
    protocol: u8,
    to: Mac,
    ttl: u8,
    tos: u8,
    id: u16,
    fragment: u16,
    ip_options: Vec<u8>,
    seq: u32,
    ack: u32,
    flags: u8,
    tcp_options: Vec<u8>,
    chunk: (u8, u8),
    icmp: (u8, u8, u32),
    payload: Vec<u8>,
    no_checksum: bool,
}

/// A TCP segment with these [`flag`](wire_tcp::flag)s.
pub fn tcp(src: Endpoint, dst: Endpoint, flags: u8) -> PacketBuilder {
    PacketBuilder {
        flags,
        ..PacketBuilder::new(src, dst, TCP)
    }
}

/// A UDP datagram.
pub fn udp(src: Endpoint, dst: Endpoint) -> PacketBuilder {
    PacketBuilder::new(src, dst, UDP)
}

/// An SCTP packet with one chunk of this type.
pub fn sctp(src: Endpoint, dst: Endpoint, chunk: u8) -> PacketBuilder {
    PacketBuilder {
        chunk: (chunk, 0),
        ..PacketBuilder::new(src, dst, SCTP)
    }
}

/// An ICMP message; `rest` is the second word of its header.
pub fn icmp(src: Addr, dst: Addr, kind: u8, code: u8, rest: u32) -> PacketBuilder {
    PacketBuilder {
        icmp: (kind, code, rest),
        ..PacketBuilder::new(Endpoint::new(src, 0), Endpoint::new(dst, 0), ICMP)
    }
}

/// A packet of another protocol.
pub fn other(src: Addr, dst: Addr, protocol: u8) -> PacketBuilder {
    PacketBuilder::new(Endpoint::new(src, 0), Endpoint::new(dst, 0), protocol)
}

impl PacketBuilder {
    fn new(src: Endpoint, dst: Endpoint, protocol: u8) -> Self {
        Self {
            src,
            dst,
            protocol,
            to: DIRECTOR_MAC,
            ttl: 64,
            tos: 0,
            id: 0x1234,
            fragment: 0x4000,
            ip_options: Vec::new(),
            seq: 1000,
            ack: 0,
            flags: 0,
            tcp_options: Vec::new(),
            chunk: (0, 0),
            icmp: (0, 0, 0),
            payload: Vec::new(),
            no_checksum: false,
        }
    }

    /// Destination MAC address.
    pub fn to_mac(mut self, mac: Mac) -> Self {
        self.to = mac;
        self
    }

    /// Time to live.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// Type of service.
    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    /// Identification.
    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// Whether it may be fragmented.
    pub fn may_fragment(mut self) -> Self {
        self.fragment &= !0x4000;
        self
    }

    /// IP options; the length must be a multiple of 4.
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        self.ip_options = options.to_vec();
        self
    }

    /// TCP sequence and acknowledgement number.
    pub fn seq(mut self, seq: u32, ack: u32) -> Self {
        (self.seq, self.ack) = (seq, ack);
        self
    }

    /// TCP options; the length must be a multiple of 4.
    pub fn tcp_options(mut self, options: &[u8]) -> Self {
        self.tcp_options = options.to_vec();
        self
    }

    /// What it carries. For SCTP the chunk's value, for ICMP what follows its header.
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// UDP without a checksum.
    pub fn no_checksum(mut self) -> Self {
        self.no_checksum = true;
        self
    }

    /// The whole frame, everything in it finished.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = self.unfinished();
        let l4 = self.l4();
        match self.protocol {
            TCP => finish(&mut frame[l4..], TCP_CHECKSUM),
            UDP if self.no_checksum => put(&mut frame[l4..], UDP_CHECKSUM, 0),
            UDP => {
                finish(&mut frame[l4..], UDP_CHECKSUM);
                let sum = &mut frame[l4 + UDP_CHECKSUM..][..2];
                if sum == [0, 0] {
                    sum.fill(0xff);
                }
            }
            SCTP => {
                let crc = checksum::crc32c(&frame[l4..]);
                frame[l4 + 8..l4 + 12].copy_from_slice(&crc.to_le_bytes());
            }
            ICMP => finish(&mut frame[l4..], 2),
            _ => {}
        }
        frame
    }

    /// The frame as a sender with checksum offload hands it over.
    pub fn partial(&self) -> TestFrame {
        let offset = match self.protocol {
            TCP => TCP_CHECKSUM,
            UDP => UDP_CHECKSUM,
            _ => return TestFrame::new(&self.frame(), Offload::default()),
        };
        let offload = Offload {
            csum_start: Some(narrow::to_u16(self.l4())),
            csum_offset: narrow::to_u16(offset),
            ..Offload::default()
        };
        TestFrame::new(&self.unfinished(), offload)
    }

    /// The frame as a sender with segmentation offload hands it over: `size` payload bytes per segment.
    pub fn super_frame(&self, size: u16) -> TestFrame {
        let mut t = self.partial();
        t.offload.gso = if self.protocol == TCP {
            Gso::TcpV4 { ecn: false }
        } else {
            Gso::UdpL4
        };
        t.offload.gso_size = size;
        t
    }

    /// The IP packet alone, for a quote in an ICMP error.
    pub fn packet(&self) -> Vec<u8> {
        self.frame().split_off(ethernet::LEN)
    }

    fn l4(&self) -> usize {
        ethernet::LEN + 20 + self.ip_options.len()
    }

    /// Everything but the transport checksum, which holds the pseudo-header's sum.
    fn unfinished(&self) -> Vec<u8> {
        let l4 = self.transport();
        let mut frame = Vec::with_capacity(self.l4() + l4.len());
        frame.extend(self.to);
        frame.extend(SENDER_MAC);
        frame.extend([8, 0]);
        let header = 20 + self.ip_options.len();
        let (src, dst) = (v4(self.src.addr), v4(self.dst.addr));
        let mut ip = vec![0; 20];
        ip[0] = 0x40 | narrow::to_u8(header / 4);
        ip[1] = self.tos;
        // A super-frame near 64 KiB has no room for its own length.
        put(
            &mut ip,
            2,
            u16::try_from(header + l4.len()).unwrap_or_default(),
        );
        put(&mut ip, 4, self.id);
        put(&mut ip, 6, self.fragment);
        (ip[8], ip[9]) = (self.ttl, self.protocol);
        ip[12..16].copy_from_slice(&src);
        ip[16..20].copy_from_slice(&dst);
        ip.extend(&self.ip_options);
        let sum = checksum::of(&ip);
        put(&mut ip, 10, sum);
        frame.extend(ip);
        frame.extend(&l4);
        let at = match self.protocol {
            TCP => TCP_CHECKSUM,
            UDP => UDP_CHECKSUM,
            _ => return frame,
        };
        let sum = checksum::pseudo_header_v4(src, dst, self.protocol, narrow::to_u32(l4.len()));
        put(&mut frame, self.l4() + at, sum);
        frame
    }

    fn transport(&self) -> Vec<u8> {
        let ports = [self.src.port.to_be_bytes(), self.dst.port.to_be_bytes()].concat();
        match self.protocol {
            TCP => self.tcp_segment(ports),
            UDP => {
                let len = narrow::to_u16(8 + self.payload.len());
                [&ports, &len.to_be_bytes()[..], &[0, 0], &self.payload].concat()
            }
            SCTP => {
                let len = narrow::to_u16(4 + self.payload.len());
                let chunk = [self.chunk.0, self.chunk.1];
                let padding = vec![0; self.payload.len().wrapping_neg() % 4];
                let head = [&ports[..], &[0, 0, 0, 1], &[0; 4], &chunk];
                [
                    &head.concat(),
                    &len.to_be_bytes()[..],
                    &self.payload,
                    &padding,
                ]
                .concat()
            }
            ICMP => {
                let (kind, code, rest) = self.icmp;
                [&[kind, code, 0, 0], &rest.to_be_bytes()[..], &self.payload].concat()
            }
            _ => self.payload.clone(),
        }
    }

    fn tcp_segment(&self, ports: Vec<u8>) -> Vec<u8> {
        let mut s = ports;
        s.extend(self.seq.to_be_bytes());
        s.extend(self.ack.to_be_bytes());
        s.push(narrow::to_u8(5 + self.tcp_options.len() / 4) << 4);
        s.push(self.flags);
        s.extend(64240u16.to_be_bytes());
        s.extend([0; 4]);
        s.extend(&self.tcp_options);
        s.extend(&self.payload);
        s
    }
}

/// A frame in a buffer of its own, with headroom, to be handed to the engine or a mode.
#[derive(Clone, Debug)]
pub struct TestFrame {
    buf: Vec<u8>,
    /// What is unfinished in it.
    pub offload: Offload,
}

impl TestFrame {
    /// From a frame's bytes.
    pub fn new(bytes: &[u8], offload: Offload) -> Self {
        let mut buf = vec![0; HEADROOM];
        buf.extend(bytes);
        Self { buf, offload }
    }

    /// From a frame in which nothing is left to do.
    pub fn finished(bytes: &[u8]) -> Self {
        Self::new(bytes, Offload::default())
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.buf[HEADROOM..]
    }

    /// The frame itself.
    pub fn frame(&mut self) -> Frame<'_> {
        let end = self.buf.len();
        Frame::new(&mut self.buf, HEADROOM, end, self.offload)
    }
}

/// Looks at a frame as its receiver would, tunnels opened: lengths, header checksums, transport checksums.
///
/// It reads by pnet_packet's views and sums by its sums, so that what [`wire`](crate::wire) has wrong is not
/// right here; only the CRC of SCTP, which that library has not, is ours.
///
/// # Errors
/// What is wrong, in words.
pub fn check(frame: &[u8]) -> Result<(), String> {
    let ethernet = EthernetPacket::new(frame).filter(|e| e.get_ethertype() == EtherTypes::Ipv4);
    check_ipv4(ethernet.ok_or("not an IPv4 frame")?.payload())
}

/// A skipped word that is none: the checksum takes part in its own sum, which is then 0.
const NOTHING: usize = usize::MAX;

fn check_ipv4(bytes: &[u8]) -> Result<(), String> {
    let ip = Ipv4Packet::new(bytes).filter(|ip| ip.get_version() == 4);
    let ip = ip.ok_or("not an IPv4 packet")?;
    if usize::from(ip.get_total_length()) != bytes.len() {
        let (total, len) = (ip.get_total_length(), bytes.len());
        return Err(format!("total length {total} of {len}"));
    }
    let split = bytes.split_at_checked(usize::from(ip.get_header_length()) * 4);
    let (header, l4) = split.ok_or("header cut off")?;
    if util::checksum(header, NOTHING) != 0 {
        return Err("wrong IP checksum".to_owned());
    }
    if ip.get_flags() & Ipv4Flags::MoreFragments != 0 || ip.get_fragment_offset() != 0 {
        return Ok(());
    }
    let protocol = ip.get_next_level_protocol();
    let (src, dst) = (ip.get_source(), ip.get_destination());
    let is_wrong = || util::ipv4_checksum(l4, NOTHING, &[], &src, &dst, protocol) != 0;
    match protocol {
        Protocols::Icmp if util::checksum(l4, NOTHING) != 0 => {
            Err("wrong ICMP checksum".to_owned())
        }
        Protocols::Tcp if is_wrong() => Err("wrong TCP checksum".to_owned()),
        Protocols::Udp => {
            let udp = UdpPacket::new(l4).ok_or("no UDP header")?;
            if usize::from(udp.get_length()) != l4.len() {
                return Err("wrong UDP length".to_owned());
            }
            if udp.get_checksum() != 0 && is_wrong() {
                return Err("wrong UDP checksum".to_owned());
            }
            Ok(())
        }
        Protocols::Sctp => check_sctp(l4),
        Protocols::IpIp => check_ipv4(l4),
        Protocols::Gre => check_gre(l4),
        _ => Ok(()),
    }
}

fn check_sctp(l4: &[u8]) -> Result<(), String> {
    let mut copy = l4.to_vec();
    copy[8..12].fill(0);
    if checksum::crc32c(&copy).to_le_bytes() == l4[8..12] {
        Ok(())
    } else {
        Err("wrong SCTP checksum".to_owned())
    }
}

fn check_gre(bytes: &[u8]) -> Result<(), String> {
    let gre = GrePacket::new(bytes).ok_or("no GRE header")?;
    let summed = gre.get_checksum_present() == 1;
    if summed && util::checksum(bytes, NOTHING) != 0 {
        return Err("wrong GRE checksum".to_owned());
    }
    check_ipv4(&bytes[if summed { 8 } else { 4 }..])
}

/// The flags of a handshake's first segment.
pub const SYN: u8 = wire_tcp::flag::SYN;
/// The flags of a segment in the middle of a connection.
pub const ACK: u8 = wire_tcp::flag::ACK;

fn finish(l4: &mut [u8], at: usize) {
    let sum = checksum::of(l4);
    put(l4, at, sum);
}

/// Writes a 16-bit word at `at`, network byte order.
fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn v4(a: Addr) -> [u8; 4] {
    a.as_v4().expect("an IPv4 address")
}
