//! ICMP errors: which there are, about what they may be, and how they are sent.

use super::{Header, Letter, Voice};
use crate::fib::Fib;
use crate::flow::{Addr, Endpoint, Family};
use crate::frame::Frame;
use crate::narrow::{to_u16, to_u32};
use crate::outbox::Outbox;
use crate::packet::{Packet, Transport};
use crate::rewrite::{self, Ends};
use crate::time::Instant;
use crate::verdict::{DropReason, Verdict};
use crate::wire::{icmp, icmpv6, ipv4, ipv6, ndp, protocol, udp};

/// An ICMP error is at most this long, headers included (RFC 1812 §4.3.2.3, RFC 4443 §2.4 c).
const fn max_len(family: Family) -> usize {
    match family {
        Family::V4 => 576,
        Family::V6 => ipv6::MIN_MTU,
    }
}
/// TOS of IPv4's ICMP errors: internetwork control (RFC 1812 §4.3.2.5), beside what the packet asked for.
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
    ProtocolUnreachable {
        /// Where an IPv6 packet names it, bytes from the packet's first.
        at: usize,
    },
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
    /// An IPv6 packet's hop-by-hop option is not known, and asks for an error.
    UnknownOption {
        /// Where it is, bytes from the packet's first.
        at: usize,
    },
    /// An IPv6 packet's hop-by-hop option says what cannot be.
    ErroneousOption {
        /// Where it says so, bytes from the packet's first.
        at: usize,
    },
}

/// How an error is said.
struct Row {
    /// In ICMP: type, code, the rest of the header. What only IPv6 packets have is never said in it.
    icmp: (u8, u8, u32),
    /// In ICMPv6.
    icmpv6: (u8, u8, u32),
    /// Why the packet is dropped where no error may be sent about it.
    otherwise: DropReason,
}

impl Error {
    /// The table of errors. Which of them are limited is the same for those that are passed on: [`is_limited`].
    #[rustfmt::skip]
    const fn row(self) -> Row {
        use icmp::{TIME_EXCEEDED as TIME, UNREACHABLE as UNREACH, PARAMETER_PROBLEM as PARAM};
        use icmpv6::{TIME_EXCEEDED as TIME6, UNREACHABLE as UNREACH6, PARAMETER_PROBLEM as PARAM6};
        use DropReason as D;
        match self {
            Self::NetUnreachable              => row((UNREACH, icmp::NET_UNREACHABLE, 0),           (UNREACH6, icmpv6::NO_ROUTE, 0),                     D::NoRoute),
            Self::HostUnreachable             => row((UNREACH, icmp::HOST_UNREACHABLE, 0),          (UNREACH6, icmpv6::ADDRESS_UNREACHABLE, 0),          D::NoRoute),
            Self::ProtocolUnreachable { at }  => row((UNREACH, icmp::PROTOCOL_UNREACHABLE, 0),      (PARAM6, icmpv6::UNKNOWN_NEXT_HEADER, to_u32(at)),   D::UnsupportedProtocol),
            Self::PortUnreachable             => row((UNREACH, icmp::PORT_UNREACHABLE, 0),          (UNREACH6, icmpv6::PORT_UNREACHABLE, 0),             D::NoConnection),
            Self::FragmentationNeeded { mtu } => row((UNREACH, icmp::FRAGMENTATION_NEEDED, to_u32(mtu)), (icmpv6::TOO_BIG, 0, to_u32(mtu)),              D::Oversized),
            Self::Prohibited                  => row((UNREACH, icmp::PROHIBITED, 0),                (UNREACH6, icmpv6::PROHIBITED, 0),                   D::NoRoute),
            Self::TtlExceeded                 => row((TIME, icmp::TTL_EXCEEDED, 0),                 (TIME6, icmpv6::HOP_LIMIT_EXCEEDED, 0),              D::TtlExceeded),
            Self::UnknownOption { at }        => row((PARAM, 0, 0),                                 (PARAM6, icmpv6::UNKNOWN_OPTION, to_u32(at)),        D::HopByHopOptions),
            Self::ErroneousOption { at }      => row((PARAM, 0, 0),                                 (PARAM6, icmpv6::ERRONEOUS_FIELD, to_u32(at)),       D::HopByHopOptions),
        }
    }

    /// Type, code and the rest of the header, in a family's ICMP.
    pub(in crate::engine) const fn message(self, family: Family) -> icmp::Repr {
        let row = self.row();
        let (kind, code, rest) = match family {
            Family::V4 => row.icmp,
            Family::V6 => row.icmpv6,
        };
        icmp::Repr { kind, code, rest }
    }

