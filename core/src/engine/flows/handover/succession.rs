//! What an engine in another process goes on from of its connections in the kernel: who has which cell, and what was
//! counted. Program and memory stay as they are, and forward on while the one engine stops and the other begins; so
//! nothing is ordered here, and what has happened there meanwhile is seen as ever.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::cells::Cells;
use super::hops::Hops;
use super::servers::ServerCells;
use super::{Flows, Handover};
use crate::conn::{ConnId, ConnTable};
use crate::counters::Stats;
use crate::flow::{Endpoint, Protocol};
use crate::offload::{Birth, Cell, HandedOver, Hook, Orders, Reach, Traffic};
use crate::snapshot::Timeouts;
use crate::time::Instant;

/// What is handed down of a [`Handover`].
#[derive(Serialize, Deserialize)]
pub(in crate::engine::flows) struct Estate<'a> {
    reach: Reach,
    cells: Cow<'a, Cells>,
    servers: Cow<'a, ServerCells>,
    hops: Cow<'a, Hops>,
    wayless: Vec<ConnId>,
    ways: u32,
    strict: bool,
    timeouts: Timeouts,
    hasten: bool,
    unmeasured: Vec<(Cell, Birth)>,
    /// Somebody looks at frames, which ends with the process that shows them.
    watching: bool,
    kept_numbers: (Vec<(Stats, Traffic)>, Instant),
    events_lost: u64,
    taken: u32,
    numbers: HandedOver,
}

impl Handover {
    fn hand_down(&self) -> Estate<'_> {
        Estate {
            reach: self.reach,
            cells: Cow::Borrowed(&self.cells),
            servers: Cow::Borrowed(&self.servers),
            hops: Cow::Borrowed(&self.hops),
            wayless: self.wayless.clone(),
            ways: self.ways,
            strict: self.strict,
            timeouts: self.timeouts,
            hasten: self.hasten,
            unmeasured: self.unmeasured.clone(),
            watching: self.watch.is_some(),
            kept_numbers: self.kept_numbers.clone(),
            events_lost: self.events_lost,
            taken: self.taken,
            numbers: self.numbers,
        }
    }

    fn succeed(estate: Estate<'_>, hook: Box<dyn Hook>, conns: &ConnTable) -> Self {
        let cells = estate.cells.into_owned();
        Self {
            hook,
            reach: estate.reach,
            whole: whole(&cells, conns),
            cells,
            servers: estate.servers.into_owned(),
            hops: estate.hops.into_owned().succeed(),
            offers: VecDeque::new(),
            wayless: estate.wayless,
            ways: estate.ways,
            strict: estate.strict,
            timeouts: estate.timeouts,
            hasten: estate.hasten,
            unmeasured: estate.unmeasured,
            watch: None,
            kept_numbers: estate.kept_numbers,
            orders: Orders::default(),
            refused: Vec::new(),
            events_lost: estate.events_lost,
            taken: estate.taken,
            numbers: estate.numbers,
        }
    }
}

/// The ends of connections without a cell.
fn whole(cells: &Cells, conns: &ConnTable) -> HashMap<(Protocol, Endpoint), u32> {
    let mut whole = HashMap::new();
    let all = (0..conns.places()).filter(|place| cells.is_whole(ConnId(*place)));
    for c in all.filter_map(|place| conns.at(place)) {
        *whole.entry((c.protocol, c.ends.server)).or_insert(0) += 1;
    }
    whole
}

impl Flows {
    /// What is handed down of what the kernel forwards, once all orders were given; `None` = there is no hook.
    pub(in crate::engine::flows) fn hand_down_handover(&self) -> Option<Estate<'_>> {
        self.handover.as_ref().map(|handover| handover.hand_down())
    }

    /// Goes on from that, with the same program and the same memory. To be called when the table is there.
    pub(in crate::engine::flows) fn succeed_handover(
        &mut self,
        estate: Estate<'_>,
        hook: Box<dyn Hook>,
    ) {
        let was_watched = estate.watching;
        let handover = Handover::succeed(estate, hook, &self.conns);
        self.handover = Some(Box::new(handover));
        if was_watched {
            self.watch(None);
        }
    }
}
