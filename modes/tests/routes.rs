//! The ways of a connection's packets on a host with routing rules, and the packets that its rp_filter refuses.

use proptest::prelude::*;
use uvs_core::fib::{
    Action, Fib, Hop, Interface, Refusal, ReversePath, Route, Rule, Target, Unreachable,
};
use uvs_core::flow::{Addr, Endpoint, Family, Protocol};
use uvs_core::service::{Forwarding, Tunnel};
use uvs_core::testing::bed::{
    Bed, CLIENT, CLIENTS, LOCAL, SERVER, SERVER_PORT, SERVERS, SERVERS_MAC, Sent, VIP,
};
use uvs_core::testing::packets::{ACK, SYN, TestFrame, tcp, udp};
use uvs_core::verdict::{DropReason, PortId, Verdict};
use uvs_core::wire::tcp::flag::RST;

/// A second uplink: port 2, interface 4.
const UPLINK: PortId = PortId(2);
const UPLINK_MAC: [u8; 6] = [2, 0, 0, 0, 3, 1];
const TABLE: u32 = 100;

/// A bed with a service on one server, and an uplink whose table nobody is sent to yet.
fn bed(forwarding: Forwarding) -> Bed {
    let tunnel = Tunnel::default();
    let mut bed = Bed::with_service(uvs_modes::BUILTIN, Protocol::Tcp, forwarding, tunnel);
    bed.change_fib(|fib| {
        fib.set_interface(Interface {
            port: UPLINK,
            ifindex: 4,
            mac: UPLINK_MAC,
            mtu: 1500,
            up: true,
            reverse_path: ReversePath::Off,
        });
        fib.add_local(4, Addr::v4([10, 3, 0, 1]));
        let gateway = Hop::by(4, Some(Addr::v4([10, 3, 0, 254])));
        let uplink = Route::new(Addr::UNSPECIFIED, 0, Target::Hop(gateway));
        fib.add_route_to(TABLE, uplink);
    });
    bed
}

/// Adds a rule for the uplink's table before the main table's.
fn add_rule(bed: &mut Bed, change: impl FnOnce(&mut Rule)) {
    let mut rule = Rule::lookup(100, TABLE);
    change(&mut rule);
    let [local, main, default] = Rule::DEFAULT;
    bed.change_fib(|fib| fib.set_rules(Family::V4, &[local, rule, main, default]));
}

fn frame(from: Endpoint, to: Endpoint, flags: u8) -> TestFrame {
    TestFrame::finished(&tcp(from, to, flags).frame())
}

/// A server's packet to a client or to FULLNAT's local address.
fn reply(to: Endpoint, flags: u8) -> TestFrame {
    let packet = tcp(REAL, to, flags).to_mac(SERVERS_MAC);
    TestFrame::finished(&packet.frame())
}

/// The port that the one packet left by.
fn port(sent: &[Sent]) -> Option<PortId> {
    match sent {
        [one] => Some(one.port),
        _ => None,
    }
}

const REAL: Endpoint = Endpoint::new(SERVER, SERVER_PORT);

#[test]
fn a_reply_leaves_by_the_way_of_the_vip() {
    let mut bed = bed(Forwarding::Nat);
    bed.from_client(frame(CLIENT, VIP, SYN));
    let answer = || reply(CLIENT, SYN | ACK);
    assert_eq!(port(&bed.from_server(answer())), Some(CLIENTS));
    add_rule(&mut bed, |rule| rule.from = (VIP.addr, 32));
    assert_eq!(port(&bed.from_server(answer())), Some(UPLINK));
}

