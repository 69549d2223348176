//! Connections that the kernel forwards: which they are, what was asked of the hook, and what it says.
//!
//! Here is what an engine remembers of them, and the orders that it gives ([`Flows::offer`]). What a connection's
//! legs are needs routes and modes, and is the engine's (`engine/handover.rs`). A connection is *offered* when it
//! was made and when a frame of it came up; orders are made out of what it is then, once a turn, so that one that
//! ends in the same turn was never taken. While it is taken, the table's entry is a copy, and `truth` makes it
//! true.

mod adopt;
mod cells;
mod hops;
mod offer;
mod servers;
mod succession;
mod truth;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::Flows;
use super::pool::Pool;
use crate::conn::{self, Conn, ConnId, Side};
use crate::counters::Stats;
use crate::engine::passage::{Exit, Standpoint};
use crate::fib::Fib;
use crate::flow::{Addr, Endpoint, Flow, Protocol};
use crate::offload::{
    Birth, Cell, HandedOver, Hook, Orders, Reach, Released, Room, Tracked, Traffic, Untaken,
};
use crate::snapshot::Timeouts;
use crate::time::Instant;
pub use adopt::Adopted;
use cells::{Cells, Held};
use hops::Hops;
pub(in crate::engine) use offer::{Draft, Drafts};
use servers::ServerCells;
pub(super) use succession::Estate;
pub(in crate::engine) use truth::Shown;

/// Says whether somebody wants to see a flow's frames.
pub type Watch = Box<dyn Fn(&Flow) -> bool + Send>;

/// What is handed over.
pub(super) struct Handover {
    hook: Box<dyn Hook>,
    reach: Reach,
    cells: Cells,
    servers: ServerCells,
    hops: Hops,
    /// Connections to be offered when orders are given.
    offers: VecDeque<ConnId>,
    /// Those that could not be taken for want of a way.
    wayless: Vec<ConnId>,
    /// Servers' ends of connections without a cell, and how many there are of each.
    whole: HashMap<(Protocol, Endpoint), u32>,
    /// The generation of all ways.
    ways: u32,
    strict: bool,
    timeouts: Timeouts,
    /// Time-outs were lowered: connections are to be asked earlier than their deadlines say.
    hasten: bool,
    /// Taken connections whose handshake may not have been measured yet.
    unmeasured: Vec<(Cell, Birth)>,
    watch: Option<Watch>,
    /// What servers' cells have of their numbers, and when that was looked at last.
    kept_numbers: (Vec<(Stats, Traffic)>, Instant),
    orders: Orders,
    refused: Vec<(Cell, Birth)>,
    events_lost: u64,
    taken: u32,
    numbers: HandedOver,
}

impl Handover {
    /// What was forwarded of a server's since this was asked last; `None` where nothing can have been.
    pub(super) fn settle(&mut self, pool: &Pool, place: u32) -> Option<Traffic> {
        self.servers.settle_one(pool, self.hook.as_ref(), place)
    }

    fn new(hook: Box<dyn Hook>, reach: Reach, room: Room, timeouts: Timeouts) -> Self {
        let events_lost = hook.events_lost();
        Self {
            hook,
            reach,
            cells: Cells::new(room.cells, room.first_birth),
            servers: ServerCells::new(room.servers),
            hops: Hops::new(room.hops),
            offers: VecDeque::new(),
            wayless: Vec::new(),
            whole: HashMap::new(),
            ways: 1,
            strict: false,
            timeouts,
            hasten: false,
            unmeasured: Vec::new(),
            watch: None,
            kept_numbers: (Vec::new(), Instant::ZERO),
            orders: Orders {
                ways: Some(1),
                strict: Some(false),
                ..Orders::default()
            },
            refused: Vec::new(),
            events_lost,
            taken: 0,
            numbers: HandedOver::default(),
        }
    }

    /// A connection has left the table.
    fn ended(&mut self, id: ConnId, c: &Conn) {
        if let Some((cell, held)) = self.cells.release(id) {
            self.release(cell, &held, c);
        } else if self.cells.forget_whole(id) {
            self.leave_whole(c);
        }
    }

    fn release(&mut self, cell: Cell, held: &Held, c: &Conn) {
        let server = c.is_replied_to().then(|| c.server_flow());
        self.orders.released.push(Released {
            cell,
            birth: held.birth,
            client: held.terms.map(|_| c.client_flow()),
            server,
        });
        self.numbers.releases += 1;
        self.leave_terms(held);
    }

    /// What a connection was taken with is in use no more.
    fn leave_terms(&mut self, held: &Held) {
        let Some(terms) = held.terms else { return };
        self.taken -= 1;
        self.hops.leave(terms.forward.hop);
        if let Some(reply) = terms.reply {
            self.hops.leave(reply.hop);
        }
    }

