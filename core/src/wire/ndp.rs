//! Neighbour discovery over Ethernet (RFC 4861), as frames: IPv6's twin of [`arp`](super::arp).
//!
//! The kernel speaks for its own addresses and resolves every neighbour. This is what UVS says for a VIP that it was
//! told to own: the [`answer`] to who asks for it, be that to use it (RFC 4862 §5.4), its [`announcement`], and the
//! [`claim`] by which another host is found to have it too. And the [`redirect`] that the kernel, where the guard
//! keeps a packet from it, cannot send.

use super::ethernet::{self, Mac, ethertype, is_one_station};
use super::{checksum, icmp, icmpv6, ipv6, protocol};
use crate::narrow;

/// Type of the ICMPv6 message that asks for a neighbour.
pub const SOLICITATION: u8 = 135;
/// Type of the ICMPv6 message that tells where one is.
pub const ADVERTISEMENT: u8 = 136;
/// Type of the ICMPv6 message that names a better first hop.
pub const REDIRECT: u8 = 137;

/// An IPv6 address's octets.
type Octets = [u8; 16];

/// All nodes of a link, and the group of Ethernet stations that they are (RFC 2464 §7).
const ALL_NODES: Octets = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// Only what no router has passed on is believed (RFC 4861 §7.1).
const HOP_LIMIT: u8 = 255;

/// Bytes of a solicitation or an advertisement without options.
pub const LEN: usize = 24;
/// Bytes of a redirect without options.
const REDIRECT_LEN: usize = 40;
/// Bytes of an option with an Ethernet address.
const ADDRESS_OPTION_LEN: usize = 8;
/// Bytes of a redirected header's option before the packet.
const REDIRECTED_LEN: usize = 8;

/// Option: the sender's link-layer address.
const SOURCE_ADDRESS: u8 = 1;
/// Option: the target's link-layer address.
const TARGET_ADDRESS: u8 = 2;
/// Option: the packet that is redirected.
const REDIRECTED: u8 = 4;

/// Flag of an advertisement: its sender is a router.
const ROUTER: u32 = 0x8000_0000;
/// Flag of an advertisement: it answers a solicitation.
const SOLICITED: u32 = 0x4000_0000;
/// Flag of an advertisement: what is known of the address is to be replaced.
const OVERRIDE: u32 = 0x2000_0000;

header! {
    /// A solicitation or an advertisement without its options, or what of a redirect is before the destination.
    pub struct Message[LEN], offset;
    /// Type.
    pub KIND => kind, set_kind: u8 = 0;
    /// Code; 0.
    pub CODE => code, set_code: u8 = 1;
    /// An advertisement's flags.
    pub FLAGS => flags, set_flags: u32 = 4;
    /// The address that is asked for, told, or is the better first hop.
    pub TARGET => target, set_target: Octets = 8;
}

header! {
    /// A redirect without its options.
    pub struct Redirect[REDIRECT_LEN], redirect_offset;
    /// Where the redirected packet goes.
    pub DESTINATION => destination, set_destination: Octets = 24;
}

header! {
    /// An option with an Ethernet address (RFC 2464 §6).
    pub struct AddressOption[ADDRESS_OPTION_LEN], address_option;
    /// Type.
    pub KIND => kind, set_kind: u8 = 0;
    /// Bytes of the option, in units of 8.
    pub LENGTH => length, set_length: u8 = 1;
    /// The address.
    pub MAC => mac, set_mac: Mac = 2;
}

/// What is the same in solicitations and advertisements, believed as RFC 4861 §7.1 says.
struct Heard {
    kind: u8,
    flags: u32,
    /// Where the frame comes from and goes.
    ethernet: (Mac, Mac),
    src: Octets,
    dst: Octets,
    target: Octets,
    /// The MAC address of the solicitation's sender, or of the advertisement's target, as an option says it.
    told: Option<Mac>,
}

impl Heard {
    /// `None` for a frame that is neither, or not to be believed.
    fn parse(frame: &[u8]) -> Option<Self> {
        let header = ethernet::Header::new_checked(frame).ok()?;
        let ip = ipv6::Header::new_checked(&frame[ethernet::LEN..]).ok()?;
        let payload = frame.get(ethernet::LEN + ipv6::LEN..)?;
        let payload = payload.get(..usize::from(ip.payload_len()))?;
        let message = Message::new_checked(payload).ok()?;
        let kind = message.kind();
        let sound = header.ethertype() == ethertype::IPV6
            && ip.version() == 6
            && ip.next_header() == protocol::ICMPV6
            && ip.hop_limit() == HOP_LIMIT
            && matches!(kind, SOLICITATION | ADVERTISEMENT)
            && message.code() == 0
            && !is_group(&message.target());
        let len = narrow::to_u32(payload.len());
        let pseudo = checksum::pseudo_header_v6(ip.src(), ip.dst(), protocol::ICMPV6, len);
        if !sound || checksum::add(pseudo, checksum::sum(payload)) != 0xffff {
            return None;
        }
        let told = match kind {
            SOLICITATION => SOURCE_ADDRESS,
            _ => TARGET_ADDRESS,
        };
        let heard = Self {
            kind,
            flags: message.flags(),
            ethernet: (header.src(), header.dst()),
            src: ip.src(),
            dst: ip.dst(),
            target: message.target(),
            told: told_address(&payload[LEN..], told)?,
        };
        heard.is_consistent().then_some(heard)
    }

