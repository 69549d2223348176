//! Packets for tests: built field by field as a sender's kernel would, and checked whole as a receiver's
//! would.
//!
//! A builder's defaults are those of a plain Linux sender: TTL 64, DF, identification 0x1234. The packet is of the
//! family of its destination.

mod check;

pub use check::check;

use crate::flow::{Addr, Endpoint};
use crate::frame::{Frame, Gso, Offload};
use crate::narrow;
use crate::wire::checksum;
use crate::wire::ethernet::{self, Mac};
use crate::wire::protocol::{FRAGMENT, ICMP, ICMPV6, SCTP, TCP, UDP};
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
/// And an ICMP message of either family.
const ICMP_CHECKSUM: usize = 2;

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
    flow_label: u32,
    /// Extension headers, each its kind and what follows its first two bytes.
    extensions: Vec<(u8, Vec<u8>)>,
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
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

/// An ICMP message, between IPv6 addresses one of ICMPv6; `rest` is the second word of its header.
pub fn icmp(src: Addr, dst: Addr, kind: u8, code: u8, rest: u32) -> PacketBuilder {
    let protocol = if dst.is_v4() { ICMP } else { ICMPV6 };
    PacketBuilder {
        icmp: (kind, code, rest),
        ..PacketBuilder::new(Endpoint::new(src, 0), Endpoint::new(dst, 0), protocol)
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
            flow_label: 0,
            extensions: Vec::new(),
            seq: 1000,
            ack: 0,
            flags: 0,
            window: 64_240,
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

    /// IPv6's flow label, 20 bits.
    pub fn flow_label(mut self, label: u32) -> Self {
        self.flow_label = label;
        self
    }

    /// One more extension header of IPv6: its kind, and what follows its first two bytes. The length must fill it:
    /// 6 bytes and a multiple of 8.
    pub fn extension(mut self, kind: u8, body: &[u8]) -> Self {
        self.extensions.push((kind, body.to_vec()));
        self
    }

    /// TCP sequence and acknowledgement number.
    pub fn seq(mut self, seq: u32, ack: u32) -> Self {
        (self.seq, self.ack) = (seq, ack);
        self
    }

    /// TCP's receive window.
    pub fn window(mut self, window: u16) -> Self {
        self.window = window;
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
            ICMP | ICMPV6 => finish(&mut frame[l4..], ICMP_CHECKSUM),
            _ => {}
        }
        frame
    }

    /// The frame as a sender with checksum offload hands it over.
    pub fn partial(&self) -> TestFrame {
        let offset = match self.protocol {
            TCP => TCP_CHECKSUM,
            UDP => UDP_CHECKSUM,
            ICMPV6 => ICMP_CHECKSUM,
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
        t.offload.gso = match (self.protocol, self.is_v4()) {
            (TCP, true) => Gso::TcpV4 { ecn: false },
            (TCP, false) => Gso::TcpV6 { ecn: false },
            _ => Gso::UdpL4,
        };
        t.offload.gso_size = size;
        t
    }

    /// The IP packet alone, for a quote in an ICMP error.
    pub fn packet(&self) -> Vec<u8> {
        self.frame().split_off(ethernet::LEN)
    }

    fn is_v4(&self) -> bool {
        self.dst.addr.is_v4()
    }

    fn l4(&self) -> usize {
        let headers = match self.is_v4() {
            true => 20 + self.ip_options.len(),
            false => {
                40 + self
                    .extensions
                    .iter()
                    .map(|(_, b)| 2 + b.len())
                    .sum::<usize>()
            }
        };
        ethernet::LEN + headers
    }

    /// Everything but the transport checksum, which holds the pseudo-header's sum.
    fn unfinished(&self) -> Vec<u8> {
        let l4 = self.transport();
        let mut frame = Vec::with_capacity(self.l4() + l4.len());
        frame.extend(self.to);
        frame.extend(SENDER_MAC);
        match self.is_v4() {
            true => frame.extend(self.ipv4(l4.len())),
            false => frame.extend(self.ipv6(l4.len())),
        }
        frame.extend(&l4);
        let at = match self.protocol {
            TCP => TCP_CHECKSUM,
            UDP => UDP_CHECKSUM,
            ICMPV6 => ICMP_CHECKSUM,
            _ => return frame,
        };
        let len = narrow::to_u32(l4.len());
        let (src, dst) = (self.src.addr, self.dst.addr);
        let sum = match self.is_v4() {
            true => checksum::pseudo_header_v4(v4(src), v4(dst), self.protocol, len),
            false => {
                let (src, dst) = (src.v6_octets(), dst.v6_octets());
                checksum::pseudo_header_v6(src, dst, self.protocol, len)
            }
        };
        put(&mut frame, self.l4() + at, sum);
        frame
    }

    /// EtherType and IPv4 header.
    fn ipv4(&self, payload: usize) -> Vec<u8> {
        let header = 20 + self.ip_options.len();
        let mut ip = vec![0; 20];
        ip[0] = 0x40 | narrow::to_u8(header / 4);
        ip[1] = self.tos;
        // A super-frame near 64 KiB has no room for its own length.
        put(
            &mut ip,
            2,
            u16::try_from(header + payload).unwrap_or_default(),
        );
        put(&mut ip, 4, self.id);
        put(&mut ip, 6, self.fragment);
        (ip[8], ip[9]) = (self.ttl, self.protocol);
        ip[12..16].copy_from_slice(&v4(self.src.addr));
        ip[16..20].copy_from_slice(&v4(self.dst.addr));
        ip.extend(&self.ip_options);
        let sum = checksum::of(&ip);
        put(&mut ip, 10, sum);
        [&[8, 0], &ip[..]].concat()
    }

    /// EtherType, IPv6 header and extension headers.
    fn ipv6(&self, payload: usize) -> Vec<u8> {
        let headers = self.l4() - ethernet::LEN - 40;
        let kinds = self.extensions.iter().map(|(kind, _)| *kind);
        let mut kinds = kinds.chain([self.protocol]);
        let mut next = || kinds.next().expect("one more than there are headers");
        let first = 6 << 28 | u32::from(self.tos) << 20 | self.flow_label;
        let len = u16::try_from(headers + payload).unwrap_or_default();
        let mut ip = vec![0x86, 0xdd];
        ip.extend(first.to_be_bytes());
        ip.extend(len.to_be_bytes());
        ip.extend([next(), self.ttl]);
        ip.extend(self.src.addr.v6_octets());
        ip.extend(self.dst.addr.v6_octets());
        for (_, body) in &self.extensions {
            ip.extend([next(), narrow::to_u8((2 + body.len()) / 8 - 1)]);
            ip.extend(body);
        }
        ip
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
            ICMP | ICMPV6 => {
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
        s.extend(self.window.to_be_bytes());
        s.extend([0; 4]);
        s.extend(&self.tcp_options);
        s.extend(&self.payload);
        s
    }
}

/// The fragments of a whole frame of IPv6, of so many bytes of data each, all of this identification. Their Fragment
/// header stands before all extension headers.
pub fn fragments(frame: &[u8], id: u32, sizes: &[usize]) -> Vec<Vec<u8>> {
    const NEXT_HEADER: usize = ethernet::LEN + 6;
    let (head, mut data) = frame.split_at(ethernet::LEN + 40);
    let mut offset = 0;
    let cut = sizes.iter().map(|size| {
        let (part, rest) = data.split_at(*size);
        data = rest;
        let word = narrow::to_u16(offset) | u16::from(!rest.is_empty());
        offset += size;
        let mut fragment = head.to_vec();
        fragment.extend([head[NEXT_HEADER], 0]);
        fragment.extend(word.to_be_bytes());
        fragment.extend(id.to_be_bytes());
        fragment.extend(part);
        fragment[NEXT_HEADER] = FRAGMENT;
        put(&mut fragment, ethernet::LEN + 4, narrow::to_u16(8 + size));
        fragment
    });
    cut.collect()
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
