//! Offering connections to the hook: out of what each is now, an order, or none.

use super::cells::{Terms, Way};
use super::{Flows, Handover, tracked};
use crate::conn::{Conn, ConnId, NONE};
use crate::fib::{Fib, NextHop};
use crate::flow::Flow;
use crate::offload::{Birth, Cell, Change, Hop, Kept, Leg, Reply, ServerCell, Taken, Untaken};
use crate::service::outer_header;

/// One direction of a connection as it might be taken.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Draft {
    pub(in crate::engine) flow: Flow,
    pub(in crate::engine) change: Change,
    pub(in crate::engine) hop: NextHop,
    /// Bytes of the largest IP packet on the way.
    pub(in crate::engine) mtu: u32,
    pub(in crate::engine) arrival: Option<u32>,
}

/// Both directions; the second where replies pass.
pub(in crate::engine) type Drafts = (Draft, Option<Draft>);

/// A cell of a connection's, its birth, and what it was taken with before.
type Place = (Cell, Birth, Option<Terms>);

impl Draft {
    fn way(&self, hop: u32) -> Way {
        let overhead = match self.change {
            Change::Wrap { dst, .. } => outer_header(dst.family()),
            Change::Nothing | Change::Ends(_) => 0,
        };
        Way {
            hop,
            arrival: self.arrival,
            overhead: crate::narrow::to_u8(overhead),
        }
    }

    const fn leg(&self, hop: u32) -> Leg {
        Leg {
            flow: self.flow,
            change: self.change,
            hop,
            arrival: self.arrival,
        }
    }
}

impl Handover {
    /// The place of a direction's next hop; a new one is ordered.
    fn refer(&mut self, fib: &Fib, draft: &Draft) -> Option<u32> {
        let (place, new): (u32, Option<Hop>) = self.hops.refer(fib, &draft.hop, draft.mtu)?;
        self.orders.hops.extend(new.map(|hop| (place, hop)));
        Some(place)
    }

    /// The places of both next hops.
    fn refer_both(&mut self, fib: &Fib, drafts: &Drafts) -> Option<(u32, Option<u32>)> {
        let forward = self.refer(fib, &drafts.0)?;
        let Some(reply) = &drafts.1 else {
            return Some((forward, None));
        };
        let reply = self.refer(fib, reply);
        if reply.is_none() {
            self.hops.leave(forward);
        }
        Some((forward, Some(reply?)))
    }
}

impl Flows {
    /// The next connection to be offered; `None` where all were.
    pub(in crate::engine) fn next_offer(&mut self) -> Option<ConnId> {
        let handover = self.handover.as_mut()?;
        while let Some(id) = handover.offers.pop_front() {
            if self.conns.at(id.0).is_some_and(super::is_offered) {
                return Some(id);
            }
        }
        None
    }

    /// How far the kernel's part goes.
    pub(in crate::engine) fn reach(&self) -> crate::offload::Reach {
        let handover = self.handover.as_ref();
        handover.map_or(crate::offload::Reach::Guard, |h| h.reach)
    }

    /// Orders a connection to be taken as `drafts` say; where it cannot be, to be known, as far as its replies
    /// pass.
    pub(in crate::engine) fn offer(
        &mut self,
        id: ConnId,
        fib: &Fib,
        drafts: Result<Drafts, Untaken>,
    ) {
        let taken = drafts.and_then(|drafts| self.take(id, fib, &drafts));
        if let Err(why) = taken {
            self.leave_up(id, why);
        }
    }

    fn take(&mut self, id: ConnId, fib: &Fib, drafts: &Drafts) -> Result<(), Untaken> {
        let c = *self.conns.get(id);
        let Some(handover) = &mut self.handover else {
            return Ok(());
        };
        let hook = handover.hook.as_ref();
        let server = handover.servers.of(&self.pool, hook, c.backend);
        let (server, generation, new) = server.ok_or(Untaken::Servers)?;
        handover.orders.servers.extend(new);
        let hops = handover.refer_both(fib, drafts).ok_or(Untaken::Hops)?;
        let terms = Terms {
            server,
            generation,
            ways: handover.ways,
            forward: drafts.0.way(hops.0),
            reply: drafts.1.as_ref().zip(hops.1).map(|(d, hop)| d.way(hop)),
        };
        let Some((cell, birth, before)) = handover.place_of(id, &c) else {
            handover.hops.leave(hops.0);
            hops.1.iter().for_each(|hop| handover.hops.leave(*hop));
            return Err(Untaken::Full);
        };
        let watched = handover.wants_to_see(&c);
        if let Some(held) = handover.cells.of_conn_mut(id) {
            let unchanged = before == Some(terms) && held.watched == watched;
            (held.terms, held.watched) = (Some(terms), watched);
            if before.is_none() {
                // While it was known, the engine alone saw its packets.
                held.last = c.last_packet();
            }
            if before.is_some() {
                let was = super::Held {
                    terms: before,
                    ..*held
                };
                handover.leave_terms(&was);
            }
            handover.taken += 1;
            if unchanged {
                return Ok(());
            }
        }
        handover.note_taken(&c, before.is_some(), (cell, birth));
        self.order(id, (cell, birth), &terms, drafts);
        self.conns.get_mut(id).set_taken(true);
        Ok(())
    }

