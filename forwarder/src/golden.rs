//! The kernel's recorded behaviour, played against the engine in virtual time: no sockets, no root.
//!
//! `tests/golden/packets.json` and `states.json` were recorded from Linux 6.1's IPVS (see the README
//! there). What the host's own stack answered there is here a `Pass`, which is allowed only for packets
//! that no service and no guard rule would keep from the host.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use uvs_core::engine::{Engine, EngineConfig};
use uvs_core::fib::{Fib, Interface, Route};
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::frame::{Frame, Offload};
use uvs_core::outbox::Outbox;
use uvs_core::service::{Forwarding, Persistence, ServerSpec, ServiceKey, ServiceSpec};
use uvs_core::snapshot::{Limits, Snapshot};
use uvs_core::time::Instant;
use uvs_core::verdict::{PortId, Verdict};

const TAGS: [&str; 2] = ["c", "s"];

struct Director {
    engine: Engine,
    snapshot: Snapshot,
    now: Instant,
}

fn addr(s: &str) -> Addr {
    Addr::from(s.parse::<std::net::IpAddr>().expect("an address"))
}

fn mac(s: &str) -> [u8; 6] {
    let bytes: Vec<u8> = s
        .split(':')
        .map(|x| u8::from_str_radix(x, 16).expect("hex"))
        .collect();
    bytes.try_into().expect("six bytes")
}

fn unhex(s: &str) -> Vec<u8> {
    (0..s.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&s[i..i + 2], 16).expect("hex"))
        .collect()
}

fn fib(topology: &Value, mtu: &Value, extra: &[(String, String)]) -> Fib {
    let mut fib = Fib::new();
    fib.forwarding = true;
    for (i, dev) in ["c0", "s0"].iter().enumerate() {
        let ifindex = i as u32 + 2;
        let mtu = mtu[dev].as_u64().expect("an MTU") as u32;
        let t = &topology[*dev];
        let interface = Interface {
            port: PortId(i as u16),
            ifindex,
            mac: mac(t["mac"].as_str().expect("a MAC")),
            mtu,
            up: true,
        };
        fib.set_interface(interface);
        for a in t["addr"].as_array().expect("addresses") {
            let (a, prefix) = a
                .as_str()
                .and_then(|a| a.split_once('/'))
                .expect("a prefix");
            let prefix: u8 = prefix.parse().expect("a length");
            fib.add_local(ifindex, addr(a));
            let route = Route {
                dst: addr(a).masked(prefix),
                prefix,
                gateway: None,
                ifindex,
                source: Some(addr(a)),
                metric: 0,
                mtu: None,
            };
            fib.add_route(route);
        }
    }
    for n in topology["neigh"].as_array().expect("neighbours") {
        let dev = if n[0] == "c0" { 2 } else { 3 };
        fib.set_neighbour(
            dev,
            addr(n[1].as_str().expect("an address")),
            mac(n[2].as_str().expect("a MAC")),
        );
    }
    fib.add_route(Route {
        dst: Addr::UNSPECIFIED,
        prefix: 0,
        gateway: Some(addr("10.0.1.254")),
        ifindex: 2,
        source: None,
        metric: 0,
        mtu: None,
    });
    for (a, m) in extra {
        fib.set_neighbour(2, addr(a), mac(m));
    }
    fib
}

impl Director {
    fn new(topology: &Value, case: &Value) -> Self {
        let engine = Engine::new(EngineConfig {
            limits: Limits {
                connections: 10_000,
                ..Limits::default()
            },
            keys: (1, 2),
            seed: 3,
            modes: uvs_modes::BUILTIN,
            schedulers: Box::new(|name, params| {
                uvs_schedulers::find(name).map(|d| (d.new)(params))
            }),
        });
        let mut d = Self {
            engine,
            snapshot: Snapshot::default(),
            now: Instant::from_secs(1000),
        };
        d.engine.set_fib(Arc::new(fib(topology, &case["mtu"], &[])));
        d
    }

