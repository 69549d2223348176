//! Telling the ends of a connection that has given way to a new one.

use super::Engine;
use super::teardown::is_told;
use super::transit::Transit;
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::trace::Recorder;
use crate::verdict::Verdict;

impl<R: Recorder> Engine<R> {
    /// Tells the ends of a TCP connection that has just given way; whether a RST is in `out`. The server must
    /// know before it gets the SYN, which it would else take for one of the old connection, be that in
    /// TIME_WAIT. The client needs to know only of a connection that it takes for open.
    pub(super) fn tell_replaced(&mut self, now: Instant, out: &mut Outbox) -> bool {
        let Some((old, edits)) = self.flows.take_replaced() else {
            return false;
        };
        if !self.voice.teardown_limit.allows(now) {
            return false;
        }
        if is_told(&old) {
            self.tell(now, (&old, edits), out);
        } else {
            let server = self.reset_server(now, (&old, edits), out);
            self.counters.told_servers += u64::from(server);
        }
        !out.is_empty()
    }
}

/// The frame leaves behind what is in `out`.
pub(super) fn behind(t: &mut Transit<'_, '_>, verdict: Verdict) -> Verdict {
    let Verdict::Send(egress) = verdict else {
        return verdict;
    };
    t.out.push_copy(t.frame.bytes(), t.frame.offload, egress);
    Verdict::SendOutbox
}
