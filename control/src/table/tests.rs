//! The table against the kernel's rules, and against itself: a refused change changes nothing.

use proptest::prelude::*;
use uvs_core::access::Action;
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::marks::{Destination, MarkRule};
use uvs_core::scheduler::FLAG_2;
use uvs_core::service::{
    ConnectionLog, Forwarding, Persistence, ServerSpec, ServiceKey, ServiceSpec, TeardownPolicy,
    Tunnel, TunnelChecksum, TunnelKind,
};
use uvs_core::snapshot::Timeouts;

use super::{Table, UnassignedVips};
use crate::plugins::Schedulers;
use crate::protocol::{AccessChange, Change, Errno, SysctlValue};

const VIP: Addr = Addr::v4([10, 0, 1, 100]);

#[test]
fn a_weight_keeps_nobody_out_and_other_rules_of_the_firewall_may() {
    let mut before = with_service();
    before.add_server(&key(80), nat(1)).expect("added");
    let mut after = before.clone();
    let edited = ServerSpec {
        weight: 7,
        ..nat(1)
    };
    after.edit_server(&key(80), edited).expect("edited");
    assert!(!after.keeps_out_others(&before));
    after.set_drop_rules(Vec::new());
    assert!(after.keeps_out_others(&before));
}

#[test]
fn an_added_server_is_the_first() {
    let mut table = with_service();
    for n in [1, 2, 3] {
        table.add_server(&key(80), nat(n)).expect("added");
    }
    let order: Vec<Endpoint> = table
        .service(&key(80))
        .expect("there")
        .servers
        .iter()
        .map(|s| s.endpoint)
        .collect();
    assert_eq!(order, [nat(3).endpoint, nat(2).endpoint, nat(1).endpoint]);
    table
        .edit_server(
            &key(80),
            ServerSpec {
                weight: 7,
                ..nat(2)
            },
        )
        .expect("edited");
    assert_eq!(
        table.services()[0].servers[1].weight,
        7,
        "an edited server keeps its place"
    );
}

#[test]
fn existence_has_the_kernels_errnos() {
    let mut table = with_service();
    assert_eq!(
        errno(table.add_service(ServiceSpec::new(key(80), "nosuch"))),
        Errno::Exists
    );
    assert_eq!(
        errno(table.edit_service(ServiceSpec::new(key(81), "nosuch"))),
        Errno::NotFound
    );
    assert_eq!(errno(table.delete_service(&key(81))), Errno::NotFound);
    assert_eq!(errno(table.add_server(&key(81), nat(1))), Errno::NotFound);
    assert_eq!(errno(table.edit_server(&key(80), nat(1))), Errno::NoServer);
    assert_eq!(
        errno(table.delete_server(&key(80), nat(1).endpoint)),
        Errno::NoServer
    );
    table.add_server(&key(80), nat(1)).expect("added");
    assert_eq!(errno(table.add_server(&key(80), nat(1))), Errno::Exists);
    let wrong = ServerSpec {
        upper: 5,
        lower: 6,
        ..nat(1)
    };
    assert_eq!(
        errno(table.add_server(&key(80), wrong)),
        Errno::Range,
        "the range comes before the duplicate"
    );
}

#[test]
fn a_list_is_of_a_service_that_is_there_and_outlives_it() {
    let mut table = with_service();
    let change = |service| AccessChange {
        action: Action::Deny,
        service,
        prefixes: vec!["192.0.2.7".parse().expect("a prefix")],
    };
    let add = |service| Change::AddAccess(change(service));
    assert_eq!(errno(table.apply(&add(Some(key(81))))), Errno::NotFound);
    let denied = |table: &Table, of| {
        let access = table.snapshot(&UnassignedVips::default()).access;
        let list = access.services.get(&of).cloned();
        list.is_some_and(|list| list.denies(Addr::v4([192, 0, 2, 7])))
    };
    table.apply(&add(Some(key(80)))).expect("added");
    assert!(denied(&table, key(80)));
    table.clear();
    assert!(
        denied(&table, key(80)),
        "whoever fills the table again is protected"
    );
    let gone = Change::DeleteAccess(change(Some(key(80))));
    table.apply(&gone).expect("removed");
    assert!(!denied(&table, key(80)));
}

#[test]
fn an_edit_by_ipvsadm_keeps_what_it_has_no_words_for() {
    let mut table = Table::new(Schedulers::builtin());
    let mut limited = ServiceSpec::new(key(80), "rr");
    limited.new_connections.per_client = 5;
    limited.connection_log = ConnectionLog::Ends;
    table.add_service(limited).expect("added");
    table
        .edit_service(ServiceSpec::new(key(80), "wlc"))
        .expect("edited");
    let edited = &table.services()[0];
    assert_eq!(edited.new_connections.per_client, 5);
    assert_eq!(edited.connection_log, ConnectionLog::Ends);
}

