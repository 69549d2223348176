//! What the program has the engines look at. It writes one ring for all of them; whoever finds something there empties it
//! for all, into a box for each.
//!
//! The locks are taken where there is something, which is when connections begin and end in the kernel, and never for a
//! frame.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};

use uvs_core::narrow;
use uvs_core::offload::{Birth, Cell, Event, Room};

use crate::hook::lock;
use crate::sys::memory::Ring;

/// The ring, and what of it is whose.
pub(crate) struct Events {
    ring: Mutex<Ring>,
    boxes: Vec<Letters>,
}

/// What one engine is to look at.
struct Letters {
    /// The engine's cells.
    room: Room,
    waits: AtomicBool,
    events: Mutex<VecDeque<Event>>,
}

impl Events {
    /// For the engines of these rooms.
    pub(crate) fn new(ring: Ring, rooms: &[Room]) -> Self {
        let letters = rooms.iter().map(|room| Letters {
            room: room.clone(),
            waits: AtomicBool::new(false),
            events: Mutex::default(),
        });
        Self {
            ring: Mutex::new(ring),
            boxes: letters.collect(),
        }
    }

    /// The next event of an engine's.
    pub(crate) fn next(&self, engine: usize) -> Option<Event> {
        let own = &self.boxes[engine];
        if self.boxes.len() == 1 {
            return lock(&self.ring).next().map(event);
        }
        // Whoever has the lock empties it for this engine too.
        if let Ok(mut ring) = self.ring.try_lock() {
            while let Some(event) = ring.next().map(event) {
                let whose = |l: &&Letters| l.room.cells.contains(&event.cell.0);
                if let Some(letters) = self.boxes.iter().find(whose) {
                    lock(&letters.events).push_back(event);
                    letters.waits.store(true, Release);
                }
            }
        }
        if !own.waits.load(Acquire) {
            return None;
        }
        let mut events = lock(&own.events);
        let event = events.pop_front();
        own.waits.store(!events.is_empty(), Release);
        event
    }
}

fn event([birth, cell]: [u64; 2]) -> Event {
    Event {
        cell: Cell(narrow::to_u32(usize::try_from(cell).unwrap_or(usize::MAX))),
        birth: Birth(birth),
    }
}
