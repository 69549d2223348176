//! The states that connections go through, by protocol. After `ip_vs_set_state` and its handlers
//! (`ip_vs_proto_tcp.c`, `ip_vs_proto_sctp.c`, `ip_vs_proto_udp.c`).

use super::Flows;
use super::event::Standing;
use crate::conn::{self, Conn, ConnId, NONE};
use crate::flow::Direction;
use crate::frame::Frame;
use crate::packet::{self, Packet, Transport};
use crate::ranks::Rank;
use crate::sctp::{self, SctpState};
use crate::snapshot::Timeouts;
use crate::tcp::{self, TcpState};
use crate::time::Instant;
use crate::wire::{ipv6, tcp as tcp_header};

/// What states depend on beside packets.
pub(in crate::engine) struct Tracking<'a> {
    pub(in crate::engine) now: Instant,
    pub(in crate::engine) timeouts: &'a Timeouts,
    /// secure_tcp's stricter states of TCP.
    pub(in crate::engine) strict: bool,
}

/// What a packet makes of a connection.
struct Move {
    active: bool,
    rank: Rank,
    /// It is established now, or answered.
    proven: bool,
}

impl Flows {
    /// One more packet has come from a connection's client.
    #[inline]
    pub(in crate::engine) fn count_input(&mut self, id: ConnId) {
        let c = self.conns.get_mut(id);
        c.in_packets = c.in_packets.saturating_add(1);
    }

    /// Moves a connection's state on by a packet from the server (`output`) or the client, and sets its
    /// time-out. The state that it was in; `None` for a packet that no state depends on.
    #[inline(always)]
    pub(in crate::engine) fn track(
        &mut self,
        id: ConnId,
        packet: &Packet,
        output: bool,
        by: &Tracking<'_>,
    ) -> Option<u8> {
        let c = self.conns.get_mut(id);
        let before = Standing::of(c);
        let Move {
            active,
            rank,
            proven,
        } = advance(c, packet, output, by)?;
        let control = c.control;
        let stays = c.state == before.state && rank == c.link.rank();
        if !stays || active == c.has(conn::INACTIVE) {
            self.move_on(id, (active, rank), before);
            if output {
                self.note_refused(by.now, id, packet, before);
            }
        }
        if proven && control != NONE {
            self.assure_template(ConnId(control));
        }
        Some(before.state)
    }

    /// A connection whose state has been set counts as something else by that, or is given up more or less willingly.
    fn move_on(&mut self, id: ConnId, (active, rank): (bool, Rank), before: Standing) {
        let c = self.conns.get_mut(id);
        if active == c.has(conn::INACTIVE) {
            c.flags ^= conn::INACTIVE;
        }
        self.conns.set_rank(id, rank);
        if Standing::of(self.conns.get(id)) != before {
            self.changed(id, before);
        }
    }
}

/// A packet as the states of TCP and SCTP are read from it. IPVS looks for the transport's header behind the IPv6 header
/// and nowhere else (`sizeof(struct ipv6hdr)` in `set_tcp_state` and `set_sctp_state`): of a packet with extension headers
/// it takes bytes of these for flags. Most have none set there, and close the entry. `None` for a packet without.
#[inline]
pub(in crate::engine) fn misread(frame: &Frame<'_>, packet: &Packet) -> Option<Packet> {
    packet
        .has_extensions()
        .then(|| read_behind_header(frame, packet))
}

#[cold]
fn read_behind_header(frame: &Frame<'_>, packet: &Packet) -> Packet {
    let bytes = &frame.bytes()[usize::from(packet.ip) + ipv6::LEN..];
    let transport = match packet.transport {
        Transport::Tcp { header, .. } => {
            // No shorter than an extension header and TCP's.
            let flags = tcp_header::Header::new(bytes).flags();
            Transport::Tcp { flags, header }
        }
        Transport::Sctp { chunk } => Transport::Sctp {
            chunk: packet::telling_chunk(bytes).unwrap_or(chunk),
        },
        other => other,
    };
    Packet {
        transport,
        ..*packet
    }
}

#[inline(always)]
fn advance(c: &mut Conn, packet: &Packet, output: bool, by: &Tracking<'_>) -> Option<Move> {
    if output {
        c.flags &= !conn::NO_OUTPUT;
    }
    let direction = match (output, c.has(conn::NO_OUTPUT)) {
        (true, _) => Direction::Output,
        (false, true) => Direction::InputOnly,
        (false, false) => Direction::Input,
    };
    let before = c.state;
    Some(match packet.transport {
        Transport::Tcp { flags, .. } => {
            let state = tcp::next(TcpState::from_number(c.state), direction, flags, by.strict);
            (c.state, c.timeout) = (state as u8, state.timeout(by.timeouts));
            Move {
                active: state.is_active(),
                rank: state.rank(),
                proven: state == TcpState::Established && c.state != before,
            }
        }
        Transport::Sctp { chunk } => {
            let state = sctp::next(SctpState::from_number(c.state), direction, chunk);
            (c.state, c.timeout) = (state as u8, state.timeout());
            Move {
                active: state.is_active(),
                rank: state.rank(),
                proven: state == SctpState::Established && c.state != before,
            }
        }
        Transport::Udp => {
            c.timeout = by.timeouts.udp;
            let single = !output && c.in_packets <= 1;
            Move {
                active: false,
                rank: if single {
                    Rank::Single
                } else {
                    Rank::Protected
                },
                proven: output,
            }
        }
        Transport::Icmp { .. }
        | Transport::Icmpv6 { .. }
        | Transport::Fragment
        | Transport::Other => return None,
    })
}
