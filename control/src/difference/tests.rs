//! Edits against tables: what was done is what is said, and nothing else.

use super::*;
use crate::plugins::Schedulers;
use crate::protocol::{AccessChange, Change};
use uvs_core::access::Action;
use uvs_core::flow::{Addr, Protocol};
use uvs_core::service::{Forwarding, Persistence};

fn key(port: u16) -> ServiceKey {
    ServiceKey::address(
        Protocol::Tcp,
        Endpoint::new(Addr::v4([10, 0, 1, 100]), port),
    )
}

fn server(last: u8, weight: u32) -> ServerSpec {
    ServerSpec {
        weight,
        ..ServerSpec::new(
            Endpoint::new(Addr::v4([10, 0, 2, last]), 80),
            Forwarding::Nat,
        )
    }
}

fn table() -> Table {
    let mut table = Table::new(Schedulers::builtin());
    for change in [
        Change::AddService(ServiceSpec::new(key(80), "wrr")),
        Change::AddServer(key(80), server(11, 1)),
        Change::AddServer(key(80), server(12, 1)),
    ] {
        table.apply(&change).expect("a table");
    }
    table
}

/// What a change of that table is told as.
fn told(changes: &[Change]) -> Vec<String> {
    let before = table();
    let mut after = before.clone();
    for change in changes {
        after.apply(change).expect("it is made");
    }
    let edits = of_tables(&before, &after);
    let states = of_states(&TableState::from(&before), &TableState::from(&after));
    assert_eq!(edits, states, "a state that was sent says the same");
    edits.iter().map(ToString::to_string).collect()
}

#[test]
fn each_change_is_said_in_words() {
    let mut persistent = ServiceSpec::new(key(80), "rr");
    persistent.persistence = Some(Persistence {
        timeout: 300,
        mask: 0xffff_ff00,
    });
    let prefixes = vec!["192.0.2.0/24".parse().expect("a prefix")];
    let deny = |service| {
        Change::AddAccess(AccessChange {
            action: Action::Deny,
            service,
            prefixes: prefixes.clone(),
        })
    };
    let times = Timeouts {
        tcp: 300,
        tcp_fin: 0,
        udp: 0,
    };
    let to = || vec!["tcp 10.0.0.1:80".parse().expect("a destination")];
    for (change, words) in [
        (
            Change::SetWeight(key(80), server(12, 0).endpoint, 5),
            &["weight of 10.0.2.12:80 in TCP 10.0.1.100:80 from 1 to 5"][..],
        ),
        (
            Change::AddServer(key(80), server(13, 2)),
            &["server 10.0.2.13:80 in TCP 10.0.1.100:80 added (nat, weight 2)"],
        ),
        (
            Change::DeleteServer(key(80), server(11, 0).endpoint),
            &["server 10.0.2.11:80 in TCP 10.0.1.100:80 removed (nat, weight 1)"],
        ),
        (
            Change::AddService(ServiceSpec::new(key(443), "mh")),
            &["service TCP 10.0.1.100:443 added (mh)"],
        ),
        (
            Change::Clear,
            &["service TCP 10.0.1.100:80 removed (wrr, 2 servers)"],
        ),
        (
            Change::EditService(persistent),
            &[
                "scheduler of TCP 10.0.1.100:80 from wrr to rr",
                "persistent of TCP 10.0.1.100:80 from none to 300 s with mask 255.255.255.0",
            ],
        ),
        (Change::Mark(7, to()), &["mark 7 for tcp 10.0.0.1:80 added"]),
        (
            deny(None),
            &["deny 192.0.2.0/24 for every service added (by a command)"],
        ),
        (
            deny(Some(key(80))),
            &["deny 192.0.2.0/24 for TCP 10.0.1.100:80 added (by a command)"],
        ),
        (
            Change::SetTimeouts(times),
            &["time-out tcp from 900 to 300"],
        ),
        (Change::SetWeight(key(80), server(12, 0).endpoint, 1), &[]),
    ] {
        assert_eq!(told(std::slice::from_ref(&change)), words, "{change}");
    }
}

