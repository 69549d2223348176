//! The filter program run by a small interpreter: against cases, and against a plain list of addresses.

use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;
use crate::kernel::Version;
use crate::port::undescribed::{LOAD_LENGTH, Undescribed};

/// What the kernel knows about a frame besides its bytes.
#[derive(Clone)]
struct Frame {
    bytes: Vec<u8>,
    tagged: bool,
    packet_type: u8,
    mark: u32,
}

impl Frame {
    fn ipv4(protocol: u8, src: Ipv4Addr, dst: Ipv4Addr) -> Self {
        let mut bytes = vec![0; 60];
        bytes[12..14].copy_from_slice(&[0x08, 0x00]);
        bytes[23] = protocol;
        bytes[26..30].copy_from_slice(&src.octets());
        bytes[30..34].copy_from_slice(&dst.octets());
        Self {
            bytes,
            tagged: false,
            packet_type: libc::PACKET_HOST,
            mark: 0,
        }
    }

    /// An ICMP message of this type, behind an IP header of so many words.
    fn icmp(kind: u8, words: u8, src: Ipv4Addr, dst: Ipv4Addr) -> Self {
        let mut frame = Self::ipv4(ICMP, src, dst);
        frame.bytes[14] = 0x40 | words;
        frame.bytes[14 + usize::from(words) * 4] = kind;
        frame
    }

    fn arp(target: Ipv4Addr) -> Self {
        let mut bytes = vec![0; 60];
        bytes[12..14].copy_from_slice(&[0x08, 0x06]);
        bytes[38..42].copy_from_slice(&target.octets());
        Self {
            bytes,
            tagged: false,
            packet_type: libc::PACKET_BROADCAST,
            mark: 0,
        }
    }

    fn ipv6(protocol: u8, src: &str, dst: &str) -> Self {
        let mut bytes = vec![0; 80];
        bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
        bytes[20] = protocol;
        bytes[22..38].copy_from_slice(&v6(src).octets());
        bytes[38..54].copy_from_slice(&v6(dst).octets());
        Self {
            bytes,
            tagged: false,
            packet_type: libc::PACKET_HOST,
            mark: 0,
        }
    }

    /// A message of neighbour discovery about a target, to all nodes.
    fn discovery(kind: u8, target: &str) -> Self {
        let mut frame = Self::ipv6(ICMPV6, "fe80::9", "ff02::1");
        frame.bytes[54] = kind;
        frame.bytes[62..78].copy_from_slice(&v6(target).octets());
        frame.packet_type = libc::PACKET_MULTICAST;
        frame
    }

    fn load(&self, code: u16, k: u32) -> Option<u32> {
        if code == LOAD_LENGTH {
            return u32::try_from(self.bytes.len()).ok();
        }
        match k {
            PACKET_TYPE => return Some(u32::from(self.packet_type)),
            MARK => return Some(self.mark),
            VLAN_PRESENT => return Some(u32::from(self.tagged)),
            _ => {}
        }
        let len = match code {
            LOAD_U32 => 4,
            LOAD_U16 => 2,
            LOAD_U8 | LOAD_U8_BEHIND => 1,
            other => panic!("unknown load {other:#x}"),
        };
        let bytes = self.bytes.get(k as usize..k as usize + len)?;
        Some(bytes.iter().fold(0, |sum, &b| sum << 8 | u32::from(b)))
    }
}

