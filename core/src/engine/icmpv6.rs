//! ICMPv6: messages to VIPs, and errors about packets of connections.

use super::Engine;
use super::transit::Transit;
use crate::trace::Recorder;
use crate::verdict::Verdict;

impl<R: Recorder> Engine<R> {
    /// The host's own stack has its copy of each: neighbour discovery is its business.
    pub(super) fn handle_icmpv6(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        self.answer_as_host(t)
    }
}
