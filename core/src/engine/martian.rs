//! Sources that cannot be: addresses that no packet comes from, and the director's own. After
//! `ip_route_input_slow` (`net/ipv4/route.c`) and `fib_validate_source` (`net/ipv4/fib_frontend.c`), which
//! come before the kernel's IPVS; stricter than these in that 0.0.0.0/8 and 240.0.0.0/4 count as a whole. IPv6 has
//! the first kind alone (`ip6_rcv_core` of `net/ipv6/ip6_input.c`).
//!
//! The first kind is told by the address alone, so that every packet is asked. The second takes look-ups:
//! only packets that would open something are asked, since what opened no connection continues none.

use super::Engine;
use super::related::quoted;
use super::transit::Transit;
use crate::fib::LOOPBACK;
use crate::flow::Flow;
use crate::frame::Frame;
use crate::packet::{Packet, Transport};
use crate::trace::Recorder;
use crate::verdict::{DropReason, Verdict};

impl<R: Recorder> Engine<R> {
    /// Whether a packet claims to be the director's own: `flow`, its own or one that it quotes, is from an
    /// address of the host's or the broadcast address of a network of its, from a VIP that UVS owns, or from
    /// where it goes.
    pub(super) fn claims_to_be_ours(&self, frame: &Frame<'_>, flow: &Flow) -> bool {
        let ours = flow.src == flow.dst
            || self.routes.fib.is_local(flow.src)
            || self.routes.fib.is_broadcast(flow.src)
            || self.desired.owns(flow.src);
        ours && !is_of_the_host(frame)
    }

    /// Ends a packet with a source of either kind where UVS would have served or answered it. Any other is the
    /// kernel's to drop.
    #[cold]
    pub(super) fn refuse_source(&self, t: &Transit<'_, '_>) -> Verdict {
        let serves = |flow: &Flow| {
            self.flows.find(flow).is_some() || self.service_for(flow, t.frame.mark).is_some()
        };
        let flow = &t.packet.flow;
        let ours = self.desired.owns(flow.dst)
            || match t.packet.transport {
                Transport::Fragment => self.desired.is_vip(flow.dst),
                Transport::Icmp { .. } | Transport::Icmpv6 { .. } => {
                    quoted(t.frame, t.packet).is_some_and(|quote| serves(&quote.flow.reversed()))
                }
                _ => serves(flow),
            };
        if ours {
            Verdict::Drop(DropReason::MartianSource)
        } else {
            Verdict::Pass
        }
    }
}

/// Whether a packet has a source that no packet may have.
pub(super) fn is_martian(frame: &Frame<'_>, packet: &Packet) -> bool {
    packet.flow.src.is_martian_of(packet.family) && !is_of_the_host(frame)
}

/// Whether a frame is the host's own, and may say so.
const fn is_of_the_host(frame: &Frame<'_>) -> bool {
    frame.arrival == LOOPBACK
}