    /// A connection has no cell: all that its server's end sends is ours.
    fn enter_whole(&mut self, id: ConnId, c: &Conn) {
        if self.cells.is_whole(id) {
            return;
        }
        self.cells.note_whole(id);
        let end = (c.protocol, c.ends.server);
        let count = self.whole.entry(end).or_insert(0);
        *count += 1;
        if *count == 1 {
            self.orders.whole.push((end.0, end.1, true));
        }
    }

    fn leave_whole(&mut self, c: &Conn) {
        let end = (c.protocol, c.ends.server);
        let Some(count) = self.whole.get_mut(&end) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.whole.remove(&end);
            self.orders.whole.push((end.0, end.1, false));
        }
    }

    /// A new generation of all ways.
    fn change_ways(&mut self) {
        self.ways = self.ways.wrapping_add(1);
        self.orders.ways = Some(self.ways);
        self.offers.extend(self.wayless.drain(..));
    }

    /// What the program has of a taken connection, of a frame of one side's.
    fn standpoint(&self, id: ConnId, side: Side, c: &Conn) -> Option<Standpoint> {
        let (_, held) = self.cells.of(id)?;
        let terms = held.terms?;
        let way = match side {
            Side::Client => Some(terms.forward),
            Side::Server => terms.reply,
        };
        let exit = way.and_then(|way| {
            let hop = self.hops.get(way.hop)?;
            Some(Exit {
                mac: hop.mac,
                mtu: hop.mtu,
                overhead: way.overhead,
                arrival: way.arrival,
                translates: c.is_replied_to(),
            })
        });
        let generation = self.servers.generation(terms.server);
        Some(Standpoint {
            side,
            stale: (terms.generation, terms.ways) != (generation, self.ways),
            asked: held.watched,
            stateless: self.reach != Reach::Everything,
            strict: self.strict,
            tracked: tracked(c),
            has_local: c.ends.local.port != 0,
            exit,
        })
    }

    fn wants_to_see(&self, c: &Conn) -> bool {
        let wants = |watch: &Watch| watch(&c.client_flow()) || watch(&c.server_flow());
        self.watch.as_ref().is_some_and(wants)
    }
}

/// What the program keeps of a connection, as the table has it.
fn tracked(c: &Conn) -> Tracked {
    Tracked {
        state: c.state,
        no_output: c.has(conn::NO_OUTPUT),
        client_expects: c.client_expects,
        server_expects: c.server_expects,
    }
}

impl Flows {
    /// Hands connections over from now on: those that are there too.
    pub(in crate::engine) fn attach(
        &mut self,
        hook: Box<dyn Hook>,
        (reach, room): (Reach, Room),
        timeouts: Timeouts,
    ) {
        let mut handover = Handover::new(hook, reach, room, timeouts);
        let places = (0..self.conns.places()).map(ConnId);
        let offered = places.filter(|id| self.conns.at(id.0).is_some_and(is_offered));
        handover.offers = offered.collect();
        self.handover = Some(Box::new(handover));
    }

    /// Takes everything back: connections are again what the table says.
    pub(in crate::engine) fn detach(&mut self) -> Option<Box<dyn Hook>> {
        self.catch_up_with_all();
        self.settle();
        self.log_forwarded();
        let handover = self.handover.take()?;
        for (_, held) in handover.cells.iter() {
            self.conns.get_mut(held.conn).set_taken(false);
        }
        Some(handover.hook)
    }

    /// Whether there is a hook.
    #[inline]
    pub(in crate::engine) const fn has_hook(&self) -> bool {
        self.handover.is_some()
    }

    /// A connection was made.
    pub(super) fn note_opened(&mut self, id: ConnId) {
        if let Some(handover) = &mut self.handover
            && is_offered(self.conns.get(id))
        {
            handover.offers.push_back(id);
        }
    }

    /// A connection has moved on.
    pub(super) fn note_changed(&mut self, id: ConnId) {
        if let Some(handover) = &mut self.handover
            && handover.reach == Reach::Established
            && is_offered(self.conns.get(id))
        {
            handover.offers.push_back(id);
        }
    }

    /// A connection has left the table.
    pub(super) fn note_ended(&mut self, id: ConnId, c: &Conn) {
        if let Some(handover) = &mut self.handover {
            handover.ended(id, c);
        }
    }

    /// Which life of a connection's place this is, as far as it has a cell.
    pub(in crate::engine) fn birth_of(&self, id: ConnId) -> Option<Birth> {
        let (_, held) = self.handover.as_ref()?.cells.of(id)?;
        Some(held.birth)
    }

    /// A connection is to be looked at again when orders are given.
    pub(in crate::engine) fn offer_again(&mut self, id: ConnId) {
        if let Some(handover) = &mut self.handover {
            handover.offers.push_back(id);
        }
    }

