//! The director's checks on data: a host made of texts, without network or privileges.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use rustix::thread::CapabilitySet;
use uvs_control::config::OwnVips;
use uvs_control::protocol::{GuardStatus, HookMode, HookPort, HookProgram, HookStatus, HookTier};
use uvs_core::access::{Access, AccessList, Action, Rule};
use uvs_core::counters::Stats;
use uvs_core::fib::{Fib, Hop, Interface, Refusal, ReversePath, Route, Target};
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::marks::destinations;
use uvs_core::numbers::HandshakeNumbers;
use uvs_core::offload::Reach;
use uvs_core::service::{Forwarding, ServerSpec, ServiceKey, ServiceSpec, TunnelKind};
use uvs_core::verdict::PortId;
use uvs_forwarder::guard::GuardError;
use uvs_forwarder::hook::Ability;
use uvs_forwarder::netlink::Unfollowed;

use super::{Counted, Director, FAMILIES, Service, Wanted};
use crate::catalog::Check;
use crate::finding::{NotMade, Seen};
use crate::host::{Host, Offload};
use crate::neighbour::{Answer, Question};
use crate::probe::{Outcome, Probe};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const DEVICES: &str = r#"[{"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"link_type":"loopback"},
    {"ifname":"eth0","flags":["BROADCAST","UP","LOWER_UP"],"mtu":1500,"link_type":"ether",
     "address":"02:00:00:00:00:01","addr_info":[{"local":"10.0.0.1","prefixlen":24}]}]"#;

/// A host that is what its texts say.
#[derive(Default)]
struct Texts {
    files: HashMap<&'static str, &'static str>,
    ip: HashMap<&'static str, &'static str>,
    lro: bool,
    answers: Vec<(IpAddr, [u8; 6])>,
    /// What nft lists; `None` = it is not permitted.
    rules: Option<&'static str>,
    sizes: HashMap<IpAddr, u32>,
    /// What lacks for the hook.
    lack: Option<&'static str>,
    leftover: Option<&'static str>,
    /// What comes of asking for the VIP.
    vip: Outcome,
}

impl Host for Texts {
    fn read(&self, path: &str) -> Result<String, NotMade> {
        let text = self.files.get(path).map(|text| (*text).to_owned());
        text.ok_or_else(|| NotMade(format!("no {path}")))
    }

    fn ip(&self, words: &[&str]) -> Result<String, NotMade> {
        let text = self.ip.get(words.join(" ").as_str());
        Ok((*text.unwrap_or(&"")).to_owned())
    }

    fn nft(&self, _: &[&str], _: &str) -> Result<String, GuardError> {
        self.rules.map(str::to_owned).ok_or(GuardError::Permission)
    }

    fn offload(&self, _: &str, which: Offload) -> Result<bool, NotMade> {
        Ok(which == Offload::Gro || self.lro)
    }

    fn who_has(&self, questions: &[Question]) -> Result<Vec<Answer>, NotMade> {
        let asked = |target| questions.iter().find(|q| q.target == target).cloned();
        let all = self.answers.iter();
        Ok(all
            .filter_map(|(target, mac)| {
                Some(Answer {
                    to: asked(*target)?,
                    mac: *mac,
                })
            })
            .collect())
    }

    fn largest(&self, _: &[(IpAddr, u32)]) -> Result<HashMap<IpAddr, u32>, NotMade> {
        Ok(self.sizes.clone())
    }

    fn has_vip(&self, probes: &[Probe]) -> Result<Vec<Outcome>, NotMade> {
        Ok(vec![self.vip; probes.len()])
    }

    fn capabilities(&self) -> CapabilitySet {
        CapabilitySet::empty()
    }

    fn hook_ability(&self) -> Ability {
        Ability {
            reach: self.lack.is_none().then_some(Reach::Everything),
            lack: self.lack.map(str::to_owned),
        }
    }

    fn hook_leftover(&self, _: &Path) -> Result<Option<String>, NotMade> {
        Ok(self.leftover.map(str::to_owned))
    }
}

fn server(forwarding: Forwarding) -> Counted {
    Counted::nothing(ServerSpec::new(
        Endpoint::new(SERVER.into(), 80),
        forwarding,
    ))
}

