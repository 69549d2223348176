//! ARP for IPv4 over Ethernet (RFC 826), as frames, and what RFC 5227 says of addresses that are to be one
//! host's.
//!
//! The kernel answers for its own addresses and resolves every neighbour; for a VIP that it does not
//! have, and that UVS was told to own, nobody would answer. This is that answer, the announcement of the
//! VIP, and the [`claim`] by which another host is found to have it too; the engine never asks and keeps no
//! cache. (The control thread and `uvs doctor` ask, by a [`probe`], who else has a VIP.)

use std::time::Duration;

use super::ethernet::{self, BROADCAST, Mac, ethertype, is_one_station};

/// Bytes of an ARP packet for IPv4 over Ethernet.
pub const LEN: usize = 28;
/// Bytes of it with its Ethernet header.
pub const FRAME_LEN: usize = ethernet::LEN + LEN;
/// How often an address is announced (ANNOUNCE_NUM, RFC 5227 §1.1).
pub const ANNOUNCEMENTS: u32 = 2;
/// Time between announcements (ANNOUNCE_INTERVAL, RFC 5227 §1.1).
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);

const HARDWARE_ETHERNET: u16 = 1;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

header! {
    /// An ARP packet for IPv4 over Ethernet.
    pub struct Packet[LEN], offset;
    /// Hardware type.
    pub HARDWARE => hardware, set_hardware: u16 = 0;
    /// Protocol type, an EtherType.
    pub PROTOCOL => protocol, set_protocol: u16 = 2;
    /// Bytes of a hardware address.
    pub HARDWARE_LEN => hardware_len, set_hardware_len: u8 = 4;
    /// Bytes of a protocol address.
    pub PROTOCOL_LEN => protocol_len, set_protocol_len: u8 = 5;
    /// Request or reply.
    pub OPERATION => operation, set_operation: u16 = 6;
    /// The sender's MAC address.
    pub SENDER_MAC => sender_mac, set_sender_mac: Mac = 8;
    /// The sender's address; 0.0.0.0 in a probe.
    pub SENDER => sender, set_sender: [u8; 4] = 14;
    /// The target's MAC address, of no meaning in a request.
    pub TARGET_MAC => target_mac, set_target_mac: Mac = 18;
    /// The target's address.
    pub TARGET => target, set_target: [u8; 4] = 24;
}

/// What an ARP packet says, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Repr {
    destination: Mac,
    operation: u16,
    sender: (Mac, [u8; 4]),
    target: (Mac, [u8; 4]),
}

impl Repr {
    /// `None` for a frame that is no ARP for IPv4 over Ethernet.
    fn parse(frame: &[u8]) -> Option<Self> {
        let header = ethernet::Header::new_checked(frame).ok()?;
        let arp = Packet::new_checked(&frame[ethernet::LEN..]).ok()?;
        let of_ipv4 = header.ethertype() == ethertype::ARP
            && arp.hardware() == HARDWARE_ETHERNET
            && arp.protocol() == ethertype::IPV4
            && (arp.hardware_len(), arp.protocol_len()) == (6, 4);
        of_ipv4.then(|| Self {
            destination: header.dst(),
            operation: arp.operation(),
            sender: (arp.sender_mac(), arp.sender()),
            target: (arp.target_mac(), arp.target()),
        })
    }

    fn frame(&self) -> [u8; FRAME_LEN] {
        let mut frame = [0; FRAME_LEN];
        let header = ethernet::Repr {
            dst: self.destination,
            src: self.sender.0,
            ethertype: ethertype::ARP,
        };
        header.emit(&mut frame);
        let mut arp = Packet::new_mut(&mut frame[ethernet::LEN..]);
        arp.set_hardware(HARDWARE_ETHERNET);
        arp.set_protocol(ethertype::IPV4);
        arp.set_hardware_len(6);
        arp.set_protocol_len(4);
        arp.set_operation(self.operation);
        arp.set_sender_mac(self.sender.0);
        arp.set_sender(self.sender.1);
        arp.set_target_mac(self.target.0);
        arp.set_target(self.target.1);
        frame
    }

    /// A reply goes to one station: no group or zero MAC address, no group, broadcast or loopback IP.
    fn has_sane_sender(&self) -> bool {
        let (mac, [first, ..]) = self.sender;
        is_one_station(mac) && first < 224 && first != 127
    }
}

