//! Real packets while they pass. For each one that matches, the engine's double is made an instant before
//! and handed a copy; what the data path then does with the packet itself is written beside it.
//!
//! Bounded three ways, since every one of them holds the worker up: by number, by time, and by rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use uvs_control::trace::flow::{Content, frame};
use uvs_control::trace::{Decided, LiveRequest};
use uvs_core::engine::{DryRun, Engine};
use uvs_core::flow::{Flow, Protocol};
use uvs_core::frame::Frame;
use uvs_core::packet::{self, Parsed};
use uvs_core::time::Instant;
use uvs_core::trace::Trace;
use uvs_core::verdict::{PortId, Verdict};

use super::HEAD;

/// Frames that a worker looks into a second; further ones are only counted.
const PER_SECOND: u32 = 100;

/// A real frame that was looked into.
pub(crate) struct Seen {
    /// When it came.
    pub(crate) at: Instant,
    /// Its headers.
    pub(crate) head: Vec<u8>,
    /// What the double decided.
    pub(crate) trace: Trace,
    /// What the engine itself did.
    pub(crate) decided: Option<Decided>,
}

/// One look at the real frames of all workers: its bounds hold for all of them together.
pub(crate) struct Look {
    request: LiveRequest,
    until: Instant,
    /// Frames that may still be looked into.
    left: AtomicU32,
    matched: AtomicU64,
}

impl Look {
    /// A look that begins now.
    pub(crate) fn new(request: LiveRequest, now: Instant) -> Self {
        Self {
            until: now + Duration::from_secs(u64::from(request.seconds)),
            left: AtomicU32::new(request.count),
            matched: AtomicU64::new(0),
            request,
        }
    }

    /// Whether it takes no more.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.left.load(Ordering::Relaxed) == 0 || now >= self.until
    }

    /// Frames that matched, looked into or not.
    pub(crate) fn matched(&self) -> u64 {
        self.matched.load(Ordering::Relaxed)
    }

    /// Whether packets of a flow, or those that go the other way, are of those.
    pub(crate) fn wants(&self, flow: &Flow) -> bool {
        let Some(protocol) = Protocol::from_number(flow.protocol) else {
            return false;
        };
        let filter = &self.request.filter;
        let (from, to) = (flow.source(), flow.destination());
        let content = Content::bare(protocol);
        let matches = |from, to| filter.matches(&frame(&content, from, to));
        matches(from, to) || matches(to, from)
    }

    /// Takes one of the frames that are left.
    fn take_one(&self) -> bool {
        let less = |left: u32| left.checked_sub(1);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }
}

/// A look at one worker's frames.
pub(crate) struct Live {
    look: Arc<Look>,
    /// Frames that may still be looked into in the second that began then.
    second: (Instant, u32),
    seen: Vec<Seen>,
    /// The flow of the frame that was looked into last.
    flow: Option<Flow>,
}

impl Live {
    pub(crate) fn new(look: Arc<Look>, now: Instant) -> Self {
        Self {
            look,
            second: (now, PER_SECOND),
            seen: Vec::new(),
            flow: None,
        }
    }

    /// What was seen since this was last asked.
    pub(crate) fn take(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }

    /// Looks into a frame that the engine is about to be handed; whether it did.
    pub(crate) fn look(
        &mut self,
        engine: &Engine,
        now: Instant,
        port: PortId,
        frame: &Frame<'_>,
    ) -> bool {
        let look = &self.look;
        if look.is_over(now) || !look.request.filter.matches(frame.bytes()) {
            return false;
        }
        look.matched.fetch_add(1, Ordering::Relaxed);
        if !self.may_look(now) || !self.look.take_one() {
            return false;
        }
        let (bytes, offload) = (frame.bytes(), frame.offload);
        let trace = DryRun::of(engine).frame(engine, now, port, frame);
        let mut copy = bytes.to_vec();
        let end = copy.len();
        self.flow = match packet::parse(&mut Frame::new(&mut copy, 0, end, offload)) {
            Parsed::Ip(p) => Some(p.flow),
            Parsed::Malformed { .. } | Parsed::Arp | Parsed::Foreign => None,
        };
        self.seen.push(Seen {
            at: now,
            head: bytes[..bytes.len().min(HEAD)].to_vec(),
            trace,
            decided: None,
        });
        true
    }

    /// Notes what the engine did with the frame that was looked into last.
    pub(crate) fn note(&mut self, engine: &Engine, verdict: Verdict) {
        let conns = engine.connections();
        let found = self.flow.and_then(|flow| conns.find(&flow));
        if let Some(seen) = self.seen.last_mut() {
            seen.decided = Some(Decided {
                end: verdict.into(),
                server: found.map(|(id, _)| conns.get(id).ends.server),
            });
        }
    }

    fn may_look(&mut self, now: Instant) -> bool {
        let (began, left) = &mut self.second;
        if now.since(*began) >= Duration::from_secs(1) {
            (*began, *left) = (now, PER_SECOND);
        }
        let may = *left > 0;
        *left = left.saturating_sub(1);
        may
    }
}
