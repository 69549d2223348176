//! What a host would do that has a VIP and nothing listening: for VIPs that UVS owns, that is UVS. All
//! else is the kernel's.

use super::Engine;
use super::transit::Transit;
use super::voice::{self, Error};
use crate::flow::Family;
use crate::packet::Transport;
use crate::trace::Recorder;
use crate::verdict::{DropReason, Verdict};
use crate::wire::{icmp, icmpv6, ipv6, protocol};

impl<R: Recorder> Engine<R> {
    /// For a packet to an address that UVS owns, what a host with that address and nothing listening
    /// would do, but for clients that are denied everywhere; others are the kernel's.
    pub(super) fn answer_as_host(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        let vip = t.packet.flow.dst;
        if !self.desired.owns(vip) {
            return Verdict::Pass;
        }
        if self.claims_to_be_ours(t.frame, &t.packet.flow) {
            return Verdict::Drop(DropReason::MartianSource);
        }
        if self.desired.denies_everywhere(t.packet.flow.src) {
            return Verdict::Drop(DropReason::Denied);
        }
        match t.packet.transport {
            Transport::Tcp { .. } => self.reset(t),
            Transport::Udp => self.refuse(t, Error::PortUnreachable, vip),
            Transport::Icmp {
                kind: icmp::ECHO,
                code: 0,
            } => voice::echo(&self.routes.fib, t),
            Transport::Icmpv6 {
                kind: icmpv6::ECHO,
                code: 0,
            } => voice::echo(&self.routes.fib, t),
            Transport::Icmp { kind, code } => Verdict::Drop(unknown_message(kind, code)),
            Transport::Icmpv6 { kind, .. } => Verdict::Drop(unknown_message_v6(kind)),
            // Whoever says that nothing follows has been understood (RFC 8200 §4.7).
            Transport::Other if t.packet.protocol == protocol::NO_NEXT_HEADER => {
                Verdict::Drop(DropReason::UnsupportedProtocol)
            }
            Transport::Sctp { .. } | Transport::Fragment | Transport::Other => {
                let at = named_at(t);
                self.refuse(t, Error::ProtocolUnreachable { at }, vip)
            }
        }
    }
}

/// Where an IPv6 packet names the protocol that it is of, bytes from its first; 0 in IPv4, where nobody asks.
pub(super) fn named_at(t: &Transit<'_, '_>) -> usize {
    let packet = &t.frame.bytes()[usize::from(t.packet.ip)..];
    match t.packet.family {
        Family::V4 => 0,
        Family::V6 => ipv6::walk(packet).map_or(0, |chain| chain.named_at),
    }
}

/// As [`unknown_message`], of ICMPv6.
const fn unknown_message_v6(kind: u8) -> DropReason {
    match kind {
        icmpv6::TOO_BIG => DropReason::UnknownFragNeeded,
        icmpv6::UNREACHABLE | icmpv6::TIME_EXCEEDED | icmpv6::PARAMETER_PROBLEM => {
            DropReason::NoConnection
        }
        _ => DropReason::UnsupportedProtocol,
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
