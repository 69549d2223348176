//! The frames in a capture file, byte by byte, for what tcpdump's text does not tell.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
const ETHERNET: usize = 14;

/// A captured IPv4 frame.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Frame(pub(crate) Vec<u8>);

/// All frames of a file that tcpdump wrote on this machine (pcap-savefile(5)).
pub(crate) fn read(file: &Path) -> Vec<Frame> {
    let bytes = fs::read(file).expect("the capture file");
    let mut records = &bytes[FILE_HEADER..];
    let mut frames = Vec::new();
    while let Some((header, rest)) = records.split_at_checked(RECORD_HEADER) {
        let field = |at| u32::from_ne_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let (captured, length) = (field(8), field(12));
        assert_eq!(captured, length, "frames are captured whole");
        let (frame, rest) = rest.split_at(length as usize);
        frames.push(Frame(frame.to_vec()));
        records = rest;
    }
    frames
}

impl Frame {
    /// The IP header and all behind it.
    pub(crate) fn packet(&self) -> &[u8] {
        &self.0[ETHERNET..]
    }

    /// The IP protocol.
    pub(crate) fn protocol(&self) -> u8 {
        self.packet()[9]
    }

    /// The IP source address.
    pub(crate) fn source(&self) -> Ipv4Addr {
        address(&self.packet()[12..16])
    }

    /// The IP destination address.
    pub(crate) fn destination(&self) -> Ipv4Addr {
        address(&self.packet()[16..20])
    }

    /// Source address and port of TCP or UDP, none of a fragment but the first.
    pub(crate) fn source_socket(&self) -> Option<SocketAddrV4> {
        let packet = self.packet();
        let offset = u16::from_be_bytes([packet[6] & 0x1f, packet[7]]);
        let ports = usize::from(packet[0] & 0x0f) * 4;
        let port = u16::from_be_bytes([packet[ports], packet[ports + 1]]);
        (offset == 0).then(|| SocketAddrV4::new(self.source(), port))
    }
}

fn address(bytes: &[u8]) -> Ipv4Addr {
    <[u8; 4]>::try_from(bytes).expect("four bytes").into()
}
