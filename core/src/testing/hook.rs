//! A model of the hook: the program and its memory as plain data, for tests in virtual time.

mod program;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::flow::{Endpoint, Flow, Protocol};
use crate::offload::{
    Birth, Cell, Event, Found, Hook, Hop, Orders, Reach, Room, Seen, ServerCell, ServerOrder,
    Taken, Tracked, Traffic,
};
use crate::time::Instant;
pub use program::Passage;

/// How far tests hand connections over: `UVS_HOOK` is `guard`, `tier`, or `off`; `auto`, which is what daemons make of the
/// host they run on, leaves the model out.
///
/// # Panics
/// Where it is anything else.
pub fn wanted() -> Option<Reach> {
    match std::env::var("UVS_HOOK").as_deref() {
        Err(_) | Ok("off" | "auto") => None,
        Ok("guard") => Some(Reach::Guard),
        Ok("tier") => Some(Reach::Everything),
        Ok(other) => panic!("UVS_HOOK is off, auto, guard or tier, not `{other}`"),
    }
}

/// Room for as many as any test has.
pub const fn room() -> Room {
    Room {
        cells: 0..65_536,
        servers: 0..4096,
        hops: 0..4096,
        first_birth: 1,
    }
}

/// The memory that the engine and the program share. Two that are cloned are the same.
#[derive(Clone, Default)]
pub struct Model(Arc<Mutex<Memory>>);

/// What is in the maps.
#[derive(Default)]
pub struct Memory {
    /// Which cell a flow leads to.
    pub keys: HashMap<Flow, Cell>,
    /// The connections.
    pub cells: BTreeMap<Cell, Entry>,
    /// The servers' cells.
    pub servers: BTreeMap<ServerCell, ServerOrder>,
    /// The next hops.
    pub hops: HashMap<u32, Hop>,
    /// Ends of which everything is ours.
    pub whole: Vec<(Protocol, Endpoint)>,
    /// The generation of all ways.
    pub ways: u32,
    /// secure_tcp's states.
    pub strict: bool,
    /// How many connections there may be; `None` = as many as are asked for.
    pub limit: Option<usize>,
    /// Whether the program moves no TCP states (`Reach::Established`).
    pub stateless: bool,
    traffic: HashMap<ServerCell, Traffic>,
    events: VecDeque<Event>,
    lost: u64,
    /// Frames that were forwarded.
    forwarded: u64,
    /// Identification of the last outer header.
    ip_id: u16,
}

/// A connection as the program has it.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// What was asked for.
    pub taken: Taken,
    /// What has become of it.
    pub seen: Seen,
    /// What was forwarded of it, where that is counted.
    pub counted: Traffic,
}

impl Model {
    /// Events are lost from now on, as where the ring is full.
    pub fn lose_events(&self) {
        let mut memory = self.memory();
        memory.lost += memory.events.len() as u64;
        memory.events.clear();
    }

    /// What another engine finds: the servers' cells, and the connections that are taken.
    pub fn found(&self) -> (Vec<ServerOrder>, Vec<Found>) {
        let memory = self.memory();
        let servers = memory.servers.values().copied().collect();
        let taken = memory.cells.values().filter(|e| e.taken.forward.is_some());
        let found = taken
            .map(|e| Found {
                cell: e.taken.cell,
                birth: e.taken.birth,
                server: e.taken.server,
                kept: e.taken.kept,
                seen: e.seen,
            })
            .collect();
        (servers, found)
    }

    /// How many frames the program has forwarded.
    pub fn forwarded(&self) -> u64 {
        self.memory().forwarded
    }

    /// The memory, to be looked at and changed.
    ///
    /// # Panics
    /// Where a test panicked while it had it.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().expect("no test has panicked with it")
    }
}

impl Memory {
    fn take(&mut self, taken: &Taken) -> bool {
        let before = self.cells.get(&taken.cell).copied();
        let before = before.filter(|e| e.taken.birth == taken.birth);
        let is_new = before.is_none();
        if is_new && self.limit.is_some_and(|limit| self.cells.len() >= limit) {
            return false;
        }
        let fresh = Seen {
            tracked: taken.tracked,
            last: taken.last,
            ..Seen::default()
        };
        // While it was known, nothing was tracked.
        let before = before.filter(|e| e.taken.forward.is_some());
        let seen = before.map_or(fresh, |e| e.seen);
        let counted = before.map_or_else(Traffic::default, |e| e.counted);
        for key in [taken.client_key(), taken.server_key()]
            .into_iter()
            .flatten()
        {
            self.keys.insert(key, taken.cell);
        }
        self.cells.insert(
            taken.cell,
            Entry {
                taken: *taken,
                seen,
                counted,
            },
        );
        true
    }

    fn entry(&self, cell: Cell, birth: Birth) -> Option<&Entry> {
        self.cells.get(&cell).filter(|e| e.taken.birth == birth)
    }

    fn entry_mut(&mut self, cell: Cell, birth: Birth) -> Option<&mut Entry> {
        let entry = self.cells.get_mut(&cell);
        entry.filter(|e| e.taken.birth == birth)
    }

    fn apply(&mut self, orders: &Orders, refused: &mut Vec<(Cell, Birth)>) {
        self.strict = orders.strict.unwrap_or(self.strict);
        self.ways = orders.ways.unwrap_or(self.ways);
        for order in &orders.servers {
            self.servers.insert(order.cell, *order);
        }
        self.hops.extend(orders.hops.iter().copied());
        for (cell, birth, up) in &orders.looks {
            if let Some(entry) = self.entry_mut(*cell, *birth) {
                entry.taken.up = *up;
            }
        }
        for released in &orders.released {
            if self.entry(released.cell, released.birth).is_none() {
                continue;
            }
            for key in [released.client, released.server].into_iter().flatten() {
                if self.keys.get(&key) == Some(&released.cell) {
                    self.keys.remove(&key);
                }
            }
            self.cells.remove(&released.cell);
        }
        for taken in &orders.taken {
            if !self.take(taken) {
                refused.push((taken.cell, taken.birth));
            }
        }
        for (protocol, end, ours) in &orders.whole {
            self.whole.retain(|known| known != &(*protocol, *end));
            if *ours {
                self.whole.push((*protocol, *end));
            }
        }
    }
}

impl Hook for Model {
    fn apply(&mut self, orders: &Orders, refused: &mut Vec<(Cell, Birth)>) {
        self.memory().apply(orders, refused);
    }

    fn seen(&self, cell: Cell, birth: Birth) -> Option<Seen> {
        self.memory().entry(cell, birth).map(|e| e.seen)
    }

    fn put(
        &mut self,
        cell: Cell,
        birth: Birth,
        before: &Tracked,
        after: &Tracked,
        last: Instant,
    ) -> bool {
        let mut memory = self.memory();
        let Some(entry) = memory.entry_mut(cell, birth) else {
            return true;
        };
        let now = &mut entry.seen.tracked;
        if (now.state, now.no_output) != (before.state, before.no_output) {
            return false;
        }
        *now = *after;
        entry.seen.last = entry.seen.last.max(last);
        true
    }

    fn next_event(&mut self) -> Option<Event> {
        self.memory().events.pop_front()
    }

    fn events_lost(&self) -> u64 {
        self.memory().lost
    }

    fn traffic(&self, server: ServerCell) -> Traffic {
        let memory = self.memory();
        memory.traffic.get(&server).copied().unwrap_or_default()
    }

    fn counted(&self, cell: Cell, birth: Birth) -> Traffic {
        let memory = self.memory();
        let entry = memory.entry(cell, birth);
        entry.map_or_else(Traffic::default, |e| e.counted)
    }
}
