//! FULLNAT after a restart of the director: a new connection may get a local port by which the server still
//! has an old one. The server answers the SYN with an ACK of the old connection (a challenge ACK, RFC 5961
//! §4.2, or TIME_WAIT's), and waits for the RST that shows that the other end knows nothing of it.
//!
//! The client would send that RST, and its SYN again after a second (RFC 6298). The engine does both at once,
//! as it is the other end: it keeps the last SYNs, until their servers have answered.
//!
//! Nobody gains by forging such an ACK. It is answered only for a connection of ours that waits for its SYN-ACK,
//! once, and where it acknowledges something else than the SYN. The RST carries the number that was
//! acknowledged: to a server that has got the SYN it is outside the window, or the SYN behind it opens the
//! connection again.

use super::Engine;
use super::transit::Transit;
use super::voice::Reset;
use crate::conn::{Conn, ConnId};
use crate::flow::Protocol;
use crate::frame::Frame;
use crate::outbox::{HEADROOM, Outbox};
use crate::packet::{Packet, Transport};
use crate::rewrite;
use crate::tcp::TcpState;
use crate::time::Instant;
use crate::trace::{Recorder, Step};
use crate::verdict::Verdict;
use crate::wire::tcp::flag;
use crate::wire::{checksum, ethernet, ipv4, protocol, tcp};

/// SYNs that are kept: those of as many places of the connection table, the last of each.
const PLACES: usize = 1024;
/// Bytes of an IPv4 and a TCP header with all options.
const MAX_SYN: usize = ipv4::MAX_LEN + tcp::MAX_LEN;

/// A client's SYN as it came, from the IP header on.
#[derive(Clone, Copy)]
pub(super) struct Syn {
    id: ConnId,
    len: u8,
    /// Offset of the TCP header.
    l4: u8,
    bytes: [u8; MAX_SYN],
}

/// The last SYNs. The memory is taken with the first one: most directors have no FULLNAT.
#[derive(Default)]
pub(super) struct Syns(Vec<Option<Syn>>);

impl Syns {
    pub(super) fn keep(&mut self, syn: Syn) {
        if self.0.is_empty() {
            self.0.resize(PLACES, None);
        }
        self.0[place(syn.id)] = Some(syn);
    }

    /// That of a connection, where it is still there.
    pub(super) fn of(&self, id: ConnId, c: &Conn) -> Option<Syn> {
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
            len: whole.len() as u8,
            l4: packet.ip_header,
            bytes,
        })
    }

    /// The same SYN of the connection at another place.
    pub(super) const fn at(self, id: ConnId) -> Self {
        Self { id, ..self }
    }

    /// The sequence number behind it.
    fn next(&self) -> u32 {
        let tcp = tcp::Header::new(&self.bytes[usize::from(self.l4)..]);
        tcp.seq().wrapping_add(1)
    }
}

const fn place(id: ConnId) -> usize {
    id.0 as usize % PLACES
}

impl<R: Recorder> Engine<R> {
    /// Keeps a new connection's SYN, where the server may have an old one of its tuple: with FULLNAT.
    pub(super) fn keep_syn(&mut self, t: &Transit<'_, '_>, id: ConnId) {
        if self.conns.get(id).local.port != 0
            && let Some(syn) = Syn::from(id, t.frame, t.packet)
        {
            self.syns.keep(syn);
        }
    }

    /// The server of a connection that waits for its SYN-ACK has answered. Where that is about an old
    /// connection, that one is reset and the SYN sent again.
    pub(super) fn reopen(&mut self, t: &mut Transit<'_, '_>, id: ConnId) -> Option<Verdict> {
        let c = *self.conns.get(id);
        let Transport::Tcp { flags, .. } = t.packet.transport else {
            return None;
        };
        let syn = self.syns.of(id, &c)?;
        let kind = flags & (flag::ACK | flag::SYN | flag::RST);
        let acknowledged = t.packet.tcp(t.frame.bytes()).ack();
        if kind != flag::ACK
            || acknowledged == syn.next()
            || !rewrite::checksum_is_right(t.frame, t.packet)
        {
            return None;
        }
        self.syns.forget(id);
        self.record(|_| Step::Reopened { local: c.local });
        let reset = Reset {
            from: c.local,
            to: c.server,
            seq: acknowledged,
            ack: None,
        };
        let reset = self.voice.reset(&self.fib, &reset, t.out);
        if reset != Verdict::Answered {
            return Some(reset);
        }
        self.counters.reopened += 1;
        self.resend(t.now, &c, &syn, t.out);
        Some(Verdict::Answered)
    }

    fn resend(&mut self, now: Instant, c: &Conn, syn: &Syn, out: &mut Outbox) {
        let (len, l4) = (usize::from(syn.len), usize::from(syn.l4));
        let mut bytes = [0; HEADROOM + ethernet::LEN + MAX_SYN];
        let ip = &mut bytes[HEADROOM + ethernet::LEN..][..len];
        ip.copy_from_slice(&syn.bytes[..len]);
        // It may have come with a checksum that was left to an offload.
        let header = ipv4::Header::new(ip);
        let (src, dst) = (header.src(), header.dst());
        let pseudo = checksum::pseudo_header_v4(src, dst, protocol::TCP, (len - l4) as u32);
        tcp::seal(&mut ip[l4..], pseudo);
        self.send_as_client(now, c, &mut bytes[..HEADROOM + ethernet::LEN + len], out);
    }
}

/// Whether a connection waits for its server's SYN-ACK by a local port.
pub(super) fn is_opening(c: &Conn) -> bool {
    c.state == TcpState::SynRecv as u8 && c.local.port != 0 && c.protocol == Protocol::Tcp
}
