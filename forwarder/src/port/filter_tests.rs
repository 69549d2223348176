//! The filter program run by a small interpreter: against cases, and against a plain list of addresses.

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

fn spec() -> FilterSpec {
    FilterSpec {
        to: vec![VIP],
        networks: Vec::new(),
        from: vec![SERVER],
        icmp_to: vec![DIRECTOR],
        icmp_errors: false,
        arp_for: vec![VIP],
        without_mark: None,
    }
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
    let elsewhere = Frame::ipv4(TCP, OTHER, OTHER);
    let results = [&to_vip, &own, &elsewhere].map(|f| accepts(&program, f));
    assert_eq!(results, [true, false, false]);
    let all = program.without_addresses();
    let results = [&to_vip, &own, &elsewhere].map(|f| accepts(&all, f));
    assert_eq!(results, [true, false, true]);
}

proptest! {
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

/// Whether a frame of so many bytes passes what a port with this MTU puts before a program that accepts all of the
/// VIP's.
fn is_let_through(release: &str, mtu: u32, protocol: u8, len: usize) -> bool {
    let program = spec().compile();
    let before = Undescribed::by(Version::parse(release)).rejecting(mtu);
    assert!(before.len() <= undescribed::INSTRUCTIONS);
    let program = Program {
        code: [before, program.code].concat(),
        ..program
    };
    let mut frame = Frame::ipv4(protocol, OTHER, VIP);
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
