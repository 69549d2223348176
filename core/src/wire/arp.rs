//! ARP for VIPs that are on none of the host's interfaces (RFC 826, RFC 5227).
//!
//! The kernel answers for its own addresses and resolves every neighbour; for a VIP that it does not
//! have, and that UVS was told to own, nobody would answer. This is that answer, the announcement of the
//! VIP, and the [`claim`] by which another host is found to have it too; the engine never asks and keeps no
//! cache. (The control thread and `uvs doctor` ask, by a [`probe`], who else has a VIP.)

use std::time::Duration;

use crate::fib::Mac;
use crate::flow::Addr;

/// Bytes of an ARP packet for IPv4 over Ethernet with its Ethernet header.
pub const FRAME_LEN: usize = 42;
/// How often an address is announced (ANNOUNCE_NUM, RFC 5227 §1.1).
pub const ANNOUNCEMENTS: u32 = 2;
/// Time between announcements (ANNOUNCE_INTERVAL, RFC 5227 §1.1).
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);

const BROADCAST: Mac = [0xff; 6];
const ETHERTYPE: [u8; 2] = [0x08, 0x06];
/// Hardware type Ethernet, protocol type IPv4, address lengths 6 and 4.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];

/// Writes the reply to an ARP request for an owned VIP into `out` and returns its length.
///
/// `None` where nothing is to be said: another kind of frame, a request for somebody else or from
/// ourselves, an announcement, a sender that cannot be answered, or fewer than [`FRAME_LEN`] bytes in
/// `out`. A probe (sender 0.0.0.0, RFC 5227 §2.1.1) is answered: its sender is about to take the VIP.
pub fn answer(
    frame: &[u8],
    is_owned: impl Fn(Addr) -> bool,
    mac: Mac,
    out: &mut [u8],
) -> Option<usize> {
    let request = Request::parse(frame)?;
    let to_us = request.destination == BROADCAST || request.destination == mac;
    let from_us = request.sender_mac == mac;
    let gratuitous = request.sender == request.target;
    let wanted = to_us && !from_us && !gratuitous && request.has_sane_sender();
    if !wanted || !is_owned(Addr::v4(request.target)) {
        return None;
    }
    write(
        out,
        request.sender_mac,
        REPLY,
        (mac, request.target),
        (request.sender_mac, request.sender),
    )
}

/// Writes the announcement of a VIP (RFC 5227 §3: a broadcast request with the VIP as sender and as
/// target) into `out` and returns its length; `None` for an IPv6 address or too short an `out`.
///
/// It is due [`ANNOUNCEMENTS`] times, [`ANNOUNCE_INTERVAL`] apart, whenever the VIP becomes ours.
pub fn announcement(vip: Addr, mac: Mac, out: &mut [u8]) -> Option<usize> {
    let vip = vip.as_v4()?;
    write(out, BROADCAST, REQUEST, (mac, vip), ([0; 6], vip))
}

/// Writes a probe for an address (RFC 5227 §2.1.1: a broadcast request without a sender address, which
/// enters no cache) from the interface with this MAC into `out`; `None` as for [`announcement`].
pub fn probe(target: Addr, mac: Mac, out: &mut [u8]) -> Option<usize> {
    write(
        out,
        BROADCAST,
        REQUEST,
        (mac, [0; 4]),
        ([0; 6], target.as_v4()?),
    )
}

/// The address and the MAC address that a reply tells; `None` for every other frame.
pub fn reply(frame: &[u8]) -> Option<(Addr, Mac)> {
    let frame: &[u8; FRAME_LEN] = frame.first_chunk()?;
    let is_reply =
        frame[12..14] == ETHERTYPE && frame[14..20] == ETHERNET_IPV4 && frame[20..22] == REPLY;
    is_reply.then(|| (Addr::v4(array(frame, 28)), array(frame, 22)))
}

/// The address that a frame's sender has, and the MAC address it has it at, by a request or a reply alike
/// (RFC 5227 §2.4); `None` where it says neither, as a probe, or is no ARP.
pub fn claim(frame: &[u8]) -> Option<(Addr, Mac)> {
    let frame: &[u8; FRAME_LEN] = frame.first_chunk()?;
    let speaks = frame[12..14] == ETHERTYPE
        && frame[14..20] == ETHERNET_IPV4
        && (frame[20..22] == REQUEST || frame[20..22] == REPLY);
    let (mac, addr): (Mac, [u8; 4]) = (array(frame, 22), array(frame, 28));
    (speaks && is_one_station(mac) && addr != [0; 4]).then(|| (Addr::v4(addr), mac))
}

/// Neither a group's MAC address nor none.
fn is_one_station(mac: Mac) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6]
}

