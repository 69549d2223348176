//! ICMP errors: which there are, about what they may be, and how they are sent.

use super::{Letter, Voice};
use crate::fib::Fib;
use crate::flow::{Addr, Endpoint};
use crate::frame::Frame;
use crate::narrow::{to_u16, to_u32};
use crate::outbox::Outbox;
use crate::packet::{Packet, Transport};
use crate::rewrite::{self, Ends};
use crate::time::Instant;
use crate::verdict::{DropReason, Verdict};
use crate::wire::{icmp, ipv4, protocol, udp};

/// An ICMP error is at most this long (RFC 1812 §4.3.2.3).
const MAX_LEN: usize = 576;
/// TOS of ICMP errors: internetwork control (RFC 1812 §4.3.2.5), beside what the packet asked for.
const TOS_CONTROL: u8 = 0xc0;
const TOS_KEPT: u8 = 0x1e;

/// Why a packet goes no further, as its sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Error {
    /// No route, said of a packet that the host itself would have routed.
    NetUnreachable,
    /// The route to a server or a client refuses, or its next hop does not answer.
    HostUnreachable,
    /// An owned VIP does not speak the protocol.
    ProtocolUnreachable,
    /// No server to be had, no connection, or nothing on that port of an owned VIP.
    PortUnreachable,
    /// Longer than the way, and not to be cut.
    FragmentationNeeded {
        /// Bytes of the longest packet that goes that way.
        mtu: usize,
    },
    /// The route is administratively prohibited.
    Prohibited,
    /// It has travelled too far.
    TtlExceeded,
}

/// How an error is said.
struct Row {
    message: icmp::Repr,
    /// Why the packet is dropped where no error may be sent about it.
    otherwise: DropReason,
}

impl Error {
    /// The table of errors: type, code, the rest of the header, why the packet is dropped where none may be sent.
    /// Which of them are limited is the same for those that are passed on: [`is_limited`].
    #[rustfmt::skip]
    const fn row(self) -> Row {
        use icmp::{TIME_EXCEEDED as TIME, UNREACHABLE as UNREACH};
        use DropReason as D;
        match self {
            Self::NetUnreachable              => row(UNREACH, icmp::NET_UNREACHABLE,      0,           D::NoRoute),
            Self::HostUnreachable             => row(UNREACH, icmp::HOST_UNREACHABLE,     0,           D::NoRoute),
            Self::ProtocolUnreachable         => row(UNREACH, icmp::PROTOCOL_UNREACHABLE, 0,           D::UnsupportedProtocol),
            Self::PortUnreachable             => row(UNREACH, icmp::PORT_UNREACHABLE,     0,           D::NoConnection),
            Self::FragmentationNeeded { mtu } => row(UNREACH, icmp::FRAGMENTATION_NEEDED, to_u32(mtu), D::Oversized),
            Self::Prohibited                  => row(UNREACH, icmp::PROHIBITED,           0,           D::NoRoute),
            Self::TtlExceeded                 => row(TIME,    icmp::TTL_EXCEEDED,         0,           D::TtlExceeded),
        }
    }

    /// Type, code and the rest of the header.
    pub(in crate::engine) const fn message(self) -> icmp::Repr {
        self.row().message
    }

    /// Why the packet is dropped where no error may be sent about it.
    pub(in crate::engine) const fn otherwise(self) -> DropReason {
        self.row().otherwise
    }

    /// The error about a packet to its sender, from `from`; `None` where none may be sent: never about an ICMP
    /// error (RFC 1122 §3.2.2).
    pub(in crate::engine) fn about<'a>(
        self,
        frame: &'a Frame<'_>,
        packet: &Packet,
        from: Addr,
    ) -> Option<Notice<'a>> {
        if let Transport::Icmp { kind, .. } = packet.transport
            && kind != icmp::ECHO
            && kind != icmp::ECHO_REPLY
        {
            return None;
        }
        Some(Notice {
            message: self.message(),
            from,
            to: packet.flow.src,
            about: &frame.bytes()[usize::from(packet.ip)..],
            ends: Ends::default(),
        })
    }
}

