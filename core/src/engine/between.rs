//! ICMP errors between the families, for FULLNAT: the director makes one of the other family, which says the same
//! about the packet as that family had it (RFC 7915 §4.2, §4.3, §5.2, §5.3).
//!
//! It is a packet of the director's own: its TTL is a new one, and it counts towards the limit of the errors that the
//! director sends.

use super::Engine;
use super::related::Quote;
use super::transit::Transit;
use super::voice::Notice;
use crate::flow::{Addr, Endpoint};
use crate::packet::Transport;
use crate::rewrite::Ends;
use crate::trace::Recorder;
use crate::translate::{self, Target};
use crate::verdict::{DropReason, Verdict};
use crate::wire::icmp;

/// Bytes of a quoted packet that are passed on: as many as an ICMPv6 error of 1280 bytes has room for.
const QUOTED: usize = 1280;

impl<R: Recorder> Engine<R> {
    /// Passes an error on to an end of the other family, `from` and to whom, about a packet that had the ends `about`
    /// there.
    pub(super) fn pass_on(
        &mut self,
        t: &mut Transit<'_, '_>,
        quote: &Quote,
        (from, to): (Addr, Addr),
        (src, dst): (Endpoint, Endpoint),
    ) -> Verdict {
        let (Transport::Icmp { kind, code } | Transport::Icmpv6 { kind, code }) =
            t.packet.transport
        else {
            return Verdict::Drop(DropReason::Untranslatable);
        };
        let bytes = t.frame.bytes();
        let (rest, quoted) = (
            icmp::Header::new(&bytes[t.packet.l4()..]).rest(),
            &bytes[quote.ip..],
        );
        let error = icmp::Repr { kind, code, rest };
        let message = translate::message(t.packet.family, error, translate::len_of(quoted));
        let target = Target {
            src,
            dst,
            id: self.voice.ip_id(),
        };
        let mut about = [0; QUOTED];
        let len = translate::quote(quoted, &target, &mut about);
        let (Some(message), Some(len)) = (message, len) else {
            return Verdict::Drop(DropReason::Untranslatable);
        };
        let notice = Notice {
            message,
            from,
            to,
            by: 0,
            about: &about[..len],
            ends: Ends::default(),
        };
        self.notify(t.now, &notice, t.out)
    }
}
