//! Options: TOA in a client's first segments, and timestamps.

use super::*;
use std::time::Duration;
use uvs_core::service::{TOA_KIND, Timestamps};
use uvs_core::wire::tcp::flag::{PSH, RST};

fn toa(kind: u8) -> Introduction {
    Introduction {
        toa_kind: kind,
        ..proxy(ClientAddress::Toa)
    }
}

/// The address and port that the kernel's modules find (`get_toa_data`): in an option of this kind, of 8 or of 20 bytes.
fn find_toa(options: &[u8], kind: u8) -> Option<Endpoint> {
    let mut rest = options;
    loop {
        rest = match rest {
            [] | [0, ..] => return None,
            [1, rest @ ..] => rest,
            [k, len, ..] if *k == kind && matches!(len, 8 | 20) => {
                let port = u16::from_be_bytes([rest[2], rest[3]]);
                let addr = match rest[4..usize::from(*len)] {
                    [a, b, c, d] => uvs_core::flow::Addr::v4([a, b, c, d]),
                    ref octets => uvs_core::flow::Addr::v6(octets.try_into().unwrap()),
                };
                return Some(Endpoint::new(addr, port));
            }
            [_, len, ..] if *len >= 2 => rest.get(usize::from(*len)..)?,
            _ => return None,
        };
    }
}

const STAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9];

#[test]
fn the_packets_that_make_the_servers_socket_name_the_client() {
    for families in [(V4, V4), (V6, V6), (V6, V4), (V4, V6)] {
        for kind in [TOA_KIND, 200] {
            let how = toa(kind);
            let mut director = Director::new(Protocol::Tcp, Forwarding::FullNat, families, how);
            director.open();
            let ack = director.client_segment(ACK, START, REPLY);
            let data = director
                .client_segment(ACK | PSH, START, REPLY)
                .payload(b"data");
            for segment in [ack.tcp_options(&STAMPS), data.tcp_options(&STAMPS)] {
                let (to_server, _) = director.client_says(&segment);
                let got = &to_server[0];
                assert_eq!(find_toa(&got.options, kind), Some(director.client()));
                assert!(got.options.ends_with(&STAMPS));
                assert_eq!(got.seq, START);
                // With a checksum that is left to an offload, as from a veth device.
                let (again, _) = director.hand_in(true, segment.partial());
                assert_eq!(&again[0], got);
            }
            let reset = director.client_segment(RST, START, 0);
            let (to_server, _) = director.client_says(&reset);
            assert_eq!(to_server[0].options, []);
        }
    }
}

#[test]
fn it_ends_with_the_servers_first_answer_and_then_the_kernel_may_forward() {
    for (acked, answer) in [(START + 4, &b""[..]), (START, b"220 ready")] {
        let mut director = Director::plain(toa(TOA_KIND));
        director.bed.take_back();
        director.bed.hand_over(uvs_core::offload::Reach::Everything);
        director.open();
        let data = director.client_segment(ACK, START, REPLY).payload(b"data");
        director.client_says(&data);
        let answer = director.server_segment(ACK, REPLY, acked).payload(answer);
        director.server_says(&answer);
        let next = director
            .client_segment(ACK, START + 4, REPLY)
            .payload(b"next");
        let (to_server, _) = director.client_says(&next);
        assert_eq!(to_server[0].options, []);
        assert_eq!(director.bed.engine.handed_over().takes, 1);
    }
}

#[test]
fn clients_send_so_much_less_in_a_segment() {
    for (families, len) in [((V4, V4), 8), ((V6, V6), 20)] {
        let how = toa(TOA_KIND);
        let mut director = Director::new(Protocol::Tcp, Forwarding::FullNat, families, how);
        let syn = director
            .client_segment(SYN, ISN, 0)
            .tcp_options(&[2, 4, 5, 180]);
        let (to_server, _) = director.client_says(&syn);
        assert_eq!(
            to_server[0].options,
            [2, 4, 5, 180],
            "the server's segments do not grow"
        );
        let answer = director.server_segment(SYN | ACK, SERVER_ISN, START);
        let (_, to_client) = director.server_says(&answer.tcp_options(&[2, 4, 5, 180]));
        assert_eq!(to_client[0].options, [2, 4, 5, 180 - len]);
    }
}

#[test]
fn it_is_left_out_where_there_is_no_room() {
    let mut director = Director::plain(toa(TOA_KIND));
    director.open();
    let crowded = vec![1; 36];
    let segment = director
        .client_segment(ACK, START, REPLY)
        .tcp_options(&crowded);
    let (to_server, _) = director.client_says(&segment);
    assert_eq!(to_server[0].options, crowded);
    for (len, named) in [(1452, true), (1453, false)] {
        let full = director
            .client_segment(ACK, START, REPLY)
            .payload(&vec![7; len]);
        let (to_server, _) = director.client_says(&full);
        assert_eq!(to_server[0].data.len(), len);
        assert_eq!(find_toa(&to_server[0].options, TOA_KIND).is_some(), named);
    }
}