/// The reply to an ARP request for an owned VIP.
///
/// `None` where nothing is to be said: another kind of frame, a request for somebody else or from
/// ourselves, an announcement, or a sender that cannot be answered. A probe (sender 0.0.0.0, RFC 5227 §2.1.1) is
/// answered: its sender is about to take the VIP.
pub fn answer(
    frame: &[u8],
    is_owned: impl Fn([u8; 4]) -> bool,
    mac: Mac,
) -> Option<[u8; FRAME_LEN]> {
    let request = Repr::parse(frame).filter(|arp| arp.operation == REQUEST)?;
    let (asker, vip) = (request.sender, request.target.1);
    let to_us = request.destination == BROADCAST || request.destination == mac;
    let (from_us, gratuitous) = (asker.0 == mac, asker.1 == vip);
    let wanted = to_us && !from_us && !gratuitous && request.has_sane_sender();
    (wanted && is_owned(vip)).then(|| {
        let reply = Repr {
            destination: asker.0,
            operation: REPLY,
            sender: (mac, vip),
            target: asker,
        };
        reply.frame()
    })
}

/// The announcement of a VIP (RFC 5227 §3: a broadcast request with the VIP as sender and as target).
///
/// It is due [`ANNOUNCEMENTS`] times, [`ANNOUNCE_INTERVAL`] apart, whenever the VIP becomes ours.
pub fn announcement(vip: [u8; 4], mac: Mac) -> [u8; FRAME_LEN] {
    question((mac, vip), vip)
}

/// A probe for an address (RFC 5227 §2.1.1: a broadcast request without a sender address, which enters no
/// cache) from the interface with this MAC address.
pub fn probe(target: [u8; 4], mac: Mac) -> [u8; FRAME_LEN] {
    question((mac, [0; 4]), target)
}

fn question(sender: (Mac, [u8; 4]), target: [u8; 4]) -> [u8; FRAME_LEN] {
    let request = Repr {
        destination: BROADCAST,
        operation: REQUEST,
        sender,
        target: ([0; 6], target),
    };
    request.frame()
}

/// The address and the MAC address that a reply tells; `None` for every other frame.
pub fn reply(frame: &[u8]) -> Option<([u8; 4], Mac)> {
    let arp = Repr::parse(frame).filter(|arp| arp.operation == REPLY)?;
    Some((arp.sender.1, arp.sender.0))
}