    /// Whether secure_tcp's stricter states hold.
    pub(in crate::engine) fn set_strict(&mut self, strict: bool) {
        if let Some(handover) = &mut self.handover
            && handover.strict != strict
        {
            handover.strict = strict;
            handover.orders.strict = Some(strict);
        }
    }

    /// Something that every taken connection depends on has changed: each comes up with its next frame.
    pub(in crate::engine) fn change_ways(&mut self) {
        if let Some(handover) = &mut self.handover {
            handover.change_ways();
        }
    }

    /// Interfaces, routes or neighbours have changed; `same_ways` where only neighbours' MAC addresses have.
    pub(in crate::engine) fn take_up_fib(&mut self, fib: &Fib, same_ways: bool) {
        let Some(handover) = &mut self.handover else {
            return;
        };
        let hops = handover.hops.renew(fib);
        handover.orders.hops.extend(hops);
        if !same_ways {
            handover.change_ways();
        }
    }

    /// The largest packet towards a server's address has changed.
    pub(in crate::engine) fn change_way_to(&mut self, server: Addr) {
        let Some(handover) = &mut self.handover else {
            return;
        };
        let pool = &self.pool;
        let leads_there = |place: u32| pool.servers.get(place).key.1.addr == server;
        let orders = &mut handover.orders.servers;
        handover.servers.bump(pool, leads_there, orders);
    }

    /// Somebody wants to see frames of these flows, or nobody does.
    pub(in crate::engine) fn watch(&mut self, watch: Option<Watch>) {
        let Some(handover) = &mut self.handover else {
            return;
        };
        handover.watch = watch;
        let all: Vec<ConnId> = handover.cells.iter().map(|(_, held)| held.conn).collect();
        for id in all {
            let watched = handover.wants_to_see(self.conns.get(id));
            let Some((cell, held)) = handover.cells.of(id) else {
                continue;
            };
            if held.terms.is_some() && held.watched != watched {
                let look = (cell, held.birth, watched);
                handover.orders.looks.push(look);
                if let Some(held) = handover.cells.of_conn_mut(id) {
                    held.watched = watched;
                }
            }
        }
    }

    /// What was forwarded is counted.
    pub(super) fn settle(&mut self) {
        let Some(handover) = &mut self.handover else {
            return;
        };
        for (place, id, traffic) in handover.servers.settle(handover.hook.as_ref()) {
            if self.pool.has(place, id) {
                self.pool.count_forwarded(place, traffic.into());
            }
        }
    }

    /// A sum with what was forwarded of a server's and is not counted at it yet.
    pub(super) fn with_forwarded(&self, mut sum: Stats, place: u32) -> Stats {
        if let Some(handover) = &self.handover {
            let hook = handover.hook.as_ref();
            sum += handover.servers.unsettled(&self.pool, hook, place).into();
        }
        sum
    }

    /// Now and then the hook is told what is counted, so that another engine can go on from it.
    pub(in crate::engine) fn keep_numbers(&mut self, now: Instant) {
        const ONCE_IN: Duration = Duration::from_secs(1);
        let Some(handover) = &mut self.handover else {
            return;
        };
        let (kept, last) = &mut handover.kept_numbers;
        if now.since(*last) < ONCE_IN {
            return;
        }
        *last = now;
        let orders = &mut handover.orders.servers;
        handover.servers.keep_numbers(&self.pool, kept, orders);
    }

    /// After that: connections of those of these servers that are removed, or reached another way, come up.
    pub(super) fn renew_servers(&mut self, touched: &[u32]) {
        if let Some(handover) = &mut self.handover {
            let orders = &mut handover.orders.servers;
            handover.servers.renew(&self.pool, touched, orders);
        }
    }

    /// What is handed over.
    pub(in crate::engine) fn handed_over(&self) -> HandedOver {
        let Some(handover) = &self.handover else {
            return HandedOver::default();
        };
        HandedOver {
            taken: handover.taken,
            known: handover.cells.used() - handover.taken,
            limit: handover.cells.limit(),
            ..handover.numbers
        }
    }

    /// What the program has of a taken connection; `None` for any other.
    pub(in crate::engine) fn standpoint(&self, id: ConnId, side: Side) -> Option<Standpoint> {
        let c = self.current(id);
        let handover = self.handover.as_ref().filter(|_| c.is_taken());
        handover.and_then(|h| h.standpoint(id, side, &c))
    }

    /// Why a connection is not taken, counted.
    fn count_untaken(&mut self, why: Untaken) {
        if let Some(handover) = &mut self.handover {
            handover.numbers.untaken[why as usize] += 1;
        }
    }
}

/// Whether a connection may have a cell: a template is none, and one-packet scheduling's is over at once.
fn is_offered(c: &Conn) -> bool {
    !c.has(conn::TEMPLATE) && !c.has(conn::ONE_PACKET)
}