    fn apply(&mut self) {
        self.engine
            .apply(Arc::new(self.snapshot.clone()))
            .expect("a sound snapshot");
        while self.engine.handle_timeout(self.now, 1000) {}
    }

    fn sysctl(&mut self, name: &str, value: &str) -> bool {
        let Some(name) = name.strip_prefix("net.ipv4.vs.") else {
            return false;
        };
        self.snapshot
            .sysctls
            .set(name, value.parse().expect("a number"))
            .expect("a sysctl");
        self.apply();
        true
    }

    fn wait(&mut self, d: Duration) {
        self.now = self.now + d;
        while self.engine.handle_timeout(self.now, 1000) {}
    }

    /// What leaves: (port, frame), or `None` where the frame is the kernel's.
    fn send(&mut self, tag: &str, bytes: &[u8]) -> Option<Vec<(usize, Vec<u8>)>> {
        let port = TAGS.iter().position(|t| *t == tag).expect("a side");
        let mut buf = vec![0; 64 + bytes.len()];
        buf[64..].copy_from_slice(bytes);
        let end = buf.len();
        let mut frame = Frame::new(&mut buf, 64, end, Offload::default());
        let mut out = Outbox::new();
        self.now = self.now + Duration::from_millis(80);
        while self.engine.handle_timeout(self.now, 1000) {}
        match self
            .engine
            .handle_frame(self.now, PortId(port as u16), &mut frame, &mut out)
        {
            Verdict::Send(e) if e.unresolved.is_none() => {
                Some(vec![(usize::from(e.port.0), frame.bytes().to_vec())])
            }
            Verdict::SendOutbox | Verdict::Answered => Some(
                out.iter()
                    .filter(|f| f.2.unresolved.is_none())
                    .map(|(b, _, e)| (usize::from(e.port.0), b.to_vec()))
                    .collect(),
            ),
            Verdict::Pass => None,
            Verdict::Send(_) | Verdict::Drop(_) | Verdict::Held => Some(Vec::new()),
        }
    }

    fn connections(&self) -> Vec<String> {
        let (conns, rest) = self.engine.report_connections(self.now, 0, 100_000);
        assert_eq!(rest, None);
        conns
            .iter()
            .map(|c| {
                format!(
                    "{} {} {} {} {} {}",
                    c.protocol, c.client, c.vip, c.server, c.state, c.expires
                )
            })
            .collect()
    }

    fn servers(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for s in self.engine.report().services {
            let spec = self
                .snapshot
                .services
                .iter()
                .find(|x| x.key == s.key)
                .expect("a known service");
            for r in &s.servers {
                let server = spec
                    .servers
                    .iter()
                    .find(|x| x.endpoint == r.endpoint)
                    .expect("a known server");
                let word = match server.forwarding {
                    Forwarding::Dr => "Route",
                    Forwarding::Nat => "Masq",
                    Forwarding::FullNat => "FullNat",
                    Forwarding::Tunnel => "Tunnel",
                };
                lines.push(format!(
                    "{} {} {word} weight {} active {} inact {}",
                    s.key, r.endpoint, server.weight, r.active, r.inactive
                ));
            }
        }
        lines.sort();
        lines
    }
}