/// A director on eth0 with one service of one server.
fn director(host: &Texts, server: Counted) -> Director<'_> {
    let key = ServiceKey::address(Protocol::Tcp, Endpoint::new(VIP.into(), 80));
    let service = Service {
        to: destinations(key, &[]).collect(),
        spec: ServiceSpec::new(key, "rr"),
        servers: vec![server],
    };
    let mut fib = Fib::new();
    fib.set_interface(Interface {
        port: PortId(0),
        ifindex: 2,
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        up: true,
        reverse_path: ReversePath::Off,
    });
    let hop = Hop {
        source: Some(Addr::v4([10, 0, 0, 1])),
        ..Hop::by(2, None)
    };
    fib.add_route(Route::new(Addr::v4([10, 0, 0, 0]), 24, Target::Hop(hop)));
    Director {
        wanted: Wanted {
            interfaces: vec!["eth0".to_owned()],
            services: vec![service],
            daemon: Some(1),
            own: OwnVips::All,
            ..Wanted::default()
        },
        host,
        devices: serde_json::from_str(DEVICES).expect("devices"),
        ports: vec!["eth0".to_owned()],
        fib,
        unfollowed: Vec::new(),
        heard: OnceCell::new(),
    }
}

fn make(check: Check, director: &Director<'_>) -> Result<Seen, NotMade> {
    let all = FAMILIES.iter().copied().flatten();
    let (_, make) = all
        .into_iter()
        .find(|(c, _)| *c == check)
        .expect("it is in a family");
    make(director)
}

/// The command of the one finding, `None` where there is none.
fn command(check: Check, director: &Director<'_>) -> Option<String> {
    let seen = make(check, director).expect("it can be made");
    assert!(seen.findings.len() <= 1, "{:?}", seen.findings);
    assert_eq!(
        seen.findings.is_empty(),
        !seen.looked.is_empty(),
        "one of the two is said"
    );
    seen.findings.into_iter().next().map(|f| f.fix.command)
}

#[test]
fn every_check_of_a_director_is_in_one_family() {
    use crate::catalog::Side;
    let made: Vec<Check> = FAMILIES
        .iter()
        .copied()
        .flatten()
        .map(|(c, _)| *c)
        .collect();
    for check in Check::ALL.iter().filter(|c| c.side() != Side::Server) {
        assert_eq!(made.iter().filter(|c| *c == check).count(), 1, "{check}");
    }
}

#[test]
fn large_receive_offload_is_a_finding() {
    let mut host = Texts::default();
    assert_eq!(
        command(
            Check::LargeReceive,
            &director(&host, server(Forwarding::Dr))
        ),
        None
    );
    host.lro = true;
    assert_eq!(
        command(
            Check::LargeReceive,
            &director(&host, server(Forwarding::Dr))
        )
        .as_deref(),
        Some("ethtool -K eth0 lro off")
    );
}

#[test]
fn the_larger_rp_filter_counts_and_loose_is_no_finding() {
    let strict = "echo 2 > /proc/sys/net/ipv4/conf/eth0/rp_filter";
    for (all, own, expected) in [
        ("0", "0", None),
        ("1", "0", Some(strict)),
        ("0", "1\n", Some(strict)),
        ("1", "2", None),
        ("2", "1", None),
    ] {
        let files = [
            ("/proc/sys/net/ipv4/conf/all/rp_filter", all),
            ("/proc/sys/net/ipv4/conf/eth0/rp_filter", own),
        ];
        let host = Texts {
            files: files.into(),
            ..Texts::default()
        };
        let director = director(&host, server(Forwarding::Dr));
        assert_eq!(
            command(Check::RpFilter, &director).as_deref(),
            expected,
            "{all} {own}"
        );
    }
}

#[test]
fn a_rule_that_is_not_followed_is_named_and_nobody_told_to_delete_it() {
    let host = Texts::default();
    let mut director = director(&host, server(Forwarding::Dr));
    assert_eq!(command(Check::PolicyRules, &director), None);
    director.unfollowed.push(Unfollowed {
        what: "rule 100: fwmark 0x1".to_owned(),
        means: "no mark",
    });
    let seen = make(Check::PolicyRules, &director).expect("it was made");
    assert_eq!(seen.findings[0].seen, "rule 100: fwmark 0x1: no mark");
    assert!(!seen.findings[0].fix.command.contains("del"));
}

