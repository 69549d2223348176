//! Whether the kernel's program forwards a frame of a taken connection, or lets it come up: its rules as data, for
//! what a dry run says and for the model that tests have. The program itself is in the crate `uvs-hook`.

use super::sizes::wire_len;
use crate::conn::Side;
use crate::flow::{Direction, Family};
use crate::frame::{Frame, Gso};
use crate::offload::{Tracked, Up};
use crate::packet::{Packet, Transport};
use crate::segment;
use crate::sequence;
use crate::tcp::{self, TcpState};
use crate::wire::ethernet::Mac;
use crate::wire::tcp::flag;
use crate::wire::{ipv4, ipv6, udp};

/// A direction of a connection as the program has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standpoint {
    pub(crate) side: Side,
    /// Its server's generation, or that of the ways, is another one now.
    pub(crate) stale: bool,
    /// The engine wants its frames.
    pub(crate) asked: bool,
    /// Whether the program moves no TCP states.
    pub(crate) stateless: bool,
    /// secure_tcp's states.
    pub(crate) strict: bool,
    pub(crate) tracked: Tracked,
    /// Whether it has a local port (FULLNAT).
    pub(crate) has_local: bool,
    /// Where it would go; `None` where the connection is only known.
    pub(crate) exit: Option<Exit>,
}

/// The way out of a direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: u32,
    /// Bytes of the outer header.
    pub(crate) overhead: u8,
    /// The interface that packets must come in by.
    pub(crate) arrival: Option<u32>,
    /// Whether addresses are replaced.
    pub(crate) translates: bool,
}

/// Why a frame that has come in by the interface `arrival` comes up; `None` where the kernel forwards it.
pub(crate) fn comes_up(
    frame: &Frame<'_>,
    packet: &Packet,
    arrival: u32,
    at: &Standpoint,
) -> Option<Up> {
    let Some(exit) = &at.exit else {
        return Some(Up::Known);
    };
    if at.stale {
        return Some(Up::Stale);
    }
    if at.asked {
        return Some(Up::Asked);
    }
    if exit.mac.is_none() {
        return Some(Up::Hop);
    }
    if exit.arrival.is_some_and(|must| must != arrival) {
        return Some(Up::Arrival);
    }
    unsuitable(frame, packet, exit).or_else(|| refused(frame, packet, at))
}

/// What the program does not do to a packet, whatever its connection.
fn unsuitable(frame: &Frame<'_>, packet: &Packet, exit: &Exit) -> Option<Up> {
    let plain = match packet.family {
        Family::V4 => ipv4::MIN_LEN,
        Family::V6 => ipv6::LEN,
    };
    if usize::from(packet.ip_header) != plain {
        return Some(Up::Options);
    }
    if packet.ttl <= 1 {
        return Some(Up::Ttl);
    }
    if segment::check_offload(frame, packet).is_err() {
        return Some(Up::Malformed);
    }
    let overhead = usize::from(exit.overhead);
    let len = overhead + wire_len(frame, packet);
    let whole = overhead + packet.ip_len as usize;
    if len > exit.mtu as usize || (overhead > 0 && whole > usize::from(u16::MAX)) {
        return Some(Up::TooLarge);
    }
    let datagram = packet.transport == Transport::Udp && frame.offload.gso == Gso::None;
    let unsummed = datagram
        && exit.translates
        && udp::Header::new(&frame.bytes()[packet.l4()..]).checksum() == 0
        && !frame.offload.is_partial_at(packet.l4());
    unsummed.then_some(Up::Checksum)
}

/// What its connection's state says against a segment.
fn refused(frame: &Frame<'_>, packet: &Packet, at: &Standpoint) -> Option<Up> {
    let Transport::Tcp { flags, .. } = packet.transport else {
        return None;
    };
    if at.side == Side::Client && flags & flag::SYN != 0 {
        return Some(Up::Syn);
    }
    if at.stateless && moves(flags, at) {
        return Some(Up::State);
    }
    if at.side == Side::Server && at.tracked.state == TcpState::SynRecv as u8 {
        if flags & flag::RST != 0 {
            return Some(Up::Refused);
        }
        if at.has_local && flags & (flag::ACK | flag::SYN) == flag::ACK {
            return Some(Up::Reopen);
        }
    }
    let expects = match at.side {
        Side::Client => (at.tracked.server_expects, at.tracked.client_expects),
        Side::Server => (at.tracked.client_expects, at.tracked.server_expects),
    };
    let seq = packet.tcp(frame.bytes()).seq();
    let out = sequence::is_out_of_window(at.tracked.state, flags, seq, expects);
    out.then_some(Up::Window)
}

/// Whether a segment with these flags moves its connection's state.
fn moves(flags: u8, at: &Standpoint) -> bool {
    let direction = match (at.side, at.tracked.no_output) {
        (Side::Server, _) => Direction::Output,
        (Side::Client, true) => Direction::InputOnly,
        (Side::Client, false) => Direction::Input,
    };
    let state = TcpState::from_number(at.tracked.state);
    tcp::next(state, direction, flags, at.strict) != state
}