#[test]
fn a_reply_is_first_routed_as_it_came_and_stays_there_without_snat_reroute() {
    let mut bed = bed(Forwarding::Nat);
    bed.from_client(frame(CLIENT, VIP, SYN));
    let answer = || reply(CLIENT, SYN | ACK);
    add_rule(&mut bed, |rule| rule.iif = Some(3));
    assert_eq!(port(&bed.from_server(answer())), Some(CLIENTS));
    bed.sysctl("snat_reroute", 0);
    assert_eq!(port(&bed.from_server(answer())), Some(UPLINK));
    add_rule(&mut bed, |rule| rule.from = (VIP.addr, 32));
    assert_eq!(port(&bed.from_server(answer())), Some(CLIENTS));
    bed.sysctl("snat_reroute", 1);
    add_rule(&mut bed, |rule| {
        rule.from = (SERVER, 32);
        rule.action = Action::Refuse(Unreachable::Refused(Refusal::Prohibit));
    });
    assert_eq!(icmp(&bed.from_server(answer())), Some((3, 13)));
}

#[test]
fn what_the_director_says_for_the_vip_leaves_by_its_way_too() {
    let mut bed = bed(Forwarding::Nat);
    add_rule(&mut bed, |rule| rule.from = (VIP.addr, 32));
    let stray = frame(CLIENT, VIP, ACK);
    assert_eq!(port(&bed.from_client(stray)), Some(UPLINK), "a reset");
}

#[test]
fn neither_the_clients_address_nor_its_interface_choose_the_way_to_a_server() {
    for forwarding in [Forwarding::Dr, Forwarding::Nat, Forwarding::Tunnel] {
        let mut bed = bed(forwarding);
        add_rule(&mut bed, |rule| rule.from = (CLIENT.addr, 32));
        let sent = bed.from_client(frame(CLIENT, VIP, SYN));
        assert_eq!(port(&sent), Some(SERVERS), "{forwarding:?}");
        add_rule(&mut bed, |rule| rule.iif = Some(2));
        let sent = bed.from_client(frame(CLIENT, VIP, ACK));
        assert_eq!(port(&sent), Some(SERVERS), "{forwarding:?}");
    }
}

#[test]
fn the_directors_own_address_chooses_it_where_the_packet_carries_one() {
    for (forwarding, expected) in [
        (Forwarding::Nat, SERVERS),
        (Forwarding::FullNat, UPLINK),
        (Forwarding::Tunnel, UPLINK),
    ] {
        let mut bed = bed(forwarding);
        add_rule(&mut bed, |rule| rule.from = (LOCAL, 32));
        let sent = bed.from_client(frame(CLIENT, VIP, SYN));
        assert_eq!(port(&sent), Some(expected), "{forwarding:?}");
    }
}

/// The type and code of the one ICMP message.
fn icmp(sent: &[Sent]) -> Option<(u8, u8)> {
    match sent {
        [one] if one.bytes[23] == 1 => Some((one.bytes[34], one.bytes[35])),
        _ => None,
    }
}

fn refuse(bed: &mut Bed, to: Addr, why: Refusal) {
    let route = Route::new(to, 32, Target::Refuse(why));
    bed.change_fib(|fib| fib.add_route(route));
}

#[test]
fn a_server_is_told_what_the_route_to_the_client_says() {
    for (why, told) in [
        (Refusal::Unreachable, Some((3, 1))),
        (Refusal::Prohibit, Some((3, 13))),
        (Refusal::Blackhole, None),
    ] {
        let mut bed = bed(Forwarding::Nat);
        bed.from_client(frame(CLIENT, VIP, SYN));
        refuse(&mut bed, CLIENT.addr, why);
        let sent = bed.from_server(reply(CLIENT, SYN | ACK));
        assert_eq!(icmp(&sent), told, "{why:?}");
    }
}

/// `do_output_route4` has no route, whatever the reason (`__ip_vs_get_out_rt`).
#[test]
fn a_client_is_told_that_the_server_is_unreachable() {
    for why in [Refusal::Unreachable, Refusal::Prohibit, Refusal::Blackhole] {
        let mut bed = bed(Forwarding::Nat);
        refuse(&mut bed, SERVER, why);
        let sent = bed.from_client(frame(CLIENT, VIP, SYN));
        assert_eq!(icmp(&sent), Some((3, 1)), "{why:?}");
    }
}