#[test]
fn a_route_to_a_server_that_refuses_is_found() {
    let host = Texts::default();
    let mut director = director(&host, server(Forwarding::Dr));
    let refuse = Target::Refuse(Refusal::Blackhole);
    let net = Addr::from(VIP).masked(24);
    director.fib.remove_route(net, 24);
    director.fib.add_route(Route::new(net, 24, refuse));
    let command = command(Check::NoRoute, &director).expect("a finding");
    assert!(command.starts_with("ip route replace "), "{command}");
}

#[test]
fn what_cannot_be_read_is_not_made() {
    let host = Texts::default();
    let director = director(&host, server(Forwarding::Dr));
    for check in [
        Check::RpFilter,
        Check::FirewallBypassed,
        Check::GuardLeftover,
        Check::GuardDamaged,
        Check::GuardRepaired,
    ] {
        assert!(make(check, &director).is_err(), "{check}");
    }
}

#[test]
fn what_others_did_to_the_guard_is_told() {
    let host = Texts::default();
    let of = |guard: GuardStatus, check| {
        let mut director = director(&host, server(Forwarding::Dr));
        director.wanted.guard = Some(guard);
        command(check, &director)
    };
    let (damaged, repaired) = (Check::GuardDamaged, Check::GuardRepaired);
    let well = GuardStatus::default();
    assert_eq!(of(well.clone(), damaged), None);
    assert_eq!(of(well.clone(), repaired), None);
    let last = |ago| GuardStatus {
        last: Some((ago, "chain mine was added".to_owned())),
        ..well.clone()
    };
    assert_eq!(of(last(3599), repaired).as_deref(), Some("nft monitor"));
    assert_eq!(of(last(3600), repaired), None, "long ago");
    assert_eq!(of(last(1), damaged), None);
    let wrong = GuardStatus {
        wrong: Some("the table is gone".to_owned()),
        ..well
    };
    let renew = of(wrong, damaged);
    assert_eq!(renew.as_deref(), Some("uvs guard down --force"));
}

#[test]
fn capabilities_are_the_daemons() {
    for (mask, lacks) in [
        ("000001ffffffffff", ""),
        ("0000000000001000", "CAP_NET_RAW"),
    ] {
        let status = format!("Name:\tuvs\nCapEff:\t{mask}\n").leak();
        let host = Texts {
            files: [("/proc/1/status", &*status)].into(),
            ..Texts::default()
        };
        let seen = make(
            Check::Capabilities,
            &director(&host, server(Forwarding::Dr)),
        );
        let seen = seen.expect("it can be made");
        let expected = format!("the daemon 1 lacks {lacks}");
        let found: Vec<&str> = seen.findings.iter().map(|f| f.seen.as_str()).collect();
        assert_eq!(found, [expected.as_str()][usize::from(lacks.is_empty())..]);
    }
}

#[test]
fn an_answer_of_this_hosts_own_is_no_duplicate() {
    let own = (VIP, [2, 0, 0, 0, 0, 1]);
    let other = (VIP, [2, 0, 0, 0, 0, 9]);
    let of_server = (SERVER, [2, 0, 0, 0, 0, 9]);
    let found = |check, answers: &[(IpAddr, [u8; 6])]| {
        let host = Texts {
            answers: answers.to_vec(),
            ..Texts::default()
        };
        command(check, &director(&host, server(Forwarding::Dr))).is_some()
    };
    assert!(!found(Check::VipDuplicate, &[own]));
    assert!(found(Check::VipDuplicate, &[own, other]));
    assert!(
        !found(Check::VipDuplicate, &[other, of_server]),
        "it is a server"
    );
    assert!(found(Check::ServerAnswersArp, &[other, of_server]));
    assert!(!found(Check::ServerAnswersArp, &[other]));
}

