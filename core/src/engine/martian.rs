//! Sources that cannot be: addresses that no packet comes from, and the director's own. After
//! `ip_route_input_slow` (`net/ipv4/route.c`) and `fib_validate_source` (`net/ipv4/fib_frontend.c`), which
//! come before the kernel's IPVS; stricter than these in that 0.0.0.0/8 and 240.0.0.0/4 count as a whole.
//!
//! The first kind is told by the address alone, so that every packet is asked. The second takes look-ups:
//! only packets that would open something are asked, since what opened no connection continues none.

use super::Engine;
use super::related::{RELATED, quoted};
use crate::fib::Interface;
use crate::flow::Flow;
use crate::frame::Frame;
use crate::packet::{Packet, Transport};
use crate::trace::Recorder;
use crate::verdict::{DropReason, PortId, Verdict};

impl<R: Recorder> Engine<R> {
    /// Whether a packet has a source that no packet may have.
    pub(super) fn is_martian(&self, frame: &Frame<'_>, packet: &Packet) -> bool {
        packet.flow.src.is_martian() && !self.is_own_stack(frame.port)
    }

    /// Whether a packet that came in by `port` claims to be the director's own: from an address of the
    /// host's, from a VIP that UVS owns, or from where it goes.
    pub(super) fn claims_to_be_ours(&self, port: PortId, flow: &Flow) -> bool {
        let ours =
            flow.src == flow.dst || self.fib.is_local(flow.src) || self.owned.contains(&flow.src);
        ours && !self.is_own_stack(port)
    }

    /// What comes in by the loopback is the host's, and may say so.
    fn is_own_stack(&self, port: PortId) -> bool {
        self.fib.interface(port).is_some_and(Interface::is_loopback)
    }

    /// Ends a packet with such a source where UVS would have served or answered it. Any other is the
    /// kernel's to drop.
    #[cold]
    pub(super) fn refuse_source(&self, frame: &Frame<'_>, packet: &Packet) -> Verdict {
        let serves = |flow: &Flow| {
            self.conns.find(flow).is_some() || self.service_for(flow, frame.mark).is_some()
        };
        let flow = &packet.flow;
        let ours = self.owned.contains(&flow.dst)
            || match packet.transport {
                Transport::Fragment => self.is_vip(flow.dst),
                Transport::Icmp { .. } => quoted(frame, packet, &RELATED)
                    .is_some_and(|quote| serves(&quote.flow.reversed())),
                _ => serves(flow),
            };
        if ours {
            Verdict::Drop(DropReason::MartianSource)
        } else {
            Verdict::Pass
        }
    }
}
