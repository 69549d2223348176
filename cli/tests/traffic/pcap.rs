//! The frames in a capture file, byte by byte, for what tcpdump's text does not tell.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
const ETHERNET: usize = 14;
const IPV6: usize = 40;
/// IPv6's Fragment header.
const FRAGMENT: u8 = 44;

/// A captured IP frame.
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

    /// The IP protocol; of an IPv6 fragment that of its datagram.
    pub(crate) fn protocol(&self) -> u8 {
        let packet = self.packet();
        match (self.is_ipv6(), packet[6]) {
            (false, _) => packet[9],
            (true, FRAGMENT) => packet[IPV6],
            (true, protocol) => protocol,
        }
    }

    /// The IP source address.
    pub(crate) fn source(&self) -> IpAddr {
        let packet = self.packet();
        if self.is_ipv6() {
            address(&packet[8..24])
        } else {
            address(&packet[12..16])
        }
    }

    /// The IP destination address.
    pub(crate) fn destination(&self) -> IpAddr {
        let packet = self.packet();
        if self.is_ipv6() {
            address(&packet[24..40])
        } else {
            address(&packet[16..20])
        }
    }

    /// Source address and port of TCP or UDP, none of a fragment but the first.
    pub(crate) fn source_socket(&self) -> Option<SocketAddr> {
        let packet = self.packet();
        let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        let (offset, ports) = match (self.is_ipv6(), packet[6]) {
            (false, _) => (word(6) & 0x1fff, usize::from(packet[0] & 0x0f) * 4),
            (true, FRAGMENT) => (word(IPV6 + 2) >> 3, IPV6 + 8),
            (true, _) => (0, IPV6),
        };
        (offset == 0).then(|| SocketAddr::new(self.source(), word(ports)))
    }

    fn is_ipv6(&self) -> bool {
        self.packet()[0] >> 4 == 6
    }
}

fn address(bytes: &[u8]) -> IpAddr {
    match <[u8; 4]>::try_from(bytes) {
        Ok(octets) => octets.into(),
        Err(_) => <[u8; 16]>::try_from(bytes).expect("sixteen bytes").into(),
    }
}
