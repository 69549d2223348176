//! The PROXY protocol, versions 1 and 2: the header by which a server learns of whose connection the one is that it
//! got from another host. After haproxy's `doc/proxy-protocol.txt`; sections are its.
//!
//! It comes once, before the first byte of the stream; over UDP, at the beginning of each datagram. Version 1 is a line
//! of text for TCP, version 2 is binary, with optional parts behind the addresses (type, length, value).

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::checksum;
use crate::narrow;

/// What version 2 begins with (§2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and the command PROXY: the connection is another's.
const VERSION_AND_COMMAND: u8 = 0x21;
/// Bytes before the addresses of version 2: signature, version and command, family and protocol, length.
const FIXED: usize = 16;
/// Bytes of two IPv6 addresses and two ports.
const ADDRESSES: usize = 36;
/// Bytes before the value of an optional part (§2.2, `struct pp2_tlv`).
const PART: usize = 3;

/// Types of optional parts (§2.2.1 to §2.2.5).
mod part {
    /// The host name that the client asked for.
    pub(super) const AUTHORITY: u8 = 0x02;
    /// CRC32c over the header, with zeros in its own place.
    pub(super) const CRC32C: u8 = 0x03;
    /// An identifier of the connection.
    pub(super) const UNIQUE_ID: u8 = 0x05;
}

/// Bytes of the longest [`Parts::authority`].
pub const MAX_AUTHORITY: usize = 255;
/// Bytes of a [`Parts::unique_id`].
pub const UNIQUE_ID: usize = 32;
/// Bytes of the longest header that is written here.
pub const MAX_LEN: usize =
    FIXED + ADDRESSES + PART + MAX_AUTHORITY + PART + size_of::<u32>() + PART + UNIQUE_ID;

/// Two addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Of IPv4.
    V4 {
        /// The client's.
        src: [u8; 4],
        /// The one that it asked.
        dst: [u8; 4],
    },
    /// Of IPv6.
    V6 {
        /// The client's.
        src: [u8; 16],
        /// The one that it asked.
        dst: [u8; 16],
    },
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// The connection's ends.
    pub addresses: Addresses,
    /// Their ports: the client's, and the one that it asked.
    pub ports: (u16, u16),
    /// Whether it is TCP's; else UDP's, of which version 1 knows nothing.
    pub stream: bool,
}

/// What version 2 says beside, and always with a checksum (CRC32c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The host name that the service stands for, at most [`MAX_AUTHORITY`] bytes; none where it is empty.
    pub authority: &'a [u8],
    /// An identifier that no other connection has, text.
    pub unique_id: [u8; UNIQUE_ID],
}

impl Repr {
    /// The header in version 1 (§2.1), of a TCP connection.
    pub fn version_1(&self) -> Vec<u8> {
        let (src_port, dst_port) = self.ports;
        let mut line = String::new();
        let written = match self.addresses {
            Addresses::V4 { src, dst } => {
                let (src, dst) = (Ipv4Addr::from(src), Ipv4Addr::from(dst));
                write!(line, "PROXY TCP4 {src} {dst} {src_port} {dst_port}\r\n")
            }
            Addresses::V6 { src, dst } => {
                let (src, dst) = (Ipv6Addr::from(src), Ipv6Addr::from(dst));
                write!(line, "PROXY TCP6 {src} {dst} {src_port} {dst_port}\r\n")
            }
        };
        debug_assert!(written.is_ok(), "a string takes all");
        line.into_bytes()
    }

    /// The header in version 2 (§2.2).
    pub fn version_2(&self, parts: &Parts<'_>) -> Vec<u8> {
        let mut header = Vec::with_capacity(MAX_LEN);
        header.extend(SIGNATURE);
        header.push(VERSION_AND_COMMAND);
        header.push(self.family_and_protocol());
        header.extend([0; 2]);
        match self.addresses {
            Addresses::V4 { src, dst } => header.extend([src, dst].concat()),
            Addresses::V6 { src, dst } => header.extend([src, dst].concat()),
        }
        header.extend(self.ports.0.to_be_bytes());
        header.extend(self.ports.1.to_be_bytes());
        if !parts.authority.is_empty() {
            put(&mut header, part::AUTHORITY, parts.authority);
        }
        put(&mut header, part::UNIQUE_ID, &parts.unique_id);
        put(&mut header, part::CRC32C, &[0; size_of::<u32>()]);
        let len = narrow::to_u16(header.len() - FIXED);
        header[FIXED - size_of::<u16>()..FIXED].copy_from_slice(&len.to_be_bytes());
        let crc = checksum::crc32c(&header).to_be_bytes();
        let at = header.len() - crc.len();
        header[at..].copy_from_slice(&crc);
        header
    }

