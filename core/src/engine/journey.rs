//! A frame's journey: which step it goes to. Each of the others is in a file of its own.

use super::ahead::Seen;
use super::flows::{self, OutOfWindow, Tracking};
use super::transit::Transit;
use super::{Engine, describe, martian, voice};
use crate::conn::{ConnId, Hint, Side};
use crate::fib::{LOOPBACK, Query};
use crate::flow::{Addr, Family, Flow};
use crate::fragment::{Pieces, Reassembled};
use crate::frame::{Frame, Offload};
use crate::outbox::{HEADROOM, Outbox};
use crate::packet::{self, Packet, Parsed, Transport};
use crate::rewrite;
use crate::tcp::TcpState;
use crate::time::Instant;
use crate::trace::{Aside, Recorder, Step};
use crate::verdict::{DropReason, Egress, PortId, Verdict};
use crate::wire::{ethernet, ndp, protocol};

impl<R: Recorder> Engine<R> {
    /// [`Engine::handle_seen`] of any recorder. This is the one place that counts frames.
    pub(super) fn take(
        &mut self,
        now: Instant,
        port: PortId,
        (frame, seen): (&mut Frame<'_>, &Seen),
        out: &mut Outbox,
    ) -> Verdict {
        let verdict = self.decide(now, port, (frame, seen), out);
        self.counters.count(verdict);
        verdict
    }

    fn decide(
        &mut self,
        now: Instant,
        port: PortId,
        (frame, seen): (&mut Frame<'_>, &Seen),
        out: &mut Outbox,
    ) -> Verdict {
        let Some(interface) = self.routes.fib.interface(port) else {
            self.record(|_| Step::Aside {
                why: Aside::UnknownInterface,
            });
            return Verdict::Pass;
        };
        let mac = interface.mac;
        frame.arrival = interface.ifindex;
        let Seen { parsed, hint } = seen;
        if let Parsed::Ip(packet) = parsed {
            frame.truncate(packet.end());
        }
        self.record(|_| describe::frame(frame, parsed, mac));
        match parsed {
            Parsed::Foreign => Verdict::Pass,
            Parsed::Arp => {
                self.note_claim(now, port, frame.bytes());
                let announced = |vip: Addr| self.desired.announces(vip);
                voice::answer_arp(frame, (port, mac), announced, out)
            }
            Parsed::Ip(packet) if is_discovery(packet) => {
                self.note_claim(now, port, frame.bytes());
                let announced = |vip: Addr| self.desired.announces(vip);
                let router = self.routes.fib.forwarding_ipv6;
                voice::answer_discovery(frame, (port, mac), router, announced, out)
            }
            // A bridge floods frames for others past us; forwarding those would loop. The host's own may bear
            // the address of a next hop.
            _ if ethernet::Header::new(frame.bytes()).dst() != mac && port != PortId::HOST => {
                Verdict::Pass
            }
            Parsed::Malformed { dst, reason } if self.desired.is_vip(*dst) => {
                Verdict::Drop(*reason)
            }
            Parsed::Malformed { .. } => Verdict::Pass,
            Parsed::Ip(packet) => {
                let mut transit = Transit {
                    now,
                    frame,
                    packet,
                    hint: *hint,
                    pieces: Pieces::default(),
                    out,
                };
                if martian::is_martian(transit.frame, packet) {
                    self.refuse_source(&transit)
                } else {
                    self.handle_packet(&mut transit)
                }
            }
        }
    }

    #[inline(always)]
    fn handle_packet(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        if self.routes.fib.filters() && self.is_spoofed(t) {
            return if self.desired.is_ours(&t.packet.flow) {
                Verdict::Drop(DropReason::ReversePath)
            } else {
                Verdict::Pass
            };
        }
        if let Some(verdict) = self.refuse_options(t) {
            return verdict;
        }
        match t.packet.transport {
            Transport::Fragment => self.handle_fragment(t),
            Transport::Icmp { .. } | Transport::Icmpv6 { .. } => self.handle_icmp(t),
            Transport::Tcp { .. } | Transport::Udp | Transport::Sctp { .. } => {
                rewrite::finish_crc(t.frame, t.packet);
                self.handle_transport(t)
            }
            Transport::Other => self.answer_as_host(t),
        }
    }

    /// Whether a packet has a source that the arrival interface's rp_filter refuses. As the kernel, which judges
    /// before IPVS sees it, each packet is asked about; what is not ours, the kernel refuses itself.
    fn is_spoofed(&self, t: &Transit<'_, '_>) -> bool {
        let flow = &t.packet.flow;
        self.routes
            .fib
            .is_spoofed(flow.src, flow.dst, t.frame.arrival)
    }

    #[inline(always)]
    fn handle_transport(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        let known = self.flows.find_at(t.hint, &t.packet.flow);
        self.record(|e| e.looked_up(t.now, known));
        match known {
            Some(taken @ (id, _)) if self.flows.conn(id).is_taken() => self.come_up(t, taken),
            Some((id, Side::Client)) => self.continue_connection(t, id),
            Some((id, Side::Server)) => self.reply(t, id),
            None => match self.elsewhere(t, &t.packet.flow) {
                Some(handing) => Verdict::Elsewhere(handing),
                None => self.start_connection(t),
            },
        }
    }

    fn handle_fragment(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        // An error about a tunnel's packet, which comes to an address of the host's.
        let tunnel_error = matches!(t.packet.protocol, protocol::ICMP | protocol::ICMPV6)
            && self.desired.has_tunnels()
            && self.routes.fib.is_local(t.packet.flow.dst);
        if !self.desired.is_ours(&t.packet.flow) && !tunnel_error {
            return Verdict::Pass;
        }
        match self.reassembler.add(t.now, t.frame.bytes(), t.packet) {
            Err(DropReason::BadFragmentLength) => self.forward_fragment(t),
            Err(reason) => Verdict::Drop(reason),
            Ok(None) => Verdict::Held,
            Ok(Some(whole)) => {
                let meta = Meta::of(t.frame);
                self.handle_datagram(t.now, meta, whole, t.out)
            }
        }
    }

    /// A first fragment of IPv6 that cannot be one of a whole goes on alone, as in the kernel, where nothing that
    /// cannot be put together is held back from IPVS (`nf_ct_frag6_gather`).
    #[cold]
    fn forward_fragment(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        match t.packet.alone(t.frame.bytes()) {
            Some(packet) if packet.balanced().is_some() => {
                let mut alone = Transit {
                    now: t.now,
                    frame: t.frame,
                    packet: &packet,
                    hint: Hint::NONE,
                    pieces: Pieces::default(),
                    out: t.out,
                };
                self.handle_transport(&mut alone)
            }
            _ => Verdict::Drop(DropReason::BadFragmentLength),
        }
    }

    /// A datagram that another worker has put together and handed over. Its fragments' ends are known but for the last
    /// one's, which is this one's.
    pub(super) fn take_datagram(
        &mut self,
        now: Instant,
        port: PortId,
        whole: Reassembled,
        (mark, asked): (u32, u64),
        out: &mut Outbox,
    ) -> Verdict {
        let interface = self.routes.fib.interface(port);
        let meta = Meta {
            mark,
            asked,
            arrival: interface.map_or(LOOPBACK, |interface| interface.ifindex),
        };
        let verdict = self.handle_datagram(now, meta, whole, out);
        self.counters.count(verdict);
        verdict
    }

    /// Handles a datagram that its last fragment has made whole, as if it had come in one frame.
    fn handle_datagram(
        &mut self,
        now: Instant,
        meta: Meta,
        mut whole: Reassembled,
        out: &mut Outbox,
    ) -> Verdict {
        let end = HEADROOM + whole.frame.len();
        // Headroom as in the outbox: a mode may wrap the packet.
        let mut bytes = std::mem::take(&mut whole.frame);
        bytes.splice(0..0, [0; HEADROOM]);
        let mut frame = Frame::new(&mut bytes, HEADROOM, end, Offload::default());
        (frame.mark, frame.arrival, frame.asked) = (meta.mark, meta.arrival, meta.asked);
        match packet::parse(&mut frame) {
            Parsed::Ip(mut p) => {
                self.record(|_| describe::packet(&frame, &p));
                p.fragment_size = Some(whole.largest);
                let mut datagram = Transit {
                    now,
                    frame: &mut frame,
                    packet: &p,
                    hint: Hint::NONE,
                    pieces: whole.pieces(),
                    out,
                };
                let verdict = self.handle_packet(&mut datagram);
                match verdict {
                    Verdict::Elsewhere(_) => {
                        whole.frame = frame.bytes().to_vec();
                        self.elsewhere = Some(whole);
                        verdict
                    }
                    Verdict::Local => {
                        let host = Egress {
                            port: PortId::HOST,
                            unresolved: None,
                        };
                        out.push_copy(frame.bytes(), frame.offload, host);
                        verdict
                    }
                    // One that needs no cutting leaves instead of the frame that made it whole.
                    Verdict::Send(egress) => {
                        out.push_copy(frame.bytes(), frame.offload, egress);
                        Verdict::SendOutbox
                    }
                    _ => verdict,
                }
            }
            Parsed::Malformed { reason, .. } => Verdict::Drop(reason),
            Parsed::Arp | Parsed::Foreign => Verdict::Pass,
        }
    }

    /// For a packet of a service whose VIP the director does not have, such as one that a stand-by gets from
    /// a neighbour with an old ARP entry: the guard has kept it from the host, whose routing is to decide. By the way
    /// that it gets there the host no longer sees that it comes from where it goes, and would not say so.
    pub(super) fn deliver_locally(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        self.record(|_| Step::Absent);
        let flow = &t.packet.flow;
        let query = Query::to(flow.dst).from(flow.src).by(t.frame.arrival);
        if t.packet.family == Family::V6
            && self.routes.fib.forwarding_ipv6
            && let Ok(hop) = self.routes.fib.lookup(query)
        {
            self.redirect(t, &hop);
        }
        Verdict::Local
    }

    /// The slot of the service for a packet of this mark to `flow`'s destination.
    pub(super) fn service_for(&self, flow: &Flow, mark: u32) -> Option<u32> {
        self.desired.service_for(flow, mark, &self.routes.fib)
    }

    /// Takes a packet into its connection's state and time, from the server (`output`) or the client; not
    /// one that only claims to be of the connection.
    #[inline(always)]
    pub(super) fn follow(&mut self, t: &Transit<'_, '_>, id: ConnId, output: bool) {
        let by = Tracking {
            now: t.now,
            timeouts: self.desired.timeouts(),
            strict: self.upkeep.is_strict(self.desired.sysctls()),
        };
        if self.flows.pass(id, t.frame, t.packet, output, &by) {
            self.record(|e| e.moved(id, TcpState::Established as u8));
            return;
        }
        let out = self.flows.out_of_window(id, t.frame, t.packet, output);
        if let Some(OutOfWindow { seq, expected }) = out {
            self.counters.out_of_window += 1;
            self.record(|_| Step::OutOfWindow { seq, expected });
            return;
        }
        let misread = flows::misread(t.frame, t.packet);
        let seen = misread.as_ref().unwrap_or(t.packet);
        if let Some(before) = self.flows.track(id, seen, output, &by) {
            self.record(|e| e.moved(id, before));
        }
        self.flows.note_sequence(id, t.frame, t.packet, output);
        self.flows.seen(t.now, id);
    }
}

/// What is known of a frame beside its bytes.
#[derive(Clone, Copy)]
struct Meta {
    mark: u32,
    arrival: u32,
    asked: u64,
}

impl Meta {
    const fn of(frame: &Frame<'_>) -> Self {
        Self {
            mark: frame.mark,
            arrival: frame.arrival,
            asked: frame.asked,
        }
    }
}

/// Whether a packet is of the neighbour discovery that goes on about addresses.
fn is_discovery(packet: &Packet) -> bool {
    matches!(
        packet.transport,
        Transport::Icmpv6 {
            kind: ndp::SOLICITATION | ndp::ADVERTISEMENT,
            ..
        }
    )
}
