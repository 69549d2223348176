//! What is sent again, and what is out of the ordinary: each a row of what comes in and what leaves.

use std::time::Duration;

use super::*;
use uvs_core::wire::tcp::flag::{FIN, PSH, RST};

/// Who sends.
#[derive(Clone, Copy, Debug)]
enum By {
    Client,
    Server,
}
use By::{Client, Server};

/// What leaves to the server for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Out {
    /// The header, alone.
    Header,
    /// The segment, so many bytes later.
    Own,
    /// The header, and the segment behind it.
    Both,
    /// Nothing.
    Nothing,
}
use Out::{Both, Header, Nothing, Own};

/// Flags, number and bytes of data behind the start, in the sender's terms; or for the server, what it acknowledges,
/// `None` for the header's whole length.
type Row = (By, u8, u32, usize, Out);

/// Plays rows on a connection whose SYN was answered. The server's rows acknowledge bytes of its own stream: the header and
/// what follows.
fn play(rows: &[Row]) {
    let mut director = Director::plain(proxy(ClientAddress::ProxyV2));
    director.open();
    let mut header: Vec<u8> = Vec::new();
    for (i, (by, flags, at, data, out)) in rows.iter().enumerate() {
        let payload = vec![b'x'; *data];
        let (to_server, to_client) = match by {
            Client => {
                let segment = director.client_segment(*flags, START.wrapping_add(*at), REPLY);
                director.client_says(&segment.payload(&payload))
            }
            Server => {
                let segment = director.server_segment(*flags, REPLY, START + at);
                director.server_says(&segment.payload(&payload))
            }
        };
        if header.is_empty()
            && let Some(first) = to_server.first()
        {
            header.clone_from(&first.data);
        }
        let len = u32::try_from(header.len()).unwrap();
        let is_header = |s: &&Segment| !header.is_empty() && s.data == header;
        let headers: Vec<_> = to_server.iter().filter(is_header).collect();
        let own: Vec<_> = to_server.iter().filter(|s| !is_header(s)).collect();
        let got = match (headers.len(), own.len()) {
            (1, 0) => Header,
            (0, 1) => Own,
            (1, 1) if to_server[0].data == header => Both,
            (0, 0) => Nothing,
            _ => panic!("row {i}: {to_server:?}"),
        };
        assert_eq!(got, *out, "row {i}: {to_server:?}");
        for header in headers {
            assert_eq!((header.flags, header.seq), (ACK | PSH, START), "row {i}");
        }
        for own in own {
            let shift = if header.is_empty() { 0 } else { len };
            assert_eq!(
                own.seq,
                START.wrapping_add(*at).wrapping_add(shift),
                "row {i}"
            );
            assert_eq!((own.flags, &own.data), (*flags, &payload), "row {i}");
        }
        if matches!(by, Server) {
            let client = to_client[0].ack.wrapping_sub(START);
            assert_eq!(client, at.saturating_sub(len), "row {i}");
        }
        director.bed.wait(Duration::from_millis(10));
    }
}

/// Bytes of the header of a service without an authority.
const LEN: u32 = 16 + 12 + 3 + 32 + 3 + 4;

#[test]
fn it_goes_once_where_nothing_is_lost() {
    play(&[
        (Client, ACK, 0, 0, Header),
        (Client, ACK | PSH, 0, 100, Own),
        (Client, ACK | PSH, 100, 100, Own),
        (Server, ACK, LEN, 0, Nothing),
        (Server, ACK, LEN + 200, 50, Nothing),
        (Client, ACK, 200, 0, Own),
        (Client, ACK | PSH, 100, 100, Own),
        (Client, ACK | PSH, 200, 10, Own),
    ]);
}

#[test]
fn it_goes_again_with_what_the_client_sends_again() {
    // The SYN-ACK comes again where the last ACK was lost, and the client answers it.
    play(&[
        (Client, ACK, 0, 0, Header),
        (Client, ACK, 0, 0, Header),
        (Server, ACK, LEN, 0, Nothing),
        (Client, ACK, 0, 0, Own),
    ]);
    // The client's first data again, and a part of them.
    play(&[
        (Client, ACK, 0, 0, Header),
        (Client, ACK | PSH, 0, 100, Own),
        (Client, ACK | PSH, 0, 100, Both),
        (Client, ACK | PSH, 0, 40, Both),
        (Client, ACK | PSH, 40, 60, Both),
        // More than was sent before is new.
        (Client, ACK | PSH, 40, 70, Own),
        (Server, ACK, LEN + 110, 0, Nothing),
        (Client, ACK | PSH, 0, 100, Own),
    ]);
}

#[test]
fn it_goes_before_data_that_come_before_the_last_ack() {
    play(&[
        (Client, ACK | PSH, 0, 100, Both),
        (Client, ACK, 0, 0, Header),
        (Server, ACK, LEN + 100, 0, Nothing),
    ]);
    play(&[
        (Client, ACK | PSH, 100, 100, Both),
        (Client, ACK | PSH, 0, 100, Both),
    ]);
    play(&[
        (Client, FIN | ACK, 0, 0, Both),
        (Client, FIN | ACK, 0, 0, Both),
    ]);
}

