//! The servers' cells: a generation each, which says whether connections may still be forwarded as they were
//! taken, and what was forwarded.

use std::collections::VecDeque;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::conn::NONE;
use crate::counters::Stats;
use crate::engine::flows::pool::Pool;
use crate::narrow;
use crate::offload::{Hook, ServerCell, ServerOrder, Traffic};
use crate::service::{Forwarding, Tunnel};

/// What taken connections depend on of their server.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Footing {
    removed: bool,
    forwarding: Forwarding,
    tunnel: Tunnel,
}

/// A cell in use.
#[derive(Clone, Serialize, Deserialize)]
struct Used {
    /// Its server's place,
    place: u32,
    /// and identity, for the place may be another's later.
    id: u64,
    /// What of its traffic is in the server's numbers already.
    settled: Traffic,
    footing: Footing,
}

/// All servers' cells of this engine's.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct ServerCells {
    range: Range<u32>,
    used: Vec<Option<Used>>,
    /// Of each cell, whoever has it.
    generations: Vec<u32>,
    free: VecDeque<u32>,
    /// By a server's place.
    of: Vec<u32>,
}

impl ServerCells {
    pub(super) fn new(range: Range<u32>) -> Self {
        Self {
            range,
            used: Vec::new(),
            generations: Vec::new(),
            free: VecDeque::new(),
            of: Vec::new(),
        }
    }

    /// A server's cell with its generation; with the order where it is new. `None` where there is none left.
    pub(super) fn of(
        &mut self,
        pool: &Pool,
        hook: &dyn Hook,
        place: u32,
    ) -> Option<(ServerCell, u32, Option<ServerOrder>)> {
        let id = pool.load(place).id;
        let known = self.of.get(place as usize).copied().unwrap_or(NONE);
        if let Some(Some(used)) = self.used.get(known as usize)
            && used.id == id
        {
            let generation = self.generations[known as usize];
            return Some((self.cell(known), generation, None));
        }
        let at = self.next_free(pool)?;
        // What another server of this cell's has had is none of this one's.
        let settled = hook.traffic(self.cell(at));
        self.generations[at as usize] += 1;
        self.enter(pool, at, place, settled);
        let order = self.order(pool, at);
        Some((self.cell(at), self.generations[at as usize], Some(order)))
    }

    /// Gives a server the cell that it had in an engine before this one; `false` where it is none of this
    /// engine's, or another's by now. What was forwarded beside `settled` is still to be counted.
    pub(super) fn adopt(
        &mut self,
        pool: &Pool,
        (cell, generation): (ServerCell, u32),
        place: u32,
        settled: Traffic,
    ) -> bool {
        if !self.range.contains(&cell.0) {
            return false;
        }
        let at = cell.0 - self.range.start;
        while self.used.len() <= at as usize {
            self.free.push_back(narrow::to_u32(self.used.len()));
            self.used.push(None);
            self.generations.push(0);
        }
        if self.used[at as usize].is_some() {
            return false;
        }
        self.free.retain(|free| *free != at);
        self.generations[at as usize] = generation;
        self.enter(pool, at, place, settled);
        true
    }

    /// Orders that keep what is counted of servers, of those whose numbers have moved since `kept` was filled.
    pub(super) fn keep_numbers(
        &self,
        pool: &Pool,
        kept: &mut Vec<(Stats, Traffic)>,
        orders: &mut Vec<ServerOrder>,
    ) {
        kept.resize(self.used.len(), Default::default());
        for (at, kept) in (0..).zip(kept) {
            let used = self.used[at as usize].as_ref();
            if used.is_none_or(|u| !pool.has(u.place, u.id)) {
                continue;
            }
            let order = self.order(pool, at);
            let now = (order.stats, order.settled);
            if *kept != now {
                *kept = now;
                orders.push(order);
            }
        }
    }

    fn enter(&mut self, pool: &Pool, at: u32, place: u32, settled: Traffic) {
        self.used[at as usize] = Some(Used {
            place,
            id: pool.load(place).id,
            settled,
            footing: footing(pool, place),
        });
        if self.of.len() <= place as usize {
            self.of.resize(place as usize + 1, NONE);
        }
        self.of[place as usize] = at;
    }

    fn next_free(&mut self, pool: &Pool) -> Option<u32> {
        let fresh = narrow::to_u32(self.used.len());
        if fresh < self.range.end.saturating_sub(self.range.start) {
            self.used.push(None);
            self.generations.push(0);
            return Some(fresh);
        }
        if self.free.is_empty() {
            self.forget_gone(pool);
        }
        self.free.pop_front()
    }

