//! How long a packet may be on its way out: what a link leaves for it, and how it is cut where that is allowed.

use super::leg::{By, Leg};
use super::pmtu;
use crate::flow::Family;
use crate::frame::{Frame, Gso};
use crate::packet::{Packet, Transport};
use crate::segment;
use crate::translate;
use crate::wire::ipv6;

/// How long packets leave, bytes of IP.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// The longest that is not cut,
    pub(super) whole: usize,
    /// and the longest fragment of one that is.
    pub(super) fragment: usize,
}

/// How a packet fits a link.
#[derive(Clone, Copy)]
pub(super) struct Fit {
    /// The longest packet, as it came, that goes through uncut.
    pub(super) room: usize,
    pub(super) sizes: Sizes,
}

impl Sizes {
    pub(super) const fn up_to(limit: usize) -> Self {
        Self {
            whole: limit,
            fragment: limit,
        }
    }

    /// Those of a packet that leaves over a link of this MTU: what came in pieces leaves in such again, within one
    /// family. Of IPv6 none need be shorter than what each link takes (`ip6_finish_output`, `ip6_fragment`).
    fn of(packet: &Packet, leg: &Leg, mtu: usize) -> Self {
        let family = leg.family();
        if leg.changes_family(packet) {
            return Self::between(packet, mtu);
        }
        match packet.fragment_size.map(usize::from) {
            Some(size) if packet.family == family => match family {
                Family::V4 => Self::up_to(mtu.min(size)),
                Family::V6 => Self {
                    whole: mtu.min(size),
                    fragment: mtu.min(size.max(ipv6::MIN_MTU)),
                },
            },
            _ => Self::up_to(mtu),
        }
    }

    /// An IPv4 packet that routers may cut is cut here as small as they would have to at most, for in IPv6 they do
    /// not (RFC 7915 §4).
    fn between(packet: &Packet, mtu: usize) -> Self {
        match packet.family {
            Family::V4 if !packet.dont_fragment => Self::up_to(mtu.min(ipv6::MIN_MTU)),
            _ => Self::up_to(mtu),
        }
    }
}

impl Leg {
    /// Of which family the packet leaves: its outermost header.
    #[inline]
    pub(super) const fn family(&self) -> Family {
        match self.forward {
            true => self.path.ends.server.addr.family(),
            false => self.path.ends.client.addr.family(),
        }
    }

    /// Whether the packet itself becomes one of the other family.
    #[inline(always)]
    pub(super) fn changes_family(&self, packet: &Packet) -> bool {
        self.may_mix_families() && self.family() != packet.family && self.overhead() == 0
    }

    /// Whether its ends may be of two families: most are not asked for theirs.
    #[inline(always)]
    const fn may_mix_families(&self) -> bool {
        match self.by {
            By::Mode(mode) => mode.forwarding.def().mixes_families,
            By::Addresses(_) => false,
        }
    }

    /// What a link with this MTU leaves for a packet as it came.
    fn room(&self, packet: &Packet, mtu: usize) -> usize {
        if self.changes_family(packet) {
            return room_between(packet, self.family(), mtu);
        }
        mtu.saturating_sub(self.overhead())
    }

    /// What a link with this MTU leaves for a packet as it came, and how long that leaves.
    #[inline(always)]
    pub(super) fn fit(&self, packet: &Packet, mtu: usize) -> Fit {
        if packet.fragment_size.is_none() && !self.changes_family(packet) {
            return Fit {
                room: mtu.saturating_sub(self.overhead()),
                sizes: Sizes::up_to(mtu),
            };
        }
        self.fit_changed(packet, mtu)
    }

    /// As [`Leg::fit`], for what came in pieces or becomes a packet of the other family.
    fn fit_changed(&self, packet: &Packet, mtu: usize) -> Fit {
        Fit {
            room: self.room(packet, mtu),
            sizes: Sizes::of(packet, self, mtu),
        }
    }

    /// Whether a tunnel over a link leaves less than any IP packet may need.
    #[cold]
    pub(super) fn has_no_room(&self, room: usize) -> bool {
        self.overhead() > 0 && room < pmtu::MIN_MTU
    }

    /// The MTU that the sender of a packet that is too long is told of.
    pub(super) fn told_mtu(&self, packet: &Packet, room: usize) -> usize {
        let least = pmtu::least_mtu(packet.family);
        // What is shorter than that is cut here. An IPv6 packet in IPv4 is not: as the kernel, UVS tells what
        // that takes.
        if self.changes_family(packet) || self.is_ipv6_tunnel() {
            room.max(least)
        } else {
            room
        }
    }

    fn is_ipv6_tunnel(&self) -> bool {
        self.overhead() > 0 && self.family() == Family::V6
    }

    /// Whether a packet of `len` bytes, which is too long, may be cut, or its tunnel's outer one instead.
    pub(super) fn may_cut(&self, packet: &Packet, len: usize) -> bool {
        let cut_outside = self.overhead() > 0 && !self.path.copy_df;
        match packet.family {
            Family::V4 => {
                let icmp = matches!(packet.transport, Transport::Icmp { .. });
                !packet.dont_fragment || icmp || cut_outside
            }
            // A source need not send less than this: a tunnel cuts the packet outside (RFC 2473 §7.1), where the
            // kernel drops it.
            Family::V6 if self.is_ipv6_tunnel() => len <= ipv6::MIN_MTU,
            // Translated it carries no DF where its source need not send less.
            Family::V6 => {
                let header = translate::header_len(Family::V4);
                let translated = (len + header).saturating_sub(packet.ip_header.into());
                self.changes_family(packet) && translated <= translate::MAX_CUTTABLE
            }
        }
    }

    /// Whether a super-frame can leave as one: the kernel cuts none within an outer header, and in the other family
    /// it may be longer than its header can say.
    pub(super) fn keeps_super_frame(&self, packet: &Packet) -> bool {
        let longest = usize::from(u16::MAX);
        let header = translate::header_len(self.family());
        let fits = || header + packet.l4_len() <= longest;
        self.overhead() == 0 && (!self.changes_family(packet) || fits())
    }
}

/// What a link with this MTU leaves for a packet that becomes one of this family, which is not its own.
pub(super) fn room_between(packet: &Packet, family: Family, mtu: usize) -> usize {
    (mtu + usize::from(packet.ip_header)).saturating_sub(translate::header_len(family))
}

/// Bytes of the largest IP packet that a frame becomes on the wire. In IPv6 what came in pieces leaves in such.
#[inline]
pub(super) fn wire_len(frame: &Frame<'_>, packet: &Packet) -> usize {
    match (frame.offload.gso, packet.fragment_size) {
        (Gso::None, Some(piece)) if packet.family == Family::V6 => usize::from(piece),
        (Gso::None, _) => packet.ip_len as usize,
        _ => segment::segment_ip_len(frame, packet),
    }
}
