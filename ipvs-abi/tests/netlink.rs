//! Generic netlink as programs speak it: requests that ipvsadm 1.31 and keepalived 2.2.7 were seen to send are
//! understood, and answers have the layout that the kernel was seen to give.

mod common;

use common::{ACK, DUMP, Memory, answers, errno, hex, message};
use uvs_control::protocol::Change;
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::service::{
    Forwarding, Persistence, ServerSpec, ServiceKey, ServiceSpec, Tunnel, TunnelChecksum,
    TunnelKind,
};
use uvs_ipvs_abi::attribute::Attributes;
use uvs_ipvs_abi::conversation::Conversation;
use uvs_ipvs_carried::{CONTROLLER, FAMILY};

/// What follows the nest's header in a SERVICE of TCP 10.0.1.100:80, as ipvsadm names it: family, protocol,
/// address, port.
const NAMED: &str = "0600010002000000 0600020006000000 140003000a000164000000000000000000000000
    0600040000500000";
/// ipvsadm -A -t 10.0.1.100:80 -s wrr
const ADD_SERVICE: &str = "01010000 54000180 0600010002000000 0600020006000000
    140003000a000164000000000000000000000000 0600040000500000 0800060077727200
    0c00070000000000ffffffff 0800080000000000 08000900ffffffff";

fn key() -> ServiceKey {
    ServiceKey::address(Protocol::Tcp, Endpoint::new(Addr::v4([10, 0, 1, 100]), 80))
}

/// A table with the service of [`ADD_SERVICE`].
fn filled() -> Memory {
    let mut memory = Memory::default();
    assert_eq!(errno(&mut memory, &hex(ADD_SERVICE)), 0);
    memory
}

/// A command with a SERVICE that names [`key`], and a DEST of these attributes.
fn about_server(command: u8, server: &Attributes) -> Vec<u8> {
    let service = hex(NAMED);
    let both = Attributes::new()
        .bytes(0x8001, &service)
        .nest(0x8002, server);
    [&[command, 1, 0, 0][..], &both.to_bytes()].concat()
}

/// A DEST of ipvsadm's: address, port, method, weight, thresholds.
fn server(addr: &[u8; 16], method: u32, weight: u32, upper: u32, lower: u32) -> Attributes {
    Attributes::new()
        .bytes(1, addr)
        .port(2, 80)
        .u32(3, method)
        .u32(4, weight)
        .u32(5, upper)
        .u32(6, lower)
}