#[test]
fn a_stand_by_is_told_so_and_does_not_blame_the_master() {
    let master = (VIP, [2, 0, 0, 0, 0, 9]);
    let server_too = (SERVER, master.1);
    let third = (VIP, [2, 0, 0, 0, 0, 8]);
    let found = |check, own: OwnVips, answers: &[(IpAddr, [u8; 6])]| {
        let host = Texts {
            answers: answers.to_vec(),
            ..Texts::default()
        };
        let mut director = director(&host, server(Forwarding::Dr));
        director.wanted.own = own;
        let seen = make(check, &director).expect("it can be made");
        seen.findings.into_iter().next().map(|f| f.fix.command)
    };
    let standby = |check, answers: &[_]| found(check, OwnVips::None, answers);
    let forgotten = standby(Check::VipAbsent, &[]).expect("nobody answers for it");
    let both =
        "ip address add 10.0.0.100/32 dev eth0 # or have UVS own it: uvs run --own-vip 10.0.0.100";
    assert!(forgotten.starts_with(both), "{forgotten}");
    assert_eq!(standby(Check::VipStandby, &[]), None);

    assert_eq!(standby(Check::VipAbsent, &[master]), None);
    assert!(standby(Check::VipStandby, &[master]).is_some());
    // A master may be a real server of its partner's.
    for answers in [&[master][..], &[master, server_too]] {
        assert_eq!(standby(Check::VipDuplicate, answers), None);
        assert_eq!(standby(Check::ServerAnswersArp, answers), None);
    }
    assert!(standby(Check::VipDuplicate, &[master, third]).is_some());

    let own = || OwnVips::Some(vec![VIP.into()]);
    for check in [Check::VipAbsent, Check::VipStandby] {
        assert_eq!(found(check, own(), &[master]), None, "{check}");
    }
    assert!(found(Check::VipDuplicate, own(), &[master]).is_some());
}

#[test]
fn replies_are_missed_of_connections_only_and_not_by_rounding() {
    let host = Texts::default();
    let missed = |all: (u64, u64), now: (u64, u64)| {
        let stats = |(in_packets, out_packets)| Stats {
            in_packets,
            out_packets,
            ..Stats::default()
        };
        let silent = Counted {
            stats: stats(all),
            rates: stats(now),
            ..server(Forwarding::Nat)
        };
        command(Check::NatNoReply, &director(&host, silent))
    };
    let fix = "uvs rs up --mode nat --vip 10.0.0.100 --gateway 10.0.0.1";
    assert_eq!(missed((3, 0), (0, 0)).as_deref(), Some(fix));
    assert_eq!(missed((2, 0), (2, 0)), None, "too early to tell");
    assert_eq!(missed((9, 1), (1, 0)), None, "a rounded rate");
    assert_eq!(missed((99, 50), (10, 0)).as_deref(), Some(fix), "no more");
}

#[test]
fn a_server_whose_last_handshakes_failed_is_dead_and_one_that_answered_since_is_not() {
    let host = Texts::default();
    let found = |failed_in_a_row, failed_ago, ok_ago| {
        let handshakes = HandshakeNumbers {
            reset: 7,
            failed_in_a_row,
            failed_ago,
            ok_ago,
            ..HandshakeNumbers::default()
        };
        let server = Counted {
            handshakes,
            ..server(Forwarding::Nat)
        };
        command(Check::ServerNoAnswers, &director(&host, server))
    };
    let fix = "uvs ipvsadm -e -t 10.0.0.100:80 -r 10.0.0.2:80 -m -w 0";
    assert_eq!(found(3, Some(1), Some(60)).as_deref(), Some(fix));
    assert_eq!(found(3, Some(1), None).as_deref(), Some(fix));
    assert_eq!(found(2, Some(1), None), None, "may be an accident");
    assert_eq!(found(0, Some(60), Some(1)), None);
}

#[test]
fn a_server_without_the_vip_or_without_the_tunnel_is_found() {
    let found = |check, forwarding, vip, resolved: bool| {
        let host = Texts {
            vip,
            ..Texts::default()
        };
        let mut director = director(&host, server(forwarding));
        if resolved {
            director.fib.set_neighbour(2, Addr::from(SERVER), [2; 6]);
        }
        command(check, &director)
    };
    let (vip, tunnel) = (Check::ServerWithoutVip, Check::ServerNoTunnel);
    let fix = "uvs rs up --mode dr --vip 10.0.0.100";
    let silent = Outcome::Silent;
    assert_eq!(
        found(vip, Forwarding::Dr, silent, true).as_deref(),
        Some(fix)
    );
    assert_eq!(found(vip, Forwarding::Dr, Outcome::Answered, true), None);
    assert_eq!(
        found(vip, Forwarding::Dr, silent, false),
        None,
        "no next hop"
    );
    assert_eq!(found(vip, Forwarding::Nat, silent, true), None);
    assert_eq!(found(vip, Forwarding::Tunnel, silent, true), None);
    let fix = "uvs rs up --mode ipip --vip 10.0.0.100";
    for outcome in [silent, Outcome::NoTunnel] {
        let found = found(tunnel, Forwarding::Tunnel, outcome, true);
        assert_eq!(found.as_deref(), Some(fix));
    }
    assert_eq!(found(tunnel, Forwarding::Dr, silent, true), None);
}

