//! Whatever comes, it makes no difference whether the kernel forwards connections or the engine does, nor whether one
//! engine in another process after the other goes on with what the kernel forwards.
//!
//! What comes is what `exercise` reads from bytes. At random these are hardly ever a conversation, so the bytes of
//! one are made here: handshakes, data, ends and answers of few clients, in any order, with what time, an
//! administrator and routers do in between.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use uvs_core::offload::Reach;
use uvs_core::snapshot::Sysctls;
use uvs_core::testing::exercise::{exercise_handed_down, exercise_handed_over};
use uvs_core::wire::tcp::flag::{ACK, FIN, PSH, RST, SYN};

/// Places in the exercise's list of ports.
const HTTP: u8 = 0;
const DNS: u8 = 1;
const FTP: u8 = 2;
const MAPPED: u8 = 4;
const LOCAL: u8 = 7;

/// What a packet of the exercise's is read from.
#[derive(Clone, Debug)]
struct Packet {
    from_server: bool,
    kind: u8,
    client: u8,
    port: u8,
    local: u8,
    flags: u8,
    len: u8,
    ttl: u8,
    shape: u8,
    gso: u16,
}

impl Packet {
    fn bytes(&self) -> Vec<u8> {
        let mut b = vec![
            1,
            u8::from(self.from_server),
            self.kind,
            self.client,
            self.port,
        ];
        if self.from_server && self.kind & 0x40 != 0 {
            b.push(self.local);
        }
        if self.kind & 3 != 0 {
            b.push(self.flags);
        }
        b.extend([self.len, self.ttl, self.shape]);
        if self.shape & 3 == 0 {
            b.extend(self.gso.to_be_bytes());
        }
        b
    }
}

fn packet() -> impl Strategy<Value = Vec<u8>> {
    let flags = select(vec![
        SYN,
        SYN,
        SYN | ACK,
        SYN | ACK,
        ACK,
        ACK,
        ACK | PSH,
        FIN | ACK,
        FIN | ACK,
        RST,
        RST | ACK,
        0,
    ]);
    let kind = prop_oneof![
        8 => select(vec![2_u8, 2 | 8, 2 | 0x40, 2 | 8 | 0x40]),
        4 => select(vec![0_u8, 8, 0x40]),
        1 => select(vec![1_u8, 2 | 16, 2 | 32]),
    ];
    let port = select(vec![HTTP, HTTP, HTTP, DNS, DNS, FTP, MAPPED, LOCAL]);
    let shape = prop_oneof![8 => Just(2_u8), 1 => Just(1), 1 => Just(0)];
    let ttl = prop_oneof![12 => Just(64_u8), 1 => Just(1)];
    let who = (any::<bool>(), kind, 0..3_u8, port, 0..24_u8);
    let what = (flags, 0..200_u8, ttl, shape, 20..100_u16);
    (who, what).prop_map(|((from_server, kind, client, port, local), what)| {
        let (flags, len, ttl, shape, gso) = what;
        let packet = Packet {
            from_server,
            kind,
            client,
            port,
            local,
            flags,
            len,
            ttl,
            shape,
            gso,
        };
        packet.bytes()
    })
}

/// Whatever else happens.
fn event() -> impl Strategy<Value = Vec<u8>> {
    // 13.1 s and so on: no sum of them is a time-out, within a tick of which the two may differ.
    let ticks = select(vec![655_u16, 655, 655, 3155, 6155, 45_155]);
    prop_oneof![
        4 => ticks.prop_map(|n| { let [a, b] = n.to_be_bytes(); vec![5, a, b] }),
        1 => (any::<u8>(), 0..4_u8).prop_map(|(name, value)| vec![6, name, value]),
        2 => (0..6_u8, select(vec![0_u8, 1, 1, 1, 2, 3, 3]), any::<u8>()).prop_map(|(at, what, way)| vec![7, at, what, way]),
        1 => (any::<u8>(), 0..20_u8, any::<u8>(), any::<u8>(), any::<u16>())
            .prop_map(|(side, quoted, kind, code, rest)| {
                let [a, b] = rest.to_be_bytes();
                vec![4, side, quoted, kind, code, a, b]
            }),
    ]
}

fn conversation() -> impl Strategy<Value = Vec<u8>> {
    let way = prop_oneof![4 => 0..4_u8, 4 => (0..4_u8).prop_map(|n| n | 0x80), 1 => any::<u8>()];
    let steps = vec(prop_oneof![25 => packet(), 2 => event()], 1..120);
    (way, steps).prop_map(|(way, steps)| {
        std::iter::once(way)
            .chain(steps.into_iter().flatten())
            .collect()
    })
}