#[test]
fn an_unknown_scheduler_is_refused_with_the_known_ones() {
    let mut table = with_service();
    let refusal = table
        .edit_service(ServiceSpec::new(key(80), "nosuch"))
        .expect_err("refused");
    assert_eq!(refusal.errno, Errno::NoScheduler);
    assert!(
        refusal.message.contains("nosuch") && refusal.message.contains("rr, wrr, lc, wlc"),
        "{}",
        refusal.message
    );
    let engine = Some("nosuch".to_owned());
    let spec = ServiceSpec {
        engine,
        ..ServiceSpec::new(key(80), "rr")
    };
    assert_eq!(errno(table.edit_service(spec)), Errno::NoScheduler);
}

#[test]
fn a_service_the_kernel_or_ipvsadm_would_refuse_is_refused() {
    let mut table = Table::new(Schedulers::builtin());
    let plain = |k| ServiceSpec::new(k, "rr");
    let persistent = |k, timeout, mask| ServiceSpec {
        persistence: Some(Persistence { timeout, mask }),
        ..plain(k)
    };
    let six = ServiceKey::Mark {
        mark: 1,
        ipv6: true,
    };
    let refused = [
        plain(key(0)),
        plain(ServiceKey::Mark {
            mark: 0,
            ipv6: false,
        }),
        ServiceSpec {
            one_packet: true,
            ..plain(key(80))
        },
        ServiceSpec {
            servers: vec![nat(1)],
            ..plain(key(80))
        },
        persistent(key(80), 0, u32::MAX),
        persistent(key(80), 2_678_401, u32::MAX),
        persistent(six, 60, 0),
        persistent(six, 60, 129),
    ];
    for spec in refused {
        assert_eq!(
            errno(table.add_service(spec.clone())),
            Errno::Invalid,
            "{spec:?}"
        );
    }
    assert!(table.services().is_empty());
    table
        .add_service(persistent(key(0), 2_678_400, 0xff00_ff00))
        .expect("a mask need not be contiguous");
    table
        .add_service(persistent(six, 60, 128))
        .expect("one client each");
}

#[test]
fn a_server_needs_a_unicast_address_of_the_services_family() {
    let mut table = with_service();
    for addr in [
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "fd00::1",
    ] {
        assert_eq!(
            errno(table.add_server(&key(80), to(addr, Forwarding::Nat))),
            Errno::Invalid,
            "{addr}"
        );
    }
    for addr in ["::", "ff02::1", "fe80::1"] {
        assert_eq!(
            errno(table.add_server(&key(80), to(addr, Forwarding::Tunnel))),
            Errno::Invalid,
            "{addr}"
        );
    }
    table
        .add_server(&key(80), to("fd00::1", Forwarding::Tunnel))
        .expect("tunnels may cross families");
    table
        .add_server(&key(80), to("127.0.0.1", Forwarding::Nat))
        .expect("the director itself");
}

#[test]
fn direct_servers_take_the_services_port_and_only_tunnels_have_parameters() {
    let mut table = with_service();
    let gue = Tunnel {
        kind: TunnelKind::Gue,
        port: 6080,
        checksum: TunnelChecksum::Full,
    };
    let dr = ServerSpec {
        forwarding: Forwarding::Dr,
        tunnel: gue,
        ..nat(1)
    };
    table.add_server(&key(80), dr).expect("added");
    let kept = table.services()[0].servers[0];
    assert_eq!((kept.endpoint.port, kept.tunnel), (80, Tunnel::default()));
    let nowhere = Tunnel { port: 0, ..gue };
    let tunnel = ServerSpec {
        forwarding: Forwarding::Tunnel,
        tunnel: nowhere,
        ..nat(2)
    };
    assert_eq!(errno(table.add_server(&key(80), tunnel)), Errno::Invalid);
}

#[test]
fn fullnat_needs_a_local_address_and_says_which_option_gives_it() {
    let mut table = with_service();
    let server = ServerSpec {
        forwarding: Forwarding::FullNat,
        ..nat(1)
    };
    let refusal = table.add_server(&key(80), server).expect_err("refused");
    assert_eq!(refusal.errno, Errno::Invalid);
    assert!(refusal.message.contains("--laddr"), "{}", refusal.message);
    let local = vec![Addr::v4([10, 0, 2, 1])];
    table
        .edit_service(ServiceSpec {
            local,
            ..ServiceSpec::new(key(80), "rr")
        })
        .expect("edited");
    table.add_server(&key(80), server).expect("added");
    let bare = ServiceSpec::new(key(80), "rr");
    assert_eq!(
        errno(table.edit_service(bare)),
        Errno::Invalid,
        "the server still needs it"
    );
}

