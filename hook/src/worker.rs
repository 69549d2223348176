//! The hook as an engine has it: orders go into the maps, what the program keeps comes out of shared memory.
//!
//! A connection costs a turn one batch of keys in and one call that takes keys out, whatever their number; all else is
//! loads and stores. That call is a program too: it compares where a flow leads to before it takes it out, so that what
//! was released late takes no newer connection's key with it.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

use uvs_core::flow::Flow;
use uvs_core::offload::{
    Birth, Cell, Event, Hook as Offload, Hop, Orders, Released, Seen, ServerCell, ServerOrder,
    Taken, Tracked, Traffic,
};
use uvs_core::time::Instant;

use crate::batch::{Batch, Owner};
use crate::cells::{CLIENT_KEY, SERVER_KEY, target};
use crate::events::Events;
use crate::hook::{Hook, lock};
use crate::kept;
use crate::layout::{self, Conn, Key, Leg, REMOVALS, Total, control, flag, words};

/// The hook, as one worker has it.
pub struct Worker {
    hook: Arc<Hook>,
    /// Which of the engines it is.
    number: usize,
    events: Arc<Events>,
    /// Keys that are to be put in.
    v4: Batch,
    v6: Batch,
}

impl Worker {
    pub(crate) fn new(hook: Arc<Hook>, number: usize, events: Arc<Events>) -> Self {
        Self {
            hook,
            number,
            events,
            v4: Batch::default(),
            v6: Batch::default(),
        }
    }

    /// A connection's cell, where it is this one's.
    fn conn(&self, cell: Cell, birth: Birth) -> Option<&Conn> {
        let conn = self.hook.memory.conns.get(cell.0 as usize)?;
        conn.is(birth).then_some(conn)
    }

    fn legs(&self, cell: Cell) -> Option<[&Leg; 2]> {
        let legs = self.hook.memory.legs.get(cell.0 as usize * 2..)?;
        legs.first_chunk::<2>().map(|[to, back]| [to, back])
    }

    /// What is counted of a cell's connection: from the client, and from the server.
    fn totals(&self, cell: Cell) -> &[Total] {
        let at = cell.0 as usize * 2;
        let totals = self.hook.memory.counted.get(at..at + 2);
        totals.unwrap_or_default()
    }

    fn set_server(&self, order: &ServerOrder) {
        let Some(server) = self.hook.memory.servers.get(order.cell.0 as usize) else {
            return;
        };
        kept::keep_server(&server.names, order);
        server
            .generation
            .store(u64::from(order.generation), Release);
    }

    fn set_hop(&self, place: u32, wanted: &Hop) {
        let Some(hop) = self.hook.memory.hops.get(place as usize) else {
            return;
        };
        hop.mtu.store(0, Release);
        let Some(mac) = wanted.mac else {
            return;
        };
        let macs = [mac, wanted.source_mac].concat();
        for (to, from) in hop.macs.iter().zip(macs.chunks_exact(4)) {
            let word = from.first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
            to.store(word, Relaxed);
        }
        hop.ifindex.store(wanted.ifindex, Relaxed);
        hop.mtu.store(wanted.mtu, Release);
    }

    fn look(&self, cell: Cell, birth: Birth, up: bool) {
        if let Some(conn) = self.conn(cell, birth) {
            conn.set_flags(flag::UP, if up { flag::UP } else { 0 });
        }
    }

    /// Takes out the keys of connections that have ended, and makes their cells nobody's.
    fn release(&self, released: &[Released]) {
        self.release_by(released, Hook::take_out);
    }

    /// As on a kernel that cannot call programs.
    #[cfg(test)]
    pub(crate) fn release_without_call(&self, released: &[Released]) {
        self.release_by(released, Hook::take_out_singly);
    }

    fn release_by(&self, released: &[Released], take_out: impl Fn(&Hook, usize)) {
        if released.is_empty() {
            return;
        }
        let _removing = lock(&self.hook.removing);
        let mut staged = 0;
        for r in released {
            let Some(conn) = self.conn(r.cell, r.birth) else {
                continue;
            };
            conn.clear();
            self.hook.taken.fetch_sub(1, Relaxed);
            for (direction, flow) in (0..).zip([r.client, r.server]) {
                let Some(flow) = flow else { continue };
                self.stage(staged, &flow, target(r.cell.0, direction, r.birth));
                staged += 1;
                if staged == REMOVALS {
                    take_out(&self.hook, staged);
                    staged = 0;
                }
            }
        }
        take_out(&self.hook, staged);
    }

    fn stage(&self, at: usize, flow: &Flow, target: u64) {
        let removal = &self.hook.memory.removals[at];
        for (to, from) in removal.src.iter().zip(words(flow.src)) {
            to.store(from, Relaxed);
        }
        for (to, from) in removal.dst.iter().zip(words(flow.dst)) {
            to.store(from, Relaxed);
        }
        let ports = layout::ports(flow.src_port, flow.dst_port);
        let rest = u64::from(ports) | u64::from(flow.protocol) << 32;
        removal.rest.store(rest, Relaxed);
        removal.target.store(target, Relaxed);
    }

