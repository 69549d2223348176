//! FULLNAT clients' last SYNs, until their servers have answered.

use serde::{Deserialize, Serialize};

use super::Flows;
use crate::conn::{Conn, ConnId};
use crate::frame::Frame;
use crate::narrow;
use crate::packet::{Packet, Transport};
use crate::wire::tcp::flag;
use crate::wire::{ipv4, tcp};

/// SYNs that are kept: those of as many places of the connection table, the last of each.
const PLACES: usize = 1024;
/// Bytes of an IPv4 and a TCP header with all options, and more than an IPv6 header without extension headers.
pub(in crate::engine) const MAX_SYN: usize = ipv4::MAX_LEN + tcp::MAX_LEN;

/// A client's SYN as it came, from the IP header on.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Syn {
    id: ConnId,
    len: u8,
    /// Offset of the TCP header.
    l4: u8,
    bytes: [u8; MAX_SYN],
}

/// The last SYNs. The memory is taken with the first one: most directors have no FULLNAT.
#[derive(Default)]
pub(super) struct Syns(Vec<Option<Syn>>);

/// A SYN as another process's engine takes it over.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptSyn {
    id: ConnId,
    l4: u8,
    packet: Vec<u8>,
}

impl Syns {
    /// All that are kept.
    pub(super) fn hand_down(&self) -> Vec<KeptSyn> {
        let kept = self.0.iter().flatten().map(|syn| KeptSyn {
            id: syn.id,
            l4: syn.l4,
            packet: syn.packet().to_vec(),
        });
        kept.collect()
    }

    /// Those that another engine has kept.
    pub(super) fn succeed(kept: &[KeptSyn]) -> Self {
        let mut syns = Self::default();
        for KeptSyn { id, l4, packet } in kept {
            let mut bytes = [0; MAX_SYN];
            if let Some(room) = bytes.get_mut(..packet.len()) {
                room.copy_from_slice(packet);
                syns.keep(Syn {
                    id: *id,
                    len: narrow::to_u8(packet.len()),
                    l4: *l4,
                    bytes,
                });
            }
        }
        syns
    }

    fn keep(&mut self, syn: Syn) {
        if self.0.is_empty() {
            self.0.resize(PLACES, None);
        }
        self.0[place(syn.id)] = Some(syn);
    }

    /// That of a connection, where it is still there.
    fn of(&self, id: ConnId, c: &Conn) -> Option<Syn> {
        let syn = (*self.0.get(place(id))?)?;
        // The connection's place may have had another one before.
        (syn.id == id && syn.next() == c.server_expects).then_some(syn)
    }

    fn forget(&mut self, id: ConnId) {
        if let Some(kept) = self.0.get_mut(place(id)) {
            *kept = None;
        }
    }
}

impl Syn {
    /// The packet, where it is a SYN and nothing more.
    fn from(id: ConnId, frame: &Frame<'_>, packet: &Packet) -> Option<Self> {
        let Transport::Tcp { flags, header } = packet.transport else {
            return None;
        };
        let others = flag::ACK | flag::RST | flag::FIN;
        let plain = flags & flag::SYN != 0
            && flags & others == 0
            && packet.l4_len() == usize::from(header)
            && packet.fragment_size.is_none();
        let start = usize::from(packet.ip);
        let whole = frame.bytes().get(start..start + packet.ip_len as usize)?;
        let mut bytes = [0; MAX_SYN];
        bytes.get_mut(..whole.len())?.copy_from_slice(whole);
        plain.then_some(Self {
            id,
            len: narrow::to_u8(whole.len()),
            // Within the bytes, which are fewer than 256.
            l4: narrow::to_u8(packet.ip_header.into()),
            bytes,
        })
    }

    /// The same SYN of the connection at another place.
    pub(in crate::engine) const fn at(self, id: ConnId) -> Self {
        Self { id, ..self }
    }

    /// From the IP header on.
    pub(in crate::engine) fn packet(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Offset of the TCP header in that.
    pub(in crate::engine) fn l4(&self) -> usize {
        usize::from(self.l4)
    }

    /// The sequence number behind it.
    pub(in crate::engine) fn next(&self) -> u32 {
        let tcp = tcp::Header::new(&self.bytes[self.l4()..]);
        tcp.seq().wrapping_add(1)
    }
}

const fn place(id: ConnId) -> usize {
    id.0 as usize % PLACES
}

impl Flows {
    /// Keeps a new connection's SYN, where the server may have an old one of its tuple: with FULLNAT.
    pub(in crate::engine) fn keep_syn_of(
        &mut self,
        id: ConnId,
        frame: &Frame<'_>,
        packet: &Packet,
    ) {
        if self.conns.get(id).ends.local.port != 0
            && let Some(syn) = Syn::from(id, frame, packet)
        {
            self.syns.keep(syn);
        }
    }

    /// Keeps a SYN.
    pub(in crate::engine) fn keep_syn(&mut self, syn: Syn) {
        self.syns.keep(syn);
    }

    /// A connection's SYN, where it is still there.
    pub(in crate::engine) fn syn_of(&self, id: ConnId) -> Option<Syn> {
        self.syns.of(id, self.conns.get(id))
    }

    pub(in crate::engine) fn forget_syn(&mut self, id: ConnId) {
        self.syns.forget(id);
    }
}
