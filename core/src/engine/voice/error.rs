//! What the director itself sends: ICMP errors and TCP resets.
//!
//! The formats are those of Linux (`icmp_send`, `tcp_v4_send_reset`), and so are the bounds: ICMP errors have
//! one, resets have none. A reset is no longer than the segment it answers and there is one at most, so that
//! it amplifies nothing; one that is held back leaves a client to its time-outs, which after a restart of a busy
//! director is every client at once.

use super::Engine;
use super::transit::Transit;
use crate::fib::{NextHop, Query, Unreachable};
use crate::flow::{Addr, Endpoint};
use crate::frame::Offload;
use crate::outbox::Outbox;
use crate::packet::Transport;
use crate::rewrite::{self, Ends};
use crate::time::Instant;
use crate::trace::Recorder;
use crate::verdict::{DropReason, Egress, Verdict};
use crate::wire::tcp::flag;
use crate::wire::{checksum, ethernet, icmp, ipv4, protocol, tcp};

/// TTL of the director's own packets (net.ipv4.ip_default_ttl).
pub(super) const TTL: u8 = 64;
/// An ICMP error is at most this long (RFC 1812 §4.3.2.3).
const ICMP_MAX: usize = 576;
/// TOS of ICMP errors: internetwork control (RFC 1812 §4.3.2.5).
const TOS_CONTROL: u8 = 0xc0;

/// ICMP errors in answer to packets, per second and at once (net.ipv4.icmp_msgs_per_sec, icmp_msgs_burst).
const PER_SECOND: u64 = 1000;
const BURST: u32 = 50;

/// Bounds what is said, per second.
#[derive(Clone)]
pub(super) struct Limiter {
    ns_per_token: u64,
    burst: u32,
    tokens: u32,
    refilled: Instant,
}

impl Limiter {
    pub(super) const fn new(per_second: u64, burst: u32) -> Self {
        Self {
            ns_per_token: 1_000_000_000 / per_second,
            burst,
            tokens: burst,
            refilled: Instant::ZERO,
        }
    }

    /// When it allows as many as at once again, where it does not allow one now.
    pub(super) fn next(&self) -> Instant {
        if self.tokens > 0 {
            return Instant::ZERO;
        }
        Instant(self.refilled.0 + self.ns_per_token * u64::from(self.burst))
    }

    pub(super) fn allows(&mut self, now: Instant) -> bool {
        let new = now.0.saturating_sub(self.refilled.0) / self.ns_per_token;
        if new > 0 {
            self.tokens = self.burst.min(
                self.tokens
                    .saturating_add(u32::try_from(new).unwrap_or(u32::MAX)),
            );
            self.refilled = now;
        }
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }
}

/// The bound on ICMP errors.
pub(super) const fn icmp_limiter() -> Limiter {
    Limiter::new(PER_SECOND, BURST)
}

/// An ICMP error that the director sends.
pub(super) struct Notice<'a> {
    pub(super) kind: u8,
    pub(super) code: u8,
    /// The second word of the ICMP header.
    pub(super) rest: u32,
    /// [`Addr::UNSPECIFIED`] = the director's own address towards `to`.
    pub(super) from: Addr,
    pub(super) to: Addr,
    /// The IP packet that it is about, as far as it is known.
    pub(super) about: &'a [u8],
    /// What the quoted packet's ends are called where the error goes.
    pub(super) ends: Ends,
}

impl<R: Recorder> Engine<R> {
    pub(super) fn host_unreachable(&mut self, t: &mut Transit<'_, '_>, from: Addr) -> Verdict {
        let error = (icmp::UNREACHABLE, icmp::HOST_UNREACHABLE, 0);
        self.icmp_error(t, error, from)
            .unwrap_or(Verdict::Drop(DropReason::NoRoute))
    }

    /// Tells a packet's sender that its way ends here: with net unreachable, or what a route that refuses says.
    pub(super) fn no_route(&mut self, t: &mut Transit<'_, '_>, code: u8) -> Verdict {
        let (error, from) = ((icmp::UNREACHABLE, code, 0), Addr::UNSPECIFIED);
        self.icmp_error(t, error, from)
            .unwrap_or(Verdict::Drop(DropReason::NoRoute))
    }

