//! A connection whose server was told of its client goes on at another director, which knows how numbers and timestamps
//! differ at its two ends; through the bytes of messages, which the kernel has a form for.

mod common;

use std::sync::Arc;
use std::time::Duration;

use uvs_core::flow::{Endpoint, Protocol};
use uvs_core::service::{ClientAddress, Forwarding, Introduction, Timestamps, Tunnel};
use uvs_core::snapshot::Peers;
use uvs_core::testing::bed::{
    Bed, CLIENT, CLIENTS, SERVER, SERVER_PORT, SERVERS, SERVERS_MAC, VIP,
};
use uvs_core::testing::packets::{ACK, PacketBuilder, SYN, TestFrame, check, tcp};
use uvs_core::wire::ethernet;
use uvs_sync::Sequence;
use uvs_sync::message::flag;

use common::through_bytes;

/// The numbers behind both SYNs, and the client's timestamps.
const START: u32 = 5_001;
const REPLY: u32 = 9_001;
const STAMP: u32 = 100;

fn director() -> Bed {
    let tunnel = Tunnel::default();
    let mut bed = Bed::with_service(
        uvs_modes::BUILTIN,
        Protocol::Tcp,
        Forwarding::FullNat,
        tunnel,
    );
    *Arc::make_mut(&mut bed.snapshot.services[0]).introduction = Introduction {
        client_address: ClientAddress::ProxyV2,
        timestamps: Timestamps::Offset,
        ..Introduction::default()
    };
    bed.snapshot.peers = Peers {
        master: true,
        backup: true,
    };
    bed.apply();
    bed
}

fn stamped(segment: PacketBuilder, own: u32, echoed: u32) -> PacketBuilder {
    let (own, echoed) = (own.to_be_bytes(), echoed.to_be_bytes());
    segment.tcp_options(&[&[1, 1, 8, 10][..], &own, &echoed].concat())
}

fn from_client(flags: u8, seq: u32, stamp: u32) -> PacketBuilder {
    stamped(tcp(CLIENT, VIP, flags).seq(seq, REPLY), stamp, 9)
}

/// Number, acknowledgement, both timestamps and data of what leaves for a frame by a port.
fn pass(
    bed: &mut Bed,
    port: uvs_core::verdict::PortId,
    segment: &PacketBuilder,
) -> ([u32; 4], Vec<u8>) {
    bed.sent.clear();
    bed.receive(port, TestFrame::finished(&segment.frame()));
    let sent = bed.sent.last().expect("it goes on");
    assert_eq!(check(&sent.bytes), Ok(()));
    let b = &sent.bytes[ethernet::LEN + 20..];
    let word = |at: usize| u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
    ([word(4), word(8), word(24), word(28)], b[32..].to_vec())
}

#[test]
fn it_goes_on_with_the_same_numbers() {
    let mut first = director();
    let syn = from_client(SYN, START - 1, STAMP);
    let ([_, _, at_server, _], _) = pass(&mut first, CLIENTS, &syn);
    let (conns, _) = first.engine.report_connections(first.now, 0, 1);
    let local = conns[0].local.expect("FULLNAT has one");
    let real = Endpoint::new(SERVER, SERVER_PORT);
    let from_server = |flags, seq, ack, echoed| {
        let segment = tcp(real, local, flags).seq(seq, ack).to_mac(SERVERS_MAC);
        stamped(segment, 9, echoed)
    };
    pass(
        &mut first,
        SERVERS,
        &from_server(SYN | ACK, REPLY - 1, START, at_server),
    );
    let (_, header) = pass(&mut first, CLIENTS, &from_client(ACK, START, STAMP));
    let len = u32::try_from(header.len()).expect("short");
    pass(
        &mut first,
        SERVERS,
        &from_server(ACK, REPLY, START + len, at_server),
    );

    let (told, _) = first.engine.tell_all(first.now, 0, 10);
    let messages = through_bytes(&told);
    let [message] = &messages[..] else {
        panic!("{messages:?}");
    };
    let shifted = Sequence {
        from: START - 1,
        by: len,
        before: 0,
    };
    assert_eq!(message.sequence, Some([shifted, Sequence::default()]));
    assert_eq!(message.flags & flag::SEQ, flag::IN_SEQ);

    let mut second = director();
    second.wait(Duration::from_secs(77));
    second
        .engine
        .take_up(second.now, &message.taken_up())
        .expect("it is taken up");
    let request = from_client(ACK, START, STAMP + 5).payload(b"request");
    let (numbers, data) = pass(&mut second, CLIENTS, &request);
    assert_eq!(numbers, [START + len, REPLY, at_server + 5, 9]);
    assert_eq!(data, b"request");
    let answer = from_server(ACK, REPLY, START + len + 7, at_server + 5);
    let (numbers, _) = pass(&mut second, SERVERS, &answer);
    assert_eq!(numbers, [REPLY, START + 7, 9, STAMP + 5]);
    // And from there to a third.
    let (told, _) = second.engine.tell_all(second.now, 0, 10);
    assert_eq!(through_bytes(&told)[0].sequence, message.sequence);
}