#[test]
fn a_connection_keeps_its_way_among_several_and_many_have_all_of_them() {
    let mut bed = bed(Forwarding::Nat);
    let hop = |ifindex: u8| Hop::by(ifindex.into(), Some(Addr::v4([10, ifindex, 0, 254])));
    bed.change_fib(|fib: &mut Fib| {
        fib.remove_route(Addr::UNSPECIFIED, 0);
        let hops = [hop(2), hop(4)];
        fib.add_route(Route::new(Addr::UNSPECIFIED, 0, Target::Hops(hops.into())));
    });
    let mut taken = [0; 3];
    for source in 1024..1224 {
        let client = Endpoint::new(CLIENT.addr, source);
        bed.from_client(frame(client, VIP, SYN));
        let mut way = || {
            let sent = bed.from_server(reply(client, SYN | ACK));
            port(&sent).expect("one packet")
        };
        let first = way();
        assert_eq!(way(), first);
        taken[usize::from(first.0)] += 1;
    }
    assert!(taken[0] > 60 && taken[2] > 60, "{taken:?}");
}

/// The clients whose connections a random talk is of; behind them in the order of routes is their server.
const TALKERS: u8 = 4;

#[derive(Clone, Debug)]
enum Step {
    Sends(u8),
    Answers(u8),
    /// One connection ends and another begins, in the same place of the table.
    Opens(u8),
    /// Whose route, and whether to the uplink.
    Moves(u8, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..TALKERS).prop_map(Step::Sends),
        3 => (0..TALKERS).prop_map(Step::Answers),
        1 => (0..TALKERS).prop_map(Step::Opens),
        1 => (0..=TALKERS, any::<bool>()).prop_map(|(n, uplink)| Step::Moves(n, uplink)),
    ]
}

const fn talker(n: u8) -> Endpoint {
    Endpoint::new(Addr::v4([10, 9, 0, n]), 4000)
}

/// Routes a client, or the server; to which port.
fn route(bed: &mut Bed, n: u8, uplink: bool) -> PortId {
    let (to, ifindex, port) = match (n, uplink) {
        (TALKERS, false) => (SERVER, 3, SERVERS),
        (TALKERS, true) => (SERVER, 4, UPLINK),
        (_, false) => (talker(n).addr, 2, CLIENTS),
        (_, true) => (talker(n).addr, 4, UPLINK),
    };
    let gateway = Hop::by(ifindex, Some(Addr::v4([10, 8, 0, 254])));
    bed.change_fib(|fib| {
        fib.remove_route(to, 32);
        fib.add_route(Route::new(to, 32, Target::Hop(gateway)));
    });
    port
}

proptest! {
    #[test]
    fn each_packet_of_a_connection_goes_the_way_that_there_is_now(steps in proptest::collection::vec(step(), 1..60)) {
        let mut bed = bed(Forwarding::Nat);
        let mut ways: Vec<PortId> = (0..=TALKERS).map(|n| route(&mut bed, n, false)).collect();
        let open = |bed: &mut Bed, n| bed.from_client(frame(talker(n), VIP, SYN));
        for n in 0..TALKERS {
            open(&mut bed, n);
        }
        for step in steps {
            let (sent, by) = match step {
                Step::Moves(n, uplink) => {
                    ways[usize::from(n)] = route(&mut bed, n, uplink);
                    continue;
                }
                Step::Answers(n) => (bed.from_server(reply(talker(n), ACK)), n),
                Step::Sends(n) => (bed.from_client(frame(talker(n), VIP, ACK)), TALKERS),
                Step::Opens(n) => {
                    bed.from_client(frame(talker(n), VIP, RST));
                    (open(&mut bed, n), TALKERS)
                }
            };
            prop_assert_eq!(port(&sent), Some(ways[usize::from(by)]));
        }
    }
}

/// Sets the rp_filter of every port.
fn filter(bed: &mut Bed, mode: ReversePath) {
    bed.change_fib(|fib| {
        for known in fib.interfaces().to_vec() {
            fib.set_interface(Interface {
                reverse_path: mode,
                ..known
            });
        }
    });
}