/// The address that a frame's sender has, and the MAC address it has it at, by a request or a reply alike
/// (RFC 5227 §2.4); `None` where it says neither, as a probe, or is no ARP.
pub fn claim(frame: &[u8]) -> Option<([u8; 4], Mac)> {
    let arp = Repr::parse(frame)?;
    let (mac, addr) = arp.sender;
    let speaks = matches!(arp.operation, REQUEST | REPLY);
    (speaks && is_one_station(mac) && addr != [0; 4]).then_some((addr, mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Mac = [2, 0, 0, 0, 0, 1];
    const VIP: [u8; 4] = [10, 0, 1, 100];

    /// Who has 10.0.1.100, tell 10.0.1.7 (02:00:00:00:00:07).
    const WHO_HAS: [u8; FRAME_LEN] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 7, 8, 6, // Ethernet
        0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, request
        2, 0, 0, 0, 0, 7, 10, 0, 1, 7, // sender
        0, 0, 0, 0, 0, 0, 10, 0, 1, 100, // target
    ];

    /// 10.0.1.100 is at 02:00:00:00:00:01.
    const IS_AT: [u8; FRAME_LEN] = [
        2, 0, 0, 0, 0, 7, 2, 0, 0, 0, 0, 1, 8, 6, // Ethernet
        0, 1, 8, 0, 6, 4, 0, 2, // Ethernet, IPv4, reply
        2, 0, 0, 0, 0, 1, 10, 0, 1, 100, // sender
        2, 0, 0, 0, 0, 7, 10, 0, 1, 7, // target
    ];

    fn answered(frame: &[u8]) -> Option<[u8; FRAME_LEN]> {
        answer(frame, |a| a == VIP, OURS)
    }

    /// The request with some bytes replaced.
    fn with(changes: &[(usize, &[u8])]) -> [u8; FRAME_LEN] {
        let mut f = WHO_HAS;
        for (at, bytes) in changes {
            f[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
        f
    }

    #[test]
    fn a_request_for_an_owned_vip_is_answered() {
        assert_eq!(answered(&WHO_HAS), Some(IS_AT));
    }

    #[test]
    fn a_probe_is_answered_and_the_reply_understood() {
        let asker = [2, 0, 0, 0, 0, 9];
        let frame = probe(VIP, asker);
        assert_eq!(reply(&frame), None, "a request is no reply");
        let answer = answered(&frame).unwrap();
        assert_eq!(answer[..6], asker);
        assert_eq!(reply(&answer), Some((VIP, OURS)));
        assert_eq!(reply(&answer[..FRAME_LEN - 1]), None);
    }

    #[test]
    fn whoever_speaks_from_an_address_claims_it() {
        let other = [2, 0, 0, 0, 0, 7];
        let asker = Some(([10, 0, 1, 7], other));
        assert_eq!(claim(&WHO_HAS), asker, "by asking for another");
        assert_eq!(claim(&IS_AT), Some((VIP, OURS)), "by a reply");
        assert_eq!(claim(&announcement(VIP, other)), Some((VIP, other)));
        assert_eq!(
            claim(&probe(VIP, other)),
            None,
            "a probe claims nothing yet"
        );
        for (what, at, bytes) in [
            ("RARP", 20, &[0, 3][..]),
            ("not ARP", 12, &[8, 0]),
            ("a group's MAC", 22, &[1, 0, 0x5e]),
            ("no MAC", 22, &[0; 6]),
        ] {
            assert_eq!(claim(&with(&[(at, bytes)])), None, "{what}");
        }
        assert_eq!(claim(&WHO_HAS[..FRAME_LEN - 1]), None);
    }

    #[test]
    fn padding_to_the_ethernet_minimum_does_not_matter() {
        let mut padded = [0; 60];
        padded[..FRAME_LEN].copy_from_slice(&WHO_HAS);
        assert_eq!(answered(&padded), Some(IS_AT));
    }

    #[test]
    fn a_unicast_poll_to_our_mac_is_answered() {
        assert_eq!(answered(&with(&[(0, &OURS)])), Some(IS_AT));
    }

    #[test]
    fn a_probe_is_answered_to_the_unspecified_address() {
        let mut expected = IS_AT;
        expected[38..].copy_from_slice(&[0; 4]);
        assert_eq!(answered(&with(&[(28, &[0; 4])])), Some(expected));
    }

    #[test]
    fn nothing_else_is_answered() {
        type Changes = &'static [(usize, &'static [u8])];
        let table: &[(&str, Changes)] = &[
            ("another host's unicast", &[(0, &[2, 0, 0, 0, 0, 9])]),
            ("not ARP", &[(12, &[8, 0])]),
            ("not Ethernet", &[(14, &[0, 6])]),
            ("not IPv4", &[(16, &[0x86, 0xdd])]),
            ("hardware address length", &[(18, &[8])]),
            ("protocol address length", &[(19, &[16])]),
            ("a reply", &[(20, &[0, 2])]),
            ("RARP", &[(20, &[0, 3])]),
            ("our own request", &[(22, &OURS)]),
            ("our own probe", &[(22, &OURS), (28, &[0; 4])]),
            ("somebody's announcement of the VIP", &[(28, &VIP)]),
            ("a group MAC as sender", &[(22, &[1, 0, 0x5e, 0, 0, 1])]),
            ("no MAC as sender", &[(22, &[0; 6])]),
            ("a multicast sender", &[(28, &[224, 0, 0, 1])]),
            ("a broadcast sender", &[(28, &[255; 4])]),
            ("a loopback sender", &[(28, &[127, 0, 0, 1])]),
            ("another address", &[(38, &[10, 0, 1, 101])]),
        ];
        for (what, changes) in table {
            assert_eq!(answered(&with(changes)), None, "{what}");
        }
    }

    #[test]
    fn a_truncated_frame_is_refused() {
        for n in 0..FRAME_LEN {
            assert_eq!(answered(&WHO_HAS[..n]), None, "{n} bytes");
        }
    }

    #[test]
    fn an_announcement_is_a_broadcast_request_for_itself() {
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, // Ethernet
            0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, request
            2, 0, 0, 0, 0, 1, 10, 0, 1, 100, // sender
            0, 0, 0, 0, 0, 0, 10, 0, 1, 100, // target
        ];
        assert_eq!(announcement(VIP, OURS), expected);
    }
}
