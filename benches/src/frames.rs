//! Frames as a client's kernel hands them over: TCP or UDP, of the family of their ends, the transport checksum
//! unfinished.

use uvs_core::flow::Endpoint;
use uvs_core::frame::{Frame, Gso, Offload};
use uvs_core::outbox::HEADROOM;
use uvs_core::wire::ethernet::{self, Mac};
use uvs_core::wire::{checksum, ipv4, ipv6, protocol, tcp, udp};

/// Both of the director's ports.
pub const DIRECTOR_MAC: Mac = [2, 0, 0, 0, 0, 1];
/// The router to the clients.
pub const CLIENT_MAC: Mac = [2, 0, 0, 0, 0, 2];

const IP: usize = ethernet::LEN;
/// TCP's header with time stamps, as nearly every segment has it.
const TCP_HEADER: usize = 32;

/// A frame that is put back as it was before each use.
#[derive(Clone, Debug)]
pub struct Sample {
    bytes: Vec<u8>,
    offload: Offload,
}

impl Sample {
    /// A frame of these bytes.
    pub fn new(bytes: &[u8], offload: Offload) -> Self {
        Self {
            bytes: bytes.to_vec(),
            offload,
        }
    }

    /// Bytes of the frame.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What is unfinished in it.
    pub fn offload(&self) -> Offload {
        self.offload
    }

    /// Lays it into `memory`, behind headroom, as the ring does.
    pub fn lay<'a>(&self, memory: &'a mut [u8]) -> Frame<'a> {
        let end = HEADROOM + self.bytes.len();
        memory[HEADROOM..end].copy_from_slice(&self.bytes);
        self.laid(memory)
    }

    /// As it was laid into `memory` before.
    pub fn laid<'a>(&self, memory: &'a mut [u8]) -> Frame<'a> {
        Frame::new(memory, HEADROOM, HEADROOM + self.bytes.len(), self.offload)
    }
}

/// A TCP segment with `payload` bytes.
pub fn tcp(from: Endpoint, to: Endpoint, flags: u8, payload: usize) -> Sample {
    let mut bytes = ip(from, to, protocol::TCP, TCP_HEADER + payload);
    let header = tcp::Repr {
        src_port: from.port,
        dst_port: to.port,
        seq: 0,
        ack: 0,
        flags,
        window: 0,
    };
    header.emit(&mut bytes[l4(to)..]);
    tcp::Header::new_mut(&mut bytes[l4(to)..]).set_header_len(TCP_HEADER);
    unfinished(bytes, to, tcp::offset::CHECKSUM)
}

/// A UDP datagram with `payload` bytes.
pub fn udp(from: Endpoint, to: Endpoint, payload: usize) -> Sample {
    let length = udp::LEN + payload;
    let mut bytes = ip(from, to, protocol::UDP, length);
    let header = udp::Repr {
        src_port: from.port,
        dst_port: to.port,
        length: short(length),
    };
    header.emit(&mut bytes[l4(to)..]);
    unfinished(bytes, to, udp::offset::CHECKSUM)
}

/// The largest TCP super-frame: 64 KB to be cut into segments of 1448 bytes.
pub fn super_frame(from: Endpoint, to: Endpoint, flags: u8) -> Sample {
    const PAYLOAD: usize = 45 * 1448;
    let mut sample = tcp(from, to, flags, PAYLOAD - TCP_HEADER);
    sample.offload.gso = Gso::TcpV4 { ecn: false };
    sample.offload.gso_size = 1448;
    sample.offload.hdr_len = short(l4(to) + TCP_HEADER);
    sample
}

/// A length or an offset as headers have it.
fn short(length: usize) -> u16 {
    u16::try_from(length).expect("a packet has less than 64 KB")
}

/// A frame of an IP packet with `length` bytes behind its header, which are zero.
fn ip(from: Endpoint, to: Endpoint, protocol: u8, length: usize) -> Vec<u8> {
    let header = ethernet::Repr {
        dst: DIRECTOR_MAC,
        src: CLIENT_MAC,
        ethertype: ethernet::ethertype::of(!to.addr.is_v4()),
    };
    let mut bytes = vec![0; l4(to) + length];
    header.emit(&mut bytes);
    match (from.addr.as_v4(), to.addr.as_v4()) {
        (Some(src), Some(dst)) => {
            let header = ipv4::Repr {
                tos: 0,
                total_len: short(ipv4::MIN_LEN + length),
                id: 0,
                dont_fragment: true,
                ttl: 64,
                protocol,
                src,
                dst,
            };
            header.emit(&mut bytes[IP..]);
        }
        _ => {
            let header = ipv6::Repr {
                traffic_class: 0,
                flow_label: 0,
                payload_len: short(length),
                next_header: protocol,
                hop_limit: 64,
                src: from.addr.v6_octets(),
                dst: to.addr.v6_octets(),
            };
            header.emit(&mut bytes[IP..]);
        }
    }
    bytes
}

/// Where the transport of a packet to this end begins.
const fn l4(to: Endpoint) -> usize {
    IP + if to.addr.is_v4() {
        ipv4::MIN_LEN
    } else {
        ipv6::LEN
    }
}

/// Leaves the checksum at `offset` of the transport header to whoever sends the frame.
fn unfinished(mut bytes: Vec<u8>, to: Endpoint, offset: usize) -> Sample {
    let l4 = l4(to);
    let length = u32::from(short(bytes.len() - l4));
    let sum = if to.addr.is_v4() {
        let header = ipv4::Header::new(&bytes[IP..]);
        checksum::pseudo_header_v4(header.src(), header.dst(), header.protocol(), length)
    } else {
        let header = ipv6::Header::new(&bytes[IP..]);
        checksum::pseudo_header_v6(header.src(), header.dst(), header.next_header(), length)
    };
    bytes[l4 + offset..l4 + offset + 2].copy_from_slice(&sum.to_be_bytes());
    let offload = Offload {
        csum_start: Some(short(l4)),
        csum_offset: short(offset),
        ..Offload::default()
    };
    Sample { bytes, offload }
}
