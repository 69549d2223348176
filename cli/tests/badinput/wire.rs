//! Packets byte by byte, as no stack would send them.

use std::net::SocketAddrV4;

use uvs_lab::{Host, Lab};

pub(crate) const IP: usize = 14;
pub(crate) const TCP: usize = IP + 20;
/// Where the IP header's fields are in the frame.
pub(crate) const TOTAL_LENGTH: usize = IP + 2;
pub(crate) const FRAGMENT: usize = IP + 6;
pub(crate) const IP_CHECKSUM: usize = IP + 10;

pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// What addresses a frame: by default a client's to the service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire {
    /// Destination and source.
    pub(crate) macs: [u8; 12],
    pub(crate) from: SocketAddrV4,
    pub(crate) to: SocketAddrV4,
    /// Sequence number of a TCP segment.
    pub(crate) seq: u32,
}

impl Wire {
    /// From the client, next to the director.
    pub(crate) fn of(lab: &Lab) -> Self {
        Self::between((&lab.client, "eth0"), (&lab.director, "eth0"), lab)
    }

    /// From one interface to another.
    pub(crate) fn between(from: (&Host, &str), to: (&Host, &str), lab: &Lab) -> Self {
        let mac = |(host, interface): (&Host, &str)| -> Vec<u8> {
            let text = host.mac(interface).expect("a MAC address");
            let byte = |hex| u8::from_str_radix(hex, 16).expect("hexadecimal");
            text.split(':').map(byte).collect()
        };
        let macs = [mac(to), mac(from)].concat();
        Self {
            macs: macs.try_into().expect("twelve bytes"),
            from: SocketAddrV4::new(lab.plan.client, 40_000),
            to: lab.plan.vip,
            seq: 0,
        }
    }

    /// A sound packet.
    pub(crate) fn packet(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = [&self.macs[..], &[8, 0]].concat();
        let length = u16::try_from(20 + payload.len()).expect("a packet's length");
        frame.extend([0x45, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([0x12, 0x34, 0, 0, 64, protocol, 0, 0]);
        frame.extend(self.from.ip().octets());
        frame.extend(self.to.ip().octets());
        frame.extend(payload);
        seal(&mut frame);
        frame
    }

    /// A TCP segment with these flags; its own checksum is wrong.
    pub(crate) fn segment(&self, flags: u8) -> Vec<u8> {
        let mut tcp = [0; 20];
        tcp[..2].copy_from_slice(&self.from.port().to_be_bytes());
        tcp[2..4].copy_from_slice(&self.to.port().to_be_bytes());
        tcp[4..8].copy_from_slice(&self.seq.to_be_bytes());
        tcp[12] = 5 << 4;
        tcp[13] = flags;
        self.packet(6, &tcp)
    }

    /// A SYN with one thing changed, its IP checksum made right again.
    pub(crate) fn changed(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut frame = self.segment(SYN);
        change(&mut frame);
        seal(&mut frame);
        frame
    }
}

/// Makes the IP header checksum right, as far as there is a header.
pub(crate) fn seal(frame: &mut [u8]) {
    let words = usize::from(frame[IP] & 15) * 2;
    frame[IP_CHECKSUM..IP_CHECKSUM + 2].fill(0);
    let header = frame[IP..].chunks_exact(2).take(words);
    let sum: u32 = header
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let checksum = !u16::try_from(folded).expect("folded");
    frame[IP_CHECKSUM..IP_CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
}