fn at(last: u8) -> [u8; 16] {
    [10, 0, 2, last, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

#[test]
fn the_family_is_described_as_the_kernel_describes_it() {
    let asked = hex("03010000 0900020049505653 00000000");
    let got = answers(&mut Memory::default(), &message(CONTROLLER, ACK, &asked));
    assert_eq!(got.len(), 2, "the answer and its acknowledgement");
    let described = &got[0];
    assert_eq!(described.len(), 16 + 372);
    // Command, name, number, version, no header of its own, six attributes.
    let head = "01020000 0900020049505653 00000000 06000100e8030000 0800030001000000
        0800040000000000 0800050006000000 44010600";
    assert_eq!(described[16..68], hex(head));
    // The operations: a place, the command's number, what it takes.
    let operations = described[68..].chunks(20).map(|operation| {
        let word = |at: usize| u32::from_ne_bytes(*operation[at..].first_chunk().expect("4 bytes"));
        (word(8), word(16))
    });
    let of = |command| match command {
        4 => 0x0f,
        8 | 11 => 0x0d,
        _ => 0x0b,
    };
    let commands = (1..=13).chain(15..=17);
    assert!(operations.eq(commands.map(|command| (command, of(command)))));
    assert_eq!(got[1][16..20], [0; 4], "an acknowledgement");
}

#[test]
fn another_family_is_not_there() {
    for name in ["0a0002006e6c383032 00 0000", "0a00020049505653 58 00 0000"] {
        let asked = [hex("03010000"), hex(name)].concat();
        let got = answers(&mut Memory::default(), &message(CONTROLLER, ACK, &asked));
        assert_eq!(got[0][16..20], (-2i32).to_ne_bytes(), "ENOENT");
    }
    let got = answers(&mut Memory::default(), &message(0x1c, ACK, &[15, 1, 0, 0]));
    assert_eq!(got[0][16..20], (-2i32).to_ne_bytes());
}

#[test]
fn a_service_is_added_as_ipvsadm_asks_with_nested_attributes_marked_or_not() {
    let want = ServiceSpec::new(key(), "wrr");
    let marked = hex(ADD_SERVICE);
    let mut plain = marked.clone();
    plain[7] = 0;
    for payload in [marked, plain] {
        let mut memory = Memory::default();
        assert_eq!(errno(&mut memory, &payload), 0);
        assert_eq!(*memory.table.services()[0], want);
        assert_eq!(errno(&mut memory, &payload), 17, "EEXIST");
    }
}

#[test]
fn a_service_is_listed_as_the_kernel_lists_it() {
    let got = answers(&mut filled(), &message(FAMILY, DUMP, &[4, 1, 0, 0]));
    assert_eq!(got.len(), 1);
    // Its size, the flag hashed, the whole netmask of a service without persistence, then the counters: in 32
    // bits, cut off, and in 64.
    let body = "01010000 2c010100 0600010002000000 0600020006000000
        140003000a000164000000000000000000000000 0600040000500000 0800060077727200
        0c00070002000000ffffffff 0800080000000000 08000900ffffffff
        5c000a00 0800010002000000 0800020003000000 0800030004000000
        0c0004000000000005000000 0c0005000600000000000000
        0800060002000000 0800070003000000 0800080004000000 0800090000000000 08000a0006000000
        7c000c00 0c0001000200000001000000";
    let body = hex(body);
    assert_eq!(got[0][16..16 + body.len()], body);
    // The end of the dump, with the request's sequence number and port, and no acknowledgement behind it.
    let end = &got[0][got[0].len() - 20..];
    assert_eq!(end, hex("14000000 0300 0200 07000000 504f5254 00000000"));
}

#[test]
fn a_firewall_mark_has_a_family_and_no_address() {
    let mark = "54000180 060001000a000000 0800050007000000 0700060073680000
        0c00070010000000ffffffff 0800080000000000 0800090080000000";
    let mark = [hex("01010000 34000180"), hex(mark)[4..].to_vec()].concat();
    let mut memory = Memory::default();
    let nest = u16::try_from(mark.len() - 4).expect("short").to_ne_bytes();
    let mut mark = mark;
    mark[4..6].copy_from_slice(&nest);
    assert_eq!(errno(&mut memory, &mark), 0);
    let spec = &memory.table.services()[0];
    assert_eq!(
        spec.key,
        ServiceKey::Mark {
            mark: 7,
            ipv6: true
        }
    );
    assert_eq!((spec.scheduler.as_str(), spec.flags), ("sh", 0x10));
}

#[test]
fn a_netmask_is_bytes_for_ipv4_and_a_prefixs_length_for_ipv6() {
    let service = |family: u16, addr: &[u8; 16], netmask: &[u8; 4]| {
        let inner = Attributes::new()
            .u16(1, family)
            .u16(2, 6)
            .bytes(3, addr)
            .port(4, 80)
            .text(6, "rr")
            .bytes(7, &hex("01000000ffffffff"))
            .u32(8, 50)
            .bytes(9, netmask);
        let service = Attributes::new().nest(1, &inner);
        [&[1, 1, 0, 0][..], &service.to_bytes()].concat()
    };
    let v6 = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    for (payload, mask) in [
        (service(2, &at(1), &[255, 255, 255, 0]), 0xffff_ff00),
        (service(10, &v6, &64u32.to_ne_bytes()), 64),
    ] {
        let mut memory = Memory::default();
        assert_eq!(errno(&mut memory, &payload), 0);
        let persistence = Some(Persistence { timeout: 50, mask });
        assert_eq!(memory.table.services()[0].persistence, persistence);
        let listed = answers(&mut memory, &message(FAMILY, DUMP, &[4, 1, 0, 0])).concat();
        let sent = payload[payload.len() - 8..].to_vec();
        assert!(
            listed.windows(8).any(|w| w == sent),
            "the netmask comes back"
        );
    }
}

#[test]
fn a_servers_address_is_read_by_its_family_whatever_lies_behind_it() {
    let mut memory = filled();
    let stale = hex("0a00020d 00010000 0000 0000 01000000")
        .try_into()
        .expect("16 bytes");
    let ipv4 = server(&stale, 0, 1, 0, 0).u16(11, 2);
    assert_eq!(errno(&mut memory, &about_server(5, &ipv4)), 0);
    let added = memory.table.services()[0].servers[0];
    assert_eq!(added.endpoint, Endpoint::new(Addr::v4([10, 0, 2, 13]), 80));
    // Without a family it is the service's.
    assert_eq!(
        errno(&mut memory, &about_server(5, &server(&stale, 0, 1, 0, 0))),
        17
    );
    let unknown = server(&stale, 0, 1, 0, 0).u16(11, 5);
    assert_eq!(
        errno(&mut memory, &about_server(5, &unknown)),
        97,
        "EAFNOSUPPORT"
    );
}

#[test]
fn a_tunnel_is_what_keepalived_says_and_ipip_where_nothing_is_said() {
    let mut memory = filled();
    let ipip = server(&at(11), 2, 3, 0, 0);
    let gue = server(&at(12), 2, 3, 0, 0)
        .u8(13, 1)
        .port(14, 6080)
        .u16(15, 2);
    for payload in [ipip, gue] {
        assert_eq!(errno(&mut memory, &about_server(5, &payload)), 0);
    }
    let tunnels: Vec<_> = memory.table.services()[0]
        .servers
        .iter()
        .map(|s| s.tunnel)
        .collect();
    let gue = Tunnel {
        kind: TunnelKind::Gue,
        port: 6080,
        checksum: TunnelChecksum::Remote,
    };
    assert_eq!(tunnels, [gue, Tunnel::default()]);
}

#[test]
fn a_server_is_listed_as_the_kernel_lists_it() {
    let mut memory = filled();
    assert_eq!(
        errno(&mut memory, &about_server(5, &server(&at(11), 3, 5, 9, 4))),
        0
    );
    let which = Attributes::new().bytes(0x8001, &hex(NAMED)).to_bytes();
    let got = answers(
        &mut memory,
        &message(FAMILY, DUMP, &[&hex("08010000"), &which[..]].concat()),
    );
    let body = "05010000 50010200 140001000a00020b000000000000000000000000 0600020000500000
        0800030003000000 0800040005000000 05000d0000000000 06000e0000000000 06000f0000000000
        0800050009000000 0800060004000000 0800070007000000 0800080008000000 0800090009000000
        06000b0002000000 5c000a00";
    assert_eq!(got[0][16..16 + hex(body).len()], hex(body));
}

/// A request about a service of another port: where that is behind the address, whatever the command.
fn with_port_81(mut payload: Vec<u8>) -> Vec<u8> {
    let port = hex("0600040000500000");
    let place = payload.windows(8).position(|w| w == port);
    payload[place.expect("its port") + 5] = 81;
    payload
}

fn unknown_scheduler() -> Vec<u8> {
    let mut payload = with_port_81(hex(ADD_SERVICE));
    let name = payload.windows(3).position(|w| w == b"wrr");
    payload[name.expect("its name")] = b'x';
    payload
}

#[test]
fn what_is_refused_has_the_kernels_number() {
    let mut memory = filled();
    let server_11 = |weight, upper, lower| server(&at(11), 0, weight, upper, lower);
    let multicast = server(
        &[224, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        0,
        1,
        0,
        0,
    );
    for (payload, number, why) in [
        (unknown_scheduler(), 2, "ENOENT: no such scheduler"),
        (
            with_port_81(about_server(5, &server_11(1, 0, 0))),
            3,
            "ESRCH: no such service",
        ),
        (
            about_server(7, &server_11(1, 0, 0)),
            2,
            "ENOENT: no such server",
        ),
        (
            about_server(6, &server_11(1, 0, 0)),
            2,
            "ENOENT: no such server",
        ),
        (
            about_server(5, &server_11(u32::MAX, 0, 0)),
            34,
            "ERANGE: a weight below 0",
        ),
        (
            about_server(5, &server_11(1, 1, 2)),
            34,
            "ERANGE: thresholds",
        ),
        (about_server(5, &multicast), 22, "EINVAL: not unicast"),
        (
            about_server(5, &server(&at(11), 7, 1, 0, 0)),
            22,
            "EINVAL: no such method",
        ),
        (
            about_server(5, &Attributes::new()),
            22,
            "EINVAL: no address",
        ),
        (hex("63010000"), 95, "EOPNOTSUPP: no such command"),
        (
            hex("0a010000 1c000380 0800010001000000 0500020000000000 0800030000000000"),
            3,
            "none runs",
        ),
        (hex("0801"), 22, "EINVAL: no header"),
    ] {
        assert_eq!(errno(&mut memory, &payload), number, "{why}");
    }
    assert_eq!(memory.table.services()[0].servers, []);
}

#[test]
fn sync_daemons_are_started_dumped_and_stopped() {
    let mut memory = Memory::default();
    let start = hex("09010000 1c000380 0800010001000000 0700020063300000 0800030007000000");
    assert_eq!(errno(&mut memory, &start), 0);
    assert_eq!(errno(&mut memory, &start), 17, "EEXIST");
    let whole = "09010000 48000380 0800010002000000 0700020063300000 0800030007000000 06000400e8030000 \
                 14000600ff020000000000000000000000000081 0600070090220000 0500080003000000";
    assert_eq!(errno(&mut memory, &hex(whole)), 0);
    let dumped = answers(&mut memory, &message(FAMILY, DUMP, &hex("0b010000")));
    let listed = [
        "09010000 3c000300 0800010001000000 0700020063300000 0800030007000000 06000400c0050000 \
         0600070090220000 0500080001000000 08000500e0000051",
        "09010000 48000300 0800010002000000 0700020063300000 0800030007000000 0600040000040000 \
         0600070090220000 0500080003000000 14000600ff020000000000000000000000000081",
    ];
    let (mut rest, dumped) = (&listed.map(hex)[..], dumped.concat());
    let mut at = 0;
    while let Some((want, others)) = rest.split_first() {
        let end = at + 16 + want.len();
        assert_eq!(dumped[at + 16..end], want[..]);
        (at, rest) = (end, others);
    }
    let stop = "0a010000 1c000380 0800010001000000 0500020000000000 0800030000000000";
    assert_eq!(errno(&mut memory, &hex(stop)), 0);
    assert_eq!(errno(&mut memory, &hex(stop)), 3, "ESRCH");
    for (wrong, number, why) in [
        ("09010000", 22, "EINVAL: no daemon"),
        (
            "09010000 0c000380 0800010001000000",
            22,
            "EINVAL: no interface",
        ),
        (
            "09010000 1c000380 0800010003000000 0700020063300000 0800030007000000",
            22,
            "EINVAL: neither master nor backup",
        ),
        (
            "09010000 24000380 0800010001000000 0700020063300000 0800030007000000 080005000a000001",
            22,
            "EINVAL: no group",
        ),
        (
            "09010000 20000380 0800010001000000 0c0002006e6f7375636830 00 0800030007000000",
            19,
            "ENODEV",
        ),
    ] {
        assert_eq!(errno(&mut memory, &hex(wrong)), number, "{why}");
    }
}

#[test]
fn times_are_set_and_told_and_0_keeps_the_old() {
    let mut memory = Memory::default();
    let set = "0c010000 0800040064000000 0800050000000000 080006001e000000";
    assert_eq!(errno(&mut memory, &hex(set)), 0);
    let got = answers(&mut memory, &message(FAMILY, ACK, &hex("0d010000")));
    let told = hex("0c010000 0800040064000000 0800050078000000 080006001e000000");
    assert_eq!(got[0][16..], told);
}

#[test]
fn info_has_the_version_that_programs_ask_for() {
    let got = answers(
        &mut Memory::default(),
        &message(FAMILY, ACK, &hex("0f010000")),
    );
    assert_eq!(
        got[0][16..],
        hex("0e010000 0800010001020100 0800020000100000")
    );
}

#[test]
fn counters_are_zeroed_of_one_or_of_all_and_a_flush_leaves_nothing() {
    let mut memory = filled();
    let one = Attributes::new().bytes(0x8001, &hex(NAMED)).to_bytes();
    assert_eq!(
        errno(&mut memory, &[&hex("10010000"), &one[..]].concat()),
        0
    );
    assert_eq!(errno(&mut memory, &hex("10010000")), 0);
    assert_eq!(memory.zeroed, [Some(key()), None]);
    assert_eq!(errno(&mut memory, &hex("11010000")), 0);
    assert!(memory.table.services().is_empty());
}

#[test]
fn a_service_that_has_gone_has_an_empty_dump_of_servers() {
    let which = Attributes::new().bytes(0x8001, &hex(NAMED)).to_bytes();
    let payload = [&hex("08010000"), &which[..]].concat();
    let got = answers(&mut Memory::default(), &message(FAMILY, DUMP, &payload));
    assert_eq!(
        got.concat(),
        hex("14000000 0300 0200 07000000 504f5254 00000000")
    );
}

#[test]
fn a_request_that_is_cut_off_anywhere_is_refused() {
    for whole in [
        hex(ADD_SERVICE),
        about_server(5, &server(&at(11), 0, 1, 0, 0)),
    ] {
        for length in 0..whole.len() {
            let mut memory = Memory::default();
            assert_ne!(errno(&mut memory, &whole[..length]), 0, "{length} bytes");
            assert!(memory.table.services().is_empty());
        }
    }
}

/// Programs that know neither FULLNAT nor its addresses leave them as they are.
#[test]
fn what_these_programs_do_not_know_of_stays() {
    let mut memory = Memory::default();
    let local = vec![Addr::v4([10, 0, 2, 1])];
    let spec = ServiceSpec {
        local: local.clone(),
        ..ServiceSpec::new(key(), "rr")
    };
    let endpoint = Endpoint::new(Addr::v4([10, 0, 2, 11]), 80);
    let changes = [
        Change::AddService(spec),
        Change::AddServer(key(), ServerSpec::new(endpoint, Forwarding::FullNat)),
    ];
    for change in &changes {
        memory.table.apply(change).expect("applied");
    }
    let mut edit = hex(ADD_SERVICE);
    edit[0] = 2;
    assert_eq!(errno(&mut memory, &edit), 0);
    assert_eq!(
        errno(&mut memory, &about_server(6, &server(&at(11), 0, 0, 0, 0))),
        0
    );
    let service = &memory.table.services()[0];
    assert_eq!(
        (service.scheduler.as_str(), &service.local),
        ("wrr", &local)
    );
    let server = service.servers[0];
    assert_eq!((server.forwarding, server.weight), (Forwarding::FullNat, 0));
    let routed = server_of(&mut memory, 3);
    assert_eq!(routed, Forwarding::Dr, "another method is another method");
}

fn server_of(memory: &mut Memory, method: u32) -> Forwarding {
    assert_eq!(
        errno(memory, &about_server(6, &server(&at(11), method, 1, 0, 0))),
        0
    );
    memory.table.services()[0].servers[0].forwarding
}

#[test]
fn several_requests_in_one_datagram_are_answered_one_after_the_other() {
    let both = [
        message(FAMILY, ACK, &hex(ADD_SERVICE)),
        message(FAMILY, DUMP, &[4, 1, 0, 0]),
    ];
    let mut memory = Memory::default();
    let mut conversation = Conversation::new(true);
    conversation.hear(both.concat());
    assert_eq!(conversation.answer(&mut memory).map(|a| a.len()), Some(1));
    assert_eq!(conversation.answer(&mut memory).map(|a| a.len()), Some(1));
    assert_eq!(conversation.answer(&mut memory), None);
}

#[test]
fn who_is_not_permitted_finds_the_family_and_nothing_else() {
    let mut memory = filled();
    let mut conversation = Conversation::new(false);
    let asked = [
        message(CONTROLLER, ACK, &hex("03010000 0900020049505653 00000000")),
        message(FAMILY, DUMP, &[4, 1, 0, 0]),
        message(FAMILY, ACK, &hex("11010000")),
    ];
    conversation.hear(asked.concat());
    assert_eq!(conversation.answer(&mut memory).map(|a| a.len()), Some(2));
    for _ in 0..2 {
        let refused = conversation
            .answer(&mut memory)
            .expect("an answer")
            .concat();
        assert_eq!(refused[16..20], (-1i32).to_ne_bytes(), "EPERM");
    }
    assert_eq!(memory.table.services().len(), 1);
}
