//! Next hops as the program has them: few, each for many connections, so that a new MAC address is one store.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::fib::{Fib, NextHop};
use crate::flow::Addr;
use crate::offload::Hop;
use crate::verdict::PortId;

/// What tells one next hop from another: its port, its address, and the largest packet, which may be another
/// one to a tunnel's end.
type Key = (PortId, Addr, u32);

/// A place that is in use.
#[derive(Clone, Serialize, Deserialize)]
struct Used {
    key: Key,
    hop: Hop,
    /// Directions of connections that lead there.
    references: u32,
}

/// All next hops of this engine's.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Hops {
    range: Range<u32>,
    used: Vec<Option<Used>>,
    /// Where each of those is.
    #[serde(skip)]
    places: HashMap<Key, u32>,
    /// Places that nothing leads to since the last orders were given,
    left: Vec<u32>,
    /// and those of which the program has been told so, the longest ago first.
    free: VecDeque<u32>,
}

impl Hops {
    pub(super) fn new(range: Range<u32>) -> Self {
        Self {
            range,
            used: Vec::new(),
            places: HashMap::new(),
            left: Vec::new(),
            free: VecDeque::new(),
        }
    }

    /// Those that an engine in another process has handed down.
    pub(super) fn succeed(mut self) -> Self {
        let used = (self.range.start..).zip(&self.used);
        let places = used.filter_map(|(place, used)| Some((used.as_ref()?.key, place)));
        self.places = places.collect();
        self
    }

    /// The place of a next hop, for one more direction; with the order where it is new. `None` where there is
    /// no place left.
    pub(super) fn refer(
        &mut self,
        fib: &Fib,
        hop: &NextHop,
        mtu: u32,
    ) -> Option<(u32, Option<Hop>)> {
        let key = (hop.port, hop.via, mtu);
        if let Some(place) = self.places.get(&key).copied() {
            let used = self.used_mut(place)?;
            used.references += 1;
            return Some((place, None));
        }
        let place = self.next_free()?;
        let hop = Hop {
            port: hop.port,
            ifindex: fib.interface(hop.port)?.ifindex,
            source_mac: hop.source_mac,
            mac: hop.mac,
            mtu,
        };
        self.places.insert(key, place);
        self.used[(place - self.range.start) as usize] = Some(Used {
            key,
            hop,
            references: 1,
        });
        Some((place, Some(hop)))
    }

    fn next_free(&mut self) -> Option<u32> {
        let fresh = self.range.start + u32::try_from(self.used.len()).ok()?;
        if fresh < self.range.end {
            self.used.push(None);
            return Some(fresh);
        }
        self.free.pop_front()
    }

    fn used_mut(&mut self, place: u32) -> Option<&mut Used> {
        let at = place.checked_sub(self.range.start)?;
        self.used.get_mut(at as usize)?.as_mut()
    }

    /// The next hop at a place.
    pub(super) fn get(&self, place: u32) -> Option<&Hop> {
        let at = place.checked_sub(self.range.start)?;
        Some(&self.used.get(at as usize)?.as_ref()?.hop)
    }

    /// One direction less leads there.
    pub(super) fn leave(&mut self, place: u32) {
        let Some(used) = self.used_mut(place) else {
            return;
        };
        used.references -= 1;
        if used.references == 0 {
            let key = used.key;
            self.places.remove(&key);
            self.used[(place - self.range.start) as usize] = None;
            self.left.push(place);
        }
    }

    /// The program has been told of all that was left: those places may be used again.
    pub(super) fn settle(&mut self) {
        self.free.extend(self.left.drain(..));
    }

    /// Takes up what the kernel says of neighbours and interfaces now; what is another one than before.
    pub(super) fn renew(&mut self, fib: &Fib) -> Vec<(u32, Hop)> {
        let mut changed = Vec::new();
        for (place, used) in (self.range.start..).zip(&mut self.used) {
            let Some(used) = used else { continue };
            // One whose interface is gone has no neighbour: its frames come up.
            let now = match fib.interface(used.hop.port) {
                None => Hop {
                    mac: None,
                    ..used.hop
                },
                Some(interface) => Hop {
                    mac: fib.neighbour(used.hop.port, used.key.1),
                    source_mac: interface.mac,
                    // An interface that was made again is another one to the kernel.
                    ifindex: interface.ifindex,
                    ..used.hop
                },
            };
            if now != used.hop {
                used.hop = now;
                changed.push((place, now));
            }
        }
        changed
    }
}
