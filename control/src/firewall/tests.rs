//! Rule sets as nft 1.0 lists them: which of their rules are drop rules, and which of those are followed.

use std::cell::RefCell;

use serde_json::{Value, json};
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::service::ServiceKey;

use super::*;

const VIP: Addr = Addr::v4([192, 0, 2, 100]);

fn listed(json: &Value) -> Ruleset {
    let mut ruleset = Ruleset::default();
    ruleset.add(&json.to_string()).unwrap();
    ruleset
}

fn key(port: u16) -> ServiceKey {
    ServiceKey::address(Protocol::Tcp, Endpoint::new(VIP, port))
}

fn by(field: &str, right: Value) -> Value {
    let (protocol, field) = field.split_once(' ').unwrap();
    let left = json!({"payload": {"protocol": protocol, "field": field}});
    json!({"match": {"op": "==", "left": left, "right": right}})
}

fn from(right: impl Into<Value>) -> Value {
    by("ip saddr", right.into())
}

fn drop_it() -> Value {
    json!({"drop": null})
}

fn accept() -> Value {
    json!({"accept": null})
}

fn xt(kind: &str, name: &str) -> Value {
    json!({"xt": {"type": kind, "name": name}})
}

fn jump(chain: &str) -> Value {
    json!({"jump": {"target": chain}})
}

fn prefix(addr: &str, length: u8) -> Value {
    json!({"prefix": {"addr": addr, "len": length}})
}

/// A table with one base chain `base` at a hook and the rules of this and of other chains.
fn drop_rules(hook: &str, rules: &[(&str, Vec<Value>)], more: &[Value]) -> Vec<DropRule> {
    let base = json!({"chain": {"family": "ip", "table": "t", "name": "base", "handle": 1,
        "type": "filter", "hook": hook, "prio": 0, "policy": "accept"}});
    let rule = |(handle, (chain, expr)): (usize, &(&str, Vec<Value>))| json!({"rule": {"family": "ip", "table": "t", "chain": chain, "handle": handle, "expr": expr}});
    let rules = rules.iter().enumerate().map(rule);
    let all: Vec<Value> = std::iter::once(base)
        .chain(rules)
        .chain(more.iter().cloned())
        .collect();
    listed(&json!({ "nftables": all })).drop_rules()
}

/// What is followed of a chain of INPUT with these rules, for services on ports 80 and 443.
fn follow(rules: &[(&str, Vec<Value>)], more: &[Value]) -> Vec<String> {
    let found = drop_rules("input", rules, more);
    let all = followed(&found, [key(80), key(443)].into_iter());
    let scope = |scope: &Scope| scope.map_or_else(|| "every".to_owned(), |k| k.to_string());
    let lines = all.iter().flat_map(|(s, lists)| {
        lists
            .iter()
            .flat_map(|l| l.iter())
            .map(|p| format!("{} {p}", scope(s)))
    });
    lines.collect()
}

#[test]
fn a_rule_of_sources_alone_holds_for_every_service() {
    let set = json!({"set": {"family": "ip", "table": "t", "name": "bad", "type": "ipv4_addr", "handle": 9,
        "elem": [prefix("198.51.100.0", 24), {"range": ["203.0.113.4", "203.0.113.6"]},
                 {"elem": {"val": "10.9.9.9", "expires": 7}}]}});
    let counter = json!({"counter": {"packets": 0, "bytes": 0}});
    let rules = [
        ("base", vec![from("10.0.0.1"), counter, drop_it()]),
        (
            "base",
            vec![from(prefix("10.1.0.0", 16)), xt("target", "REJECT")],
        ),
        (
            "base",
            vec![
                from(json!({"set": ["10.0.0.2", prefix("10.2.0.0", 16)]})),
                json!({"reject": null}),
            ],
        ),
        ("base", vec![from("@bad"), drop_it()]),
        (
            "base",
            vec![by("ip6 saddr", prefix("2001:db8::", 32)), drop_it()],
        ),
    ];
    let expected = [
        "every 10.0.0.1",
        "every 10.1.0.0/16",
        "every 10.0.0.2",
        "every 10.2.0.0/16",
        "every 198.51.100.0/24",
        "every 203.0.113.4/31",
        "every 203.0.113.6",
        "every 10.9.9.9",
        "every 2001:db8::/32",
    ];
    assert_eq!(follow(&rules, &[set]), expected);
}

