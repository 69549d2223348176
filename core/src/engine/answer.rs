//! Answers to a packet's sender: the engine's voice, and what is counted of it.

use super::Engine;
use super::transit::Transit;
use super::voice::{Error, Notice};
use crate::flow::Addr;
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::trace::Recorder;
use crate::verdict::Verdict;

impl<R: Recorder> Engine<R> {
    /// Tells a packet's sender why it goes no further, in the name of `from`; [`Addr::UNSPECIFIED`] = the
    /// director's own address towards it.
    pub(super) fn refuse(&mut self, t: &mut Transit<'_, '_>, error: Error, from: Addr) -> Verdict {
        match error.about(t.frame, t.packet, from) {
            Some(notice) => self.notify(t.now, &notice, t.out),
            None => Verdict::Drop(error.otherwise()),
        }
    }

    /// Sends an ICMP error, where there are not too many.
    pub(super) fn notify(
        &mut self,
        now: Instant,
        notice: &Notice<'_>,
        out: &mut Outbox,
    ) -> Verdict {
        let verdict = self.voice.notify(now, &self.routes.fib, notice, out);
        if verdict == Verdict::Answered {
            let family = notice.to.family();
            self.counters.count_icmp(family, notice.message.kind);
        }
        verdict
    }

    /// Answers a segment that belongs to no connection with a reset.
    pub(super) fn reset(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        self.voice.refuse_segment(&self.routes.fib, t)
    }
}
