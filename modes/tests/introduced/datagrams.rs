//! UDP: the header is in each datagram.

use super::*;
use uvs_core::testing::packets::udp;
use uvs_core::verdict::DropReason;

/// The data of a datagram that left.
fn data(sent: &Sent) -> Vec<u8> {
    let bytes = sent.finished();
    assert_eq!(check(&bytes), Ok(()));
    let header = if bytes[ethernet::LEN] >> 4 == 4 {
        20
    } else {
        40
    };
    bytes[ethernet::LEN + header + 8..].to_vec()
}

fn director(families: (Family, Family), authority: &str) -> Director {
    let how = Introduction {
        authority: authority.to_owned(),
        ..proxy(ClientAddress::ProxyV2)
    };
    Director::new(Protocol::Udp, Forwarding::FullNat, families, how)
}

/// What a server makes of a datagram.
fn open(data: &[u8]) -> (Introduced, &[u8]) {
    let (introduced, len) = proxy::read(data).unwrap().expect("a whole header");
    (introduced, &data[len..])
}

#[test]
fn each_datagram_names_the_client() {
    // With an odd length the data come to lie at odd places.
    for authority in ["", "a", "ab.example"] {
        for families in [(V4, V4), (V6, V6), (V6, V4), (V4, V6)] {
            let mut director = director(families, authority);
            for payload in [&b"one"[..], b"", b"another one"] {
                let base = udp(director.client(), director.vip()).payload(payload);
                for frame in [TestFrame::finished(&base.frame()), base.partial()] {
                    let sent = director.bed.from_client(frame);
                    let got = data(&sent[0]);
                    let (introduced, rest) = open(&got);
                    assert!(!introduced.stream && introduced.summed);
                    assert_eq!(introduced.src.to_string(), director.client().to_string());
                    assert_eq!(rest, payload);
                }
            }
        }
    }
}

#[test]
fn answers_go_as_they_are() {
    let mut director = director((V4, V4), "");
    let ask = udp(director.client(), director.vip()).payload(b"?");
    director.bed.from_client(TestFrame::finished(&ask.frame()));
    let answer = udp(director.server(), director.far()).payload(b"!");
    let answer = answer.to_mac(SERVERS_MAC).frame();
    let sent = director.bed.from_server(TestFrame::finished(&answer));
    assert_eq!(data(&sent[0]), b"!");
}

#[test]
fn one_that_grows_too_long_is_told_of_or_cut() {
    let mut director = director((V4, V4), "");
    let full = udp(director.client(), director.vip()).payload(&[7; 1472]);
    let sent = director.bed.from_client(TestFrame::finished(&full.frame()));
    assert_eq!(sent[0].port, CLIENTS);
    let about = &sent[0].bytes[ethernet::LEN + 20..];
    // The packet that goes through is one that leaves room for the header.
    assert_eq!((about[0], about[1]), (3, 4));
    assert_eq!(u16::from_be_bytes([about[6], about[7]]), 1500 - 70);
    let fits = udp(director.client(), director.vip()).payload(&[7; 1472 - 70]);
    let sent = director.bed.from_client(TestFrame::finished(&fits.frame()));
    assert_eq!(
        (sent[0].port, sent[0].bytes.len()),
        (SERVERS, ethernet::LEN + 1500)
    );
    let sent = director
        .bed
        .from_client(TestFrame::finished(&full.may_fragment().frame()));
    assert_eq!(sent.len(), 2);
    assert!(
        sent.iter()
            .all(|s| s.port == SERVERS && s.bytes.len() <= ethernet::LEN + 1500)
    );
}

#[test]
fn a_super_frame_is_as_many_datagrams() {
    let mut director = director((V4, V4), "");
    let payload: Vec<u8> = (0..2500).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let frame = udp(director.client(), director.vip()).payload(&payload);
    let sent = director.bed.from_client(frame.super_frame(1000));
    let got: Vec<_> = sent.iter().map(data).collect();
    let parts: Vec<_> = got.iter().map(|data| open(data).1.to_vec()).collect();
    assert_eq!(
        parts.iter().map(Vec::len).collect::<Vec<_>>(),
        [1000, 1000, 500]
    );
    assert_eq!(parts.concat(), payload);
}

#[test]
fn damage_stays_damage() {
    let mut director = director((V4, V4), "");
    let mut frame = udp(director.client(), director.vip())
        .payload(b"data")
        .frame();
    *frame.last_mut().unwrap() ^= 1;
    let verdict = director.bed.receive(CLIENTS, TestFrame::finished(&frame));
    assert_eq!(verdict, Verdict::Drop(DropReason::BadChecksum));
}
