//! Servers that are told of their clients: frame by frame what each end sees, in every family, through loss on all sides,
//! and judged by a receiver of the PROXY protocol that was written from its specification.

#![allow(clippy::unwrap_used)]

mod datagrams;
mod ends;
mod options;
mod stream;
mod table;
mod talk;

use std::sync::Arc;

use uvs_core::flow::{Endpoint, Family, Protocol};
use uvs_core::service::{ClientAddress, Forwarding, Introduction, Tunnel};
use uvs_core::testing::bed::{Bed, CLIENTS, SERVER_PORT, SERVERS, SERVERS_MAC, Sent};
use uvs_core::testing::net::{client, server, vip};
use uvs_core::testing::packets::{PacketBuilder, TestFrame, check, tcp};
use uvs_core::testing::proxy::{self, Introduced};
use uvs_core::verdict::Verdict;
use uvs_core::wire::ethernet;
use uvs_core::wire::tcp::flag::{ACK, SYN};

use Family::{V4, V6};

/// The first numbers of client and server.
const ISN: u32 = 5_000;
const SERVER_ISN: u32 = 9_000;
/// The numbers behind both SYNs.
const START: u32 = ISN + 1;
const REPLY: u32 = SERVER_ISN + 1;

/// How clients are introduced by a version of the PROXY protocol.
fn proxy(address: ClientAddress) -> Introduction {
    Introduction {
        client_address: address,
        ..Introduction::default()
    }
}

/// A segment as it left, at either side.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    flags: u8,
    seq: u32,
    ack: u32,
    window: u16,
    options: Vec<u8>,
    data: Vec<u8>,
}

impl Segment {
    fn read(sent: &Sent) -> Self {
        let bytes = sent.finished();
        assert_eq!(check(&bytes), Ok(()));
        let l4 = match bytes[ethernet::LEN] >> 4 {
            4 => ethernet::LEN + 20,
            _ => ethernet::LEN + 40,
        };
        let b = &bytes[l4..];
        let word = |at: usize| u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let end = usize::from(b[12] >> 4) * 4;
        Self {
            flags: b[13],
            seq: word(4),
            ack: word(8),
            window: u16::from_be_bytes([b[14], b[15]]),
            options: b[20..end].to_vec(),
            data: b[end..].to_vec(),
        }
    }

    /// Flags, numbers and bytes of data.
    fn brief(&self) -> (u8, u32, u32, usize) {
        (self.flags, self.seq, self.ack, self.data.len())
    }
}

/// A service whose server is told of its clients, with one client.
struct Director {
    bed: Bed,
    families: (Family, Family),
    forwarding: Forwarding,
}

impl Director {
    fn new(
        protocol: Protocol,
        forwarding: Forwarding,
        families: (Family, Family),
        introduction: Introduction,
    ) -> Self {
        let tunnel = Tunnel::default();
        let mut bed = Bed::between(uvs_modes::BUILTIN, protocol, forwarding, tunnel, families);
        *Arc::make_mut(&mut bed.snapshot.services[0]).introduction = introduction;
        bed.apply();
        Self {
            bed,
            families,
            forwarding,
        }
    }

    /// FULLNAT over IPv4.
    fn plain(introduction: Introduction) -> Self {
        Self::new(Protocol::Tcp, Forwarding::FullNat, (V4, V4), introduction)
    }

    fn client(&self) -> Endpoint {
        client(self.families.0)
    }

    fn vip(&self) -> Endpoint {
        vip(self.families.0)
    }

    fn server(&self) -> Endpoint {
        Endpoint::new(server(self.families.1), SERVER_PORT)
    }

    /// Whom the server sees.
    fn far(&self) -> Endpoint {
        let (conns, _) = self.bed.engine.report_connections(self.bed.now, 0, 10);
        match self.forwarding {
            Forwarding::Nat => self.client(),
            _ => conns[0].local.unwrap(),
        }
    }

    /// A segment of the client's.
    fn client_segment(&self, flags: u8, seq: u32, ack: u32) -> PacketBuilder {
        tcp(self.client(), self.vip(), flags).seq(seq, ack)
    }

    /// A segment of the server's.
    fn server_segment(&self, flags: u8, seq: u32, ack: u32) -> PacketBuilder {
        let segment = tcp(self.server(), self.far(), flags).seq(seq, ack);
        segment.to_mac(SERVERS_MAC)
    }

    /// Hands a frame of the client's in; what leaves to the server, and to the client.
    fn client_says(&mut self, segment: &PacketBuilder) -> (Vec<Segment>, Vec<Segment>) {
        self.hand_in(true, TestFrame::finished(&segment.frame()))
    }

    /// Hands a frame of the server's in; what leaves to the server, and to the client.
    fn server_says(&mut self, segment: &PacketBuilder) -> (Vec<Segment>, Vec<Segment>) {
        self.hand_in(false, TestFrame::finished(&segment.frame()))
    }

    fn hand_in(&mut self, client: bool, frame: TestFrame) -> (Vec<Segment>, Vec<Segment>) {
        self.bed.sent.clear();
        let port = if client { CLIENTS } else { SERVERS };
        let verdict = self.bed.receive(port, frame);
        assert!(!matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
        let at = |port| {
            let sent = self.bed.sent.iter().filter(move |sent| sent.port == port);
            sent.map(Segment::read).collect()
        };
        (at(SERVERS), at(CLIENTS))
    }

    /// SYN and SYN-ACK, both without options.
    fn open(&mut self) {
        let syn = self.client_segment(SYN, ISN, 0);
        let (to_server, _) = self.client_says(&syn);
        assert_eq!(to_server[0].brief(), (SYN, ISN, 0, 0));
        let answer = self.server_segment(SYN | ACK, SERVER_ISN, START);
        let (_, to_client) = self.server_says(&answer);
        assert_eq!(to_client[0].brief(), (SYN | ACK, SERVER_ISN, START, 0));
    }

    /// The handshake, whose last ACK brings the header; the header.
    fn establish(&mut self) -> Vec<u8> {
        self.open();
        let ack = self.client_segment(ACK, START, REPLY);
        let (mut to_server, _) = self.client_says(&ack);
        assert_eq!(to_server.len(), 1);
        to_server.remove(0).data
    }

    /// The handshake, and the server has acknowledged the header; the header's length.
    fn settle(&mut self) -> u32 {
        let len = u32::try_from(self.establish().len()).unwrap();
        let ack = self.server_segment(ACK, REPLY, START + len);
        let (_, to_client) = self.server_says(&ack);
        assert_eq!(to_client[0].brief(), (ACK, REPLY, START, 0));
        len
    }
}

/// A whole header, and nothing behind it.
fn judge(header: &[u8]) -> Introduced {
    let (introduced, len) = proxy::read(header).unwrap().expect("a whole header");
    assert_eq!(len, header.len(), "nothing follows");
    introduced
}