#[test]
fn a_service_that_was_removed_and_added_again_is_what_it_has_become() {
    let again = [
        Change::DeleteService(key(80)),
        Change::AddService(ServiceSpec::new(key(80), "wrr")),
        Change::AddServer(key(80), server(12, 3)),
    ];
    assert_eq!(
        told(&again),
        [
            "weight of 10.0.2.12:80 in TCP 10.0.1.100:80 from 1 to 3",
            "server 10.0.2.11:80 in TCP 10.0.1.100:80 removed (nat, weight 1)",
        ]
    );
}

#[test]
fn against_a_file_a_difference_says_who_has_what() {
    let (file, mut runs) = (table(), table());
    for change in [
        Change::SetWeight(key(80), server(12, 0).endpoint, 0),
        Change::AddServer(key(80), server(13, 2)),
    ] {
        runs.apply(&change).expect("it is made");
    }
    let edits = of_tables(&file, &runs);
    let said: Vec<String> = edits.iter().map(Edit::as_difference).collect();
    assert_eq!(
        said,
        [
            "weight of 10.0.2.12:80 in TCP 10.0.1.100:80: 1 in the file, 0 running",
            "server 10.0.2.13:80 in TCP 10.0.1.100:80 (nat, weight 2): only running",
        ]
    );
}

#[test]
fn a_live_weight_outlives_a_reload_that_says_what_was_read() {
    let read = table();
    let mut live = read.clone();
    let (first, second) = (server(11, 0).endpoint, server(12, 0).endpoint);
    for change in [
        Change::SetWeight(key(80), first, 0),
        Change::SetWeight(key(80), second, 5),
    ] {
        live.apply(&change).expect("it is made");
    }
    // The file says something else of the second now.
    let mut next = live.clone();
    let mut spec = ServiceSpec::new(key(80), "wrr");
    spec.servers = vec![server(12, 9), server(11, 1)];
    next.replace(vec![spec]).expect("a table");
    let kept = next.keep_weights(&read, &live);
    assert_eq!(kept.len(), 1);
    assert_eq!(
        kept[0].to_string(),
        "weight of 10.0.2.11:80 in TCP 10.0.1.100:80 from 1 to 0"
    );
    let weights = |table: &Table| -> Vec<u32> {
        let service = table.service(&key(80)).expect("it is there");
        service.servers.iter().map(|s| s.weight).collect()
    };
    assert_eq!(weights(&next), [9, 0]);
    next.apply(&Change::Undrain(key(80), first))
        .expect("it is known what it had");
    assert_eq!(weights(&next), [9, 1]);
}

#[test]
fn a_drained_server_gets_back_what_it_had() {
    let mut table = table();
    let at = server(11, 0).endpoint;
    let mut make = |change: Change| {
        table.apply(&change).map(|()| {
            let service = table.service(&key(80)).expect("there");
            service
                .servers
                .iter()
                .find(|s| s.endpoint == at)
                .map(|s| s.weight)
        })
    };
    let set = |weight| Change::SetWeight(key(80), at, weight);
    make(set(7)).expect("set");
    make(set(0)).expect("set");
    make(set(0)).expect("drained twice");
    assert_eq!(make(Change::Undrain(key(80), at)), Ok(Some(7)));
    assert_eq!(
        make(Change::Undrain(key(80), at)),
        Ok(Some(7)),
        "twice is once"
    );
    make(Change::DeleteServer(key(80), at)).expect("removed");
    make(Change::AddServer(key(80), server(11, 0))).expect("added");
    let refused = make(Change::Undrain(key(80), at)).expect_err("it had 0 from the start");
    assert!(
        refused.message.contains("uvs weight 10.0.2.11:80"),
        "{}",
        refused.message
    );
}
