//! The runs of golden/sched.json and sched6.json, recorded from the kernel's IPVS, driven through the `Scheduler`
//! trait: each pick and the final counts must be the kernel's. `Director` models the little of the engine that
//! schedulers see: the order of servers, their counts and their thresholds; [`engine`] has the real one.
//! uvs-plugin's tests use both too, with schedulers that come through the ABI.

mod engine;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use uvs_core::backend::Backend;
use uvs_core::flow::{Addr, Endpoint, Flow, Protocol};
use uvs_core::scheduler::{FLAG_1, FLAG_2, Scheduler, SchedulerParams};

/// The runs over IPv4.
pub(crate) const SCHED: &str = include_str!("../golden/sched.json");
/// The runs over IPv6.
pub(crate) const SCHED6: &str = include_str!("../golden/sched6.json");

#[derive(Deserialize)]
struct Book {
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    scheduler: String,
    flags: String,
    weights: Vec<u32>,
    lifetime: String,
    setup: Vec<String>,
    events: Vec<Vec<Option<String>>>,
    #[serde(rename = "final")]
    counts: Vec<String>,
}

/// Makes a scheduler by its name.
pub(crate) type Make = fn(&str, &SchedulerParams) -> Option<Box<dyn Scheduler>>;

/// Plays a book's runs of the schedulers that `wanted` names; how many there were. Panics where a pick
/// or a final count differs.
pub(crate) fn play_all(book: &str, make: Make, wanted: impl Fn(&str) -> bool) -> usize {
    play_each(book, wanted, |name, run| play(make, name, run))
}

/// As [`play_all`], but through the engine.
pub(crate) fn play_all_through_the_engine(
    book: &str,
    make: Make,
    wanted: impl Fn(&str) -> bool,
) -> usize {
    play_each(book, wanted, |name, run| engine::play(make, name, run))
}