#[test]
fn each_encapsulation_needs_its_own_room() {
    let host = Texts {
        ip: [(
            "-j route get 10.0.0.2",
            r#"[{"dst":"10.0.0.2","metrics":[{"mtu":1400}]}]"#,
        )]
        .into(),
        ..Texts::default()
    };
    for (kind, mtu) in [
        (TunnelKind::Ipip, 1520),
        (TunnelKind::Gre, 1524),
        (TunnelKind::Gue, 1532),
    ] {
        let mut tunnel = server(Forwarding::Tunnel);
        tunnel.spec.tunnel.kind = kind;
        let director = director(&host, tunnel);
        let seen = make(Check::TunnelMtu, &director).expect("it can be made");
        assert!(
            seen.findings[0].seen.contains("MTU is 1400"),
            "what the kernel has learnt counts"
        );
        let fix = format!("ip link set dev eth0 mtu {mtu}");
        assert_eq!(command(Check::TunnelMtu, &director), Some(fix));
    }
}

/// A director as [`director`] makes it, of an IPv6 service with an IPv6 server.
fn director_ipv6(host: &Texts, forwarding: Forwarding, mtu: u16) -> Director<'_> {
    let [vip, server, own] =
        ["2001:db8::100", "2001:db8::2", "2001:db8::1"].map(|a| a.parse::<IpAddr>().expect(a));
    let key = ServiceKey::address(Protocol::Tcp, Endpoint::new(vip.into(), 80));
    let endpoint = Endpoint::new(server.into(), 80);
    let counted = Counted::nothing(ServerSpec::new(endpoint, forwarding));
    let mut director = director(host, counted);
    director.wanted.services[0].to = destinations(key, &[]).collect();
    director.wanted.services[0].spec = ServiceSpec::new(key, "rr");
    director.fib.set_interface(Interface {
        port: PortId(0),
        ifindex: 2,
        mac: [2, 0, 0, 0, 0, 1],
        mtu: mtu.into(),
        up: true,
        reverse_path: ReversePath::Off,
    });
    let hop = Hop {
        source: Some(own.into()),
        ..Hop::by(2, None)
    };
    let net = Addr::from(own).masked(64);
    director
        .fib
        .add_route(Route::new(net, 64, Target::Hop(hop)));
    director
}

#[test]
fn a_tunnel_over_ipv6_needs_1280_bytes_inside() {
    let host = Texts::default();
    let narrow = |mtu| {
        let director = director_ipv6(&host, Forwarding::Tunnel, mtu);
        command(Check::TunnelTooNarrow, &director)
    };
    assert_eq!(narrow(1320), None);
    let wider = Some("ip link set dev eth0 mtu 1540".to_owned());
    assert_eq!(narrow(1319), wider);
    assert_eq!(narrow(1280), wider);
    let over_ipv4 = director(&host, server(Forwarding::Tunnel));
    assert_eq!(command(Check::TunnelTooNarrow, &over_ipv4), None);
}

#[test]
fn ipv6_is_looked_at_only_where_it_is_forwarded() {
    let mut host = Texts::default();
    let of_ipv4 = |host: &Texts, check| command(check, &director(host, server(Forwarding::Nat)));
    assert_eq!(of_ipv4(&host, Check::Ipv6Off), None);
    assert_eq!(of_ipv4(&host, Check::AcceptRa), None);
    host.files = HashMap::from([
        ("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1\n"),
        ("/proc/sys/net/ipv6/conf/eth0/forwarding", "1\n"),
        ("/proc/sys/net/ipv6/conf/eth0/accept_ra", "1\n"),
    ]);
    let of_ipv6 = |host: &Texts, check| command(check, &director_ipv6(host, Forwarding::Nat, 1500));
    let set = |key, value| Some(format!("echo {value} > /proc/sys/net/ipv6/conf/eth0/{key}"));
    assert_eq!(of_ipv6(&host, Check::Ipv6Off), set("disable_ipv6", 0));
    assert_eq!(of_ipv6(&host, Check::AcceptRa), set("accept_ra", 2));
    // With a default route nothing is missing, whoever brought it.
    host.ip = HashMap::from([("-6 route show default", "default via fe80::1 dev eth0\n")]);
    assert_eq!(of_ipv6(&host, Check::AcceptRa), None);
}

