//! The fan-out program run by a small interpreter, beside what the engine says.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use uvs_core::flow::{Addr, Endpoint, Family, Flow, Protocol};
use uvs_core::narrow;
use uvs_core::service::{Forwarding, Persistence, ServerSpec, ServiceKey, ServiceSpec};
use uvs_core::services::Services;

use uvs_core::wire::ethernet::ethertype;
use uvs_core::wire::protocol;

use super::compiler::*;
use super::*;
use crate::port::filter::{AND, IF_AT_LEAST, IF_EQUAL, LOAD_U8, LOAD_U16, LOAD_U32, RETURN};

const PORTS: (u16, u16) = (5000, 5999);

/// Runs a program as the kernel does, over a packet from its network header on; a load beyond it returns 0.
fn run(program: &[sock_filter], ethertype: u16, bytes: &[u8]) -> u32 {
    let load = |at: usize, len: usize| {
        let bytes = bytes.get(at..at + len)?;
        Some(bytes.iter().fold(0, |sum, b| sum << 8 | u32::from(*b)))
    };
    let (mut pc, mut a, mut x, mut memory) = (0, 0_u32, 0_u32, [0_u32; 16]);
    loop {
        let i = program[pc];
        pc += 1;
        let k = i.k as usize;
        let jump = |taken: bool| usize::from(if taken { i.jt } else { i.jf });
        let loaded = match i.code {
            LOAD_U32 if i.k == PROTOCOL => Some(u32::from(ethertype)),
            LOAD_U32 => load(k, 4),
            LOAD_U16 => load(k, 2),
            LOAD_U8 => load(k, 1),
            LOAD_U32_AT_X => load(k + x as usize, 4),
            LOAD_U16_AT_X => load(k + x as usize, 2),
            LOAD_U8_AT_X => load(k + x as usize, 1),
            LOAD_HEADER_LENGTH => load(k, 1).map(|b| {
                x = (b & 15) * 4;
                a
            }),
            _ => Some(a),
        };
        let Some(loaded) = loaded else { return 0 };
        a = loaded;
        match i.code {
            LOAD_U32 | LOAD_U16 | LOAD_U8 | LOAD_U32_AT_X | LOAD_U16_AT_X | LOAD_U8_AT_X
            | LOAD_HEADER_LENGTH => {}
            LOAD => a = memory[k],
            LOAD_NUMBER => a = i.k,
            LOAD_X => x = memory[k],
            LOAD_X_NUMBER => x = i.k,
            STORE => memory[k] = a,
            X_FROM_A => x = a,
            A_FROM_X => a = x,
            AND => a &= i.k,
            ADD => a = a.wrapping_add(i.k),
            ADD_X => a = a.wrapping_add(x),
            MULTIPLY => a = a.wrapping_mul(i.k),
            SHIFT_LEFT => a <<= i.k,
            SHIFT_RIGHT => a >>= i.k,
            XOR => a ^= i.k,
            XOR_X => a ^= x,
            REMAINDER => a %= i.k,
            IF_EQUAL => pc += jump(a == i.k),
            IF_AT_LEAST => pc += jump(a >= i.k),
            IF_ABOVE => pc += jump(a > i.k),
            IF_ANY_BIT => pc += jump(a & i.k != 0),
            RETURN => return i.k,
            RETURN_A => return a,
            code if code == crate::port::filter::JUMP => pc += k,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

/// A packet of the transport, or a fragment of it.
fn packet(flow: &Flow, options: usize, fragment: bool) -> (u16, Vec<u8>) {
    let ports = [flow.src_port.to_be_bytes(), flow.dst_port.to_be_bytes()].concat();
    let (ethertype, mut bytes) = match (flow.src.as_v4(), flow.dst.as_v4()) {
        (Some(src), Some(dst)) => {
            let mut bytes = vec![0; 20 + 4 * options];
            bytes[0] = 0x45 + narrow::to_u8(options);
            bytes[6] = if fragment { 0x20 } else { 0x40 };
            bytes[9] = flow.protocol;
            bytes[12..16].copy_from_slice(&src);
            bytes[16..20].copy_from_slice(&dst);
            (ethertype::IPV4, bytes)
        }
        _ => {
            let mut bytes = vec![0; 40];
            (bytes[0], bytes[6]) = (0x60, flow.protocol);
            bytes[8..24].copy_from_slice(&flow.src.v6_octets());
            bytes[24..40].copy_from_slice(&flow.dst.v6_octets());
            (ethertype::IPV6, bytes)
        }
    };
    bytes.extend(ports);
    bytes.extend([0; 20]);
    (ethertype, bytes)
}

/// An ICMP error that quotes a packet, from a router to the packet's source.
fn error(router: Addr, quoted: &Flow, options: usize) -> (u16, Vec<u8>) {
    let icmp = match router.family() {
        Family::V4 => (protocol::ICMP, 3),
        Family::V6 => (protocol::ICMPV6, 1),
    };
    let mut flow = *quoted;
    (flow.protocol, flow.src, flow.dst) = (icmp.0, router, quoted.src);
    let (ethertype, mut bytes) = packet(&flow, 0, false);
    let ip = if router.is_v4() { 20 } else { 40 };
    bytes.truncate(ip);
    bytes.extend([icmp.1, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(packet(quoted, options, false).1);
    (ethertype, bytes)
}

fn at(text: &str, port: u16) -> Endpoint {
    let addr: IpAddr = text.parse().expect("an address");
    Endpoint::new(addr.into(), port)
}

/// Services of both families, persistent and not, with NAT's and FULLNAT's servers.
fn services() -> Services {
    let spec = |vip: Endpoint, servers: &[(Endpoint, Forwarding)]| {
        let key = ServiceKey::address(Protocol::Tcp, vip);
        let mut spec = ServiceSpec::new(key, "rr");
        let server =
            |(end, forwarding): &(Endpoint, Forwarding)| ServerSpec::new(*end, *forwarding);
        spec.servers = servers.iter().map(server).collect();
        spec
    };
    let mut fullnat = spec(
        at("10.0.0.102", 80),
        &[(at("10.1.0.9", 80), Forwarding::FullNat)],
    );
    fullnat.local = vec![at("10.1.0.1", 0).addr, at("2001:db8:1::1", 0).addr];
    let mut persistent = spec(
        at("10.0.0.101", 80),
        &[(at("10.1.0.5", 80), Forwarding::Nat)],
    );
    persistent.persistence = Some(Persistence {
        timeout: 9,
        mask: 0xffff_ff00,
    });
    let mut persistent_v6 = spec(
        at("2001:db8::101", 80),
        &[(at("2001:db8:1::5", 80), Forwarding::Nat)],
    );
    persistent_v6.persistence = Some(Persistence {
        timeout: 9,
        mask: 64,
    });
    let many = (1..=40).map(|n| (at(&format!("10.2.0.{n}"), 80), Forwarding::Nat));
    let many: Vec<_> = many.collect();
    let many_v6 = (1..=40).map(|n| (at(&format!("2001:db8:2::{n}:1"), 80), Forwarding::Nat));
    let many_v6: Vec<_> = many_v6.collect();
    let all = [
        spec(at("10.0.0.100", 80), &many),
        spec(at("2001:db8::100", 80), &many_v6),
        persistent,
        persistent_v6,
        fullnat,
    ];
    all.into_iter().map(Arc::new).collect()
}

fn steering() -> Steering {
    Steering::of(&services(), &[], std::iter::empty())
}

/// What both say of a packet of this flow.
fn both(flow: &Flow, workers: u32, frame: &(u16, Vec<u8>)) -> (u32, u32, u32) {
    let (steering, fan) = (steering(), Fan::new(workers, 0xfeed_beef));
    let out = FanOut::new(&steering, fan, PORTS);
    assert!(out.exact);
    let key = ServiceKey::address(Protocol::Tcp, flow.destination());
    let key = services().iter().any(|s| s.key == key).then_some(key);
    let gives_out = |port| (PORTS.0..=PORTS.1).contains(&port);
    let owner = steering.owner(fan, flow, key.as_ref(), gives_out);
    let tagged = [&[0, 0], &frame.0.to_be_bytes()[..], &frame.1].concat();
    (
        owner.expect("somebody's"),
        run(&out.plain, frame.0, &frame.1),
        run(&out.hidden, uvs_hook::HIDDEN, &tagged),
    )
}

fn client(v6: bool) -> BoxedStrategy<Addr> {
    match v6 {
        false => any::<u32>()
            .prop_map(|n| Addr::v4((n | 1 << 24).to_be_bytes()))
            .boxed(),
        true => any::<u128>()
            .prop_map(|n| Addr::v6((n >> 4 | 2 << 124).to_be_bytes()))
            .boxed(),
    }
}

/// A flow that is somebody's: to a VIP, from a NAT server, or to a local address.
fn flow() -> impl Strategy<Value = Flow> {
    let ends = prop::sample::select(vec![
        ("10.0.0.100", true),
        ("10.0.0.101", true),
        ("10.0.0.102", true),
        ("10.1.0.5", false),
        ("10.2.0.1", false),
        ("10.2.0.33", false),
        ("2001:db8::100", true),
        ("2001:db8::101", true),
        ("2001:db8:1::5", false),
        ("2001:db8:2::17:1", false),
    ]);
    let known = ends.prop_flat_map(|(end, is_vip)| {
        let end = at(end, 80);
        (client(!end.addr.is_v4()), 1..u16::MAX).prop_map(move |(addr, port)| {
            let client = Endpoint::new(addr, port);
            match is_vip {
                true => Flow::new(Protocol::Tcp, client, end),
                false => Flow::new(Protocol::Tcp, end, client),
            }
        })
    });
    let local = (PORTS.0..=PORTS.1)
        .prop_map(|port| Flow::new(Protocol::Tcp, at("10.1.0.9", 80), at("10.1.0.1", port)));
    prop_oneof![8 => known, 1 => local]
}

proptest! {
    #[test]
    fn the_kernel_says_as_the_engine_does(flow in flow(), workers in 1..9_u32, options in 0..3_usize) {
        let (owner, plain, hidden) = both(&flow, workers, &packet(&flow, options, false));
        prop_assert_eq!(plain, owner);
        prop_assert_eq!(hidden, owner);
    }

    #[test]
    fn an_error_goes_where_what_it_quotes_came_from(flow in flow(), workers in 1..9_u32, options in 0..3_usize) {
        let router = match flow.family() {
            Family::V4 => at("192.0.2.1", 0).addr,
            Family::V6 => at("2001:db8:f::1", 0).addr,
        };
        let frame = error(router, &flow.reversed(), options);
        let (owner, plain, hidden) = both(&flow, workers, &frame);
        prop_assert_eq!(plain, owner);
        prop_assert_eq!(hidden, owner);
    }
}

#[test]
fn all_fragments_of_a_datagram_come_to_one_worker() {
    let flow = Flow::new(Protocol::Tcp, at("203.0.113.5", 4000), at("10.0.0.100", 80));
    let out = FanOut::new(&steering(), Fan::new(8, 3), PORTS);
    let first = packet(&flow, 0, true);
    let mut later = packet(&flow, 0, true);
    later.1[7] = 9;
    later.1[20..24].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
    let of = |(ethertype, bytes): &(u16, Vec<u8>)| run(&out.plain, *ethertype, bytes);
    assert_eq!(of(&first), of(&later));
}

#[test]
fn what_is_cut_short_or_no_ip_is_the_first_workers() {
    let flow = Flow::new(Protocol::Tcp, at("203.0.113.5", 4000), at("10.0.0.100", 80));
    let out = FanOut::new(&steering(), Fan::new(8, 3), PORTS);
    let (ethertype, bytes) = packet(&flow, 0, false);
    for len in 0..20 {
        assert_eq!(run(&out.plain, ethertype, &bytes[..len]), 0);
    }
    assert_eq!(run(&out.plain, ethertype::ARP, &bytes), 0);
}

#[test]
fn more_addresses_than_fit_leave_a_program_that_takes_all_for_clients() {
    let servers = (0..4000_u32).map(|n| {
        let addr = Addr::v4((0x0a10_0000 | n).to_be_bytes());
        ServerSpec::new(Endpoint::new(addr, 80), Forwarding::Nat)
    });
    let key = ServiceKey::address(Protocol::Tcp, at("10.0.0.100", 80));
    let mut spec = ServiceSpec::new(key, "rr");
    spec.servers = servers.collect();
    let steering = Steering::of(
        &[Arc::new(spec)].into_iter().collect(),
        &[],
        std::iter::empty(),
    );
    let fan = Fan::new(4, 1);
    let out = FanOut::new(&steering, fan, PORTS);
    assert!(!out.exact && out.plain.len() < 200);
    let flow = Flow::new(Protocol::Tcp, at("203.0.113.5", 4000), at("10.0.0.100", 80));
    let (ethertype, bytes) = packet(&flow, 0, false);
    let owner = steering.owner(fan, &flow, Some(&key), |_| false);
    assert_eq!(Some(run(&out.plain, ethertype, &bytes)), owner);
}
