//! Frames as a client's kernel hands them over: IPv4 and TCP or UDP, the transport checksum unfinished.

use uvs_core::flow::Endpoint;
use uvs_core::frame::{ETH_LEN, Frame, Gso, Offload};
use uvs_core::outbox::HEADROOM;
use uvs_core::wire::checksum;

use crate::world::{CLIENT_MAC, DIRECTOR_MAC};

const IP: usize = ETH_LEN;
const L4: usize = IP + 20;
/// TCP's header with time stamps, as nearly every segment has it.
const TCP_HEADER: usize = 32;
const UDP_HEADER: usize = 8;

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
    let mut bytes = ip(from, to, 6, TCP_HEADER + payload);
    ports(&mut bytes, from, to);
    bytes[L4 + 12] = (TCP_HEADER as u8 / 4) << 4;
    bytes[L4 + 13] = flags;
    unfinished(bytes, 16)
}

/// A UDP datagram with `payload` bytes.
pub fn udp(from: Endpoint, to: Endpoint, payload: usize) -> Sample {
    let length = UDP_HEADER + payload;
    let mut bytes = ip(from, to, 17, length);
    ports(&mut bytes, from, to);
    bytes[L4 + 4..L4 + 6].copy_from_slice(&(length as u16).to_be_bytes());
    unfinished(bytes, 6)
}

/// The largest TCP super-frame: 64 KB to be cut into segments of 1448 bytes.
pub fn super_frame(from: Endpoint, to: Endpoint, flags: u8) -> Sample {
    const PAYLOAD: usize = 45 * 1448;
    let mut sample = tcp(from, to, flags, PAYLOAD - TCP_HEADER);
    sample.offload.gso = Gso::TcpV4 { ecn: false };
    sample.offload.gso_size = 1448;
    sample.offload.hdr_len = (L4 + TCP_HEADER) as u16;
    sample
}

fn ip(from: Endpoint, to: Endpoint, protocol: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; L4 + length];
    bytes[..6].copy_from_slice(&DIRECTOR_MAC);
    bytes[6..12].copy_from_slice(&CLIENT_MAC);
    bytes[12..14].copy_from_slice(&[0x08, 0x00]);
    let header = &mut bytes[IP..L4];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&((20 + length) as u16).to_be_bytes());
    header[6] = 0x40;
    header[8] = 64;
    header[9] = protocol;
    header[12..16].copy_from_slice(&from.addr.as_v4().unwrap_or_default());
    header[16..20].copy_from_slice(&to.addr.as_v4().unwrap_or_default());
    let sum = checksum::of(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn ports(bytes: &mut [u8], from: Endpoint, to: Endpoint) {
    bytes[L4..L4 + 2].copy_from_slice(&from.port.to_be_bytes());
    bytes[L4 + 2..L4 + 4].copy_from_slice(&to.port.to_be_bytes());
}

/// Leaves the checksum at `offset` of the transport header to whoever sends the frame.
fn unfinished(mut bytes: Vec<u8>, offset: usize) -> Sample {
    let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    let (src, dst) = (word(IP + 12), word(IP + 16));
    let length = (bytes.len() - L4) as u32;
    let sum = checksum::pseudo_header_v4(src, dst, bytes[IP + 9], length);
    bytes[L4 + offset..L4 + offset + 2].copy_from_slice(&sum.to_be_bytes());
    let offload = Offload {
        csum_start: Some(L4 as u16),
        csum_offset: offset as u16,
        ..Offload::default()
    };
    Sample { bytes, offload }
}