#[test]
fn ipv6_remedies_have_ipv6_words() {
    let vip: IpAddr = "2001:db8::100".parse().expect("an address");
    let host = Texts {
        answers: vec![(vip, [2, 0, 0, 0, 0, 9])],
        ..Texts::default()
    };
    let duplicate = command(
        Check::VipDuplicate,
        &director_ipv6(&host, Forwarding::Dr, 1500),
    );
    let duplicate = duplicate.expect("a finding");
    for words in [
        "ip -o -6 address show to 2001:db8::100",
        "ip -6 neigh del proxy",
    ] {
        assert!(duplicate.contains(words), "{duplicate}");
    }
    let host = Texts::default();
    let mut forgotten = director_ipv6(&host, Forwarding::Dr, 1500);
    forgotten.wanted.own = OwnVips::None;
    let add = command(Check::VipAbsent, &forgotten).expect("nobody answers for it");
    assert!(
        add.starts_with("ip address add 2001:db8::100/128 dev eth0 "),
        "{add}"
    );
}

#[test]
fn a_black_hole_gets_the_size_that_passes() {
    let fix = |sizes: &[(IpAddr, u32)]| {
        let host = Texts {
            sizes: sizes.iter().copied().collect(),
            ..Texts::default()
        };
        command(Check::PathMtu, &director(&host, server(Forwarding::Dr)))
    };
    assert_eq!(fix(&[(SERVER, 1500)]), None);
    assert_eq!(fix(&[]), None, "a host that answers no ping says nothing");
    let expected = "ip route replace 10.0.0.2/32 dev eth0 mtu 1400";
    assert_eq!(fix(&[(SERVER, 1400)]).as_deref(), Some(expected));
}

/// A chain of iptables-nft in FORWARD, with a ban of two addresses and one of port 443.
const BANS: &str = r#"{"nftables":[
    {"table":{"family":"ip","name":"filter","handle":1}},
    {"chain":{"family":"ip","table":"filter","name":"FORWARD","handle":1,"type":"filter","hook":"forward"}},
    {"rule":{"family":"ip","table":"filter","chain":"FORWARD","handle":2,"expr":[
        {"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},
            "right":{"set":["192.0.2.7",{"prefix":{"addr":"198.51.100.0","len":24}}]}}},{"drop":null}]}},
    {"rule":{"family":"ip","table":"filter","chain":"FORWARD","handle":3,"expr":[
        {"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":443}},
        {"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":"192.0.2.9"}},
        {"drop":null}]}}]}"#;

#[test]
fn a_ban_that_protects_no_service_is_named_until_uvs_has_it_too() {
    let host = Texts {
        rules: Some(BANS),
        ..Texts::default()
    };
    let mut director = director(&host, server(Forwarding::Nat));
    let found = command(Check::FirewallUnheeded, &director);
    assert_eq!(
        found.as_deref(),
        Some("uvs deny add 192.0.2.7 198.51.100.0/24")
    );
    let deny = |text: &str| Rule {
        prefix: text.parse().expect(text),
        action: Action::Deny,
    };
    let denied = |prefixes: &[&str]| Access {
        everywhere: Arc::new(AccessList::new(prefixes.iter().map(|p| deny(p)))),
        ..Access::default()
    };
    director.wanted.access = Arc::new(denied(&["198.51.100.0/23", "192.0.2.8"]));
    let found = command(Check::FirewallUnheeded, &director);
    assert_eq!(found.as_deref(), Some("uvs deny add 192.0.2.7"));
    director.wanted.access = Arc::new(denied(&["198.51.100.0/23", "192.0.2.7"]));
    assert_eq!(command(Check::FirewallUnheeded, &director), None);
}