struct Request {
    destination: Mac,
    sender_mac: Mac,
    sender: [u8; 4],
    target: [u8; 4],
}

impl Request {
    fn parse(frame: &[u8]) -> Option<Self> {
        let frame: &[u8; FRAME_LEN] = frame.first_chunk()?;
        let is_request = frame[12..14] == ETHERTYPE
            && frame[14..20] == ETHERNET_IPV4
            && frame[20..22] == REQUEST;
        is_request.then(|| Self {
            destination: array(frame, 0),
            sender_mac: array(frame, 22),
            sender: array(frame, 28),
            target: array(frame, 38),
        })
    }

    /// A reply goes to one station: no group or zero MAC address, no group, broadcast or loopback IP.
    fn has_sane_sender(&self) -> bool {
        let group_ip = self.sender[0] >= 224 || self.sender[0] == 127;
        is_one_station(self.sender_mac) && !group_ip
    }
}

fn write(
    out: &mut [u8],
    destination: Mac,
    operation: [u8; 2],
    sender: (Mac, [u8; 4]),
    target: (Mac, [u8; 4]),
) -> Option<usize> {
    let frame: &mut [u8; FRAME_LEN] = out.first_chunk_mut()?;
    frame[..6].copy_from_slice(&destination);
    frame[6..12].copy_from_slice(&sender.0);
    frame[12..14].copy_from_slice(&ETHERTYPE);
    frame[14..20].copy_from_slice(&ETHERNET_IPV4);
    frame[20..22].copy_from_slice(&operation);
    frame[22..28].copy_from_slice(&sender.0);
    frame[28..32].copy_from_slice(&sender.1);
    frame[32..38].copy_from_slice(&target.0);
    frame[38..].copy_from_slice(&target.1);
    Some(FRAME_LEN)
}

fn array<const N: usize>(frame: &[u8; FRAME_LEN], at: usize) -> [u8; N] {
    let mut a = [0; N];
    a.copy_from_slice(&frame[at..at + N]);
    a
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
        let mut out = [0xaa; 64];
        let n = answer(frame, |a| a == Addr::v4(VIP), OURS, &mut out)?;
        assert_eq!(n, FRAME_LEN);
        assert!(out[n..].iter().all(|b| *b == 0xaa), "wrote past its end");
        out.first_chunk().copied()
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
        let mut frame = [0; FRAME_LEN];
        let asker = [2, 0, 0, 0, 0, 9];
        assert_eq!(probe(Addr::v4(VIP), asker, &mut frame), Some(FRAME_LEN));
        assert_eq!(reply(&frame), None, "a request is no reply");
        let answer = answered(&frame).unwrap();
        assert_eq!(answer[..6], asker);
        assert_eq!(reply(&answer), Some((Addr::v4(VIP), OURS)));
        assert_eq!(reply(&answer[..FRAME_LEN - 1]), None);
    }

    #[test]
    fn whoever_speaks_from_an_address_claims_it() {
        let other = [2, 0, 0, 0, 0, 7];
        let asker = Some((Addr::v4([10, 0, 1, 7]), other));
        assert_eq!(claim(&WHO_HAS), asker, "by asking for another");
        assert_eq!(claim(&IS_AT), Some((Addr::v4(VIP), OURS)), "by a reply");
        let mut announced = [0; FRAME_LEN];
        announcement(Addr::v4(VIP), other, &mut announced);
        assert_eq!(claim(&announced), Some((Addr::v4(VIP), other)));
        let mut asked = [0; FRAME_LEN];
        probe(Addr::v4(VIP), other, &mut asked);
        assert_eq!(claim(&asked), None, "a probe claims nothing yet");
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
    fn a_truncated_frame_and_a_short_buffer_are_refused() {
        for n in 0..FRAME_LEN {
            assert_eq!(answered(&WHO_HAS[..n]), None, "{n} bytes");
            assert_eq!(answer(&WHO_HAS, |_| true, OURS, &mut vec![0; n]), None);
            assert_eq!(announcement(Addr::v4(VIP), OURS, &mut vec![0; n]), None);
        }
    }

    #[test]
    fn an_announcement_is_a_broadcast_request_for_itself() {
        let mut out = [0; FRAME_LEN];
        assert_eq!(announcement(Addr::v4(VIP), OURS, &mut out), Some(FRAME_LEN));
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, // Ethernet
            0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, request
            2, 0, 0, 0, 0, 1, 10, 0, 1, 100, // sender
            0, 0, 0, 0, 0, 0, 10, 0, 1, 100, // target
        ];
        assert_eq!(out, expected);
        assert_eq!(announcement(Addr([0x20; 16]), OURS, &mut out), None);
    }
}
