//! What the director itself sends: ICMP errors and TCP resets.
//!
//! The formats are those of Linux (`icmp_send`, `tcp_v4_send_reset`), and so are the bounds: ICMP errors have
//! one, resets have none. A reset is no longer than the segment it answers and there is one at most, so that
//! it amplifies nothing; one that is held back leaves a client to its time-outs, which after a restart of a busy
//! director is every client at once.

use super::Engine;
use super::transit::Transit;
use crate::wire::checksum;
use crate::fib::{NextHop, Query, Unreachable};
use crate::flow::{Addr, Endpoint};
use crate::fragment::seal_header;
use crate::frame::{ETH_LEN, Offload};
use crate::outbox::Outbox;
use crate::packet::{IPV4_MIN_HEADER, Transport, tcp_flags};
use crate::rewrite::{self, Ends, write2};
use crate::time::Instant;
use crate::trace::Recorder;
use crate::verdict::{DropReason, Egress, Verdict};

/// ICMP types (RFC 792).
pub(super) mod icmp {
    pub(crate) const ECHO_REPLY: u8 = 0;
    pub(crate) const UNREACHABLE: u8 = 3;
    pub(crate) const SOURCE_QUENCH: u8 = 4;
    pub(crate) const ECHO: u8 = 8;
    pub(crate) const TIME_EXCEEDED: u8 = 11;
    pub(crate) const PARAMETER_PROBLEM: u8 = 12;
    pub(crate) const NET_UNREACHABLE: u8 = 0;
    pub(crate) const HOST_UNREACHABLE: u8 = 1;
    pub(crate) const PROTOCOL_UNREACHABLE: u8 = 2;
    pub(crate) const PORT_UNREACHABLE: u8 = 3;
    pub(crate) const FRAGMENTATION_NEEDED: u8 = 4;
    pub(crate) const PROHIBITED: u8 = 13;
}

/// TTL of the director's own packets (net.ipv4.ip_default_ttl).
pub(super) const TTL: u8 = 64;
/// An ICMP error is at most this long (RFC 1812 §4.3.2.3).
const ICMP_MAX: usize = 576;
/// TOS of ICMP errors: internetwork control (RFC 1812 §4.3.2.5).
const TOS_CONTROL: u8 = 0xc0;

/// EtherType of IPv4.
pub(super) const ETHERTYPE_IPV4: u16 = 0x0800;
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
        let quote = notice.about.len().min(ICMP_MAX - IPV4_MIN_HEADER - 8);
        let tos = (notice.about[1] & 0x1e) | TOS_CONTROL;
        let (from, to, len) = (notice.from, notice.to, 8 + quote);
        let verdict = self.emit(to, from, len, out, |engine, ip, from, to| {
            let id = engine.next_id();
            write_ipv4(ip, tos, id, 0, 1, from, to);
            let message = &mut ip[IPV4_MIN_HEADER..];
            message[..2].copy_from_slice(&[notice.kind, notice.code]);
            message[2..4].fill(0);
            message[4..8].copy_from_slice(&notice.rest.to_be_bytes());
            message[8..].copy_from_slice(&notice.about[..quote]);
            rewrite::set_quoted_ends(&mut message[8..], notice.ends);
            let sum = checksum::of(message);
            write2(message, 2, sum);
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
        if flags & tcp_flags::RST != 0 {
            return Verdict::Drop(DropReason::NoConnection);
        }
        if !rewrite::checksum_is_right(t.frame, t.packet) {
            return Verdict::Drop(DropReason::BadChecksum);
        }
        let segment = &t.frame.bytes()[t.packet.l4()..];
        let word = |at: usize| {
            u32::from_be_bytes([
                segment[at],
                segment[at + 1],
                segment[at + 2],
                segment[at + 3],
            ])
        };
        let (seq, ack) = (word(4), word(8));
        let data = t.packet.l4_len() as u32 - u32::from(header);
        let controls =
            u32::from(flags & tcp_flags::SYN != 0) + u32::from(flags & tcp_flags::FIN != 0);
        let (seq, ack, flags) = if flags & tcp_flags::ACK != 0 {
            (ack, 0, tcp_flags::RST)
        } else {
            (
                0,
                seq.wrapping_add(data).wrapping_add(controls),
                tcp_flags::RST | tcp_flags::ACK,
            )
        };
        let (from, to) = (t.packet.flow.destination(), t.packet.flow.source());
        self.emit(to.addr, from.addr, 20, t.out, |_, ip, a, b| {
            write_ipv4(ip, 0, 0, 0x4000, 6, a, b);
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
        let mut draft = out.draft(ETH_LEN + IPV4_MIN_HEADER + len);
        rewrite::set_macs(&mut draft, hop.mac.unwrap_or_default(), hop.source_mac);
        let bytes = draft.bytes_mut();
        write2(bytes, 12, ETHERTYPE_IPV4);
        fill(self, &mut bytes[ETH_LEN..], from, to);
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
    let tcp = &mut ip[IPV4_MIN_HEADER..];
    tcp.fill(0);
    write2(tcp, 0, from.port);
    write2(tcp, 2, to.port);
    tcp[4..8].copy_from_slice(&seq.to_be_bytes());
    tcp[8..12].copy_from_slice(&ack.to_be_bytes());
    tcp[12] = 5 << 4;
    tcp[13] = flags;
    let pseudo = checksum::pseudo_header_v4(a, b, 6, tcp.len() as u32);
    let sum = !checksum::add(pseudo, checksum::sum(tcp));
    write2(tcp, rewrite::TCP_CHECKSUM, sum);
}

/// Writes an IPv4 header without options for a packet that fills `ip`.
pub(super) fn write_ipv4(
    ip: &mut [u8],
    tos: u8,
    id: u16,
    flags: u16,
    protocol: u8,
    from: [u8; 4],
    to: [u8; 4],
) {
    let len = ip.len() as u16;
    let header = &mut ip[..IPV4_MIN_HEADER];
    header[0] = 0x45;
    header[1] = tos;
    write2(header, 2, len);
    write2(header, 4, id);
    write2(header, 6, flags);
    header[8] = TTL;
    header[9] = protocol;
    header[12..16].copy_from_slice(&from);
    header[16..20].copy_from_slice(&to);
    seal_header(header);
}

/// An endpoint without a port.
pub(super) const fn address(addr: Addr) -> Endpoint {
    Endpoint::new(addr, 0)
}
