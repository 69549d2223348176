//! A worker that goes on where one in another process has stopped. The one that stops does so at the end of a turn, with
//! no frame in hand, and stands by: until the other has taken over, it could go on itself.

use std::sync::mpsc::Sender;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use uvs_core::engine;
use uvs_core::time::Instant;

use super::Worker;
use super::ask::{Ask, Notice};
use super::hold::HoldQueue;
use super::latency::Latencies;
use super::ledger::{BATCH_BUCKETS, Before, Ledger};
use crate::port::HandedRing;

/// What a worker hands down.
pub(crate) struct HandedDown {
    /// An [`Estate`], in bytes.
    pub(crate) estate: Vec<u8>,
    /// The rings of each port, behind the interfaces' those of the host's own stack.
    pub(crate) rings: Vec<Vec<HandedRing>>,
}

/// What it hands down but for the rings.
#[derive(Serialize, Deserialize)]
pub(crate) struct Estate<'a> {
    /// All that the engine remembers.
    pub(crate) engine: engine::Estate<'a>,
    /// What the worker itself does.
    pub(crate) own: Own,
}

/// Frames that wait for a next hop, and what was counted.
#[derive(Serialize, Deserialize)]
pub(crate) struct Own {
    hold: HoldQueue,
    ledgers: Vec<Ledger>,
    before: Vec<Before>,
    batches: ([u64; BATCH_BUCKETS], u64),
    started: Instant,
    waited: std::time::Duration,
    latency: Vec<(u64, u64)>,
}

impl Worker {
    /// Hands down all there is, and waits for the word to go on or to stop; `false` = stop.
    pub(super) fn hand_down(&mut self, now: Instant, to: &Sender<Result<HandedDown>>) -> bool {
        self.line.records.take(&mut self.engine);
        if to.send(self.estate(now)).is_err() {
            return true;
        }
        loop {
            match self.line.asks.recv() {
                Ok(Ask::GoOn) => return true,
                Err(_) | Ok(Ask::Stop) => return false,
                // Whoever asked has given up, or asks again.
                Ok(_) => {}
            }
        }
    }

    fn estate(&mut self, now: Instant) -> Result<HandedDown> {
        ensure!(
            self.inheritance.is_none(),
            "what an earlier daemon has left in the kernel is not taken up yet: try again in some seconds"
        );
        let mut before = self.before.clone();
        for (before, (rx, tx)) in before.iter_mut().zip(self.rx.iter_mut().zip(&self.tx)) {
            before.keep(rx.statistics(), tx.errors());
        }
        if let Some(host) = before.last_mut() {
            host.keep(Default::default(), self.reinject.errors());
        }
        let estate = Estate {
            engine: self.engine.hand_down(now),
            own: Own {
                hold: self.hold.clone(),
                ledgers: self.ledgers.clone(),
                before,
                batches: self.batches,
                started: self.started,
                waited: self.waited,
                latency: self.latency.recorded(),
            },
        };
        let rings = self.rx.iter().map(|rx| rx.hand_down());
        Ok(HandedDown {
            estate: postcard::to_stdvec(&estate).context("writing down what the engine knows")?,
            rings: rings
                .collect::<std::io::Result<_>>()
                .context("handing a ring down")?,
        })
    }

    /// Goes on with what another process's worker has handed down beside its engine's.
    pub(super) fn succeed(&mut self, own: Own) {
        let places = self.ledgers.len();
        self.hold = own.hold;
        (self.ledgers, self.before) = (own.ledgers, own.before);
        self.ledgers.resize_with(places, Ledger::default);
        self.before.resize_with(places, Before::default);
        (self.batches, self.started, self.waited) = (own.batches, own.started, own.waited);
        self.latency = Latencies::of(&own.latency);
        for (port, via) in self.hold.hops() {
            (self.line.notices)(Notice::Solicit(port, via));
        }
    }
}