    pub(super) fn time_exceeded(&mut self, t: &mut Transit<'_, '_>, from: Addr) -> Verdict {
        let error = (icmp::TIME_EXCEEDED, 0, 0);
        self.icmp_error(t, error, from)
            .unwrap_or(Verdict::Drop(DropReason::TtlExceeded))
    }

    pub(super) fn too_big(&mut self, t: &mut Transit<'_, '_>, mtu: usize, from: Addr) -> Verdict {
        let error = (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED, mtu as u32);
        self.icmp_error(t, error, from)
            .unwrap_or(Verdict::Drop(DropReason::Oversized))
    }

    pub(super) fn port_unreachable(&mut self, t: &mut Transit<'_, '_>, from: Addr) -> Verdict {
        let error = (icmp::UNREACHABLE, icmp::PORT_UNREACHABLE, 0);
        self.icmp_error(t, error, from)
            .unwrap_or(Verdict::Drop(DropReason::NoConnection))
    }

    /// Answers `packet` with an ICMP error about it, `None` where none may be sent: never about an ICMP
    /// error (RFC 1122 §3.2.2).
    pub(super) fn icmp_error(
        &mut self,
        t: &mut Transit<'_, '_>,
        (kind, code, rest): (u8, u8, u32),
        from: Addr,
    ) -> Option<Verdict> {
        if let Transport::Icmp { kind, .. } = t.packet.transport
            && kind != icmp::ECHO
            && kind != icmp::ECHO_REPLY
        {
            return None;
        }
        let notice = Notice {
            kind,
            code,
            rest,
            from,
            to: t.packet.flow.src,
            about: &t.frame.bytes()[usize::from(t.packet.ip)..],
            ends: Ends::default(),
        };
        Some(self.notify(t.now, &notice, t.out))
    }

    /// Sends an ICMP error, where there are not too many. One about a packet's size is none too many:
    /// without it a path is a black hole (`icmpv4_mask_allow`).
    pub(super) fn notify(
        &mut self,
        now: Instant,
        notice: &Notice<'_>,
        out: &mut Outbox,
    ) -> Verdict {
        let about_size =
            (notice.kind, notice.code) == (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED);
        if !about_size && !self.icmp_errors.allows(now) {
            return Verdict::Drop(DropReason::IcmpRateLimited);
        }
        self.emit_notice(notice, out)
    }

    /// Sends an ICMP error, however many there were.
    pub(super) fn emit_notice(&mut self, notice: &Notice<'_>, out: &mut Outbox) -> Verdict {
        let quote = notice.about.len().min(ICMP_MAX - ipv4::MIN_LEN - icmp::LEN);
        let tos = (ipv4::Header::new(notice.about).tos() & 0x1e) | TOS_CONTROL;
        let (from, to, len) = (notice.from, notice.to, icmp::LEN + quote);
        let verdict = self.emit(to, from, len, out, |engine, ip, from, to| {
            let id = engine.next_id();
            let header = ipv4_header(ip, protocol::ICMP, from, to);
            ipv4::Repr { tos, id, ..header }.emit(ip);
            let message = &mut ip[ipv4::MIN_LEN..];
            let header = icmp::Repr {
                kind: notice.kind,
                code: notice.code,
                rest: notice.rest,
            };
            header.emit(message);
            message[icmp::LEN..].copy_from_slice(&notice.about[..quote]);
            rewrite::set_quoted_ends(&mut message[icmp::LEN..], notice.ends);
            icmp::seal(message);
        });
        if verdict == Verdict::Answered {
            self.counters.count_icmp(notice.kind);
        }
        verdict
    }