fn play_each(
    book: &str,
    wanted: impl Fn(&str) -> bool,
    play: impl Fn(&str, &Run) -> Result<(), String>,
) -> usize {
    let book: Book = serde_json::from_str(book).expect("a book of runs");
    let runs = book.runs.iter().enumerate();
    let runs = runs.filter(|(_, run)| wanted(&run.scheduler));
    let name = |(i, run): (usize, &Run)| {
        format!(
            "run {i} {} {:?} {:?} {}",
            run.scheduler, run.flags, run.weights, run.lifetime
        )
    };
    let results: Vec<_> = runs.map(|(i, run)| play(&name((i, run)), run)).collect();
    let failures: Vec<&str> = results
        .iter()
        .filter_map(|result| result.as_ref().err().map(String::as_str))
        .collect();
    assert!(
        failures.is_empty(),
        "{} runs differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
    results.len()
}

/// Plays one run; the first difference as text.
fn play(make: Make, name: &str, run: &Run) -> Result<(), String> {
    let mut director = Director::new(make);
    run.setup
        .iter()
        .for_each(|command| director.ipvsadm(command));
    for (n, event) in run.events.iter().enumerate() {
        let event: Vec<&str> = event
            .iter()
            .map(|word| word.as_deref().unwrap_or("none"))
            .collect();
        match event[..] {
            ["ipvsadm", command] => director.ipvsadm(command),
            ["fin" | "rst", client, vip] => director.close((client, vip)),
            ["new", client, vip, expected] => {
                let got = director.open((client, vip), &run.lifetime);
                if got != expected {
                    return Err(format!(
                        "{name}: event {n} {client}: expected {expected}, got {got}"
                    ));
                }
            }
            _ => panic!("{name}: unknown event {event:?}"),
        }
    }
    compare_counts(name, run, director.counts())
}

/// Compares the final counts, each service's servers in their order; the services are in no particular one.
fn compare_counts(name: &str, run: &Run, counts: Vec<String>) -> Result<(), String> {
    let expected = run.counts.iter().map(|line| plain(line)).collect();
    let by_service = |mut lines: Vec<String>| {
        lines.sort_by_key(|line| line.split(" -> ").next().map(str::to_owned));
        lines
    };
    let (expected, counts) = (by_service(expected), by_service(counts));
    if counts == expected {
        return Ok(());
    }
    Err(format!("{name}: expected {expected:?}, got {counts:?}"))
}

/// `UDP 10.0.1.100:53 10.0.2.11:53 Route weight 1 active 0 inact 2` without the server's port and method.
fn plain(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let server = server(words[2]).addr;
    format!(
        "{} {} -> {server} {}",
        words[0],
        words[1],
        words[4..].join(" ")
    )
}

/// A service as the recording's counts name it: `UDP 10.0.1.100:53`, `FWM 9`.
fn service(words: &[&str]) -> String {
    let name = match words[1] {
        "-t" => "TCP",
        "-u" => "UDP",
        "-f" => "FWM",
        other => panic!("unknown service {other}"),
    };
    format!("{name} {}", words[2])
}

/// The service of a connection: its own, else the firewall mark's, for which all are sent.
fn service_of(vip: &str, lifetime: &str) -> [String; 2] {
    let protocol = if lifetime == "udp" { "UDP" } else { "TCP" };
    [format!("{protocol} {vip}"), "FWM 9".to_owned()]
}

type Tuple = (String, String);

/// What the core does for schedulers: services with their servers, and those's load.
struct Director {
    make: Make,
    services: HashMap<String, Service>,
    /// The service and the server of each open connection.
    open: HashMap<Tuple, (String, u64)>,
}

/// A service and its servers, newest first.
struct Service {
    name: String,
    scheduler: Box<dyn Scheduler>,
    servers: Vec<Backend>,
    /// By server id: connections at which it gets no more, 0 = no limit.
    upper: HashMap<u64, u32>,
    ids: HashMap<Endpoint, u64>,
}

impl Director {
    fn new(make: Make) -> Self {
        Self {
            make,
            services: HashMap::new(),
            open: HashMap::new(),
        }
    }

    fn ipvsadm(&mut self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let option = |name| words.iter().position(|w| *w == name).map(|i| words[i + 1]);
        let number = |name| option(name).map(|n| n.parse().expect("a number"));
        let key = service(&words);
        if let "-A" | "-E" = words[0] {
            let (scheduler, flags) = (option("-s").expect("-s"), option("-b").unwrap_or(""));
            return self.schedule_with(key, scheduler, flags);
        }
        let service = self.services.get_mut(&key).expect("a service");
        let at = server(option("-r").expect("-r"));
        match words[0] {
            "-a" | "-e" => {
                service.set_server(at, number("-w").unwrap_or(1), number("-x").unwrap_or(0));
            }
            "-d" => service.servers.retain(|b| b.addr != at.addr),
            _ => panic!("unknown command {command}"),
        }
        service.announce();
    }

    /// Another scheduler starts again from the whole set; the same one keeps its state.
    fn schedule_with(&mut self, key: String, name: &str, flags: &str) {
        let params = SchedulerParams {
            flags: flag_bits(flags),
            ..SchedulerParams::default()
        };
        let known = self.services.get_mut(&key);
        if known.as_ref().is_some_and(|service| service.name == name) {
            return;
        }
        let made = (self.make)(name, &params);
        let scheduler = made.unwrap_or_else(|| panic!("no scheduler {name}"));
        match known {
            Some(service) => {
                name.clone_into(&mut service.name);
                service.scheduler = scheduler;
                service.announce();
            }
            None => {
                let service = Service {
                    name: name.to_owned(),
                    scheduler,
                    servers: Vec::new(),
                    upper: HashMap::new(),
                    ids: HashMap::new(),
                };
                self.services.entry(key).or_insert(service).announce();
            }
        }
    }

    /// A new connection: the address of its server, or `none`.
    fn open(&mut self, (client, vip): (&str, &str), lifetime: &str) -> String {
        let protocol = if lifetime == "udp" {
            Protocol::Udp
        } else {
            Protocol::Tcp
        };
        let flow = Flow::new(protocol, endpoint(client), endpoint(vip));
        let keys = service_of(vip, lifetime);
        let key = keys.into_iter().find(|key| self.services.contains_key(key));
        let key = key.expect("a service");
        let service = self.services.get_mut(&key).expect("a service");
        let picked = service.scheduler.pick(&flow, &service.servers);
        let Some(server) = picked.map(|i| &mut service.servers[i]) else {
            return "none".to_owned();
        };
        match lifetime {
            "udp" => server.inactive += 1,
            "syn" | "est" => server.active += 1,
            _ => panic!("unknown lifetime {lifetime}"),
        }
        let upper = service.upper[&server.id];
        if upper > 0 && server.active + server.inactive >= upper {
            server.flags |= Backend::OVERLOADED;
        }
        self.open
            .insert((client.to_owned(), vip.to_owned()), (key, server.id));
        server.addr.to_string()
    }

    /// A client's FIN or RST under direct routing: the connection becomes inactive.
    fn close(&mut self, (client, vip): (&str, &str)) {
        let tuple = (client.to_owned(), vip.to_owned());
        let (key, id) = self.open.remove(&tuple).expect("a connection");
        let service = self.services.get_mut(&key).expect("its service");
        let mut servers = service.servers.iter_mut();
        let server = servers.find(|b| b.id == id).expect("its server");
        server.active -= 1;
        server.inactive += 1;
    }

    fn counts(&self) -> Vec<String> {
        let line = |key: &str, b: &Backend| {
            format!(
                "{key} -> {} weight {} active {} inact {}",
                b.addr, b.weight, b.active, b.inactive
            )
        };
        let services = self.services.iter();
        services
            .flat_map(|(key, service)| service.servers.iter().map(|b| line(key, b)))
            .collect()
    }
}

impl Service {
    fn set_server(&mut self, at: Endpoint, weight: u32, upper: u32) {
        let next = self.ids.len() as u64 + 1;
        let id = *self.ids.entry(at).or_insert(next);
        self.upper.insert(id, upper);
        match self.servers.iter_mut().find(|b| b.id == id) {
            Some(server) => server.weight = weight,
            None => {
                let server = Backend {
                    addr: at.addr,
                    id,
                    weight,
                    active: 0,
                    inactive: 0,
                    flags: 0,
                    port: at.port,
                    reserved: 0,
                    handshake: 0,
                };
                self.servers.insert(0, server);
            }
        }
    }

    fn announce(&mut self) {
        self.scheduler.backends_changed(&self.servers);
    }
}

/// The bits of ipvsadm's `-b`.
fn flag_bits(flags: &str) -> u32 {
    let bit = |flag: &str| match flag {
        "" => 0,
        "sh-fallback" | "mh-fallback" => FLAG_1,
        "sh-port" | "mh-port" => FLAG_2,
        _ => panic!("unknown flag {flag}"),
    };
    flags.split(',').map(bit).sum()
}

fn endpoint(text: &str) -> Endpoint {
    let at: SocketAddr = text.parse().expect("address:port");
    Endpoint::new(Addr::from(at.ip()), at.port())
}

/// A real server as ipvsadm takes it; without a port for a service by firewall mark.
fn server(text: &str) -> Endpoint {
    match text.parse::<IpAddr>() {
        Ok(addr) => Endpoint::new(Addr::from(addr), 0),
        Err(_) => endpoint(text),
    }
}
