//! The runs of golden/sched.json, recorded from the kernel's IPVS, driven through the `Scheduler` trait:
//! each pick and the final counts must be the kernel's. `Director` models the little of the engine that
//! schedulers see: the order of servers, their counts and their thresholds; [`engine`] has the real one.
//! uvs-plugin's tests use both too, with schedulers that come through the ABI.

mod engine;

use std::collections::HashMap;
use std::net::SocketAddrV4;

use serde::Deserialize;
use uvs_core::backend::Backend;
use uvs_core::flow::{Addr, Endpoint, Flow, Protocol};
use uvs_core::scheduler::{FLAG_1, FLAG_2, Scheduler, SchedulerParams};

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

/// Plays the recorded runs of the schedulers that `wanted` names; how many there were. Panics where a pick
/// or a final count differs.
pub(crate) fn play_all(make: Make, wanted: impl Fn(&str) -> bool) -> usize {
    play_each(wanted, |name, run| play(make, name, run))
}

/// As [`play_all`], but through the engine.
pub(crate) fn play_all_through_the_engine(make: Make, wanted: impl Fn(&str) -> bool) -> usize {
    play_each(wanted, |name, run| engine::play(make, name, run))
}

fn play_each(
    wanted: impl Fn(&str) -> bool,
    play: impl Fn(&str, &Run) -> Result<(), String>,
) -> usize {
    let book: Book =
        serde_json::from_str(include_str!("../golden/sched.json")).expect("golden/sched.json");
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
    let counts = director.counts();
    let expected: Vec<String> = run
        .counts
        .iter()
        .map(|line| without_service(line))
        .collect();
    if counts == expected {
        Ok(())
    } else {
        Err(format!("{name}: expected {expected:?}, got {counts:?}"))
    }
}

/// `UDP 10.0.1.100:53 10.0.2.11:53 Route weight 1 active 0 inact 2` from the server's address on.
fn without_service(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let server = words[2].split(':').next().unwrap_or_default();
    format!("{server} {}", words[4..].join(" "))
}

type Tuple = (String, String);

/// What the core does for schedulers: one service, its servers newest first, their load.
struct Director {
    make: Make,
    name: String,
    scheduler: Option<Box<dyn Scheduler>>,
    servers: Vec<Backend>,
    /// By server id: connections at which it gets no more, 0 = no limit.
    upper: HashMap<u64, u32>,
    /// The server of each open connection.
    open: HashMap<Tuple, u64>,
    ids: HashMap<Endpoint, u64>,
}

impl Director {
    fn new(make: Make) -> Self {
        Self {
            make,
            name: String::new(),
            scheduler: None,
            servers: Vec::new(),
            upper: HashMap::new(),
            open: HashMap::new(),
            ids: HashMap::new(),
        }
    }

    fn ipvsadm(&mut self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let option = |name| words.iter().position(|w| *w == name).map(|i| words[i + 1]);
        let number = |name| option(name).map(|n| n.parse().expect("a number"));
        match words[0] {
            "-A" | "-E" => {
                return self.schedule_with(option("-s").expect("-s"), option("-b").unwrap_or(""));
            }
            "-a" | "-e" => {
                let at = server(option("-r").expect("-r"));
                self.set_server(at, number("-w").unwrap_or(1), number("-x").unwrap_or(0));
            }
            "-d" => {
                let at = server(option("-r").expect("-r"));
                self.servers.retain(|b| b.addr != at.addr);
            }
            _ => panic!("unknown command {command}"),
        }
        self.announce();
    }

    /// Another scheduler starts again from the whole set; the same one keeps its state.
    fn schedule_with(&mut self, name: &str, flags: &str) {
        if name == self.name {
            return;
        }
        let flags = flag_bits(flags);
        let params = SchedulerParams {
            flags,
            ..SchedulerParams::default()
        };
        let made = (self.make)(name, &params);
        name.clone_into(&mut self.name);
        self.scheduler = Some(made.unwrap_or_else(|| panic!("no scheduler {name}")));
        self.announce();
    }

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
        self.scheduler
            .as_mut()
            .expect("a service")
            .backends_changed(&self.servers);
    }

    /// A new connection: the address of its server, or `none`.
    fn open(&mut self, (client, vip): (&str, &str), lifetime: &str) -> String {
        let protocol = if lifetime == "udp" {
            Protocol::Udp
        } else {
            Protocol::Tcp
        };
        let flow = Flow::new(protocol, endpoint(client), endpoint(vip));
        let picked = self
            .scheduler
            .as_mut()
            .expect("a service")
            .pick(&flow, &self.servers);
        let Some(server) = picked.map(|i| &mut self.servers[i]) else {
            return "none".to_owned();
        };
        match lifetime {
            "udp" => server.inactive += 1,
            "syn" | "est" => server.active += 1,
            _ => panic!("unknown lifetime {lifetime}"),
        }
        let upper = self.upper[&server.id];
        if upper > 0 && server.active + server.inactive >= upper {
            server.flags |= Backend::OVERLOADED;
        }
        self.open
            .insert((client.to_owned(), vip.to_owned()), server.id);
        server.addr.to_string()
    }

    /// A client's FIN or RST under direct routing: the connection becomes inactive.
    fn close(&mut self, (client, vip): (&str, &str)) {
        let id = self.open.remove(&(client.to_owned(), vip.to_owned()));
        let server = self
            .servers
            .iter_mut()
            .find(|b| Some(b.id) == id)
            .expect("its server");
        server.active -= 1;
        server.inactive += 1;
    }

    fn counts(&self) -> Vec<String> {
        let line = |b: &Backend| {
            format!(
                "{} weight {} active {} inact {}",
                b.addr, b.weight, b.active, b.inactive
            )
        };
        self.servers.iter().map(line).collect()
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
    let at: SocketAddrV4 = text.parse().expect("address:port");
    Endpoint::new(Addr::from(*at.ip()), at.port())
}

/// A real server as ipvsadm takes it; without a port for a service by firewall mark.
fn server(text: &str) -> Endpoint {
    let (addr, port) = text.split_once(':').unwrap_or((text, "0"));
    endpoint(&format!("{addr}:{port}"))
}