#[test]
fn the_server_acknowledges_a_part_of_it() {
    play(&[
        (Client, ACK, 0, 0, Header),
        (Server, ACK, 7, 0, Nothing),
        (Client, ACK | PSH, 0, 10, Own),
        (Client, ACK | PSH, 0, 10, Both),
        (Server, ACK, LEN, 0, Nothing),
        (Client, ACK | PSH, 0, 10, Own),
    ]);
}

#[test]
fn probes_are_of_what_the_server_has() {
    // A keep-alive probe is from before the next byte, with or without one; before the server has the header, it is
    // the header that comes.
    let before = u32::MAX;
    play(&[
        (Client, ACK, before, 0, Header),
        (Client, ACK, before, 1, Header),
        (Server, ACK, LEN, 0, Nothing),
        (Client, ACK, before, 0, Own),
        (Client, ACK, before, 1, Own),
    ]);
}

#[test]
fn a_reset_comes_where_the_server_awaits_it() {
    // Before anything was put in, the numbers are the client's.
    play(&[(Client, RST, 0, 0, Own)]);
    play(&[(Client, ACK, 0, 0, Header), (Client, RST | ACK, 0, 0, Both)]);
    play(&[
        (Client, ACK, 0, 0, Header),
        (Server, ACK, LEN, 0, Nothing),
        (Client, RST, 0, 0, Own),
    ]);
}

#[test]
fn a_server_that_does_not_get_on_gets_it_again() {
    let mut director = Director::plain(proxy(ClientAddress::ProxyV2));
    let header = director.establish();
    let len = u32::try_from(header.len()).unwrap();
    let closed = director.server_segment(ACK, REPLY, START).window(0);
    let open = director.server_segment(ACK, REPLY, START).window(2_000);
    let part = director.server_segment(ACK, REPLY, START + 5).window(2_000);
    let all = director
        .server_segment(ACK, REPLY, START + len)
        .window(2_000);
    director.bed.wait(Duration::from_millis(500));
    for (segment, wait, again) in [
        (&closed, 0, false),
        (&open, 0, true),
        (&open, 0, false),
        (&part, 150, false),
        (&part, 200, true),
        (&all, 500, false),
        (&open, 500, false),
    ] {
        director.bed.wait(Duration::from_millis(wait));
        let (to_server, to_client) = director.server_says(segment);
        let sent: Vec<_> = to_server.iter().map(|s| (s.seq, s.data.clone())).collect();
        let want = again.then(|| (START, header.clone()));
        assert_eq!(sent, Vec::from_iter(want), "{segment:?}");
        assert_eq!(to_client[0].ack, START, "{segment:?}");
    }
    let counters = director.bed.engine.counters();
    assert_eq!(
        (counters.proxy_headers, counters.proxy_headers_again),
        (3, 2)
    );
}

#[test]
fn the_handshake_leaves_room_for_it() {
    let mut director = Director::plain(proxy(ClientAddress::ProxyV2));
    let syn = director.client_segment(SYN, ISN, 0);
    director.client_says(&syn);
    for (window, left) in [(64_240_u16, 64_240 - 70), (70, 0), (20, 0), (0, 0)] {
        let answer = director
            .server_segment(SYN | ACK, SERVER_ISN, START)
            .window(window);
        let (_, to_client) = director.server_says(&answer);
        assert_eq!(to_client[0].window, left);
    }
}

#[test]
fn selective_acknowledgements_are_the_clients() {
    let mut director = Director::plain(proxy(ClientAddress::ProxyV2));
    let len = u32::try_from(director.establish().len()).unwrap();
    let blocks = |blocks: &[(u32, u32)]| {
        let mut option = vec![1, 1, 5, u8::try_from(2 + 8 * blocks.len()).unwrap()];
        for edge in blocks.iter().flat_map(|(l, r)| [l, r]) {
            option.extend(edge.to_be_bytes());
        }
        option
    };
    let data = START + len;
    for (server, client) in [
        (
            blocks(&[(data + 10, data + 20)]),
            blocks(&[(START + 10, START + 20)]),
        ),
        // Of the header twice (RFC 2883) the client knows nothing.
        (blocks(&[(START, data)]), vec![1; 12]),
        (
            blocks(&[(START, data), (data + 10, data + 20)]),
            [blocks(&[(START + 10, START + 20)]), vec![1; 8]].concat(),
        ),
        (
            blocks(&[(START + 9, data + 5)]),
            blocks(&[(START, START + 5)]),
        ),
    ] {
        let segment = director
            .server_segment(ACK, REPLY, START)
            .tcp_options(&server);
        let (_, to_client) = director.server_says(&segment);
        assert_eq!((to_client[0].ack, &to_client[0].options), (START, &client));
    }
    // The client's are about the server's numbers, which are the same at both ends.
    let own = blocks(&[(REPLY + 100, REPLY + 200)]);
    let segment = director
        .client_segment(ACK, START, REPLY)
        .tcp_options(&own)
        .payload(b"x");
    let (to_server, _) = director.client_says(&segment);
    assert_eq!(to_server.last().unwrap().options, own);
}