/// Runs the program as the kernel does; a load beyond the frame rejects.
fn accepts(program: &Program, frame: &Frame) -> bool {
    let (mut pc, mut a, mut x) = (0, 0, 0);
    loop {
        let i = program.code[pc];
        pc += 1;
        match i.code {
            LOAD_LENGTH | LOAD_U32 | LOAD_U16 | LOAD_U8 => match frame.load(i.code, i.k) {
                Some(value) => a = value,
                None => return false,
            },
            LOAD_U8_BEHIND => match frame.load(i.code, i.k + x) {
                Some(value) => a = value,
                None => return false,
            },
            LOAD_HEADER_LENGTH => match frame.load(LOAD_U8, i.k) {
                Some(value) => x = (value & 15) * 4,
                None => return false,
            },
            AND => a &= i.k,
            JUMP => pc += i.k as usize,
            IF_EQUAL => pc += usize::from(if a == i.k { i.jt } else { i.jf }),
            IF_AT_LEAST => pc += usize::from(if a >= i.k { i.jt } else { i.jf }),
            RETURN => return i.k != 0,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 18);
const DIRECTOR: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

fn spec() -> FilterSpec {
    FilterSpec {
        to: vec![VIP],
        networks: Vec::new(),
        from: vec![SERVER],
        icmp_to: vec![DIRECTOR],
        icmp_errors: false,
        arp_for: vec![VIP],
        ipv6: Ipv6Spec {
            to: vec![v6("2001:db8::100"), v6("fe80::100")],
            networks: vec![(v6("2001:db8:8000::"), 33)],
            from: vec![v6("2001:db8:2::11")],
            icmp_errors: false,
            solicited: vec![v6("2001:db8::100")],
        },
        without_mark: None,
    }
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

fn check(frame: &Frame, expected: bool) {
    assert_eq!(accepts(&spec().compile(), frame), expected);
}

#[test]
fn to_a_vip_and_from_a_server_and_nothing_else() {
    check(&Frame::ipv4(TCP, OTHER, VIP), true);
    check(&Frame::ipv4(TCP, SERVER, OTHER), true);
    check(&Frame::ipv4(TCP, OTHER, SERVER), false);
    check(&Frame::ipv4(TCP, VIP, OTHER), false);
}

#[test]
fn icmp_to_the_director_but_no_other_protocol() {
    check(&Frame::ipv4(ICMP, OTHER, DIRECTOR), true);
    check(&Frame::ipv4(TCP, OTHER, DIRECTOR), false);
    check(&Frame::ipv4(ICMP, OTHER, OTHER), false);
}

#[test]
fn icmp_errors_for_anyone_where_nat_needs_them() {
    for icmp_errors in [false, true] {
        let spec = FilterSpec {
            icmp_errors,
            ..spec()
        };
        let program = spec.compile();
        for words in [5, 6] {
            for kind in 0..20 {
                let wanted = icmp_errors && [3, 4, 11, 12].contains(&kind);
                let frame = Frame::icmp(kind, words, OTHER, OTHER);
                assert_eq!(accepts(&program, &frame), wanted, "type {kind}");
                let frame = Frame::icmp(kind, words, OTHER, DIRECTOR);
                assert!(accepts(&program, &frame), "to the director");
            }
        }
        assert!(!accepts(&program, &Frame::ipv4(TCP, OTHER, OTHER)));
    }
}

#[test]
fn arp_about_an_owned_vip_only() {
    check(&Frame::arp(VIP), true);
    check(&Frame::arp(DIRECTOR), false);
    let mut claim = Frame::arp(DIRECTOR);
    claim.bytes[28..32].copy_from_slice(&VIP.octets());
    check(&claim, true);
    check(
        &Frame {
            packet_type: libc::PACKET_OTHERHOST,
            ..Frame::arp(VIP)
        },
        false,
    );
}

#[test]
fn tagged_frames_and_frames_to_other_mac_addresses_are_not_ours() {
    let ours = Frame::ipv4(TCP, OTHER, VIP);
    check(
        &Frame {
            tagged: true,
            ..ours.clone()
        },
        false,
    );
    for packet_type in [
        libc::PACKET_BROADCAST,
        libc::PACKET_MULTICAST,
        libc::PACKET_OTHERHOST,
    ] {
        check(
            &Frame {
                packet_type,
                ..ours.clone()
            },
            false,
        );
    }
}

#[test]
fn other_ether_types_and_cut_off_frames_are_not_ours() {
    let mut ipv6 = Frame::ipv4(TCP, OTHER, VIP);
    ipv6.bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
    check(&ipv6, false);
    for len in 0..34 {
        let mut cut = Frame::ipv4(TCP, OTHER, VIP);
        cut.bytes.truncate(len);
        check(&cut, false);
    }
}

#[test]
fn of_ipv6_what_goes_to_a_vip_or_comes_from_a_server() {
    let table = [
        (TCP, "2001:db8:9::7", "2001:db8::100", true),
        (TCP, "2001:db8:9::7", "2001:db8::101", false),
        (TCP, "2001:db8:9::7", "2001:db8:0:1::100", false),
        (TCP, "2001:db8:9::7", "fe80::100", true),
        (TCP, "2001:db8:9::7", "fe80::101", false),
        // Extension headers are not walked.
        (0, "2001:db8:9::7", "2001:db8::100", true),
        (44, "2001:db8:9::7", "2001:db8::100", true),
        (TCP, "2001:db8:2::11", "2001:db8:9::7", true),
        (TCP, "2001:db8:2::12", "2001:db8:9::7", false),
        (TCP, "2001:db8:9::7", "2001:db8:ffff::7", true),
        (TCP, "2001:db8:9::7", "2001:db8:7fff::7", false),
        (ICMPV6, "2001:db8:9::7", "2001:db8:9::8", false),
    ];
    for (protocol, src, dst, wanted) in table {
        let frame = Frame::ipv6(protocol, src, dst);
        assert_eq!(accepts(&spec().compile(), &frame), wanted, "{src} > {dst}");
        for packet_type in [libc::PACKET_MULTICAST, libc::PACKET_OTHERHOST] {
            let elsewhere = Frame {
                packet_type,
                ..frame.clone()
            };
            check(&elsewhere, false);
        }
        let tagged = Frame {
            tagged: true,
            ..frame
        };
        check(&tagged, false);
    }
}

#[test]
fn of_neighbour_discovery_what_is_about_an_owned_vip() {
    for (kind, target, wanted) in [
        (135, "2001:db8::100", true),
        (136, "2001:db8::100", true),
        (135, "2001:db8::1", false),
        (135, "fe80::100", false),
        (133, "2001:db8::100", false),
        (137, "2001:db8::100", false),
    ] {
        let frame = Frame::discovery(kind, target);
        check(&frame, wanted);
        let unicast = Frame {
            packet_type: libc::PACKET_HOST,
            ..frame.clone()
        };
        check(&unicast, wanted);
        let elsewhere = Frame {
            packet_type: libc::PACKET_OTHERHOST,
            ..frame
        };
        check(&elsewhere, false);
    }
}

#[test]
fn icmpv6_errors_for_anyone_where_nat_needs_them() {
    for icmp_errors in [false, true] {
        let mut spec = spec();
        spec.ipv6.icmp_errors = icmp_errors;
        let program = spec.compile();
        for kind in [0, 1, 2, 3, 4, 5, 128, 129, 134] {
            let mut frame = Frame::ipv6(ICMPV6, "2001:db8:9::7", "2001:db8:9::8");
            frame.bytes[54] = kind;
            let wanted = icmp_errors && (1..=4).contains(&kind);
            assert_eq!(accepts(&program, &frame), wanted, "type {kind}");
        }
    }
}

#[test]
fn without_addresses_nothing_is_ours() {
    let program = FilterSpec::default().compile();
    assert!(!accepts(&program, &Frame::ipv4(TCP, OTHER, VIP)));
    assert!(!accepts(&program, &Frame::arp(VIP)));
}

#[test]
fn two_thousand_addresses_fit_and_four_thousand_open_the_filter() {
    let addresses = |n: u32| {
        (0..n)
            .map(|i| Ipv4Addr::from_bits(0x0a00_0000 + i * 7))
            .collect()
    };
    let fits = FilterSpec {
        to: addresses(2000),
        ..FilterSpec::default()
    }
    .compile();
    assert!(fits.exact && fits.code.len() <= MAX_INSTRUCTIONS);
    assert!(!accepts(&fits, &Frame::ipv4(TCP, VIP, OTHER)));
    let open = FilterSpec {
        to: addresses(4000),
        ..FilterSpec::default()
    }
    .compile();
    assert!(!open.exact);
    assert!(accepts(&open, &Frame::ipv4(TCP, VIP, OTHER)));
    assert!(accepts(&open, &Frame::arp(OTHER)));
    assert!(!accepts(
        &open,
        &Frame {
            tagged: true,
            ..Frame::ipv4(TCP, VIP, OTHER)
        }
    ));
}

/// Addresses from a small range, so that hits and near misses are common.
fn addresses() -> impl Strategy<Value = Vec<Ipv4Addr>> {
    proptest::collection::vec(
        (0u32..120).prop_map(|i| Ipv4Addr::from_bits(0xc0a8_0000 + i)),
        0..60,
    )
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    (0u32..120).prop_map(|i| Ipv4Addr::from_bits(0xc0a8_0000 + i))
}

#[test]
fn on_loopback_whatever_the_mac_address_but_never_what_bears_the_mark() {
    let spec = FilterSpec {
        without_mark: Some(7),
        ..spec()
    };
    let mut to_vip = Frame::ipv4(TCP, OTHER, VIP);
    to_vip.packet_type = libc::PACKET_OTHERHOST;
    let mut own = to_vip.clone();
    own.mark = 7;
    let program = spec.compile();
    let mut six = Frame::ipv6(TCP, "2001:db8:9::7", "2001:db8::100");
    assert!(accepts(&program, &six));
    six.mark = 7;
    assert!(!accepts(&program, &six));
    let elsewhere = Frame::ipv4(TCP, OTHER, OTHER);
    let results = [&to_vip, &own, &elsewhere].map(|f| accepts(&program, f));
    assert_eq!(results, [true, false, false]);
    let all = program.without_addresses();
    let results = [&to_vip, &own, &elsewhere].map(|f| accepts(&all, f));
    assert_eq!(results, [true, false, true]);
}

/// From few words, so that addresses share their beginnings.
fn address_v6() -> impl Strategy<Value = Ipv6Addr> {
    let word = || prop::sample::select(vec![0u32, 1, 0x2001_0db8, 0x8000_0000, u32::MAX]);
    let words = (word(), word(), 0u32..3, 0u32..40);
    words.prop_map(|(a, b, c, d)| {
        let bits = [a, b, c, d].iter().fold(0, |n, w| n << 32 | u128::from(*w));
        Ipv6Addr::from_bits(bits)
    })
}

fn addresses_v6() -> impl Strategy<Value = Vec<Ipv6Addr>> {
    proptest::collection::vec(address_v6(), 0..60)
}

#[test]
fn hundreds_of_ipv6_addresses_fit_and_thousands_of_one_network() {
    let spec = |to: Vec<Ipv6Addr>| FilterSpec {
        ipv6: Ipv6Spec {
            to,
            ..Ipv6Spec::default()
        },
        ..FilterSpec::default()
    };
    let of_one: Vec<Ipv6Addr> = (0..2000).map(|n| v6(&format!("2001:db8::{n:x}"))).collect();
    assert!(spec(of_one).compile().exact);
    let scattered = (0..250).map(|n| v6(&format!("2001:db8:{n:x}::{n:x}")));
    assert!(spec(scattered.collect()).compile().exact);
    let all_over = (0..1000).map(|n| v6(&format!("2001:db8:{n:x}::{n:x}")));
    let open = spec(all_over.collect()).compile();
    assert!(!open.exact);
    assert!(accepts(&open, &Frame::ipv6(TCP, "::1", "2001:db8::")));
    assert!(accepts(&open, &Frame::discovery(135, "2001:db8::")));
}

proptest! {
    #[test]
    fn the_ipv6_program_agrees_with_a_list(
        to in addresses_v6(), from in addresses_v6(), solicited in addresses_v6(),
        src in address_v6(), dst in address_v6(), network in address_v6(), prefix in 0u8..=128,
    ) {
        let bits = |a: Ipv6Addr| a.to_bits().checked_shr(128 - u32::from(prefix)).unwrap_or(0);
        let within = bits(network) == bits(dst);
        let expected = within || to.contains(&dst) || from.contains(&src);
        let about = solicited.contains(&dst);
        let ipv6 = Ipv6Spec { to, from, networks: vec![(network, prefix)], solicited, ..Ipv6Spec::default() };
        let program = FilterSpec { ipv6, ..FilterSpec::default() }.compile();
        let frame = Frame::ipv6(TCP, &src.to_string(), &dst.to_string());
        prop_assert_eq!(accepts(&program, &frame), expected);
        let solicitation = Frame::discovery(135, &dst.to_string());
        prop_assert_eq!(accepts(&program, &solicitation), about);
    }

    #[test]
    fn the_program_agrees_with_a_list(
        to in addresses(), from in addresses(), icmp_to in addresses(),
        src in address(), dst in address(), icmp in any::<bool>(),
        network in address(), prefix in 0u8..=32,
    ) {
        let bits = |a: Ipv4Addr| u64::from(a.to_bits()) >> (32 - prefix);
        let expected = bits(network) == bits(dst) || to.contains(&dst) || from.contains(&src) || icmp && icmp_to.contains(&dst);
        let spec = FilterSpec { to, networks: vec![(network, prefix)], from, icmp_to, ..FilterSpec::default() };
        let frame = Frame::ipv4(if icmp { ICMP } else { TCP }, src, dst);
        prop_assert_eq!(accepts(&spec.compile(), &frame), expected);
    }
}

/// Whether an IPv4 frame of so many bytes passes what a port with this MTU puts before its program; one of IPv6 must
/// fare alike.
fn is_let_through(release: &str, mtu: u32, protocol: u8, len: usize) -> bool {
    let passes = |frame| is_let_through_in(release, mtu, frame, len);
    let ipv4 = passes(Frame::ipv4(protocol, OTHER, VIP));
    let ipv6 = passes(Frame::ipv6(protocol, "2001:db8::1", "2001:db8::2"));
    assert_eq!(
        ipv4, ipv6,
        "{release}, MTU {mtu}: {len} bytes of {protocol}"
    );
    ipv4
}

fn is_let_through_in(release: &str, mtu: u32, mut frame: Frame, len: usize) -> bool {
    let program = Program::everything();
    let before = Undescribed::by(Version::parse(release)).rejecting(mtu);
    assert!(before.len() <= undescribed::INSTRUCTIONS);
    let program = Program {
        code: [before, program.code].concat(),
        ..program
    };
    frame.bytes.resize(len, 0);
    accepts(&program, &frame)
}

#[test]
fn super_frames_that_the_kernel_cannot_describe_are_kept_out() {
    const UDP: u8 = 17;
    const SCTP: u8 = 132;
    for release in ["6.1.0", "no version"] {
        assert!(!is_let_through(release, 1500, UDP, 4542), "{release}");
        assert!(!is_let_through(release, 1500, SCTP, 4542), "{release}");
        assert!(is_let_through(release, 1500, TCP, 4542), "{release}");
        // With a VLAN tag the longest that is none.
        assert!(is_let_through(release, 1500, UDP, 1518), "{release}");
        assert!(!is_let_through(release, 1500, UDP, 1519), "{release}");
        assert!(is_let_through(release, 9000, UDP, 4542), "{release}");
    }
    assert!(is_let_through("6.2.0", 1500, UDP, 4542));
    assert!(!is_let_through("6.2.0", 1500, SCTP, 4542));
}
