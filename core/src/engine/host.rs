//! What a host would do that has a VIP and nothing listening: for VIPs that UVS owns, that is UVS. All
//! else is the kernel's.

use super::Engine;
use super::answer::{TTL, icmp};
use crate::fib::Query;
use crate::fragment::seal_header;
use crate::frame::{Frame, Offload};
use crate::outbox::Outbox;
use crate::packet::{Packet, Transport};
use crate::rewrite::{self, Ends, write2};
use crate::time::Instant;
use crate::trace::Recorder;
use crate::verdict::{DropReason, Egress, Verdict};
use crate::wire::checksum;

impl<R: Recorder> Engine<R> {
    /// For a packet to an address that UVS owns, what a host with that address and nothing listening
    /// would do, but for clients that are denied everywhere; others are the kernel's.
    pub(super) fn answer_as_host(
        &mut self,
        now: Instant,
        frame: &mut Frame<'_>,
        packet: &Packet,
        out: &mut Outbox,
    ) -> Verdict {
        let vip = packet.flow.dst;
        if !self.owned.contains(&vip) {
            return Verdict::Pass;
        }
        if self.claims_to_be_ours(frame, &packet.flow) {
            return Verdict::Drop(DropReason::MartianSource);
        }
        if self.denies_everywhere(packet.flow.src) {
            return Verdict::Drop(DropReason::Denied);
        }
        match packet.transport {
            Transport::Tcp { .. } => self.reset(frame, packet, out),
            Transport::Udp => self.port_unreachable(now, frame, packet, vip, out),
            Transport::Icmp {
                kind: icmp::ECHO,
                code: 0,
            } => self.echo(frame, packet, out),
            Transport::Icmp { kind, code } => Verdict::Drop(unknown_message(kind, code)),
            Transport::Sctp { .. } | Transport::Fragment | Transport::Other => {
                let error = (icmp::UNREACHABLE, icmp::PROTOCOL_UNREACHABLE, 0);
                self.icmp_error(now, frame, packet, error, vip, out)
                    .unwrap_or(Verdict::Drop(DropReason::UnsupportedProtocol))
            }
        }
    }

    /// Turns an echo request into its reply and sends it back where its source's route leads.
    fn echo(&mut self, frame: &mut Frame<'_>, packet: &Packet, out: &mut Outbox) -> Verdict {
        let query = Query::to(packet.flow.src).from(packet.flow.dst);
        let Ok(hop) = self.fib.lookup(query) else {
            return Verdict::Drop(DropReason::NoRoute);
        };
        if !rewrite::checksum_is_right(frame, packet) {
            return Verdict::Drop(DropReason::BadChecksum);
        }
        let swap = Ends {
            src: Some(packet.flow.destination()),
            dst: Some(packet.flow.source()),
        };
        rewrite::set_addresses(frame, packet, swap);
        let (ip, l4) = (usize::from(packet.ip), packet.l4());
        let bytes = frame.bytes_mut();
        bytes[ip + 8] = TTL;
        seal_header(&mut bytes[ip..l4]);
        bytes[l4] = icmp::ECHO_REPLY;
        write2(bytes, l4 + 2, 0);
        let sum = checksum::of(&bytes[l4..]);
        write2(bytes, l4 + 2, sum);
        rewrite::set_macs(frame, hop.mac.unwrap_or_default(), hop.source_mac);
        let egress = Egress {
            port: hop.port,
            unresolved: hop.mac.is_none().then_some(hop.via),
        };
        out.push_copy(frame.bytes(), Offload::default(), egress);
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