#[test]
fn an_edit_by_ipvsadm_keeps_what_ipvsadm_has_no_word_for() {
    let configured = ServiceSpec {
        table_size: 65_537,
        ..ServiceSpec::new(key(80), "mh")
    };
    let teardown = TeardownPolicy {
        drain_timeout: 60,
        ..TeardownPolicy::default()
    };
    let slow = ServiceSpec {
        slow_start: 30,
        teardown,
        ..ServiceSpec::new(key(81), "wlc")
    };
    let mut table = Table::new(Schedulers::builtin());
    table.replace(vec![configured, slow]).expect("accepted");
    let settings = |table: &Table, port| {
        let service = table.service(&key(port)).expect("there");
        (service.table_size, service.slow_start)
    };
    let edited = |scheduler, port| ServiceSpec {
        flags: FLAG_2,
        ..ServiceSpec::new(key(port), scheduler)
    };
    table.edit_service(edited("mh", 80)).expect("edited");
    assert_eq!(settings(&table, 80), (65_537, 0));
    table.edit_service(edited("sh", 80)).expect("edited");
    assert_eq!(
        settings(&table, 80),
        (0, 0),
        "the table went with its scheduler"
    );
    table.edit_service(edited("rr", 81)).expect("edited");
    assert_eq!(settings(&table, 81), (0, 30));
    assert_eq!(table.service(&key(81)).expect("there").teardown, teardown);
    let refusal = table.edit_service(edited("sh", 81)).expect_err("refused");
    assert_eq!(refusal.errno, Errno::Invalid);
    assert!(
        refusal.message.contains("slow_start: scheduler \"sh\""),
        "{}",
        refusal.message
    );
}

#[test]
fn zero_keeps_a_timeout() {
    let mut table = Table::new(Schedulers::builtin());
    table
        .set_timeouts(Timeouts {
            tcp: 100,
            tcp_fin: 0,
            udp: 10,
        })
        .expect("set");
    assert_eq!(
        table.timeouts(),
        Timeouts {
            tcp: 100,
            tcp_fin: 120,
            udp: 10
        }
    );
    assert_eq!(
        errno(table.set_timeouts(Timeouts {
            tcp: 2_678_401,
            tcp_fin: 1,
            udp: 1
        })),
        Errno::Invalid
    );
    assert_eq!(table.timeouts().tcp_fin, 120);
}

#[test]
fn a_sysctl_is_checked() {
    let mut table = Table::new(Schedulers::builtin());
    let one = SysctlValue::Number(1);
    table.set_sysctl("drop_entry", &one).expect("set");
    assert_eq!(table.sysctl("drop_entry"), Ok(one));
    let four = SysctlValue::Number(4);
    assert_eq!(errno(table.set_sysctl("drop_entry", &four)), Errno::Invalid);
    assert_eq!(errno(table.set_sysctl("nosuch", &four)), Errno::NotFound);
    let pair = SysctlValue::Words("5 60".to_owned());
    table.set_sysctl("sync_threshold", &pair).expect("set");
    let shown = SysctlValue::Words("5\t60".to_owned());
    assert_eq!(table.sysctl("sync_threshold"), Ok(shown));
}

#[test]
fn replacing_is_all_or_nothing() {
    let mut table = with_service();
    let service = |port, servers| ServiceSpec {
        servers,
        ..ServiceSpec::new(key(port), "wlc")
    };
    let twice = vec![
        service(81, vec![nat(2), nat(1)]),
        service(82, vec![nat(1), nat(1)]),
    ];
    assert_eq!(errno(table.replace(twice)), Errno::Exists);
    assert!(table.service(&key(80)).is_some() && table.service(&key(81)).is_none());
    table
        .replace(vec![service(81, vec![nat(2), nat(1)])])
        .expect("replaced");
    assert_eq!(table.services().len(), 1);
    assert_eq!(
        table.services()[0].servers,
        [nat(2), nat(1)],
        "the order is kept"
    );
}