#[test]
fn what_nft_does_not_list_is_said() {
    let host = Texts {
        rules: Some(r#"{"nftables":[]}"#),
        files: HashMap::from([("/proc/net/ip_tables_names", "nat\nfilter\n")]),
        ..Texts::default()
    };
    let director = director(&host, server(Forwarding::Nat));
    let said = make(Check::FirewallUnheeded, &director).expect_err("not made");
    assert!(
        said.0.contains("iptables-legacy has the tables filter,"),
        "{said}"
    );
}

/// A daemon with its hook on eth0, pinned, and alone there.
fn hooked() -> HookStatus {
    let port = HookPort {
        interface: "eth0".to_owned(),
        attach: "tcx".to_owned(),
        ..HookPort::default()
    };
    let program = HookProgram {
        pinned: Some("/sys/fs/bpf/uvs".to_owned()),
        ..HookProgram::default()
    };
    HookStatus {
        works: HookTier::Tier,
        program: Some(program),
        ports: vec![port],
        ..HookStatus::default()
    }
}

/// What a check finds with a daemon whose hook is so: `None` = nothing.
fn found_of_hook(check: Check, hook: HookStatus) -> Option<String> {
    let host = Texts::default();
    let mut director = director(&host, server(Forwarding::Nat));
    director.wanted.hook = hook;
    let seen = make(check, &director).expect("made");
    seen.findings
        .first()
        .map(|f| format!("{}; {}", f.seen, f.fix.command))
}

#[test]
fn a_hook_that_is_well_is_no_finding() {
    for check in [
        Check::Hook,
        Check::HookPort,
        Check::HookDetached,
        Check::HookOthers,
        Check::HookUnpinned,
        Check::HookLeftover,
        Check::VipUnguarded,
        Check::GuardDamaged,
        Check::NetdevIngress,
    ] {
        assert_eq!(found_of_hook(check, hooked()), None, "{check}");
    }
}

#[test]
fn what_is_wrong_with_a_hook_is_named() {
    let port = |change: fn(&mut HookPort)| {
        let mut hook = hooked();
        change(&mut hook.ports[0]);
        hook
    };
    let found = found_of_hook(Check::HookDetached, port(|p| p.attach.clear()));
    assert_eq!(
        found.as_deref(),
        Some("it is not on eth0; bpftool net show dev eth0")
    );
    let found = found_of_hook(Check::HookOthers, port(|p| p.others = 2));
    assert!(found.is_some_and(|f| f.starts_with("eth0: 2 programs of others;")));
    let unpinned = HookStatus {
        program: Some(HookProgram::default()),
        ..hooked()
    };
    let found = found_of_hook(Check::HookUnpinned, unpinned);
    assert!(found.is_some_and(|f| f.contains("mount -t bpf bpf /sys/fs/bpf")));
}

#[test]
fn why_there_is_no_hook_leads_to_its_remedy() {
    let without = |why: &str| HookStatus {
        wanted: HookMode::Auto,
        why_not: Some(why.to_owned()),
        ..HookStatus::default()
    };
    let found = found_of_hook(Check::Hook, without("the daemon lacks CAP_BPF"));
    assert!(found.is_some_and(|f| f.starts_with(
        "off: the daemon lacks CAP_BPF; setcap cap_net_raw,cap_net_admin,cap_bpf+ep "
    )));
    let found = found_of_hook(Check::Hook, without("Linux 5.4 lacks ring buffers"));
    assert!(found.is_some_and(|f| f.ends_with("; uvs show hook")));
    let off = HookStatus {
        wanted: HookMode::Off,
        ..without("anything")
    };
    assert_eq!(found_of_hook(Check::Hook, off), None);
}

#[test]
fn without_a_daemon_the_kernel_is_asked_for_the_hook() {
    for (lack, finds) in [(None, false), (Some("CAP_BPF lacks"), true)] {
        let host = Texts {
            lack,
            ..Texts::default()
        };
        let mut director = director(&host, server(Forwarding::Nat));
        director.wanted.daemon = None;
        director.wanted.hook.wanted = HookMode::Auto;
        let seen = make(Check::Hook, &director).expect("made");
        assert_eq!(!seen.findings.is_empty(), finds, "{seen:?}");
    }
}

#[test]
fn a_hook_that_a_dead_daemon_left_is_found() {
    let host = Texts {
        leftover: Some("the hook: 9 things pinned"),
        ..Texts::default()
    };
    let mut director = director(&host, server(Forwarding::Nat));
    assert_eq!(
        make(Check::HookLeftover, &director).expect("made").findings,
        []
    );
    director.wanted.daemon = None;
    director.wanted.pins = "/sys/fs/bpf/uvs".into();
    let seen = make(Check::HookLeftover, &director).expect("made");
    assert_eq!(seen.findings[0].fix.command, "uvs guard down");
    director.wanted.pins = "/mnt/bpf".into();
    let seen = make(Check::HookLeftover, &director).expect("made");
    assert_eq!(
        seen.findings[0].fix.command,
        "uvs guard down --pins /mnt/bpf"
    );
}

#[test]
fn a_port_of_a_bridge_is_found_by_its_master() {
    let host = Texts::default();
    let mut director = director(&host, server(Forwarding::Nat));
    let devices = DEVICES.replace("\"mtu\":1500", "\"mtu\":1500,\"master\":\"br0\"");
    director.devices = serde_json::from_str(&devices).expect("devices");
    let seen = make(Check::HookPort, &director).expect("made");
    assert_eq!(seen.findings[0].seen, "eth0 is a port of br0");
    assert_eq!(seen.findings[0].fix.command, "uvs run --interface br0");
}

/// What is found of super-frames on a kernel with a service of this protocol.
fn super_frames(release: &'static str, protocol: Protocol, dropped: u64) -> Option<String> {
    let host = Texts {
        files: HashMap::from([("/proc/sys/kernel/osrelease", release)]),
        ..Texts::default()
    };
    let mut director = director(&host, server(Forwarding::Nat));
    let key = ServiceKey::address(protocol, Endpoint::new(VIP.into(), 443));
    let service = &mut director.wanted.services[0];
    service.to = destinations(key, &[]).collect();
    service.spec = ServiceSpec::new(key, "rr");
    director.wanted.hook.ports = vec![HookPort {
        gso_unsupported: dropped,
        ..HookPort::default()
    }];
    let seen = make(Check::UdpSegmentation, &director).expect("made");
    let finding = seen.findings.first()?;
    Some(format!("{}; {}", finding.seen, finding.fix.command))
}

#[test]
fn super_frames_of_udp_are_lost_before_6_2() {
    let found = super_frames("6.1.0-47-amd64\n", Protocol::Udp, 0).expect("a finding");
    assert!(
        found.contains("Linux 6.1 cannot hand super-frames of UDP to user space"),
        "{found}"
    );
    assert!(
        found.ends_with("; ethtool -K PEER tx-udp-segmentation off"),
        "{found}"
    );
    let counted = super_frames("6.1.0-47-amd64\n", Protocol::Udp, 7).expect("a finding");
    assert!(counted.contains("; 7 were dropped so far"), "{counted}");
    assert_eq!(super_frames("6.1.0-47-amd64\n", Protocol::Tcp, 0), None);
    assert_eq!(super_frames("6.2.0", Protocol::Udp, 0), None);
    assert!(super_frames("6.18.44", Protocol::Sctp, 0).is_some());
}

#[test]
fn workers_that_share_a_cpu_or_a_queue_are_told() {
    let host = Texts::default();
    let mut director = director(&host, server(Forwarding::Nat));
    let commands = |director: &Director<'_>| {
        let seen = make(Check::Workers, director).expect("it can be made");
        let commands = seen.findings.into_iter().map(|f| f.fix.command);
        commands.collect::<Vec<_>>()
    };
    let queues = |director: &mut Director<'_>, queues| {
        let mut devices = director.devices.iter_mut();
        let eth0 = devices
            .find(|device| device.ifname == "eth0")
            .expect("it is there");
        eth0.num_rx_queues = queues;
    };
    (director.wanted.workers, director.wanted.cpus) = (1, 1);
    assert!(commands(&director).is_empty());
    (director.wanted.workers, director.wanted.cpus) = (4, 2);
    queues(&mut director, 4);
    assert_eq!(commands(&director), ["uvs run --workers 2"]);
    director.wanted.cpus = 4;
    assert!(commands(&director).is_empty());
    queues(&mut director, 1);
    assert_eq!(commands(&director), ["ethtool -L eth0 combined 4"]);
}