/// Applies an `ipvsadm` command; `false` for listings.
fn ipvsadm(d: &mut Director, words: &[&str]) -> bool {
    let value = |names: &[&str]| {
        words
            .iter()
            .position(|w| names.contains(w))
            .and_then(|i| words.get(i + 1))
            .copied()
    };
    let number = |names: &[&str], default: u32| {
        value(names).map_or(default, |v| v.parse().expect("a number"))
    };
    let endpoint = |s: &str, port: u16| match s.split_once(':') {
        Some((a, p)) => Endpoint::new(addr(a), p.parse().expect("a port")),
        None => Endpoint::new(addr(s), port),
    };
    let key = [
        ("-t", Protocol::Tcp),
        ("-u", Protocol::Udp),
        ("--sctp-service", Protocol::Sctp),
    ]
    .iter()
    .find_map(|(o, p)| value(&[o]).map(|v| ServiceKey::address(*p, endpoint(v, 0))));
    let server = |port: u16| {
        let mut s = ServerSpec::new(endpoint(value(&["-r"]).expect("-r"), port), Forwarding::Dr);
        if words.contains(&"-m") {
            s.forwarding = Forwarding::Nat;
        } else if words.contains(&"-i") {
            s.forwarding = Forwarding::Tunnel;
        }
        (s.weight, s.upper, s.lower) = (number(&["-w"], 1), number(&["-x"], 0), number(&["-y"], 0));
        s
    };
    if words[0] == "-C" {
        d.snapshot.services.clear();
        d.apply();
        return true;
    }
    let Some(key) = key.filter(|_| !words[0].starts_with("-L")) else {
        return false;
    };
    let at = d.snapshot.services.iter().position(|s| s.key == key);
    match words[0] {
        "-A" => {
            let mut s = ServiceSpec::new(key, value(&["-s"]).expect("-s"));
            s.one_packet = words.contains(&"--ops");
            s.persistence = value(&["-p"]).map(|t| Persistence {
                timeout: t.parse().expect("seconds"),
                mask: u32::MAX,
            });
            d.snapshot.services.push(Arc::new(s));
        }
        "-D" => {
            d.snapshot.services.remove(at.expect("a service"));
        }
        command => {
            let mut s = ServiceSpec::clone(&d.snapshot.services[at.expect("a service")]);
            let new = server(key.vip().port);
            let known = s.servers.iter().position(|x| x.endpoint == new.endpoint);
            match command {
                "-a" => s.servers.insert(0, new),
                "-e" => s.servers[known.expect("a server")] = new,
                "-d" => {
                    s.servers.remove(known.expect("a server"));
                }
                other => panic!("{other}?"),
            }
            d.snapshot.services[at.expect("a service")] = Arc::new(s);
        }
    }
    d.apply();
    true
}

/// The differences between what the kernel did and what the engine does.
fn play(topology: &Value, case: &Value) -> Vec<String> {
    let mut d = Director::new(topology, case);
    let mut diffs = Vec::new();
    let mut neighbours = Vec::new();
    for (name, v) in case["sysctl"].as_object().expect("sysctls") {
        d.sysctl(name, &v.to_string());
    }
    for (i, step) in case["steps"].as_array().expect("steps").iter().enumerate() {
        let what = step["do"].as_str().expect("a step");
        let words: Vec<&str> = what.split_whitespace().collect();
        match words[0] {
            "ipvsadm" => {
                ipvsadm(&mut d, &words[1..]);
            }
            "sysctl" => {
                let (name, v) = words[1].split_once('=').expect("a value");
                d.sysctl(name, v);
            }
            "wait" => d.wait(Duration::from_millis(
                (words[1].parse::<f64>().expect("seconds") * 1000.0) as u64,
            )),
            "ip" if words[1] == "neigh" => {
                neighbours.push((words[3].to_owned(), words[5].to_owned()));
                let f = fib(topology, &case["mtu"], &neighbours);
                d.engine.set_fib(Arc::new(f));
            }
            "send" => diffs.extend(
                check_send(&mut d, step)
                    .into_iter()
                    .map(|x| format!("step {i} {}: {x}", step["text"])),
            ),
            other => diffs.push(format!("step {i}: `{other}` cannot be played")),
        }
    }
    diffs
}