    const fn family_and_protocol(&self) -> u8 {
        let family = match self.addresses {
            Addresses::V4 { .. } => 0x10,
            Addresses::V6 { .. } => 0x20,
        };
        family | if self.stream { 0x01 } else { 0x02 }
    }
}

/// Puts an optional part behind a header.
fn put(header: &mut Vec<u8>, kind: u8, value: &[u8]) {
    header.push(kind);
    header.extend(narrow::to_u16(value.len()).to_be_bytes());
    header.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: Repr = Repr {
        addresses: Addresses::V4 {
            src: [198, 51, 100, 7],
            dst: [203, 0, 113, 9],
        },
        ports: (40_000, 443),
        stream: true,
    };
    const V6: Repr = Repr {
        addresses: Addresses::V6 {
            src: [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            dst: [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
        },
        ..V4
    };
    const PARTS: Parts<'_> = Parts {
        authority: b"a.example",
        unique_id: *b"0123456789abcdef0123456789abcdef",
    };

    #[test]
    fn version_1_is_a_line() {
        let text = |r: Repr| String::from_utf8(r.version_1()).expect("text");
        assert_eq!(
            text(V4),
            "PROXY TCP4 198.51.100.7 203.0.113.9 40000 443\r\n"
        );
        assert_eq!(text(V6), "PROXY TCP6 2001:db8::1 2001:db8::2 40000 443\r\n");
    }

    #[test]
    fn version_2_is_these_bytes() {
        let none = Parts {
            authority: b"",
            ..PARTS
        };
        let header = V4.version_2(&none);
        let (head, rest) = header.split_at(FIXED + 12);
        assert_eq!(
            head,
            [
                &b"\r\n\r\n\0\r\nQUIT\n"[..],
                &[0x21, 0x11, 0, 12 + 35 + 7],
                &[198, 51, 100, 7, 203, 0, 113, 9],
                &[0x9c, 0x40, 0x01, 0xbb],
            ]
            .concat()
        );
        assert_eq!(rest[..PART], [5, 0, 32]);
        assert_eq!(rest[PART..PART + UNIQUE_ID], PARTS.unique_id);
        assert_eq!(rest[PART + UNIQUE_ID..][..PART], [3, 0, 4]);
        let datagram = Repr {
            stream: false,
            ..V6
        };
        let header = datagram.version_2(&PARTS);
        assert_eq!(header[13], 0x22);
        assert_eq!(header[FIXED + ADDRESSES..][..PART], [2, 0, 9]);
    }

    #[test]
    fn the_checksum_is_over_the_header_with_zeros_in_its_place() {
        let header = V6.version_2(&PARTS);
        let (rest, crc) = header.split_at(header.len() - 4);
        let zeroed = [rest, &[0; 4]].concat();
        assert_eq!(crc, checksum::crc32c(&zeroed).to_be_bytes());
    }

    #[test]
    fn none_is_longer_than_the_longest() {
        let authority = [b'a'; MAX_AUTHORITY];
        let parts = Parts {
            authority: &authority,
            ..PARTS
        };
        assert_eq!(V6.version_2(&parts).len(), MAX_LEN);
        let longest = Repr {
            addresses: Addresses::V6 {
                src: [0xff; 16],
                dst: [0xfe; 16],
            },
            ports: (65_535, 65_535),
            stream: true,
        };
        // §2.1: at most 107 bytes with the final NUL that a receiver's buffer has.
        assert!(longest.version_1().len() <= 107);
    }
}