#[test]
fn rules_that_mark_are_changed_as_a_whole_or_not_at_all() {
    let mut table = with_service();
    let [http, https, dns] = [
        "tcp 10.0.1.100:80",
        "tcp 10.0.1.100:443",
        "udp 10.0.1.100:53",
    ]
    .map(|text| text.parse::<Destination>().expect("a destination"));
    assert_eq!(errno(table.mark(0, &[http])), Errno::Invalid);
    table.mark(1, &[http, https]).expect("marked");
    for taken in [table.mark(2, &[dns, http]), table.mark(1, &[dns, dns])] {
        let refusal = taken.expect_err("refused");
        assert_eq!(refusal.errno, Errno::Exists);
        assert!(refusal.message.contains("uvs mark --delete"), "{refusal:?}");
    }
    assert_eq!(table.marks().len(), 2, "nothing half-applied");
    assert_eq!(errno(table.unmark(2, &[])), Errno::NotFound);
    assert_eq!(errno(table.unmark(1, &[http, dns])), Errno::NotFound);
    assert_eq!(table.marks().len(), 2);
    table.clear();
    table.unmark(1, &[https]).expect("removed");
    let of_snapshot = table.snapshot(&UnassignedVips::default()).marks;
    assert_eq!(of_snapshot, [MarkRule { mark: 1, to: http }]);
    let twice = [2, 3].map(|mark| MarkRule { mark, to: dns });
    assert_eq!(errno(table.replace_marks(&twice)), Errno::Exists);
    assert_eq!(table.marks(), of_snapshot);
    table.unmark(1, &[]).expect("removed");
    assert!(table.marks().is_empty());
}

#[test]
fn a_snapshot_holds_the_whole_state() {
    let mut table = with_service();
    let three = SysctlValue::Number(3);
    table.set_sysctl("drop_entry", &three).expect("set");
    let snapshot = table.snapshot(&UnassignedVips {
        owned: vec![VIP],
        ..UnassignedVips::default()
    });
    table.clear();
    assert_eq!(
        snapshot.services.len(),
        1,
        "a snapshot does not follow the table"
    );
    assert_eq!(
        (snapshot.sysctls.drop_entry, snapshot.owned_vips.as_slice()),
        (3, [VIP].as_slice())
    );
}

proptest! {
    #[test]
    fn a_refused_change_changes_nothing(changes in prop::collection::vec(change(), 1..40)) {
        let mut table = Table::new(Schedulers::builtin());
        for change in changes {
            let before = table.clone();
            if table.apply(&change).is_err() {
                prop_assert_eq!(table.services(), before.services());
                prop_assert_eq!(table.timeouts(), before.timeouts());
                prop_assert_eq!(table.marks(), before.marks());
            }
            for service in table.services().iter() {
                for (n, server) in service.servers.iter().enumerate() {
                    let same = |s: &ServerSpec| s.endpoint == server.endpoint;
                    prop_assert_eq!(service.servers.iter().position(same), Some(n), "no server twice");
                    prop_assert!(server.lower <= server.upper);
                }
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let port = 79..82u16;
    let server =
        (1..5u8, any::<bool>(), 0..3u32, 0..3u32).prop_map(|(n, dr, upper, lower)| ServerSpec {
            forwarding: if dr { Forwarding::Dr } else { Forwarding::Nat },
            upper,
            lower,
            ..nat(n)
        });
    let spec = (
        port.clone(),
        prop::sample::select(vec!["rr", "wlc", "nosuch"]),
    )
        .prop_map(|(port, scheduler)| ServiceSpec::new(key(port), scheduler));
    prop_oneof![
        spec.clone().prop_map(Change::AddService),
        spec.prop_map(Change::EditService),
        port.clone().prop_map(|p| Change::DeleteService(key(p))),
        (port.clone(), server.clone()).prop_map(|(p, s)| Change::AddServer(key(p), s)),
        (port.clone(), server.clone()).prop_map(|(p, s)| Change::EditServer(key(p), s)),
        (port, server).prop_map(|(p, s)| Change::DeleteServer(key(p), s.endpoint)),
        (0..3u32, rules()).prop_map(|(mark, to)| Change::Mark(mark, to)),
        (0..3u32, rules()).prop_map(|(mark, to)| Change::Unmark(mark, to)),
        (0..9_000_000u32).prop_map(|tcp| Change::SetTimeouts(Timeouts {
            tcp,
            tcp_fin: 0,
            udp: 1
        })),
    ]
}

fn rules() -> impl Strategy<Value = Vec<Destination>> {
    let to = (1..4u16).prop_map(|port| Destination::host(Protocol::Tcp, VIP, port));
    prop::collection::vec(to, 0..3)
}

fn with_service() -> Table {
    let mut table = Table::new(Schedulers::builtin());
    table
        .add_service(ServiceSpec::new(key(80), "rr"))
        .expect("added");
    table
}

fn key(port: u16) -> ServiceKey {
    ServiceKey::address(Protocol::Tcp, Endpoint::new(VIP, port))
}

fn nat(n: u8) -> ServerSpec {
    ServerSpec::new(
        Endpoint::new(Addr::v4([10, 0, 2, n]), 8080),
        Forwarding::Nat,
    )
}

fn to(addr: &str, forwarding: Forwarding) -> ServerSpec {
    let addr: std::net::IpAddr = addr.parse().expect("an address");
    ServerSpec::new(Endpoint::new(addr.into(), 80), forwarding)
}

fn errno(result: Result<(), crate::protocol::Refusal>) -> Errno {
    result.expect_err("refused").errno
}