    fn take(&mut self, taken: &Taken) -> bool {
        let memory = &self.hook.memory;
        let cell = taken.cell.0 as usize;
        let (Some(conn), Some(kept)) = (memory.conns.get(cell), memory.kept.get(cell)) else {
            return false;
        };
        let Some(legs) = self.legs(taken.cell) else {
            return false;
        };
        if !conn.is(taken.birth) {
            self.hook.taken.fetch_add(1, Relaxed);
            conn.clear();
            for total in self.totals(taken.cell) {
                total.packets.store(0, Relaxed);
                total.bytes.store(0, Relaxed);
            }
        }
        // Before the cell says whose it is: what a killed daemon leaves is whole.
        kept::keep(&kept.words, &taken.kept);
        let ways = memory.control().ways.load(Relaxed);
        conn.write(legs, taken, ways);
        let there = conn.keys.load(Relaxed);
        let keys = [
            (taken.client_key(), CLIENT_KEY),
            (taken.server_key(), SERVER_KEY),
        ];
        let mut put = there;
        for (direction, (flow, key)) in (0..).zip(keys) {
            let Some(flow) = flow.filter(|_| there & key == 0) else {
                continue;
            };
            put |= key;
            let value = target(taken.cell.0, direction, taken.birth);
            let owner = Owner {
                cell: taken.cell,
                birth: taken.birth,
                key,
            };
            match Key::of(&flow) {
                Key::V4(key) => self.v4.push(&key, value, owner),
                Key::V6(key) => self.v6.push(&key, value, owner),
            }
        }
        self.hook.memory.conns[cell].keys.store(put, Relaxed);
        true
    }

    /// Puts all staged keys in.
    fn put_in(&mut self, refused: &mut Vec<(Cell, Birth)>) {
        let maps = &self.hook.maps;
        let mut failed = self.v4.put_in(&maps.flows4);
        failed.extend(self.v6.put_in(&maps.flows6));
        for owner in failed {
            let Some(conn) = self.conn(owner.cell, owner.birth) else {
                continue;
            };
            conn.keys.fetch_and(!owner.key, Relaxed);
            self.give_up(owner);
            if !refused.contains(&(owner.cell, owner.birth)) {
                refused.push((owner.cell, owner.birth));
            }
        }
    }

    /// A connection one of whose keys found no room is as if it had never been asked for.
    fn give_up(&self, owner: Owner) {
        let Some(conn) = self.conn(owner.cell, owner.birth) else {
            return;
        };
        let kept = self.hook.memory.kept.get(owner.cell.0 as usize);
        let there = conn.keys.load(Relaxed);
        let flows = kept.and_then(|k| kept::kept(&k.words)).map(|k| {
            let to = if k.local.port == 0 { k.client } else { k.local };
            [
                (CLIENT_KEY, Flow::new(k.protocol, k.client, k.vip)),
                (SERVER_KEY, Flow::new(k.protocol, k.server, to)),
            ]
        });
        conn.clear();
        self.hook.taken.fetch_sub(1, Relaxed);
        let _removing = lock(&self.hook.removing);
        let mut staged = 0;
        for (direction, (key, flow)) in (0..).zip(flows.into_iter().flatten()) {
            if there & key != 0 {
                self.stage(staged, &flow, target(owner.cell.0, direction, owner.birth));
                staged += 1;
            }
        }
        self.hook.take_out(staged);
    }
}

impl Offload for Worker {
    fn apply(&mut self, orders: &Orders, refused: &mut Vec<(Cell, Birth)>) {
        let shared = self.hook.memory.control();
        match orders.strict {
            Some(true) => drop(shared.flags.fetch_or(control::STRICT, Relaxed)),
            Some(false) => drop(shared.flags.fetch_and(!control::STRICT, Relaxed)),
            None => {}
        }
        // Engines count each for itself, and see what the others have changed in what they take next.
        if orders.ways.is_some() {
            shared.ways.fetch_add(1, Release);
        }
        for order in &orders.servers {
            self.set_server(order);
        }
        for (place, hop) in &orders.hops {
            self.set_hop(*place, hop);
        }
        for (cell, birth, up) in &orders.looks {
            self.look(*cell, *birth, *up);
        }
        self.release(&orders.released);
        for taken in &orders.taken {
            if !self.take(taken) {
                refused.push((taken.cell, taken.birth));
            }
        }
        self.put_in(refused);
        for (protocol, end, whole) in &orders.whole {
            self.hook.set_whole(self.number, *protocol, *end, *whole);
        }
    }

    fn seen(&self, cell: Cell, birth: Birth) -> Option<Seen> {
        self.conn(cell, birth).map(Conn::seen)
    }

    fn put(
        &mut self,
        cell: Cell,
        birth: Birth,
        before: &Tracked,
        after: &Tracked,
        last: Instant,
    ) -> bool {
        let conn = self.conn(cell, birth);
        conn.is_none_or(|conn| conn.put(before, after, last))
    }

    fn next_event(&mut self) -> Option<Event> {
        self.events.next(self.number)
    }

    fn events_lost(&self) -> u64 {
        self.hook.memory.control().events_lost.load(Relaxed)
    }

    fn counted(&self, cell: Cell, birth: Birth) -> Traffic {
        let totals = self.totals(cell);
        let ([input, output], Some(_)) = (totals, self.conn(cell, birth)) else {
            return Traffic::default();
        };
        Traffic {
            in_packets: input.packets.load(Relaxed),
            out_packets: output.packets.load(Relaxed),
            in_bytes: input.bytes.load(Relaxed),
            out_bytes: output.bytes.load(Relaxed),
        }
    }

    fn traffic(&self, server: ServerCell) -> Traffic {
        let [input, output] = [0, 1].map(|direction| self.hook.total(server.0 * 2 + direction));
        Traffic {
            in_packets: input.packets,
            out_packets: output.packets,
            in_bytes: input.bytes,
            out_bytes: output.bytes,
        }
    }
}
