//! What most packets are: segments of an established connection that leave it as it is. All that they change is written in
//! one visit to the connection; every other packet goes the long way, step by step.

use std::time::Duration;

use super::Flows;
use super::sequence::{ends_of, numbers};
use super::track::Tracking;
use crate::conn::{self, Conn, ConnId};
use crate::frame::Frame;
use crate::packet::{Packet, Transport};
use crate::ranks::Rank;
use crate::sequence;
use crate::tcp::{self, TcpState};

impl Flows {
    /// Takes a segment of the server's (`output`) or the client's into its connection's time and numbers, where it changes
    /// nothing else. False where it may: then nothing has been changed.
    #[inline(always)]
    pub(in crate::engine) fn pass(
        &mut self,
        id: ConnId,
        frame: &Frame<'_>,
        packet: &Packet,
        output: bool,
        by: &Tracking<'_>,
    ) -> bool {
        let Transport::Tcp { flags, .. } = packet.transport else {
            return false;
        };
        let c = self.conns.get_mut(id);
        if !tcp::keeps_established(flags) || !is_settled(c, output) || packet.has_extensions() {
            return false;
        }
        let timeout = TcpState::Established.timeout(by.timeouts);
        let deadline = by.now + Duration::from_secs(timeout.into());
        // An earlier one has to be looked at earlier.
        if deadline < c.deadline {
            return false;
        }
        let Some(numbers) = numbers(frame, packet) else {
            return false;
        };
        sequence::note(c.state, output, &numbers, ends_of(c, output));
        (c.timeout, c.deadline) = (timeout, deadline);
        true
    }
}

/// Whether a connection is established and counts as that, and whoever sends this segment, the server (`output`) or the
/// client, is known to be heard by its numbers as they are.
#[inline(always)]
fn is_settled(c: &Conn, output: bool) -> bool {
    c.state == TcpState::Established as u8
        && c.link.rank() == Rank::Protected
        && !c.has(conn::INACTIVE)
        && !c.is_introduced()
        && !(output && c.has(conn::NO_OUTPUT))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flow::{Addr, Endpoint, Protocol};
    use crate::frame::Offload;
    use crate::packet::{Parsed, parse};
    use crate::snapshot::{Limits, Timeouts};
    use crate::time::Instant;
    use crate::wire::{ethernet, ipv4, protocol, tcp as header};

    const CLIENT: [u8; 4] = [10, 0, 0, 1];
    const VIP: [u8; 4] = [192, 0, 2, 1];
    const IP: usize = ethernet::LEN;
    const L4: usize = IP + ipv4::MIN_LEN;
    const NOW: Instant = Instant::from_secs(10_000);

    /// A segment with so much data.
    fn segment(flags: u8, seq: u32, ack: u32, data: usize) -> Vec<u8> {
        let mut bytes = vec![0; L4 + header::MIN_LEN + data];
        ethernet::Header::new_mut(&mut bytes).set_ethertype(ethernet::ethertype::IPV4);
        let ip = ipv4::Repr {
            tos: 0,
            total_len: crate::narrow::to_u16(bytes.len() - IP),
            id: 0,
            dont_fragment: true,
            ttl: 64,
            protocol: protocol::TCP,
            src: CLIENT,
            dst: VIP,
        };
        ip.emit(&mut bytes[IP..L4]);
        bytes[L4 + 12] = 5 << 4;
        let mut tcp = header::Header::new_mut(&mut bytes[L4..]);
        tcp.set_seq(seq);
        tcp.set_ack(ack);
        tcp.set_flags(flags);
        bytes
    }

    /// Numbers near each other, and any.
    fn number() -> impl Strategy<Value = u32> {
        prop_oneof![Just(0), 1_000..3_000_u32, any::<u32>()]
    }

    proptest! {
        /// The short way and the long one, of a connection in any state.
        #[test]
        fn a_segment_that_passes_changes_what_it_would_have_changed_step_by_step(
            state in prop_oneof![Just(1_u8), 0..11_u8],
            (flags, expects) in (prop_oneof![Just(0_u8), any::<u8>()], (number(), number())),
            (segment_flags, seq, ack, data) in (prop_oneof![Just(0x10_u8), Just(0x18), any::<u8>()], number(), number(), 0..64_usize),
            (output, strict) in any::<(bool, bool)>(),
            (half_open, later, tcp_timeout) in (proptest::bool::weighted(0.2), 0..2_000_u64, 1..2_000_u32),
        ) {
            // What the table keeps of itself stays as it made it.
            let kinds = conn::NO_OUTPUT | conn::INACTIVE | conn::MEASURED;
            let end = |addr, port| Endpoint::new(Addr::v4(addr), port);
            let mut c = Conn::new(Protocol::Tcp, end(CLIENT, 4000), end(VIP, 80), end([10, 0, 9, 1], 80));
            (c.state, c.flags) = (state, flags & kinds);
            (c.client_expects, c.server_expects) = expects;
            let opened = |c: &Conn| {
                let mut flows = Flows::new(&Limits { connections: 4, ..Limits::default() }, (1, 2), None);
                let id = flows.conns.insert(NOW, *c, true).expect("room");
                flows.conns.set_rank(id, if half_open { Rank::HalfOpen } else { Rank::Protected });
                (flows, id)
            };
            let mut bytes = segment(segment_flags, seq, ack, data);
            let len = bytes.len();
            let mut frame = Frame::new(&mut bytes, 0, len, Offload::default());
            let Parsed::Ip(packet) = parse(&mut frame) else {
                return Err(TestCaseError::fail("no packet"));
            };
            let timeouts = Timeouts { tcp: tcp_timeout, ..Timeouts::default() };
            let now = NOW + Duration::from_secs(later);
            let by = Tracking { now, timeouts: &timeouts, strict };
            let ((mut short, id), (mut long, _)) = (opened(&c), opened(&c));
            let shown = |flows: &Flows| format!("{:?}", flows.conns.get(id));
            let before = shown(&short);
            if !short.pass(id, &frame, &packet, output, &by) {
                prop_assert_eq!(shown(&short), before);
                return Ok(());
            }
            prop_assert!(long.out_of_window(id, &frame, &packet, output).is_none());
            prop_assert_eq!(long.track(id, &packet, output, &by), Some(state));
            long.note_sequence(id, &frame, &packet, output);
            long.seen(now, id);
            prop_assert_eq!(shown(&short), shown(&long));
        }
    }
}