const MODES: [ReversePath; 3] = [ReversePath::Off, ReversePath::Loose, ReversePath::Strict];

#[test]
fn a_client_whose_way_back_is_another_is_refused_where_the_filter_is_strict() {
    for mode in MODES {
        let mut bed = bed(Forwarding::Nat);
        filter(&mut bed, mode);
        // A client of the servers' network, by the clients' interface.
        let strange = Endpoint::new(Addr::v4([10, 0, 2, 77]), 4000);
        let refused = Verdict::Drop(DropReason::ReversePath);
        let verdict = bed.receive(CLIENTS, frame(strange, VIP, SYN));
        assert_eq!(verdict == refused, mode == ReversePath::Strict, "{mode:?}");
        let sound = bed.receive(CLIENTS, frame(CLIENT, VIP, SYN));
        assert_ne!(sound, refused, "{mode:?}");
        // And where there is no way back at all.
        refuse(&mut bed, CLIENT.addr, Refusal::Blackhole);
        let verdict = bed.receive(CLIENTS, frame(CLIENT, VIP, ACK));
        assert_eq!(verdict == refused, mode != ReversePath::Off, "{mode:?}");
    }
}

#[test]
fn a_servers_source_that_comes_in_on_the_clients_side_is_not_its_reply() {
    for mode in MODES {
        let mut bed = bed(Forwarding::Nat);
        filter(&mut bed, mode);
        bed.from_client(frame(CLIENT, VIP, SYN));
        let forged = frame(REAL, CLIENT, RST);
        let verdict = bed.receive(CLIENTS, forged);
        let refused = verdict == Verdict::Drop(DropReason::ReversePath);
        assert_eq!(refused, mode == ReversePath::Strict, "{mode:?}");
        if refused {
            let sent = bed.from_server(reply(CLIENT, SYN | ACK));
            assert_eq!(sent.len(), 1, "the connection lives");
        }
    }
}

#[test]
fn a_full_nat_servers_reply_is_judged_too() {
    let mut bed = bed(Forwarding::FullNat);
    filter(&mut bed, ReversePath::Strict);
    let sent = bed.from_client(frame(CLIENT, VIP, SYN));
    let local = u16::from_be_bytes([sent[0].bytes[34], sent[0].bytes[35]]);
    let to = Endpoint::new(LOCAL, local);
    let refused = Verdict::Drop(DropReason::ReversePath);
    assert_eq!(bed.receive(CLIENTS, frame(REAL, to, RST)), refused);
    let sent = bed.from_server(reply(to, SYN | ACK));
    assert_eq!(port(&sent), Some(CLIENTS));
}

#[test]
fn the_way_back_follows_the_rules() {
    let mut bed = bed(Forwarding::Nat);
    filter(&mut bed, ReversePath::Strict);
    let by_uplink = |flags| {
        let packet = tcp(CLIENT, VIP, flags).to_mac(UPLINK_MAC);
        TestFrame::finished(&packet.frame())
    };
    let refused = Verdict::Drop(DropReason::ReversePath);
    assert_eq!(bed.receive(UPLINK, by_uplink(SYN)), refused);
    add_rule(&mut bed, |rule| rule.from = (VIP.addr, 32));
    assert_ne!(bed.receive(UPLINK, by_uplink(SYN)), refused);
    assert_eq!(bed.receive(CLIENTS, frame(CLIENT, VIP, ACK)), refused);
}

#[test]
fn what_is_not_ours_is_left_to_the_kernels_own_filter() {
    let mut bed = bed(Forwarding::Nat);
    filter(&mut bed, ReversePath::Strict);
    let strange = Endpoint::new(Addr::v4([10, 0, 2, 77]), 4000);
    let other = Endpoint::new(Addr::v4([10, 0, 1, 1]), 53);
    let query = TestFrame::finished(&udp(strange, other).frame());
    assert_eq!(bed.receive(CLIENTS, query), Verdict::Pass);
}