    /// Makes the order.
    fn order(&mut self, id: ConnId, (cell, birth): (Cell, Birth), terms: &Terms, drafts: &Drafts) {
        let c = *self.conns.get(id);
        let reply = match (&drafts.1, terms.reply) {
            (Some(draft), Some(way)) => Reply::Taken(draft.leg(way.hop)),
            _ => Reply::Direct,
        };
        let service = self.pool.servers.get(c.backend).service;
        let weighs = |slot: u32| self.pool.service(slot).scheduler.weighs_handshakes();
        let timed = reply != Reply::Direct && service != NONE && weighs(service);
        let kept = self.kept(&c);
        let counts = self.counts(id);
        let Some(handover) = &mut self.handover else {
            return;
        };
        let Some((_, held)) = handover.cells.of(id) else {
            return;
        };
        let taken = Taken {
            cell,
            birth,
            server: terms.server,
            generation: terms.generation,
            ways: terms.ways,
            forward: Some(drafts.0.leg(terms.forward.hop)),
            reply,
            up: held.watched,
            tells_proven: c.control != NONE || timed,
            counts,
            tracked: tracked(&c),
            last: held.last,
            kept,
        };
        handover.orders.taken.push(taken);
    }

    fn kept(&self, c: &Conn) -> Kept {
        let (service, member) = self.pool.servers.get(c.backend).key;
        Kept {
            service,
            member,
            protocol: c.protocol,
            client: c.ends.client,
            vip: c.ends.vip,
            server: c.ends.server,
            local: c.ends.local,
            mode: c.mode(),
            persistent: c.control != NONE,
            introduced: c.is_introduced(),
            client_packets: c.in_packets,
            timeout: c.timeout,
        }
    }

    /// A connection's frames come up. Where its replies pass, they are ours all the same.
    fn leave_up(&mut self, id: ConnId, why: Untaken) {
        let c = *self.conns.get(id);
        let kept = self.kept(&c);
        let Some(handover) = &mut self.handover else {
            return;
        };
        if let Some((cell, held)) = handover.cells.of(id) {
            // What was taken before comes up by itself while it is to be taken no more: something has changed.
            // But for its state, of which the program knows nothing then.
            if held.terms.is_some() && why == Untaken::State && !held.watched {
                handover.orders.looks.push((cell, held.birth, true));
                if let Some(held) = handover.cells.of_conn_mut(id) {
                    held.watched = true;
                }
            }
            return;
        }
        if matches!(why, Untaken::Way | Untaken::Peers) {
            handover.wayless.push(id);
        }
        if !c.is_replied_to() || handover.cells.is_whole(id) {
            return self.count_untaken(why);
        }
        match handover.place_of(id, &c) {
            Some((cell, birth, _)) => handover.orders.taken.push(known(&c, (cell, birth), kept)),
            None => handover.enter_whole(id, &c),
        }
        self.count_untaken(why);
    }

    /// Has the hook carry out what was ordered.
    pub(in crate::engine) fn give_orders(&mut self) {
        let Some(handover) = &mut self.handover else {
            return;
        };
        while !handover.orders.is_empty() {
            handover.refused.clear();
            let Handover {
                hook,
                orders,
                refused,
                ..
            } = handover.as_mut();
            hook.apply(orders, refused);
            orders.clear();
            handover.hops.settle();
            for (cell, birth) in std::mem::take(&mut handover.refused) {
                let held = handover.cells.get(cell).filter(|h| h.birth == birth);
                let Some(id) = held.map(|h| h.conn) else {
                    continue;
                };
                let c = self.conns.get_mut(id);
                c.set_taken(false);
                if let Some((_, held)) = handover.cells.release(id) {
                    handover.leave_terms(&held);
                }
                handover.numbers.untaken[Untaken::Refused as usize] += 1;
                if c.is_replied_to() {
                    handover.enter_whole(id, c);
                }
            }
        }
    }
}

impl Handover {
    /// A connection's cell, or a new one; `None` where there is none left.
    fn place_of(&mut self, id: ConnId, c: &Conn) -> Option<Place> {
        if let Some((cell, held)) = self.cells.of(id) {
            return Some((cell, held.birth, held.terms));
        }
        let whole = self.cells.is_whole(id);
        let cell = self.cells.hold(id, c.last_packet())?;
        if whole {
            self.leave_whole(c);
        }
        let (_, held) = self.cells.of(id)?;
        Some((cell, held.birth, None))
    }

    fn note_taken(&mut self, c: &Conn, again: bool, place: (Cell, Birth)) {
        if again {
            self.numbers.retakes += 1;
            return;
        }
        self.numbers.takes += 1;
        let opening = c.state == crate::tcp::TcpState::SynRecv as u8;
        if opening && c.is_replied_to() && !c.has(crate::conn::MEASURED) {
            self.unmeasured.push(place);
        }
    }
}

/// The order for a connection whose frames come up, and whose replies are ours.
fn known(c: &Conn, (cell, birth): (Cell, Birth), kept: Kept) -> Taken {
    Taken {
        cell,
        birth,
        server: ServerCell(NONE),
        generation: 0,
        ways: 0,
        forward: None,
        reply: Reply::Known(c.server_flow()),
        up: false,
        tells_proven: false,
        counts: false,
        tracked: tracked(c),
        last: c.last_packet(),
        kept,
    }
}