/// Random conversations with the hook of a `reach`. Returns how many frames the hook forwarded.
fn conversations(reach: Reach) -> u64 {
    let forwarded = AtomicU64::new(0);
    let config = ProptestConfig {
        cases: 300,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let same = runner.run(&conversation(), |data| {
        let n = exercise_handed_over(uvs_modes::BUILTIN, &data, reach);
        forwarded.fetch_add(n, Ordering::Relaxed);
        if reach == Reach::Everything {
            exercise_handed_down(uvs_modes::BUILTIN, &data, 30, Some(reach));
        }
        Ok(())
    });
    same.unwrap_or_else(|e| panic!("{e}"));
    forwarded.into_inner()
}

#[test]
fn conversations_make_no_difference_to_a_hook_that_forwards() {
    let forwarded = conversations(Reach::Everything);
    assert!(
        forwarded > 200,
        "only {forwarded} frames were forwarded by the hook"
    );
}

#[test]
fn conversations_make_no_difference_to_a_hook_of_the_established() {
    conversations(Reach::Established);
}

#[test]
fn conversations_make_no_difference_to_a_hook_that_guards() {
    assert_eq!(conversations(Reach::Guard), 0, "it forwards nothing");
}

/// Connections of FTP and their template: whether they or it end first after long sleeps is for their deadlines to say.
#[test]
fn what_ends_in_one_long_sleep_ends_in_the_order_of_its_deadlines() {
    let segment = |flags| [1, 0, 2, 0, 2, flags, 0, 64, 2];
    let sleep = [5, 12, 83];
    let (syn, fin, ack) = (segment(2), segment(17), segment(16));
    let steps: [&[u8]; 7] = [&[0], &syn, &fin, &sleep, &ack, &sleep, &sleep];
    exercise_handed_over(uvs_modes::BUILTIN, &steps.concat(), Reach::Everything);
}

/// A tunnel whose server is told to wrap otherwise, in the middle of a flow.
#[test]
fn a_flow_follows_its_servers_encapsulation() {
    let datagram = [1, 0, 0, 1, DNS, 0, 64, 2];
    let [ipip, gue] = [3, 4];
    let to_gue = [7, 1, 1, gue];
    let data: Vec<u8> = [&[ipip], &datagram[..], &to_gue, &datagram, &datagram].concat();
    for reach in [Reach::Everything, Reach::Established, Reach::Guard] {
        exercise_handed_over(uvs_modes::BUILTIN, &data, reach);
    }
}

/// What a client and a server of NAT say to each other, each an end and flags, makes no difference.
fn no_difference(way: u8, said: &[(bool, u8)]) {
    const NAT: u8 = 1;
    let packet = |&(from_server, flags): &(bool, u8)| Packet {
        from_server,
        kind: 2,
        client: 1,
        port: HTTP,
        local: 0,
        flags,
        len: 0,
        ttl: 64,
        shape: 2,
        gso: 0,
    };
    let said = said.iter().flat_map(|one| packet(one).bytes());
    let data: Vec<u8> = std::iter::once(NAT | way).chain(said).collect();
    for reach in [Reach::Everything, Reach::Established, Reach::Guard] {
        exercise_handed_over(uvs_modes::BUILTIN, &data, reach);
    }
}

/// A client resets what it has just opened, is answered all the same, and asks again. The engine sees both SYNs, the kernel
/// what lies between, by which the server is not silent.
#[test]
fn a_server_that_answers_a_reset_client_is_not_silent() {
    let (client, server) = (false, true);
    no_difference(
        0,
        &[
            (client, SYN),
            (client, RST),
            (server, SYN | ACK),
            (client, SYN),
        ],
    );
}

/// A client that has sent to a silent server asks again, and sends a segment that no state allows: nobody has refused it.
#[test]
fn a_client_that_spoils_its_own_handshake_is_not_refused() {
    const TO_ANOTHER_PORT: u8 = 0x80;
    let said = [SYN, ACK, FIN | ACK, SYN, 0].map(|flags| (false, flags));
    no_difference(TO_ANOTHER_PORT, &said);
}

/// What `expire_nodest_conn` ends is what is left when a server goes, not what was left before it was set: not by the next
/// engine either.
#[test]
fn a_removed_servers_connection_outlives_the_engine() {
    let [direct, udp_service, no_servers, a_second] = [0, 1, 0, 50];
    let datagram = [1, 0, 0, 0, DNS, 0, 64, 2];
    let sysctl = Sysctls::NAMES
        .iter()
        .position(|n| *n == "expire_nodest_conn");
    let sysctl = u8::try_from(sysctl.expect("it is one")).expect("they are few");
    let rest = [7, udp_service, no_servers, 0, 6, sysctl, 1, 5, 0, a_second];
    let data: Vec<u8> = [&[direct][..], &datagram, &rest].concat();
    for each in 1..4 {
        exercise_handed_down(uvs_modes::BUILTIN, &data, each, None);
    }
}
