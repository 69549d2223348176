//! IPv6's hop-by-hop options. The host's stack looks at them before all else (`ipv6_parse_hopopts`), but has no packet
//! of a service to look at: the guard keeps it. So UVS says what the host would.

use super::Engine;
use super::transit::Transit;
use super::voice::Error;
use crate::trace::Recorder;
use crate::verdict::{DropReason, Verdict};
use crate::wire::ipv6::options::{self, Refusal};
use crate::wire::protocol;

impl<R: Recorder> Engine<R> {
    /// Ends a packet whose options let it go no further; `None` for every other.
    #[inline]
    pub(super) fn refuse_options(&mut self, t: &mut Transit<'_, '_>) -> Option<Verdict> {
        if t.packet.has_extensions() {
            self.check_options(t)
        } else {
            None
        }
    }

    #[cold]
    fn check_options(&mut self, t: &mut Transit<'_, '_>) -> Option<Verdict> {
        if t.packet.ipv6(t.frame.bytes()).next_header() != protocol::HOP_BY_HOP {
            return None;
        }
        let packet = &t.frame.bytes()[usize::from(t.packet.ip)..];
        let refusal = options::check(packet).err()?;
        if !self.desired.is_ours(&t.packet.flow) {
            return Some(Verdict::Pass);
        }
        let vip = t.packet.flow.dst;
        Some(match refusal {
            Refusal::Discard => Verdict::Drop(DropReason::HopByHopOptions),
            Refusal::Jumbogram => Verdict::Drop(DropReason::Jumbogram),
            Refusal::Unknown { at } => self.refuse(t, Error::UnknownOption { at }, vip),
            Refusal::Erroneous { at } => self.refuse(t, Error::ErroneousOption { at }, vip),
        })
    }
}
