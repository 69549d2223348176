//! Records what the dashboards in `docs/` are drawn from: seven minutes of a director in each mode with clients,
//! during which weights change, real servers fail, the configuration is read again, and for a moment nobody takes
//! connections. Two of the directors tell each other of theirs.
//!
//! `record UVS DIRECTORY`, as root: `UVS` is the program to run, and `DIRECTORY` gets Prometheus's database and
//! `run.json`, which says from when to when. `exporter/grafana/draw` draws from it.

#[path = "../../tests/metrics/pair.rs"]
mod pair;
#[path = "../../tests/metrics/prometheus.rs"]
mod prometheus;
#[path = "../../tests/metrics/relay.rs"]
mod relay;
mod story;
mod traffic;

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs, thread};

use prometheus::{PROGRAM, Prometheus, relays};
use uvs_lab::{Lab, Mode, Options, tools};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [uvs, directory] = words.as_slice() else {
        return Err("usage: record UVS DIRECTORY".into());
    };
    tools::find(PROGRAM)?;
    let (uvs, directory) = (fs::canonicalize(uvs)?, Path::new(directory));
    fs::create_dir_all(directory)?;
    let mut labs = Vec::new();
    for mode in Mode::ALL {
        let mut lab = Lab::build(mode, Options::default())?;
        // NAT's and FULLNAT's plans have the same VIP; a site's directors would not.
        if mode == Mode::FullNat {
            lab.plan.vip.set_port(8443);
        }
        labs.push(lab);
    }
    let of = |mode| labs.iter().find(|lab| lab.plan.mode == mode);
    let told = [Mode::Dr, Mode::Ipip].map(|mode| of(mode).expect("a lab"));
    let files = pair::join(told, story::WEIGHTS);
    let sites = labs.iter().map(|lab| {
        let at = told.iter().position(|told| told.plan.mode == lab.plan.mode);
        story::open(lab, &uvs, at.map(|at| files[at].as_path()))
    });
    let sites: Vec<_> = sites.collect();
    let prometheus = Prometheus::start(&labs, &directory.join("tsdb"));
    let from = now()?;
    let ended = AtomicBool::new(false);
    let to = thread::scope(|scope| {
        let _relays = relays(scope, &labs);
        for lab in &labs {
            traffic::start(scope, lab, &ended);
        }
        story::tell(&sites);
        let reached = prometheus.query("up == 1").len();
        assert_eq!(
            reached,
            labs.len(),
            "Prometheus has not reached all directors"
        );
        let to = now();
        ended.store(true, Ordering::Relaxed);
        to
    })?;
    let run = format!("{{\"from\": {from}, \"to\": {to}}}\n");
    fs::write(directory.join("run.json"), &run)?;
    prometheus.stop();
    sites.into_iter().try_for_each(story::Site::close)?;
    println!("{} has {run}", directory.display());
    Ok(())
}

/// Seconds since 1970.
fn now() -> Result<u64, Box<dyn Error>> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}