#[test]
fn a_rule_of_ports_or_destinations_holds_for_the_services_there() {
    let tcp = json!({"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}});
    let rules = [
        (
            "base",
            vec![
                by("tcp dport", json!({"set": [22, 80]})),
                from("10.0.0.1"),
                drop_it(),
            ],
        ),
        (
            "base",
            vec![by("udp dport", 80.into()), from("10.0.0.2"), drop_it()],
        ),
        (
            "base",
            vec![
                by("ip daddr", "192.0.2.1".into()),
                from("10.0.0.3"),
                drop_it(),
            ],
        ),
        (
            "base",
            vec![
                tcp,
                by("th dport", json!({"range": [400, 500]})),
                jump("sub"),
            ],
        ),
        ("sub", vec![from("10.0.0.4"), drop_it()]),
    ];
    let expected = [
        "TCP 192.0.2.100:80 10.0.0.1",
        "TCP 192.0.2.100:443 10.0.0.4",
    ];
    assert_eq!(follow(&rules, &[]), expected);
}

#[test]
fn what_is_not_certain_is_not_followed_but_named() {
    let state = |states: Value| json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": states}});
    let not = json!({"match": {"op": "!=", "left": {"payload": {"protocol": "ip", "field": "saddr"}},
        "right": "10.0.0.1"}});
    let limit = json!({"limit": {"rate": 3, "per": "second"}});
    let pair = json!({"match": {"op": "==", "left": {"concat": [
        {"payload": {"protocol": "ip", "field": "saddr"}}, {"payload": {"protocol": "tcp", "field": "dport"}}]},
        "right": {"set": [{"concat": ["10.0.0.1", 80]}]}}});
    let vmap = json!({"vmap": {"key": {"payload": {"protocol": "ip", "field": "saddr"}},
        "data": {"set": [["10.0.0.1", {"drop": null}]]}}});
    for uncertain in [
        vec![not, drop_it()],
        vec![from("10.0.0.1"), limit, drop_it()],
        vec![from("10.0.0.1"), xt("match", "conntrack"), drop_it()],
        vec![
            from("10.0.0.1"),
            state(json!(["new", "invalid"])),
            xt("match", "time"),
            drop_it(),
        ],
        vec![xt("match", "set"), drop_it()],
        vec![from("@gone"), drop_it()],
        vec![pair, drop_it()],
        vec![vmap],
    ] {
        let rules = [("base", uncertain)];
        assert_eq!(drop_rules("input", &rules, &[]).len(), 1, "{rules:?}");
        assert_eq!(follow(&rules, &[]), Vec::<String>::new(), "{rules:?}");
    }
    let certain = [("base", vec![from("10.0.0.1"), drop_it()])];
    for hook in ["forward", "prerouting", "ingress"] {
        let found = drop_rules(hook, &certain, &[]);
        assert_eq!((found.len(), found[0].place.hook.as_str()), (1, hook));
        assert!(followed(&found, std::iter::empty()).is_empty(), "{hook}");
    }
    assert!(drop_rules("output", &certain, &[]).is_empty());
}

#[test]
fn a_rule_behind_one_that_lets_services_in_is_not_followed_for_those() {
    let last = ("base", vec![from("10.0.0.1"), drop_it()]);
    let state = json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}});
    let lo = json!({"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "lo"}});
    let icmp =
        json!({"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "icmp"}});
    for harmless in [
        vec![state, accept()],
        vec![xt("match", "conntrack"), accept()],
        vec![lo, accept()],
        vec![icmp, accept()],
        vec![json!({"log": {}})],
    ] {
        let rules = [("base", harmless), last.clone()];
        assert_eq!(follow(&rules, &[]), ["every 10.0.0.1"], "{rules:?}");
    }
    let ssh = [
        ("base", vec![by("tcp dport", 22.into()), accept()]),
        last.clone(),
    ];
    assert_eq!(
        follow(&ssh, &[]),
        [
            "TCP 192.0.2.100:80 10.0.0.1",
            "TCP 192.0.2.100:443 10.0.0.1"
        ]
    );
    let web = [
        ("base", vec![by("tcp dport", 80.into()), accept()]),
        last.clone(),
    ];
    assert_eq!(follow(&web, &[]), ["TCP 192.0.2.100:443 10.0.0.1"]);
    for saves in [
        vec![accept()],
        vec![from("10.0.0.0"), accept()],
        vec![xt("match", "multiport"), accept()],
        vec![xt("target", "NFQUEUE")],
        vec![json!({"return": null})],
        vec![json!({"goto": {"target": "nowhere"}})],
    ] {
        let rules = [("base", saves), last.clone()];
        assert_eq!(follow(&rules, &[]), Vec::<String>::new(), "{rules:?}");
    }
    let inner = [("base", vec![jump("sub")]), last, ("sub", vec![accept()])];
    assert_eq!(follow(&inner, &[]), Vec::<String>::new());
}

#[test]
fn each_table_is_asked_for_but_the_guards_own_whose_sets_are_large() {
    let tables = |names: &[(&str, &str)]| {
        let table =
            |&(family, name)| json!({"table": {"family": family, "name": name, "handle": 1}});
        json!({"nftables": names.iter().map(table).collect::<Vec<_>>()}).to_string()
    };
    let there = [("netdev", "uvs"), ("inet", "uvs"), ("ip", "going")];
    let asked = RefCell::new(Vec::new());
    let nft = |words: &[&str]| {
        asked.borrow_mut().push(words.join(" "));
        match words {
            ["-t", "-j", "list", "tables"] if asked.borrow().len() == 1 => Ok(tables(&there)),
            ["-t", "-j", "list", "tables"] => Ok(tables(&there[..2])),
            ["-j", "list", "table", "inet", "uvs"] => Ok(tables(&[])),
            _ => Err("No such file or directory"),
        }
    };
    assert_eq!(
        Ruleset::of_host(nft).err(),
        None,
        "one was removed meanwhile"
    );
    let expected = [
        "-t -j list tables",
        "-j list table inet uvs",
        "-j list table ip going",
        "-t -j list tables",
    ];
    assert_eq!(asked.take(), expected);
    let error = Ruleset::of_host(|_| Ok::<_, &str>("{}".to_owned()))
        .err()
        .unwrap();
    assert!(error.contains("not understood"), "{error}");
}

#[test]
fn chains_that_call_one_another_end() {
    let rules = [
        ("base", vec![jump("base")]),
        ("base", vec![from("10.0.0.1"), drop_it()]),
    ];
    assert!(!drop_rules("input", &rules, &[]).is_empty());
}

#[test]
fn a_chain_at_ingress_has_its_devices_and_a_bridges_chain_drops_nothing() {
    let listing = |family: &str, dev: Value| {
        let hook = if family == "netdev" {
            "ingress"
        } else {
            "input"
        };
        let all = json!([
            {"chain": {"family": family, "table": "t", "name": "c", "type": "filter", "hook": hook, "dev": dev}},
            {"rule": {"family": family, "table": "t", "chain": "c", "handle": 1,
                "expr": [from("10.0.0.1"), drop_it()]}}]);
        let ruleset = listed(&json!({ "nftables": all }));
        ruleset
            .drop_rules()
            .into_iter()
            .map(|b| b.devices)
            .collect::<Vec<_>>()
    };
    assert_eq!(listing("netdev", json!("eth0")), [["eth0"]]);
    assert_eq!(
        listing("netdev", json!(["eth0", "eth1"])),
        [["eth0", "eth1"]]
    );
    assert!(listing("bridge", Value::Null).is_empty());
}