    /// Why the packet is dropped where no error may be sent about it.
    pub(in crate::engine) const fn otherwise(self) -> DropReason {
        self.row().otherwise
    }

    /// The error about a packet to its sender, from `from`; `None` where none may be sent: never about an ICMP
    /// error (RFC 1122 §3.2.2, RFC 4443 §2.4 e).
    pub(in crate::engine) fn about<'a>(
        self,
        frame: &'a Frame<'_>,
        packet: &Packet,
        from: Addr,
    ) -> Option<Notice<'a>> {
        let is_error = match packet.transport {
            Transport::Icmp { kind, .. } => !matches!(kind, icmp::ECHO | icmp::ECHO_REPLY),
            Transport::Icmpv6 { kind, .. } => {
                kind < icmpv6::FIRST_INFORMATIONAL || kind == ndp::REDIRECT
            }
            _ => false,
        };
        (!is_error).then(|| Notice {
            message: self.message(packet.family),
            from,
            to: packet.flow.src,
            by: frame.arrival,
            about: &frame.bytes()[usize::from(packet.ip)..],
            ends: Ends::default(),
        })
    }
}

const fn row(icmp: (u8, u8, u32), icmpv6: (u8, u8, u32), otherwise: DropReason) -> Row {
    Row {
        icmp,
        icmpv6,
        otherwise,
    }
}

/// An ICMP error that the director sends: one of its own, or one that it passes on. It is of the family of whom it
/// goes to.
pub(in crate::engine) struct Notice<'a> {
    /// ICMPv6's header has the form of ICMP's.
    pub(in crate::engine) message: icmp::Repr,
    /// [`Addr::UNSPECIFIED`] = the director's own address towards `to`.
    pub(in crate::engine) from: Addr,
    pub(in crate::engine) to: Addr,
    /// The interface that what it is about came in by; 0 where that is not known.
    pub(in crate::engine) by: u32,
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
        if is_limited(notice) && !self.error_limit.allows(now) {
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
        let Some(mut header) = Header::new(protocol::UDP, client.addr, vip.addr, udp::LEN) else {
            return Verdict::Drop(DropReason::NoRoute);
        };
        if let Header::V4(header) = &mut header {
            header.dont_fragment = false;
        }
        let mut about = [0; ipv6::LEN + udp::LEN];
        let about = &mut about[..header.len() + udp::LEN];
        header.emit(about);
        let datagram = udp::Repr {
            src_port: client.port,
            dst_port: vip.port,
            length: to_u16(udp::LEN),
        };
        datagram.emit(&mut about[header.len()..]);
        let notice = Notice {
            message: Error::PortUnreachable.message(client.addr.family()),
            from: vip.addr,
            to: client.addr,
            by: 0,
            about,
            ends: Ends::default(),
        };
        self.send_error(fib, &notice, out)
    }

    fn send_error(&mut self, fib: &Fib, notice: &Notice<'_>, out: &mut Outbox) -> Verdict {
        let family = notice.to.family();
        let most = max_len(family) - Header::len_of(family) - icmp::LEN;
        let quote = &notice.about[..notice.about.len().min(most)];
        let letter = Letter {
            from: notice.from,
            to: notice.to,
            by: notice.by,
            protocol: match family {
                Family::V4 => protocol::ICMP,
                Family::V6 => protocol::ICMPV6,
            },
            len: icmp::LEN + quote.len(),
        };
        self.send(fib, &letter, out, |voice, header, message| {
            notice.message.emit(message);
            message[icmp::LEN..].copy_from_slice(quote);
            rewrite::set_quoted_ends(&mut message[icmp::LEN..], notice.ends);
            match header {
                Header::V4(header) => {
                    header.tos = (ipv4::Header::new(quote).tos() & TOS_KEPT) | TOS_CONTROL;
                    header.id = voice.next_ip_id();
                    header.dont_fragment = false;
                    icmp::seal(message);
                }
                Header::V6(header) => icmpv6::seal(message, header.pseudo_header()),
            }
        })
    }
}

/// Whether a message is rate-limited. One about a packet's size is not: without it a path is a black hole
/// (`icmpv4_mask_allow`, `icmpv6_mask_allow`).
fn is_limited(notice: &Notice<'_>) -> bool {
    let icmp::Repr { kind, code, .. } = notice.message;
    match notice.to.family() {
        Family::V4 => (kind, code) != (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED),
        Family::V6 => kind != icmpv6::TOO_BIG,
    }
}
