//! What others say of such a connection, and what becomes of it: ICMP errors, the director's own resets, and the hook.

use std::time::Duration;

use super::*;
use uvs_core::service::{OnExpiry, TeardownPolicy};
use uvs_core::testing::bed::{CLIENT, SERVER, VIP};
use uvs_core::testing::packets::icmp;

/// The number in a packet that an ICMP error quotes, and the one it acknowledges.
fn quoted(sent: &Sent) -> (u32, u32) {
    let bytes = sent.finished();
    assert_eq!(check(&bytes), Ok(()));
    let tcp = &bytes[ethernet::LEN + 20 + 8 + 20..];
    let word = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
    (word(4), word(8))
}

#[test]
fn errors_quote_the_numbers_of_the_end_that_they_go_to() {
    let router = uvs_core::flow::Addr::v4([10, 0, 2, 200]);
    let mut director = Director::plain(proxy(ClientAddress::ProxyV2));
    let len = director.settle();
    let (far, real) = (director.far(), director.server());
    for (at_server, at_client) in [(START + len + 9, START + 9), (START, START), (ISN, ISN)] {
        let about = tcp(far, real, ACK).seq(at_server, REPLY).packet();
        let error = icmp(router, far.addr, 3, 1, 0).payload(&about);
        let error = error.to_mac(SERVERS_MAC).frame();
        let sent = director.bed.from_server(TestFrame::finished(&error));
        assert_eq!((sent[0].port, quoted(&sent[0]).0), (CLIENTS, at_client));
    }
    let about = tcp(VIP, CLIENT, ACK).seq(REPLY, START + 9).packet();
    let error = icmp(CLIENT.addr, VIP.addr, 3, 1, 0).payload(&about);
    let sent = director
        .bed
        .from_client(TestFrame::finished(&error.frame()));
    assert_eq!(sent[0].port, SERVERS);
    assert_eq!(quoted(&sent[0]), (REPLY, START + len + 9));
}

#[test]
fn what_a_dead_server_was_sent_is_quoted_as_the_client_sent_it() {
    let mut director = Director::plain(proxy(ClientAddress::ProxyV2));
    director.settle();
    let data = director.client_segment(ACK, START, REPLY).payload(b"x");
    let sent = director.bed.from_client(TestFrame::finished(&data.frame()));
    let told = director.bed.unreachable(&sent[0]);
    assert_eq!(quoted(&told[0]).0, START);
}

#[test]
fn the_ends_are_told_by_their_own_numbers() {
    let mut director = Director::plain(proxy(ClientAddress::ProxyV2));
    Arc::make_mut(&mut director.bed.snapshot.services[0]).teardown = TeardownPolicy {
        on_expiry: OnExpiry::Tell,
        ..TeardownPolicy::default()
    };
    director.bed.apply();
    let len = director.settle();
    let request = director
        .client_segment(ACK, START, REPLY)
        .payload(b"request");
    director.client_says(&request);
    let answer = director
        .server_segment(ACK, REPLY, START + len + 7)
        .payload(b"answer");
    director.server_says(&answer);
    director.bed.sent.clear();
    director.bed.wait(Duration::from_secs(1000));
    let told: Vec<_> = director
        .bed
        .sent
        .iter()
        .map(|s| (s.port, Segment::read(s)))
        .collect();
    assert_eq!(told.len(), 2);
    for (port, reset) in told {
        match port {
            CLIENTS => assert_eq!((reset.seq, reset.ack), (REPLY + 6, START + 7)),
            _ => assert_eq!(reset.seq, START + len + 7, "to {SERVER}"),
        }
    }
}

#[test]
fn the_hook_leaves_such_a_connection_to_the_engine() {
    let mut director = Director::plain(proxy(ClientAddress::ProxyV2));
    director.bed.take_back();
    let model = director.bed.hand_over(uvs_core::offload::Reach::Everything);
    director.settle();
    let kept: Vec<_> = {
        let memory = model.memory();
        memory.cells.values().map(|e| e.taken.kept).collect()
    };
    assert!(kept.len() == 1 && kept[0].introduced, "{kept:?}");
    let numbers = director.bed.engine.handed_over();
    assert_eq!(numbers.takes, 0);
    assert!(numbers.untaken[uvs_core::offload::Untaken::Introduced as usize] > 0);
}

#[test]
fn after_a_kill_a_connection_that_only_the_killed_engine_knew_does_not_go_on() {
    let mut director = Director::plain(Introduction::default());
    director.bed.take_back();
    let model = director.bed.hand_over(uvs_core::offload::Reach::Everything);
    director.open();
    let ack = director.client_segment(ACK, START, REPLY);
    director.client_says(&ack);
    let (servers, mut found) = model.found();
    assert!(!found[0].kept.introduced);
    for introduced in [true, false] {
        found[0].kept.introduced = introduced;
        let mut next = Director::plain(Introduction::default());
        next.bed.take_back();
        next.bed
            .hand_over_to(model.clone(), uvs_core::offload::Reach::Everything);
        let adopted = next.bed.engine.adopt(next.bed.now, &servers, &found);
        let counts = (adopted.connections, adopted.introduced);
        assert_eq!(counts, if introduced { (0, 1) } else { (1, 0) });
    }
}
