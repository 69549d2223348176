//! A port that gets what is hidden and marked, and the kernel the rest. Who hides is the sender here, and who marks nft,
//! at the same place as the hook's program.

use std::net::UdpSocket;
use std::time::Duration;

use uvs_core::frame::Offload;

use super::net::Net;
use super::packets::udp;
use super::{A, B, VIP, macs, open, open_with, receive, send, to};
use crate::port::afpacket::PortOptions;
use crate::port::filter::{FilterSpec, Program};
use crate::port::{Coverage, Receive as _, Sight};

const BIT: u32 = 0x1000_0000;
const MARKED: PortOptions = PortOptions {
    slots: 8192,
    slot_bytes: None,
    receive_buffer: 16 << 20,
    sight: Sight::Marked(BIT),
};
/// What is hidden is marked as well, but for what is longer than 100 bytes; and datagrams of 70 bytes are that alone.
const RULES: [&str; 4] = [
    "add table netdev t",
    "add chain netdev t c { type filter hook ingress device b0 priority 0; }",
    "add rule netdev t c meta protocol 0x88a8 meta length < 120 meta mark set 0x10000000",
    "add rule netdev t c udp length 78 meta mark set 0x10000000",
];

/// A frame that is to the kernel as one that the hook's program has hidden: behind two tags, the outer of which the
/// kernel takes off. What counts from the frame's start counts the other one too.
fn hidden(frame: &(Vec<u8>, Offload)) -> (Vec<u8>, Offload) {
    const TAG: [u8; 4] = [0x88, 0xa8, 0x0f, 0xff];
    let (bytes, offload) = frame;
    let (macs, rest) = bytes.split_at(12);
    let behind = |start| start + 2 * u16::try_from(TAG.len()).unwrap();
    let offload = Offload {
        csum_start: offload.csum_start.map(behind),
        ..*offload
    };
    ([macs, &TAG, &TAG, rest].concat(), offload)
}

/// An IPv6 packet of 60 bytes, as far as a port is concerned.
fn ipv6(net: &Net) -> Vec<u8> {
    let (a, b) = macs(net);
    [&b[..], &a, &[0x86, 0xdd, 0x60], &[0; 45]].concat()
}

#[test]
fn what_is_marked_and_hidden_is_the_ports_and_all_else_the_kernels() {
    let net = Net::pair();
    for rule in RULES {
        let words: Vec<&str> = rule.split(' ').collect();
        net.inside("b", || {
            assert!(
                std::process::Command::new("nft")
                    .args(words)
                    .status()
                    .unwrap()
                    .success()
            );
        });
    }
    let stack = net.inside("b", || UdpSocket::bind((B, 9)).unwrap());
    stack
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let mut a = open(&net, "a", "a0", &to(A));
    // The addresses of a filter are for ARP alone here.
    let mut b = open_with(&net, "b", "b0", &to(VIP), &MARKED);
    let datagram = |len| udp(macs(&net), B, len);
    let (ours, foreign, marked, unmarked) =
        (datagram(50), datagram(60), datagram(70), datagram(120));
    let v6 = (ipv6(&net), Default::default());
    send(
        &mut a.transmit,
        &[
            foreign,
            hidden(&ours),
            marked,
            hidden(&unmarked),
            hidden(&v6),
        ],
    );
    let arrived = receive(&mut b.receive, 2).into_iter().map(Result::unwrap);
    assert_eq!(arrived.collect::<Vec<_>>(), [ours, v6], "without a tag");
    let mut buffer = [0; 100];
    let mut to_stack = || stack.recv(&mut buffer).ok();
    assert_eq!(
        [to_stack(), to_stack(), to_stack()],
        [Some(60), Some(70), None],
        "a mark alone hides nothing"
    );
    assert_eq!(b.receive.statistics().received, 2);
}

#[test]
fn a_filter_of_a_port_for_marks_is_for_arp_and_changes_live() {
    let net = Net::pair();
    let owned = FilterSpec {
        arp_for: vec![VIP],
        ..FilterSpec::default()
    };
    let mut a = open(&net, "a", "a0", &to(A));
    let mut b = open_with(&net, "b", "b0", &Program::everything(), &MARKED);
    assert_eq!(b.coverage, Coverage::Everything);
    let coverage = b.receive.set_filter(&owned.compile()).unwrap();
    assert_eq!(coverage, Coverage::Exact);
    let (mac, _) = macs(&net);
    let arp = |target: std::net::Ipv4Addr| {
        let head = [0, 1, 8, 0, 6, 4, 0, 1];
        let ask = [&head[..], &mac, &A.octets(), &[0; 6], &target.octets()].concat();
        let frame = [&[0xff; 6][..], &mac, &[8, 6], &ask, &[0; 18]].concat();
        (frame, Default::default())
    };
    send(
        &mut a.transmit,
        &[arp(B), arp(VIP), udp(macs(&net), VIP, 50)],
    );
    let arrived = receive(&mut b.receive, 1).remove(0).unwrap();
    assert_eq!(arrived.0, arp(VIP).0);
    assert!(!b.receive.is_ready(), "a service's address is no mark");
}

/// A macvlan takes a frame over, and the kernel shows it to sockets of both devices.
#[test]
fn what_another_device_has_taken_over_comes_by_that_one_alone() {
    const MAC: [u8; 6] = [0, 0, 0x5e, 0, 1, 0x33];
    let net = Net::pair();
    for line in [
        "ip link add m0 link b0 address 00:00:5e:00:01:33 type macvlan mode private",
        "ip link set m0 up",
        "nft add table netdev t",
        "nft add chain netdev t c { type filter hook ingress device m0 priority 0; }",
        "nft add rule netdev t c meta mark set 0x10000000",
    ] {
        let mut words = line.split(' ');
        let mut command = std::process::Command::new(words.next().expect("a program"));
        let ended = net.inside("b", || command.args(words).status());
        assert!(ended.expect("it runs").success(), "{line}");
    }
    let mut a = open(&net, "a", "a0", &to(A));
    let below = open_with(&net, "b", "b0", &to(VIP), &MARKED);
    let mut above = open_with(&net, "b", "m0", &to(VIP), &MARKED);
    let (from, _) = macs(&net);
    let frame = udp((from, MAC), VIP, 50);
    send(&mut a.transmit, &[hidden(&frame)]);
    assert_eq!(receive(&mut above.receive, 1).remove(0).unwrap().0, frame.0);
    assert!(!below.receive.is_ready(), "it came by the other too");
}