    /// Who uses no address yet asks the group alone, and has nothing to tell of itself; what answers a question
    /// goes to one host (RFC 4861 §7.1.1, §7.1.2).
    fn is_consistent(&self) -> bool {
        match self.kind {
            SOLICITATION if self.src == [0; 16] => {
                self.told.is_none() && self.dst == solicited_node(&self.target)
            }
            SOLICITATION => !is_group(&self.src),
            _ => self.flags & SOLICITED == 0 || !is_group(&self.dst),
        }
    }
}

/// The address in the option of this kind, `Some(None)` where there is none; `None` where options are malformed.
fn told_address(mut options: &[u8], wanted: u8) -> Option<Option<Mac>> {
    let mut told = None;
    while !options.is_empty() {
        let option = AddressOption::new_checked(options).ok()?;
        let len = usize::from(option.length()) * 8;
        let rest = options.get(len..).filter(|_| len > 0)?;
        if option.kind() == wanted && len == ADDRESS_OPTION_LEN {
            told = Some(option.mac());
        }
        options = rest;
    }
    Some(told)
}

/// The answer to a solicitation for an owned VIP, by a `router` or another host.
///
/// `None` where nothing is to be said: another kind of frame, one for somebody else or from ourselves, or a sender
/// that cannot be answered. Who is about to take the VIP for itself (source `::`, RFC 4862 §5.4.3) is told before all
/// others that it is taken. Who asked this station alone knows its MAC address and is not told it again, as by Linux
/// (`ndisc_recv_ns`).
pub fn answer(
    frame: &[u8],
    is_owned: impl Fn(Octets) -> bool,
    mac: Mac,
    router: bool,
) -> Option<Vec<u8>> {
    let asked = Heard::parse(frame).filter(|heard| heard.kind == SOLICITATION)?;
    let (from, to) = asked.ethernet;
    let vip = asked.target;
    let to_us = to == mac || to == group_mac(&asked.dst);
    let names_us = asked.dst == vip || asked.dst == solicited_node(&vip);
    let sane = is_one_station(from) && from != mac && asked.src != vip;
    if !(to_us && names_us && sane && is_owned(vip)) {
        return None;
    }
    let router = if router { ROUTER } else { 0 };
    let told = asked.told.filter(|mac| is_one_station(*mac));
    let asks_all = is_group(&asked.dst);
    let advertisement = if asked.src == [0; 16] {
        Advertisement {
            to: ALL_NODES,
            station: group_mac(&ALL_NODES),
            flags: router | OVERRIDE,
        }
    } else {
        Advertisement {
            to: asked.src,
            station: told.unwrap_or(from),
            flags: router | SOLICITED | if asks_all { OVERRIDE } else { 0 },
        }
    };
    Some(advertisement.frame(vip, mac))
}

/// The announcement of a VIP: an advertisement to all nodes that nobody has asked for (RFC 4861 §7.2.6), by a
/// `router` or another host.
///
/// It is due as ARP's, [`ANNOUNCEMENTS`](super::arp::ANNOUNCEMENTS) times, whenever the VIP becomes ours.
pub fn announcement(vip: Octets, mac: Mac, router: bool) -> Vec<u8> {
    let advertisement = Advertisement {
        to: ALL_NODES,
        station: group_mac(&ALL_NODES),
        flags: if router { ROUTER | OVERRIDE } else { OVERRIDE },
    };
    advertisement.frame(vip, mac)
}

/// Bytes of a [`probe`].
pub const PROBE_LEN: usize = ethernet::LEN + ipv6::LEN + LEN;

/// A probe for an address (RFC 4862 §5.4.2: a solicitation without a source, which enters no cache) from the interface
/// with this MAC address.
pub fn probe(target: Octets, mac: Mac) -> [u8; PROBE_LEN] {
    let mut frame = [0; PROBE_LEN];
    let to = solicited_node(&target);
    let mut message = Message::new_mut(&mut frame[ethernet::LEN + ipv6::LEN..]);
    message.set_kind(SOLICITATION);
    message.set_target(target);
    seal(&mut frame, (mac, group_mac(&to)), [0; 16], to);
    frame
}

/// The address and the MAC address that an advertisement tells; `None` for every other frame.
pub fn reply(frame: &[u8]) -> Option<(Octets, Mac)> {
    let heard = Heard::parse(frame).filter(|heard| heard.kind == ADVERTISEMENT)?;
    Some((heard.target, heard.told.unwrap_or(heard.ethernet.0)))
}

/// The address that a frame's sender says it has, and the MAC address it has it at: an advertisement's target, or
/// from where a solicitation comes. `None` where it says neither, as a probe.
pub fn claim(frame: &[u8]) -> Option<(Octets, Mac)> {
    let heard = Heard::parse(frame)?;
    let mac = heard.told.unwrap_or(heard.ethernet.0);
    let addr = match heard.kind {
        SOLICITATION => heard.src,
        _ => heard.target,
    };
    (is_one_station(mac) && addr != [0; 16]).then_some((addr, mac))
}

