//! What a host would do that has a VIP and nothing listening: for VIPs that UVS owns, that is UVS. All
//! else is the kernel's.

use super::Engine;
use super::answer::TTL;
use super::transit::Transit;
use crate::fib::Query;
use crate::frame::Offload;
use crate::packet::Transport;
use crate::rewrite::{self, Ends};
use crate::trace::Recorder;
use crate::verdict::{DropReason, Egress, Verdict};
use crate::wire::{icmp, ipv4};

impl<R: Recorder> Engine<R> {
    /// For a packet to an address that UVS owns, what a host with that address and nothing listening
    /// would do, but for clients that are denied everywhere; others are the kernel's.
    pub(super) fn answer_as_host(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        let vip = t.packet.flow.dst;
        if !self.owned.contains(&vip) {
            return Verdict::Pass;
        }
        if self.claims_to_be_ours(t.frame, &t.packet.flow) {
            return Verdict::Drop(DropReason::MartianSource);
        }
        if self.denies_everywhere(t.packet.flow.src) {
            return Verdict::Drop(DropReason::Denied);
        }
        match t.packet.transport {
            Transport::Tcp { .. } => self.reset(t),
            Transport::Udp => self.port_unreachable(t, vip),
            Transport::Icmp {
                kind: icmp::ECHO,
                code: 0,
            } => self.echo(t),
            Transport::Icmp { kind, code } => Verdict::Drop(unknown_message(kind, code)),
            Transport::Sctp { .. } | Transport::Fragment | Transport::Other => {
                let error = (icmp::UNREACHABLE, icmp::PROTOCOL_UNREACHABLE, 0);
                self.icmp_error(t, error, vip)
                    .unwrap_or(Verdict::Drop(DropReason::UnsupportedProtocol))
            }
        }
    }

    /// Turns an echo request into its reply and sends it back where its source's route leads.
    fn echo(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        let query = Query::to(t.packet.flow.src).from(t.packet.flow.dst);
        let Ok(hop) = self.fib.lookup(query) else {
            return Verdict::Drop(DropReason::NoRoute);
        };
        if !rewrite::checksum_is_right(t.frame, t.packet) {
            return Verdict::Drop(DropReason::BadChecksum);
        }
        let swap = Ends {
            src: Some(t.packet.flow.destination()),
            dst: Some(t.packet.flow.source()),
        };
        rewrite::set_addresses(t.frame, t.packet, swap);
        let (head, message) = t.frame.bytes_mut().split_at_mut(t.packet.l4());
        t.packet.ipv4_mut(head).set_ttl(TTL);
        ipv4::seal(&mut head[usize::from(t.packet.ip)..]);
        icmp::Header::new_mut(message).set_kind(icmp::ECHO_REPLY);
        icmp::seal(message);
        rewrite::set_macs(t.frame, hop.mac.unwrap_or_default(), hop.source_mac);
        let egress = Egress {
            port: hop.port,
            unresolved: hop.mac.is_none().then_some(hop.via),
        };
        t.out.push_copy(t.frame.bytes(), Offload::default(), egress);
        Verdict::Answered
    }
}

/// Why an ICMP message ends here that is neither an echo request nor about anything we know.
const fn unknown_message(kind: u8, code: u8) -> DropReason {
    match (kind, code) {
        (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED) => DropReason::UnknownFragNeeded,
        (
            icmp::UNREACHABLE | icmp::SOURCE_QUENCH | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM,
            _,
        ) => DropReason::NoConnection,
        _ => DropReason::UnsupportedProtocol,
    }
}
