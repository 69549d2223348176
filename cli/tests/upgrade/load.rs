//! Traffic throughout: new connections and downloads, over ten upgrades in a row.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use uvs_lab::traffic::Download;
use uvs_lab::{Lab, Mode, Options};

use crate::heir::{Heir, pid};
use crate::serving;
use crate::stand::{PATIENCE, lab, must_serve};

/// In a row.
const UPGRADES: usize = 10;
/// Bytes of each download, and how many there are.
const BYTES: u64 = 3 << 20;
const DOWNLOADS: usize = 40;
/// Threads that connect, one connection after the other, and their pause between two.
const CLIENTS: usize = 8;
const PAUSE: Duration = Duration::from_millis(5);

/// Every counter of `/metrics` with its labels, but for those of the process.
fn counters(lab: &Lab) -> BTreeMap<String, f64> {
    let line = "curl -s -S -f http://127.0.0.1:9650/metrics";
    let text = lab.director.run(line).expect("/metrics answers");
    let is_counter = |name: &str| {
        name.split('{')
            .next()
            .is_some_and(|n| n.ends_with("_total") && !n.starts_with("process_"))
    };
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let all = samples.filter_map(|line| line.rsplit_once(' '));
    all.filter(|(name, _)| is_counter(name))
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
        .collect()
}

fn must_not_fall(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) {
    assert!(before.len() > 50, "{before:?}");
    for (name, value) in before {
        let now = after.get(name);
        assert!(
            now.is_some_and(|now| now >= value),
            "{name}: {value}, {now:?}"
        );
    }
}

/// Ends the load, also where an assertion fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What clients met.
#[derive(Debug, Default)]
struct Met {
    requests: u32,
    failures: Vec<String>,
    longest: Duration,
}

/// One request on a connection of its own.
fn request(lab: &Lab) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&lab.plan.vip.into(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.contains("200 OK") {
        true => Ok(()),
        false => Err(std::io::Error::other(format!("answered {answer:?}"))),
    }
}

/// Requests, one after the other, until it is over.
fn load(lab: &Lab, is_over: &AtomicBool) -> Met {
    let requests = || {
        let mut met = Met::default();
        while !is_over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            if let Err(e) = request(lab) {
                met.failures.push(e.to_string());
            }
            met.requests += 1;
            met.longest = met.longest.max(begun.elapsed());
            thread::sleep(PAUSE);
        }
        met
    };
    lab.client.enter(requests).expect("the client's namespace")
}

fn nobody_notices(mode: Mode, words: &str) {
    let (lab, _) = lab(mode, Options::default());
    let mut daemon = serving(&lab, words);
    let content = lab.content("big", BYTES).expect("content");
    let url = lab.plan.url("/big?rate=200k");
    let download = |n: usize| {
        let scratch = lab.dir().join(format!("down{n}"));
        Download::start(&lab.client, &url, &scratch).expect("curl runs")
    };
    let downloads: Vec<_> = (0..DOWNLOADS).map(download).collect();
    let is_over = AtomicBool::new(false);
    let mut before = counters(&lab);
    let mut said = Vec::new();
    let mut heir = None;
    let met = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| load(&lab, &is_over)))
            .collect();
        let over = Over(&is_over);
        for _ in 0..UPGRADES {
            thread::sleep(Duration::from_millis(300));
            let upgraded = daemon.uvs("upgrade");
            let upgraded = upgraded.unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()));
            said.push(upgraded.stdout.trim().to_owned());
            if let Some(before) = heir.replace(Heir::of(pid(&daemon))) {
                before.ended();
            }
            let after = counters(&lab);
            must_not_fall(&before, &after);
            before = after;
        }
        drop(over);
        let met = clients.into_iter().map(|c| c.join().expect("no panic"));
        met.collect::<Vec<_>>()
    });
    for download in downloads {
        let received = download.finish().expect("it ends");
        received.must_equal(&content).expect("every byte");
    }
    assert!(!daemon.process().is_running(), "the first has ended");
    let failures: Vec<_> = met.iter().flat_map(|met| &met.failures).collect();
    let requests: u32 = met.iter().map(|met| met.requests).sum();
    let longest = met.iter().map(|met| met.longest).max();
    println!("{requests} requests over {UPGRADES} upgrades, the longest took {longest:?}");
    said.iter().for_each(|line| println!("{line}"));
    assert!(failures.is_empty(), "{failures:?}");
    assert!(requests > 100, "{requests}");
    must_serve(&lab, &daemon);
    println!("it ended within {:?}", heir.expect("upgraded").stop());
}

#[test]
fn nobody_notices_ten_upgrades_in_a_row_with_nat() {
    nobody_notices(Mode::Nat, "--hook off");
}

#[test]
fn nobody_notices_as_the_kernel_forwards_what_it_may() {
    nobody_notices(Mode::Nat, "--hook auto");
}

#[test]
fn nobody_notices_with_full_nat() {
    nobody_notices(Mode::FullNat, "--hook auto");
}