    /// Takes back the cells of servers that are no more.
    fn forget_gone(&mut self, pool: &Pool) {
        for (at, used) in (0..).zip(&mut self.used) {
            if used.as_ref().is_some_and(|u| !pool.has(u.place, u.id)) {
                *used = None;
                self.free.push_back(at);
            }
        }
    }

    const fn cell(&self, at: u32) -> ServerCell {
        ServerCell(self.range.start + at)
    }

    fn order(&self, pool: &Pool, at: u32) -> ServerOrder {
        let used = self.used[at as usize].as_ref();
        let (place, settled) = used.map_or_else(Default::default, |u| (u.place, u.settled));
        let of = pool.servers.get(place);
        let (service, server) = of.key;
        ServerOrder {
            cell: self.cell(at),
            generation: self.generations[at as usize],
            service,
            server,
            stats: of.numbers.stats,
            settled,
        }
    }

    /// The generation of a cell.
    pub(super) fn generation(&self, cell: ServerCell) -> u32 {
        let at = cell.0 - self.range.start;
        self.generations.get(at as usize).copied().unwrap_or(0)
    }

    /// The servers at these places have changed, or been removed: the new generations of those whose connections must
    /// come up.
    pub(super) fn renew(&mut self, pool: &Pool, touched: &[u32], orders: &mut Vec<ServerOrder>) {
        for place in touched {
            let at = self.of.get(*place as usize).copied().unwrap_or(NONE);
            let Some(Some(used)) = self.used.get_mut(at as usize) else {
                continue;
            };
            if used.place != *place || !pool.has(*place, used.id) {
                continue;
            }
            let now = footing(pool, *place);
            if used.footing != now {
                used.footing = now;
                self.generations[at as usize] += 1;
                orders.push(self.order(pool, at));
            }
        }
    }

    /// A new generation of the servers that `changed` says.
    pub(super) fn bump(
        &mut self,
        pool: &Pool,
        changed: impl Fn(u32) -> bool,
        orders: &mut Vec<ServerOrder>,
    ) {
        for at in 0..narrow::to_u32(self.used.len()) {
            let used = self.used[at as usize].as_ref();
            if used.is_some_and(|u| pool.has(u.place, u.id) && changed(u.place)) {
                self.generations[at as usize] += 1;
                orders.push(self.order(pool, at));
            }
        }
    }

    /// What was forwarded of each server's since this was called last.
    pub(super) fn settle(&mut self, hook: &dyn Hook) -> Vec<(u32, u64, Traffic)> {
        let start = self.range.start;
        let all = (start..).zip(&mut self.used);
        let used = all.filter_map(|(cell, used)| Some((cell, used.as_mut()?)));
        let news = used.map(|(cell, used)| {
            let total = hook.traffic(ServerCell(cell));
            let settled = std::mem::replace(&mut used.settled, total);
            (used.place, used.id, total.since(&settled))
        });
        news.collect()
    }

    /// What was forwarded of one server's since this was asked last; `None` where it has no cell.
    pub(super) fn settle_one(
        &mut self,
        pool: &Pool,
        hook: &dyn Hook,
        place: u32,
    ) -> Option<Traffic> {
        let at = self.of.get(place as usize).copied()?;
        let cell = ServerCell(self.range.start.checked_add(at)?);
        let used = self.used.get_mut(at as usize)?.as_mut()?;
        if used.place != place || !pool.has(place, used.id) {
            return None;
        }
        let total = hook.traffic(cell);
        let settled = std::mem::replace(&mut used.settled, total);
        Some(total.since(&settled))
    }

    /// What of a server's was forwarded and is not in its numbers yet.
    pub(super) fn unsettled(&self, pool: &Pool, hook: &dyn Hook, place: u32) -> Traffic {
        let at = self.of.get(place as usize).copied().unwrap_or(NONE);
        match self.used.get(at as usize) {
            Some(Some(used)) if used.id == pool.load(place).id => {
                hook.traffic(self.cell(at)).since(&used.settled)
            }
            _ => Traffic::default(),
        }
    }
}

fn footing(pool: &Pool, place: u32) -> Footing {
    let server = pool.servers.get(place);
    Footing {
        removed: server.is_removed(),
        forwarding: server.spec.forwarding,
        tunnel: server.spec.tunnel,
    }
}