#[test]
fn a_super_frame_goes_whole_behind_the_header() {
    let mut director = Director::plain(proxy(ClientAddress::ProxyV2));
    director.open();
    let data: Vec<u8> = (0..20_000)
        .map(|i| u8::try_from(i % 251).unwrap())
        .collect();
    let frame = director.client_segment(ACK, START, REPLY).payload(&data);
    let frame = frame.super_frame(1448);
    let offload = frame.offload;
    director.bed.sent.clear();
    director.bed.receive(CLIENTS, frame);
    let [header, whole] = &director.bed.sent[..] else {
        panic!("{} frames", director.bed.sent.len());
    };
    let len = u32::try_from(Segment::read(header).data.len()).unwrap();
    assert_eq!(
        (whole.offload.gso, whole.offload.gso_size),
        (offload.gso, 1448)
    );
    let whole = Segment::read(whole);
    assert_eq!((whole.seq, whole.data), (START + len, data));
}

#[test]
fn a_syn_asks_for_nothing_that_would_number_the_stream_otherwise() {
    let mss = [2, 4, 5, 180];
    let cookie = [34, 6, 1, 2, 3, 4, 1, 1];
    let experiment = [254, 8, 0xf9, 0x89, 1, 2, 3, 4];
    let multipath = [30, 12, 1, 0x81, 1, 2, 3, 4, 5, 6, 7, 8];
    for option in [&cookie[..], &experiment, &multipath] {
        let mut director = Director::plain(proxy(ClientAddress::ProxyV2));
        let syn = director.client_segment(SYN, ISN, 0);
        let syn = syn.tcp_options(&[&mss, option].concat()).payload(b"early");
        let (to_server, _) = director.client_says(&syn);
        assert_eq!(to_server[0].brief(), (SYN, ISN, 0, 0));
        assert_eq!(
            to_server[0].options,
            [&mss[..], &vec![1; option.len()]].concat()
        );
        // The server has nothing of the data, and the client sends them again.
        let answer = director.server_segment(SYN | ACK, SERVER_ISN, START);
        director.server_says(&answer);
        let data = director.client_segment(ACK, START, REPLY).payload(b"early");
        let (to_server, _) = director.client_says(&data);
        let len = u32::try_from(judge_first(&to_server)).unwrap();
        assert_eq!(
            (to_server[1].seq, &to_server[1].data[..]),
            (START + len, &b"early"[..])
        );
    }
}

fn judge_first(to_server: &[Segment]) -> usize {
    judge(&to_server[0].data);
    to_server[0].data.len()
}

#[test]
fn a_client_that_begins_again_is_introduced_by_its_new_numbers() {
    let mut director = Director::plain(proxy(ClientAddress::ProxyV2));
    director.open();
    let other = 77_000;
    let syn = director.client_segment(SYN, other, 0);
    director.client_says(&syn);
    let ack = director.client_segment(ACK, other + 1, REPLY);
    let (to_server, _) = director.client_says(&ack);
    judge_first(&to_server);
    assert_eq!(to_server[0].seq, other + 1);
}

#[test]
fn a_header_that_cannot_go_is_not_taken_for_sent() {
    let mut director = Director::plain(proxy(ClientAddress::ProxyV2));
    director.open();
    let request = director
        .client_segment(ACK, START, REPLY)
        .payload(b"request");
    // It has travelled too far, and so has what is made out of it.
    let frame = TestFrame::finished(&request.clone().ttl(1).frame());
    assert_eq!(director.bed.receive(CLIENTS, frame), Verdict::Answered);
    assert_eq!(director.bed.engine.counters().proxy_headers, 0);
    let (to_server, _) = director.client_says(&request);
    judge_first(&to_server);
    assert_eq!(to_server.len(), 2);
}

#[test]
fn damaged_segments_bring_no_header_and_acknowledge_none() {
    let mut director = Director::plain(proxy(ClientAddress::ProxyV2));
    director.open();
    let damaged = |segment: &PacketBuilder| {
        let mut frame = segment.frame();
        frame[ethernet::LEN + 20 + 15] ^= 1;
        TestFrame::finished(&frame)
    };
    let ack = director.client_segment(ACK, START, REPLY);
    let verdict = director.bed.receive(CLIENTS, damaged(&ack));
    assert!(matches!(verdict, Verdict::Send(_)));
    assert_eq!(director.bed.engine.counters().proxy_headers, 0);
    let (to_server, _) = director.client_says(&ack);
    let len = u32::try_from(judge_first(&to_server)).unwrap();
    let all = director.server_segment(ACK, REPLY, START + len);
    director.bed.receive(SERVERS, damaged(&all));
    let (to_server, _) = director.client_says(&ack);
    judge_first(&to_server);
}
