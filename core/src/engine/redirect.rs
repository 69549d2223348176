//! ICMPv6 redirects: a server on its client's link has a shorter way than by the director. The host's stack would say so
//! of each packet that it forwards (`ip6_forward`, `ndisc_send_redirect`), but gets none of a service; so UVS says it, of
//! replies of IPv6, before IPVS has touched them.

use super::Engine;
use super::transit::Transit;
use crate::fib::{NextHop, Query};
use crate::flow::Family;
use crate::trace::Recorder;
use crate::wire::ethernet;
use crate::wire::ndp::{self, Redirection};

impl<R: Recorder> Engine<R> {
    /// Tells the sender of a packet that leaves where it came in of its better first hop, at `hop`; whether that is
    /// in `out` now.
    #[inline(always)]
    pub(super) fn redirect(&mut self, t: &mut Transit<'_, '_>, hop: &NextHop) -> bool {
        t.packet.family == Family::V6 && self.redirect_ipv6(t, hop)
    }

    fn redirect_ipv6(&mut self, t: &mut Transit<'_, '_>, hop: &NextHop) -> bool {
        let interface = self.routes.fib.interface(hop.port);
        let turns_back = interface.is_some_and(|i| i.ifindex == t.frame.arrival);
        turns_back && self.send_redirect(t, hop).is_some()
    }

    #[cold]
    fn send_redirect(&mut self, t: &mut Transit<'_, '_>, hop: &NextHop) -> Option<()> {
        let flow = &t.packet.flow;
        let fib = &self.routes.fib;
        let from = fib.link_local(t.frame.arrival)?;
        // Another router is told of by its link-local address alone.
        if hop.via != flow.dst && !hop.via.is_link_local() {
            return None;
        }
        // Only a neighbour's first hop is ours to choose.
        let back = fib.lookup(Query::to(flow.src).back(t.frame.arrival)).ok()?;
        if back.via != flow.src || back.port != hop.port || !self.voice.may_redirect(t.now) {
            return None;
        }
        let sender = ethernet::Header::new(t.frame.bytes()).src();
        let says = Redirection {
            from: (from.v6_octets(), back.source_mac),
            to: (flow.src.v6_octets(), back.mac.unwrap_or(sender)),
            target: hop.via.v6_octets(),
            station: hop.mac,
            packet: &t.frame.bytes()[usize::from(t.packet.ip)..],
        };
        let frame = ndp::redirect(&says);
        let mut egress = back.egress();
        egress.unresolved = None;
        t.out
            .push_copy(&frame, crate::frame::Offload::default(), egress);
        Some(())
    }
}