    /// Answers a segment that belongs to no connection with a reset (RFC 9293 §3.5.2), as the host's own
    /// stack would.
    pub(super) fn reset(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        let Transport::Tcp { flags, header } = t.packet.transport else {
            return Verdict::Drop(DropReason::NoConnection);
        };
        if flags & flag::RST != 0 {
            return Verdict::Drop(DropReason::NoConnection);
        }
        if !rewrite::checksum_is_right(t.frame, t.packet) {
            return Verdict::Drop(DropReason::BadChecksum);
        }
        let tcp = t.packet.tcp(t.frame.bytes());
        let (seq, ack) = (tcp.seq(), tcp.ack());
        let taken = t.packet.l4_len() as u32 - u32::from(header) + tcp::controls(flags);
        let (seq, ack, flags) = if flags & flag::ACK != 0 {
            (ack, 0, flag::RST)
        } else {
            (0, seq.wrapping_add(taken), flag::RST | flag::ACK)
        };
        let (from, to) = (t.packet.flow.destination(), t.packet.flow.source());
        self.emit(to.addr, from.addr, tcp::MIN_LEN, t.out, |_, ip, a, b| {
            ipv4_header(ip, protocol::TCP, a, b).emit(ip);
            write_reset(ip, (from, a), (to, b), (seq, ack), flags);
        })
    }

    pub(super) fn next_id(&mut self) -> u16 {
        self.ip_id = self.ip_id.wrapping_add(1);
        self.ip_id
    }

    /// Puts a packet of `len` bytes after its IP header into the outbox, on the way to `to`.
    pub(super) fn emit(
        &mut self,
        to: Addr,
        from: Addr,
        len: usize,
        out: &mut Outbox,
        fill: impl FnOnce(&mut Self, &mut [u8], [u8; 4], [u8; 4]),
    ) -> Verdict {
        let hop = match self.fib.lookup(Query::to(to).from(from)) {
            Ok(hop) => hop,
            Err(Unreachable::Local) => NextHop::host(to),
            Err(_) => return Verdict::Drop(DropReason::NoRoute),
        };
        let from = if from.is_unspecified() {
            hop.source
        } else {
            from
        };
        let (Some(from), Some(to)) = (from.as_v4(), to.as_v4()) else {
            return Verdict::Drop(DropReason::NoRoute);
        };
        let mut draft = out.draft(ethernet::LEN + ipv4::MIN_LEN + len);
        let bytes = draft.bytes_mut();
        let header = ethernet::Repr {
            dst: hop.mac.unwrap_or_default(),
            src: hop.source_mac,
            ethertype: ethernet::ethertype::IPV4,
        };
        header.emit(bytes);
        fill(self, &mut bytes[ethernet::LEN..], from, to);
        let range = draft.range();
        let egress = Egress {
            port: hop.port,
            unresolved: hop.mac.is_none().then_some(hop.via),
        };
        out.push(range, Offload::default(), egress);
        Verdict::Answered
    }
}

/// Writes a TCP header without options or data behind an IPv4 header, with sequence and acknowledgement.
pub(super) fn write_reset(
    ip: &mut [u8],
    (from, a): (Endpoint, [u8; 4]),
    (to, b): (Endpoint, [u8; 4]),
    (seq, ack): (u32, u32),
    flags: u8,
) {
    let segment = &mut ip[ipv4::MIN_LEN..];
    let header = tcp::Repr {
        src_port: from.port,
        dst_port: to.port,
        seq,
        ack,
        flags,
        window: 0,
    };
    header.emit(segment);
    let pseudo = checksum::pseudo_header_v4(a, b, protocol::TCP, segment.len() as u32);
    tcp::seal(segment, pseudo);
}

/// An IPv4 header for a packet of the director's that fills `ip`: no options, no service class.
pub(super) fn ipv4_header(ip: &[u8], protocol: u8, src: [u8; 4], dst: [u8; 4]) -> ipv4::Repr {
    ipv4::Repr {
        tos: 0,
        total_len: ip.len() as u16,
        id: 0,
        dont_fragment: protocol == protocol::TCP,
        ttl: TTL,
        protocol,
        src,
        dst,
    }
}

/// An endpoint without a port.
pub(super) const fn address(addr: Addr) -> Endpoint {
    Endpoint::new(addr, 0)
}