#[test]
fn each_segment_of_a_super_frame_names_the_client() {
    let mut director = Director::plain(toa(TOA_KIND));
    director.open();
    let frame = director
        .client_segment(ACK, START, REPLY)
        .payload(&[7; 10_000])
        .super_frame(1440);
    director.bed.sent.clear();
    director.bed.receive(CLIENTS, frame);
    let sent = &director.bed.sent[0];
    assert_eq!(sent.offload.gso_size, 1440);
    let got = Segment::read(sent);
    assert_eq!(find_toa(&got.options, TOA_KIND), Some(director.client()));
    assert_eq!(got.data, [7; 10_000]);
}

fn stamps(how: Timestamps) -> Introduction {
    Introduction {
        timestamps: how,
        ..Introduction::default()
    }
}

/// A timestamps option of the usual form.
fn option(own: u32, echoed: u32) -> Vec<u8> {
    [
        &[1, 1, 8, 10][..],
        &own.to_be_bytes(),
        &echoed.to_be_bytes(),
    ]
    .concat()
}

fn words(options: &[u8]) -> (u32, u32) {
    let word = |at: usize| u32::from_be_bytes(options[at..at + 4].try_into().unwrap());
    (word(4), word(8))
}

#[test]
fn stripped_timestamps_are_never_agreed_on() {
    let mut director = Director::plain(stamps(Timestamps::Strip));
    let syn = director
        .client_segment(SYN, ISN, 0)
        .tcp_options(&option(7, 0));
    let (to_server, _) = director.client_says(&syn);
    assert_eq!(to_server[0].options, [1; 12]);
}

#[test]
fn clients_behind_one_address_have_one_clock() {
    let mut director = Director::plain(stamps(Timestamps::Offset));
    let mut last: Option<u32> = None;
    // Each client's own clock is anywhere.
    for (port, own) in [(1000_u16, 5_u32), (1001, 4_000_000_000), (1002, 77)] {
        let client = Endpoint::new(director.client().addr, port);
        let syn = tcp(client, director.vip(), SYN)
            .seq(ISN, 0)
            .tcp_options(&option(own, 0));
        let (to_server, _) = director.client_says(&syn);
        let (at_server, _) = words(&to_server[0].options);
        if let Some(last) = last {
            assert_eq!(at_server.wrapping_sub(last), 250);
        }
        last = Some(at_server);
        director.bed.wait(Duration::from_millis(250));
    }
}

#[test]
fn both_ends_have_their_own_timestamps() {
    let mut director = Director::plain(stamps(Timestamps::Offset));
    let syn = director
        .client_segment(SYN, ISN, 0)
        .tcp_options(&option(100, 0));
    let (to_server, _) = director.client_says(&syn);
    let (first, echoed) = words(&to_server[0].options);
    assert_eq!(echoed, 0);
    let answer = director
        .server_segment(SYN | ACK, SERVER_ISN, START)
        .tcp_options(&option(9, first));
    let (_, to_client) = director.server_says(&answer);
    assert_eq!(words(&to_client[0].options), (9, 100));
    let data = director
        .client_segment(ACK, START, REPLY)
        .tcp_options(&option(130, 9))
        .payload(b"x");
    let (to_server, _) = director.client_says(&data);
    assert_eq!(words(&to_server[0].options), (first + 30, 9));
    let answer = director
        .server_segment(ACK, REPLY, START + 1)
        .tcp_options(&option(20, first + 30));
    let (_, to_client) = director.server_says(&answer);
    assert_eq!(words(&to_client[0].options), (20, 130));
    // Another director that takes over goes on.
    director
        .bed
        .hand_down(uvs_modes::BUILTIN, uvs_core::snapshot::Limits::default());
    let data = director
        .client_segment(ACK, START + 1, REPLY)
        .tcp_options(&option(140, 20));
    let (to_server, _) = director.client_says(&data);
    assert_eq!(words(&to_server[0].options), (first + 40, 20));
}

#[test]
fn the_header_has_the_servers_timestamps_too() {
    let how = Introduction {
        timestamps: Timestamps::Offset,
        ..proxy(ClientAddress::ProxyV2)
    };
    let mut director = Director::plain(how);
    let syn = director
        .client_segment(SYN, ISN, 0)
        .tcp_options(&option(100, 0));
    let (to_server, _) = director.client_says(&syn);
    let (first, _) = words(&to_server[0].options);
    let ack = director
        .client_segment(ACK, START, REPLY)
        .tcp_options(&option(103, 9));
    let (to_server, _) = director.client_says(&ack);
    judge(&to_server[0].data);
    assert_eq!(words(&to_server[0].options), (first + 3, 9));
}