fn check_send(d: &mut Director, step: &Value) -> Vec<String> {
    let mut diffs = Vec::new();
    let frame = unhex(step["frame"].as_str().expect("a frame"));
    let got = d.send(step["if"].as_str().expect("a side"), &frame);
    let want = step["out"].as_array().expect("out");
    match got {
        None => {
            // The kernel's: nothing of ours may have kept it from there.
            let ports = &frame[14 + usize::from(frame[14] & 15) * 4..];
            let dst = Endpoint::new(
                Addr::v4([frame[30], frame[31], frame[32], frame[33]]),
                u16::from_be_bytes([ports[2], ports[3]]),
            );
            let ours = Protocol::from_number(frame[23]).is_some_and(|p| {
                d.snapshot
                    .services
                    .iter()
                    .any(|s| s.key == ServiceKey::address(p, dst))
            });
            if ours {
                diffs.push("passed, though it is of a service".to_owned());
            }
        }
        Some(got) => {
            for (side, tag) in TAGS.iter().enumerate() {
                let w: Vec<&Value> = want.iter().filter(|o| o["if"] == *tag).collect();
                let g: Vec<&Vec<u8>> = got.iter().filter(|o| o.0 == side).map(|o| &o.1).collect();
                let same = w.len() == g.len()
                    && (step["unstable"] == true
                        || w.iter().zip(&g).all(|(w, g)| same_frame(w, g)));
                if !same {
                    let hex = |b: &[u8]| {
                        b.iter()
                            .take(60)
                            .map(|x| format!("{x:02x}"))
                            .collect::<String>()
                    };
                    let w: Vec<_> = w
                        .iter()
                        .map(|w| {
                            format!(
                                "{} {}",
                                w["text"],
                                hex(&unhex(w["frame"].as_str().expect("hex")))
                            )
                        })
                        .collect();
                    diffs.push(format!(
                        "on {tag}: want {w:?}, got {:?}",
                        g.iter().map(|g| hex(g)).collect::<Vec<_>>()
                    ));
                }
            }
        }
    }
    if step["tables_unstable"] != true {
        let list = |v: &Value| -> Vec<String> {
            v.as_array()
                .expect("a list")
                .iter()
                .map(|x| x.as_str().expect("a line").to_owned())
                .collect()
        };
        let (want, got) = (list(&step["conns"]), d.connections());
        if !same_connections(want.clone(), got.clone()) {
            diffs.push(format!("connections: want {want:?}, got {got:?}"));
        }
        let mut want = list(&step["dests"]);
        want.sort();
        let got = d.servers();
        if want != got {
            diffs.push(format!("servers: want {want:?}, got {got:?}"));
        }
    }
    diffs
}

/// Equal but for the bytes that differ between boots.
fn same_frame(want: &Value, got: &[u8]) -> bool {
    let (mut a, mut b) = (
        unhex(want["frame"].as_str().expect("a frame")),
        got.to_vec(),
    );
    if a.len() != b.len() {
        return false;
    }
    for v in want["vary"].as_array().into_iter().flatten() {
        let (at, n) = (
            v[0].as_u64().expect("an offset") as usize,
            v[1].as_u64().expect("a length") as usize,
        );
        a[at..at + n].fill(0);
        b[at..at + n].fill(0);
    }
    a == b
}

/// Equal but for a few seconds, since virtual time runs at its own pace.
fn same_connections(mut want: Vec<String>, mut got: Vec<String>) -> bool {
    want.sort();
    got.sort();
    want.len() == got.len()
        && want.iter().zip(&got).all(|(w, g)| {
            let (w, wt) = w.rsplit_once(' ').expect("seconds");
            let (g, gt) = g.rsplit_once(' ').expect("seconds");
            let seconds = |t: &str| t.parse::<i64>().expect("seconds");
            w == g && (-2..=10).contains(&(seconds(gt) - seconds(wt)))
        })
}

#[test]
fn packets_go_as_in_the_kernel() {
    let book: Value =
        serde_json::from_str(include_str!("../tests/golden/packets.json")).expect("JSON");
    let mut failed = HashMap::new();
    for case in book["cases"].as_array().expect("cases") {
        let name = case["name"].as_str().expect("a name");
        if case["steps"]
            .as_array()
            .expect("steps")
            .iter()
            .any(|s| s["do"].as_str().is_some_and(|d| d.starts_with("iptables")))
        {
            continue;
        }
        let diffs = play(&book["topology"], case);
        if !diffs.is_empty() {
            failed.insert(name, diffs);
        }
    }
    let mut names: Vec<_> = failed.keys().collect();
    names.sort();
    for n in &names {
        println!("{n}");
        for d in failed[**n].iter().take(3) {
            println!("    {d}");
        }
    }
    assert!(names.is_empty(), "{} cases differ: {names:?}", names.len());
}
