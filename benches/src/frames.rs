//! Frames as a client's kernel hands them over: IPv4 and TCP or UDP, the transport checksum unfinished.

use uvs_core::flow::Endpoint;
use uvs_core::frame::{Frame, Gso, Offload};
use uvs_core::outbox::HEADROOM;
use uvs_core::wire::ethernet::{self, Mac};
use uvs_core::wire::{checksum, ipv4, protocol, tcp, udp};

/// Both of the director's ports.
pub const DIRECTOR_MAC: Mac = [2, 0, 0, 0, 0, 1];
/// The router to the clients.
pub const CLIENT_MAC: Mac = [2, 0, 0, 0, 0, 2];

const IP: usize = ethernet::LEN;
const L4: usize = IP + ipv4::MIN_LEN;
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

    /// Lays it into `memory`, behind headroom, as the ring does.
    pub fn lay<'a>(&self, memory: &'a mut [u8]) -> Frame<'a> {
        let end = HEADROOM + self.bytes.len();
        memory[HEADROOM..end].copy_from_slice(&self.bytes);
        Frame::new(memory, HEADROOM, end, self.offload)
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
    header.emit(&mut bytes[L4..]);
    tcp::Header::new_mut(&mut bytes[L4..]).set_header_len(TCP_HEADER);
    unfinished(bytes, tcp::offset::CHECKSUM)
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
    header.emit(&mut bytes[L4..]);
    unfinished(bytes, udp::offset::CHECKSUM)
}

/// The largest TCP super-frame: 64 KB to be cut into segments of 1448 bytes.
pub fn super_frame(from: Endpoint, to: Endpoint, flags: u8) -> Sample {
    const PAYLOAD: usize = 45 * 1448;
    let mut sample = tcp(from, to, flags, PAYLOAD - TCP_HEADER);
    sample.offload.gso = Gso::TcpV4 { ecn: false };
    sample.offload.gso_size = 1448;
    sample.offload.hdr_len = short(L4 + TCP_HEADER);
    sample
}

/// A length or an offset as headers have it.
fn short(length: usize) -> u16 {
    u16::try_from(length).expect("a packet has less than 64 KB")
}

fn ip(from: Endpoint, to: Endpoint, protocol: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; L4 + length];
    let header = ethernet::Repr {
        dst: DIRECTOR_MAC,
        src: CLIENT_MAC,
        ethertype: ethernet::ethertype::IPV4,
    };
    header.emit(&mut bytes);
    let header = ipv4::Repr {
        tos: 0,
        total_len: short(ipv4::MIN_LEN + length),
        id: 0,
        dont_fragment: true,
        ttl: 64,
        protocol,
        src: from.addr.as_v4().unwrap_or_default(),
        dst: to.addr.as_v4().unwrap_or_default(),
    };
    header.emit(&mut bytes[IP..]);
    bytes
}

/// Leaves the checksum at `offset` of the transport header to whoever sends the frame.
fn unfinished(mut bytes: Vec<u8>, offset: usize) -> Sample {
    let header = ipv4::Header::new(&bytes[IP..]);
    let length = u32::from(short(bytes.len() - L4));
    let sum = checksum::pseudo_header_v4(header.src(), header.dst(), header.protocol(), length);
    bytes[L4 + offset..L4 + offset + 2].copy_from_slice(&sum.to_be_bytes());
    let offload = Offload {
        csum_start: Some(short(L4)),
        csum_offset: short(offset),
        ..Offload::default()
    };
    Sample { bytes, offload }
}