const fn row(kind: u8, code: u8, rest: u32, otherwise: DropReason) -> Row {
    Row {
        message: icmp::Repr { kind, code, rest },
        otherwise,
    }
}

/// An ICMP error that the director sends: one of its own, or one that it passes on.
pub(in crate::engine) struct Notice<'a> {
    pub(in crate::engine) message: icmp::Repr,
    /// [`Addr::UNSPECIFIED`] = the director's own address towards `to`.
    pub(in crate::engine) from: Addr,
    pub(in crate::engine) to: Addr,
    /// The IP packet that it is about, as far as it is known.
    pub(in crate::engine) about: &'a [u8],
    /// What the quoted packet's ends are called where the error goes.
    pub(in crate::engine) ends: Ends,
}

impl Voice {
    /// Sends an ICMP error, where there are not too many.
    pub(in crate::engine) fn notify(
        &mut self,
        now: Instant,
        fib: &Fib,
        notice: &Notice<'_>,
        out: &mut Outbox,
    ) -> Verdict {
        if is_limited(&notice.message) && !self.error_limit.allows(now) {
            return Verdict::Drop(DropReason::IcmpRateLimited);
        }
        self.send_error(fib, notice, out)
    }

    /// Tells a client that its UDP connection is over, as a port unreachable about its last datagram, of which
    /// only the headers are known. Its socket fails with ECONNREFUSED, where it is connected.
    ///
    /// It is limited with the other teardowns, which is up to the caller.
    pub(in crate::engine) fn refuse_datagrams(
        &mut self,
        fib: &Fib,
        (client, vip): (Endpoint, Endpoint),
        out: &mut Outbox,
    ) -> Verdict {
        let (Some(src), Some(dst)) = (client.addr.as_v4(), vip.addr.as_v4()) else {
            return Verdict::Drop(DropReason::NoRoute);
        };
        let mut about = [0; ipv4::MIN_LEN + udp::LEN];
        let header = ipv4::Repr {
            dont_fragment: false,
            ..super::header(protocol::UDP, src, dst, udp::LEN)
        };
        header.emit(&mut about);
        let datagram = udp::Repr {
            src_port: client.port,
            dst_port: vip.port,
            length: to_u16(udp::LEN),
        };
        datagram.emit(&mut about[ipv4::MIN_LEN..]);
        let notice = Notice {
            message: Error::PortUnreachable.message(),
            from: vip.addr,
            to: client.addr,
            about: &about,
            ends: Ends::default(),
        };
        self.send_error(fib, &notice, out)
    }

    fn send_error(&mut self, fib: &Fib, notice: &Notice<'_>, out: &mut Outbox) -> Verdict {
        let most = MAX_LEN - ipv4::MIN_LEN - icmp::LEN;
        let quote = &notice.about[..notice.about.len().min(most)];
        let letter = Letter {
            from: notice.from,
            to: notice.to,
            protocol: protocol::ICMP,
            len: icmp::LEN + quote.len(),
        };
        self.send(fib, &letter, out, |voice, header, message| {
            header.tos = (ipv4::Header::new(quote).tos() & TOS_KEPT) | TOS_CONTROL;
            header.id = voice.next_ip_id();
            header.dont_fragment = false;
            notice.message.emit(message);
            message[icmp::LEN..].copy_from_slice(quote);
            rewrite::set_quoted_ends(&mut message[icmp::LEN..], notice.ends);
            icmp::seal(message);
        })
    }
}

/// Whether a message is rate-limited. One about a packet's size is not: without it a path is a black hole
/// (`icmpv4_mask_allow`).
fn is_limited(message: &icmp::Repr) -> bool {
    (message.kind, message.code) != (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED)
}
