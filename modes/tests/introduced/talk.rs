//! One conversation, as each end sees it, in every pair of families and by every version of the PROXY protocol.

use super::*;
use uvs_core::wire::tcp::flag::{FIN, PSH};

const PAIRS: [(Family, Family); 4] = [(V4, V4), (V6, V6), (V6, V4), (V4, V6)];
const VERSIONS: [(ClientAddress, u8); 2] =
    [(ClientAddress::ProxyV1, 1), (ClientAddress::ProxyV2, 2)];

/// Every way that there is.
fn ways() -> Vec<(Forwarding, (Family, Family), ClientAddress, u8)> {
    let mut ways = Vec::new();
    for (address, version) in VERSIONS {
        for families in PAIRS {
            if families.0 == families.1 {
                ways.push((Forwarding::Nat, families, address, version));
            }
            ways.push((Forwarding::FullNat, families, address, version));
        }
    }
    ways
}

#[test]
fn the_header_comes_with_the_handshakes_last_ack_and_names_the_client() {
    for (forwarding, families, address, version) in ways() {
        let how = proxy(address);
        let mut director = Director::new(Protocol::Tcp, forwarding, families, how);
        director.open();
        let ack = director.client_segment(ACK, START, REPLY);
        let (to_server, to_client) = director.client_says(&ack);
        let [header] = &to_server[..] else {
            panic!("{to_server:?}");
        };
        assert_eq!(
            (header.flags, header.seq, header.ack),
            (ACK | PSH, START, REPLY)
        );
        assert!(to_client.is_empty());
        let introduced = judge(&header.data);
        assert_eq!((introduced.version, introduced.stream), (version, true));
        assert_eq!(introduced.src.to_string(), director.client().to_string());
        assert_eq!(introduced.dst.to_string(), director.vip().to_string());
        assert_eq!(introduced.summed, version == 2);
        assert_eq!(introduced.unique_id.is_some(), version == 2);
    }
}

#[test]
fn both_ends_have_their_own_numbers_from_then_on() {
    for (forwarding, families, address, _) in ways() {
        let how = proxy(address);
        let mut director = Director::new(Protocol::Tcp, forwarding, families, how);
        let len = director.settle();
        let request = director
            .client_segment(ACK, START, REPLY)
            .payload(b"request");
        let (to_server, _) = director.client_says(&request);
        assert_eq!(to_server[0].brief(), (ACK, START + len, REPLY, 7));
        assert_eq!(to_server[0].data, b"request");
        let answer = director
            .server_segment(ACK, REPLY, START + len + 7)
            .payload(b"an answer");
        let (_, to_client) = director.server_says(&answer);
        assert_eq!(to_client[0].brief(), (ACK, REPLY, START + 7, 9));
        let end = director.client_segment(FIN | ACK, START + 7, REPLY + 9);
        let (to_server, _) = director.client_says(&end);
        assert_eq!(
            to_server[0].brief(),
            (FIN | ACK, START + len + 7, REPLY + 9, 0)
        );
        // Half closed, the server still sends.
        let more = director
            .server_segment(ACK, REPLY + 9, START + len + 8)
            .payload(b"more");
        let (_, to_client) = director.server_says(&more);
        assert_eq!(to_client[0].brief(), (ACK, REPLY + 9, START + 8, 4));
        let end = director.server_segment(FIN | ACK, REPLY + 13, START + len + 8);
        let (_, to_client) = director.server_says(&end);
        assert_eq!(to_client[0].brief(), (FIN | ACK, REPLY + 13, START + 8, 0));
        let last = director.client_segment(ACK, START + 8, REPLY + 14);
        let (to_server, _) = director.client_says(&last);
        assert_eq!(to_server[0].brief(), (ACK, START + len + 8, REPLY + 14, 0));
    }
}

#[test]
fn version_2_names_the_service_and_no_two_connections_alike() {
    let how = Introduction {
        authority: "shop.example".to_owned(),
        ..proxy(ClientAddress::ProxyV2)
    };
    let mut ids = Vec::new();
    for wait in 0..2 {
        let mut director = Director::plain(how.clone());
        director.bed.wait(std::time::Duration::from_secs(wait));
        let introduced = judge(&director.establish());
        assert_eq!(introduced.authority.as_deref(), Some("shop.example"));
        ids.push(introduced.unique_id.unwrap());
    }
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_connection_outlives_a_change_of_its_service_and_its_director() {
    let mut director = Director::plain(proxy(ClientAddress::ProxyV2));
    let len = director.settle();
    *Arc::make_mut(&mut director.bed.snapshot.services[0]).introduction = Introduction::default();
    director.bed.apply();
    director
        .bed
        .hand_down(uvs_modes::BUILTIN, uvs_core::snapshot::Limits::default());
    let request = director
        .client_segment(ACK, START, REPLY)
        .payload(b"request");
    let (to_server, _) = director.client_says(&request);
    assert_eq!(to_server[0].brief(), (ACK, START + len, REPLY, 7));
}

#[test]
fn an_upgrade_between_header_and_answer_loses_neither() {
    let mut director = Director::plain(proxy(ClientAddress::ProxyV1));
    let header = director.establish();
    director
        .bed
        .hand_down(uvs_modes::BUILTIN, uvs_core::snapshot::Limits::default());
    let again = director.client_segment(ACK, START, REPLY);
    let (to_server, _) = director.client_says(&again);
    assert_eq!(to_server[0].data, header);
}