/// What an advertisement says, and to whom; with its sender's MAC address where it overrides what is known.
struct Advertisement {
    to: Octets,
    station: Mac,
    flags: u32,
}

impl Advertisement {
    fn frame(&self, vip: Octets, mac: Mac) -> Vec<u8> {
        let overrides = self.flags & OVERRIDE != 0;
        let option = if overrides { ADDRESS_OPTION_LEN } else { 0 };
        let mut frame = vec![0; ethernet::LEN + ipv6::LEN + LEN + option];
        let body = &mut frame[ethernet::LEN + ipv6::LEN..];
        let mut message = Message::new_mut(body);
        message.set_kind(ADVERTISEMENT);
        message.set_flags(self.flags);
        message.set_target(vip);
        if overrides {
            address_option(&mut body[LEN..], TARGET_ADDRESS, mac);
        }
        seal(&mut frame, (mac, self.station), vip, self.to);
        frame
    }
}

/// What a redirect says.
#[derive(Clone, Copy, Debug)]
pub struct Redirection<'a> {
    /// The router's link-local address, and its MAC address.
    pub from: (Octets, Mac),
    /// Whom it tells, and its MAC address.
    pub to: (Octets, Mac),
    /// The better first hop: another router, or the destination itself.
    pub target: Octets,
    /// The target's MAC address, where it is known.
    pub station: Option<Mac>,
    /// The packet that came the longer way.
    pub packet: &'a [u8],
}

/// A redirect (RFC 4861 §4.5, Linux `ndisc_send_redirect`), no longer than every link takes; the redirected packet is
/// of IPv6 and has its header whole.
pub fn redirect(says: &Redirection<'_>) -> Vec<u8> {
    const HEADERS: usize = ethernet::LEN + ipv6::LEN;
    let target = if says.station.is_some() {
        ADDRESS_OPTION_LEN
    } else {
        0
    };
    let room = ipv6::MIN_MTU - ipv6::LEN - REDIRECT_LEN - target - REDIRECTED_LEN;
    // An option is a multiple of 8 bytes long.
    let quoted = says.packet.len().min(room) & !7;
    let mut frame = vec![0; HEADERS + REDIRECT_LEN + target + REDIRECTED_LEN + quoted];
    let body = &mut frame[HEADERS..];
    let mut message = Message::new_mut(body);
    message.set_kind(REDIRECT);
    message.set_target(says.target);
    let destination = ipv6::Header::new(says.packet).dst();
    Redirect::new_mut(body).set_destination(destination);
    if let Some(mac) = says.station {
        address_option(&mut body[REDIRECT_LEN..], TARGET_ADDRESS, mac);
    }
    let option = &mut body[REDIRECT_LEN + target..];
    let mut head = AddressOption::new_mut(option);
    head.set_kind(REDIRECTED);
    head.set_length(narrow::to_u8((REDIRECTED_LEN + quoted) / 8));
    option[REDIRECTED_LEN..].copy_from_slice(&says.packet[..quoted]);
    let stations = (says.from.1, says.to.1);
    seal(&mut frame, stations, says.from.0, says.to.0);
    frame
}

fn address_option(bytes: &mut [u8], kind: u8, mac: Mac) {
    let mut option = AddressOption::new_mut(bytes);
    option.set_kind(kind);
    option.set_length(narrow::to_u8(ADDRESS_OPTION_LEN / 8));
    option.set_mac(mac);
}

/// Writes the headers before a message, between these stations and addresses, and the message's checksum.
fn seal(frame: &mut [u8], (from, to): (Mac, Mac), src: Octets, dst: Octets) {
    let header = ethernet::Repr {
        dst: to,
        src: from,
        ethertype: ethertype::IPV6,
    };
    header.emit(frame);
    let packet = &mut frame[ethernet::LEN..];
    let header = ipv6::Repr {
        traffic_class: 0,
        flow_label: 0,
        payload_len: narrow::to_u16(packet.len() - ipv6::LEN),
        next_header: protocol::ICMPV6,
        hop_limit: HOP_LIMIT,
        src,
        dst,
    };
    header.emit(packet);
    icmpv6::seal(&mut packet[ipv6::LEN..], header.pseudo_header());
}

/// Whether it is the address of a group.
const fn is_group(addr: &Octets) -> bool {
    addr[0] == 0xff
}

/// The group in which a host listens for questions about an address (RFC 4291 §2.7.1).
pub const fn solicited_node(addr: &Octets) -> Octets {
    let [.., a, b, c] = *addr;
    [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]
}

/// The Ethernet stations that a group is (RFC 2464 §7).
pub const fn group_mac(group: &Octets) -> Mac {
    let [.., a, b, c, d] = *group;
    [0x33, 0x33, a, b, c, d]
}

const _: () = assert!(LEN >= icmp::LEN);

#[cfg(test)]
mod tests;
