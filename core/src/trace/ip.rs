//! An IP packet of either family, as traces read it.

use crate::flow::{Addr, Family};
use crate::wire::{ipv4, ipv6};

/// What a trace tells of an IP header, and what lies behind it.
pub(super) struct Ip<'a> {
    pub(super) src: Addr,
    pub(super) dst: Addr,
    pub(super) ttl: u8,
    /// Bytes of the whole packet, as the header says.
    pub(super) len: usize,
    /// What lies behind all headers.
    pub(super) protocol: u8,
    /// IPv4's DF and checksum.
    pub(super) ipv4: Option<(bool, u16)>,
    /// Where a fragment's data begin in its datagram.
    pub(super) fragment: Option<usize>,
    /// From the transport on, to the end of the bytes.
    pub(super) payload: &'a [u8],
}

impl<'a> Ip<'a> {
    /// The packet that `bytes` are, where its headers are whole.
    pub(super) fn of(bytes: &'a [u8]) -> Option<Self> {
        Self::v4(bytes).or_else(|| Self::v6(bytes))
    }

    pub(super) fn family(&self) -> Family {
        self.dst.family()
    }

    /// Bytes in front of the payload, of those of the packet.
    pub(super) fn header_len(&self, bytes: &[u8]) -> usize {
        bytes.len() - self.payload.len()
    }

    fn v4(bytes: &'a [u8]) -> Option<Self> {
        let packet = ipv4::Packet::new_checked(bytes).ok()?;
        let header = packet.header;
        Some(Self {
            src: Addr::v4(header.src()),
            dst: Addr::v4(header.dst()),
            ttl: header.ttl(),
            len: header.total_len().into(),
            protocol: header.protocol(),
            ipv4: Some((header.dont_fragment(), header.checksum())),
            fragment: header.is_fragment().then(|| header.fragment_offset()),
            payload: packet.payload,
        })
    }

    fn v6(bytes: &'a [u8]) -> Option<Self> {
        let header = ipv6::Header::new_checked(bytes).ok()?;
        let chain = ipv6::walk(bytes).ok().filter(|_| header.version() == 6)?;
        let part = chain.fragment.map(|at| ipv6::Fragment::new(&bytes[at..]));
        Some(Self {
            src: Addr::v6(header.src()),
            dst: Addr::v6(header.dst()),
            ttl: header.hop_limit(),
            len: ipv6::LEN + usize::from(header.payload_len()),
            protocol: chain.protocol,
            ipv4: None,
            fragment: part.map(|part| part.offset()),
            payload: &bytes[chain.len..],
        })
    }
}
