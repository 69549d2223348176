//! Connections that the kernel forwards: what an engine hands over, and what it asks.
//!
//! Where the host has the hook (the crate `uvs-hook`), a program in the kernel decides each frame once: it is
//! of a connection that was *taken* (forwarded there and then), it is *ours* (hidden from the host's stack, and
//! the engine's), or neither. A connection is taken with its first packet, which the engine has scheduled and
//! forwards; from then on its state, its time and its sequence numbers are kept in the kernel, in a *cell* of
//! memory that both share, and the engine's [`Conn`](crate::conn::Conn) is a copy, made true whenever something
//! depends on it. A connection that is only *known* has a cell too, so that its server's replies are ours, but
//! all its frames come up to the engine.
//!
//! All of this is plain data. The engine asks a [`Hook`]; what that does with maps and memory is its own, and
//! `testing::hook` has one that is no more than a model of the program.
//!
//! # Who writes what
//! The engine gives out cells and server cells, and takes them back; a cell that was released is given out
//! again after all others that are free. The keys (a [`Leg::flow`] each) are put in and taken out by
//! [`Hook::apply`] alone. What is in [`Tracked`] is moved by the program with each packet, and by the engine
//! with each packet that came up ([`Hook::put`]); both compare before they write.

mod order;
mod reasons;
mod room;

pub use order::{
    Birth, Cell, Change, Hop, Kept, Leg, Orders, Released, Reply, ServerCell, ServerOrder, Taken,
};
pub use reasons::{Untaken, Up};
pub use room::{HandedOver, Reach, Room};

pub use crate::sequence::WINDOW;

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::counters::Stats;
use crate::ranks::Rank;
use crate::tcp::TcpState;
use crate::time::Instant;

/// The hook, as an engine's worker has it.
///
/// Nothing here may block: it is asked between frames.
pub trait Hook: Send {
    /// Carries orders out, in the order that [`Orders`] says; what could not be taken for want of memory is
    /// added to `refused`, and is as if it had never been asked for.
    fn apply(&mut self, orders: &Orders, refused: &mut Vec<(Cell, Birth)>);

    /// What has become of a connection; `None` where the cell is not this one's: it was never taken, or the
    /// order has not been carried out yet.
    fn seen(&self, cell: Cell, birth: Birth) -> Option<Seen>;

    /// A packet that came up has moved a connection on, and was seen at `last`. `false` where the program has
    /// moved it since it was `before`: then nothing is changed, and the packet is to be looked at again.
    /// `true` as well where the cell is not this one's.
    ///
    /// Compared are [`Tracked::state`] and [`Tracked::no_output`]; of `last` the later one stays.
    fn put(
        &mut self,
        cell: Cell,
        birth: Birth,
        before: &Tracked,
        after: &Tracked,
        last: Instant,
    ) -> bool;

    /// The next event that was not taken yet. It costs a load where there is none.
    fn next_event(&mut self) -> Option<Event>;

    /// Events that found no room so far. Where this grows, the engine looks at every cell that it has given out.
    fn events_lost(&self) -> u64;

    /// What was forwarded of a server's connections since the cell was first used, whoever had it.
    fn traffic(&self, server: ServerCell) -> Traffic;

    /// What was forwarded in the kernel of a connection that was taken with [`Taken::counts`], since it was first
    /// taken; nothing where the cell is not this one's.
    fn counted(&self, cell: Cell, birth: Birth) -> Traffic;
}

/// What the program keeps of a connection as its packets pass. TCP moves by [`tcp::next`](crate::tcp::next) and
/// the engine's rules for sequence numbers (`engine/flows/sequence.rs`); of UDP only `no_output` moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracked {
    /// The state's number ([`TcpState`]); 0 for UDP.
    pub state: u8,
    /// No reply has been seen ([`NO_OUTPUT`](crate::conn::NO_OUTPUT)).
    pub no_output: bool,
    /// The TCP sequence number that the client expects next, 0 = unknown.
    pub client_expects: u32,
    /// The TCP sequence number that the server expects next, 0 = unknown.
    pub server_expects: u32,
}

/// What has become of a taken connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What its packets made of it.
    pub tracked: Tracked,
    /// When the last packet passed that belongs to it (not one out of its window), wherever it was forwarded.
    pub last: Instant,
    /// Packets of its client that were forwarded in the kernel, modulo 2^32. Packets that two CPUs forward in
    /// the same instant may count as one.
    pub client_packets: u32,
    /// Whether, in the kernel, it has become ESTABLISHED from another state, or was answered where it is UDP's.
    pub proven: bool,
    /// TCP: when the server's SYN-ACK passed (SYN and ACK, neither RST nor FIN), the first in SYN_RECV, where no
    /// packet of the client's was forwarded in the kernel before it.
    pub answered: Option<Instant>,
}

/// What the engine is told of a connection without having asked: that it should look at its cell, for what is
/// counted by its state has changed. See [`is_told`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The cell.
    pub cell: Cell,
    /// Whose it was then.
    pub birth: Birth,
}

/// What was forwarded for a server, in packets and IP bytes as [`Stats`] counts them
/// (before encapsulation; a super-frame is one).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets from the server.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes from the server.
    pub out_bytes: u64,
}

impl Traffic {
    /// What was added since `before`.
    pub const fn since(&self, before: &Self) -> Self {
        Self {
            in_packets: self.in_packets.wrapping_sub(before.in_packets),
            out_packets: self.out_packets.wrapping_sub(before.out_packets),
            in_bytes: self.in_bytes.wrapping_sub(before.in_bytes),
            out_bytes: self.out_bytes.wrapping_sub(before.out_bytes),
        }
    }

    /// Counts a packet from a server (`out`) or a client.
    pub const fn count(&mut self, out: bool, bytes: u64) {
        if out {
            self.out_packets += 1;
            self.out_bytes += bytes;
        } else {
            self.in_packets += 1;
            self.in_bytes += bytes;
        }
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, more: Self) {
        self.in_packets += more.in_packets;
        self.out_packets += more.out_packets;
        self.in_bytes += more.in_bytes;
        self.out_bytes += more.out_bytes;
    }
}

impl From<Traffic> for Stats {
    fn from(traffic: Traffic) -> Self {
        Self {
            connections: 0,
            in_packets: traffic.in_packets,
            out_packets: traffic.out_packets,
            in_bytes: traffic.in_bytes,
            out_bytes: traffic.out_bytes,
        }
    }
}

/// What the hook keeps of a connection, for the engine of a daemon that was started anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its cell.
    pub cell: Cell,
    /// Which one of the cell's it is.
    pub birth: Birth,
    /// Its server's cell.
    pub server: ServerCell,
    /// What it was made from.
    pub kept: Kept,
    /// What has become of it.
    pub seen: Seen,
}

/// Whether a change of TCP's state is an [`Event`]: it counts otherwise at its server, or as open or over, or its
/// time may be over sooner. Becoming ESTABLISHED is one beside, where [`Taken::tells_proven`] asks for it.
pub fn is_told(before: u8, after: u8) -> bool {
    let counts = |state: u8| {
        let state = TcpState::from_number(state);
        (state.is_active(), state.rank() == Rank::Over)
    };
    let sooner = matches!(
        TcpState::from_number(after),
        TcpState::Close | TcpState::LastAck
    );
    counts(before) != counts(after) || sooner && before != after
}
