//! What `uvs plugin check` tries: the conformance suite, and that memory does not grow.
//!
//! It runs the plugin in the calling process, which a plugin written in C can crash or block; the command
//! therefore calls it in a process of its own.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant as Clock};

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::random::Random;
use uvs_core::scheduler::{Scheduler, SchedulerParams};
use uvs_core::testing::conformance::PARTS;
use uvs_core::testing::servers::{backend, flow};
use uvs_core::time::Instant;

use crate::fault::Fault;
use crate::host::{Instance, Plugin};

/// Servers of the part that measures.
const SERVERS: u64 = 16;
/// Clients it has, so that what a scheduler remembers of them is complete after the first round.
const CLIENTS: u64 = 1000;
/// Growth below this is taken for the allocator's own (it takes and gives back whole pages).
const SLACK_KIB: u64 = 256;
/// A part ends after this time, however much it has done.
const LIMIT: Duration = Duration::from_secs(60);

/// How a part ended.
pub type Outcome = Result<String, String>;

/// A part that measures memory, and says how far it is.
type Measured = fn(&Plugin, &mut dyn FnMut(u64)) -> Outcome;

/// Who is told how the check goes on.
pub trait Listener {
    /// A part begins.
    fn begin(&mut self, part: &str);
    /// So many percent of it are done; told of long parts, often.
    fn progress(&mut self, percent: u64);
    /// It has ended: with a remark, or with what is wrong.
    fn end(&mut self, outcome: Outcome);
}

/// Runs all parts. Returns whether the plugin conforms.
pub fn run(plugin: &Plugin, listener: &mut dyn Listener) -> bool {
    let mut conforms = true;
    let mut tell = |listener: &mut dyn Listener, outcome: Outcome| {
        conforms &= outcome.is_ok();
        listener.end(outcome);
    };
    for part in PARTS {
        listener.begin(part.name);
        let trouble = Trouble::default();
        let make = || trouble.watch(plugin);
        let result = part.check(plugin.is_deterministic(), &make);
        // What the plugin did comes before what followed from it.
        let result = match trouble.first() {
            Some(what) => Err(what),
            None => result.map_err(|failure| failure.what),
        };
        tell(listener, result.map(|()| String::new()));
    }
    let measured: [(&str, Measured); 3] = [
        ("a million picks", picks),
        ("ten thousand changes of the set", changes),
        ("ten thousand instances", instances),
    ];
    for (name, part) in measured {
        listener.begin(name);
        let outcome = part(plugin, &mut |percent| listener.progress(percent));
        tell(listener, outcome);
    }
    conforms
}

/// The first thing a plugin did that is none of the suite's business: a panic, a failed function.
#[derive(Clone, Default)]
struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    fn watch(&self, plugin: &Plugin) -> Box<dyn Scheduler> {
        let made = plugin.instance(&SchedulerParams::default());
        Box::new(Watched {
            instance: made.map_err(|fault| self.note(fault)).ok(),
            trouble: self.clone(),
        })
    }

    fn note(&self, fault: Fault) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = match fault {
            Fault::Panicked => "it panicked (its message is below)".to_owned(),
            Fault::WrongIndex { index, .. } => format!(
                "pick returned {index}; it must return a server's index, or -1 (UVS_NONE) to refuse"
            ),
            Fault::Failed {
                function: "create", ..
            } => "create returned NULL: it must return a state (or leave create out)".to_owned(),
            other => other.to_string(),
        };
        first.get_or_insert(text);
    }

    fn first(&self) -> Option<String> {
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.clone()
    }
}

/// An instance whose faults are noted instead of counted.
struct Watched {
    instance: Option<Instance>,
    trouble: Trouble,
}

impl Scheduler for Watched {
    fn backends_changed(&mut self, backends: &[Backend]) {
        let told = self
            .instance
            .as_mut()
            .map(|i| i.try_backends_changed(backends));
        if let Some(Err(fault)) = told {
            self.trouble.note(fault);
        }
    }

    fn pick(&mut self, flow: &Flow, backends: &[Backend]) -> Option<usize> {
        match self.instance.as_mut()?.try_pick(flow, backends) {
            Ok(picked) => picked,
            Err(Fault::Forbidden { index }) => Some(index),
            Err(Fault::WrongIndex {
                index: index @ 0.., ..
            }) => usize::try_from(index).ok(),
            Err(fault) => {
                self.trouble.note(fault);
                None
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        let told = self.instance.as_mut().map(|i| i.try_tick(now));
        if let Some(Err(fault)) = told {
            self.trouble.note(fault);
        }
    }
}

fn picks(plugin: &Plugin, progress: &mut dyn FnMut(u64)) -> Outcome {
    const PICKS: u64 = 1_000_000;
    let mut instance = instance(plugin)?;
    let mut set = servers();
    instance.try_backends_changed(&set).map_err(said)?;
    let mut work = |n: u64| {
        if n.is_multiple_of(10_000) {
            instance
                .try_tick(Instant::from_secs(n / 100))
                .map_err(said)?;
        }
        let picked = instance.try_pick(&flow(n % CLIENTS), &set).map_err(said)?;
        let server = picked.ok_or("it refused although there are servers")?;
        set[server].active = (set[server].active + 1) % 1000;
        Ok(())
    };
    let warm_up = repeat(PICKS / 10, &mut |_| (), &mut work)?;
    let grown = growth(|| repeat(PICKS, progress, &mut work))?;
    let per_pick = (warm_up + grown.time).as_nanos() / u128::from(PICKS + PICKS / 10);
    grown.judge("picks")?;
    Ok(format!("{per_pick} ns a pick"))
}

fn changes(plugin: &Plugin, progress: &mut dyn FnMut(u64)) -> Outcome {
    const CHANGES: u64 = 10_000;
    let mut instance = instance(plugin)?;
    let mut set = servers();
    let mut next_id = SERVERS + 1;
    let mut random = Random::new(5);
    let mut work = |n: u64| {
        let at = random.index(set.len());
        // After every third change the set has all its servers again.
        match n % 3 {
            0 => set[at].weight = random.below_u32(100),
            1 => drop(set.remove(at)),
            _ => {
                set.insert(0, backend(next_id, 1 + random.below_u32(100)));
                next_id += 1;
            }
        }
        instance.try_backends_changed(&set).map_err(said)?;
        instance.try_pick(&flow(n % CLIENTS), &set).map_err(said)?;
        Ok(())
    };
    repeat(CHANGES / 10, &mut |_| (), &mut work)?;
    growth(|| repeat(CHANGES, progress, &mut work))?.judge("changes of the set")?;
    Ok(String::new())
}

fn instances(plugin: &Plugin, progress: &mut dyn FnMut(u64)) -> Outcome {
    const INSTANCES: u64 = 10_000;
    let set = servers();
    let mut work = |_| {
        let mut instance = instance(plugin)?;
        instance.try_backends_changed(&set).map_err(said)
    };
    repeat(INSTANCES / 10, &mut |_| (), &mut work)?;
    growth(|| repeat(INSTANCES, progress, &mut work))?.judge("instances made and destroyed")?;
    Ok(String::new())
}

fn instance(plugin: &Plugin) -> Result<Instance, String> {
    plugin.instance(&SchedulerParams::default()).map_err(said)
}

fn servers() -> Vec<Backend> {
    let weight = |id: u64| 1 + (id % 5) as u32;
    (1..=SERVERS).map(|id| backend(id, weight(id))).collect()
}

fn said(fault: Fault) -> String {
    fault.to_string()
}

/// Does `work` so many times, or until the time is up; how long it took.
fn repeat(
    times: u64,
    progress: &mut dyn FnMut(u64),
    work: &mut dyn FnMut(u64) -> Result<(), String>,
) -> Result<Duration, String> {
    let start = Clock::now();
    for n in 0..times {
        work(n)?;
        if !n.is_multiple_of(256) {
            continue;
        }
        progress(n * 100 / times);
        if start.elapsed() > LIMIT {
            let each = start.elapsed().as_micros() / u128::from(n + 1);
            return Err(format!(
                "only {n} of {times} were done in {} s: each takes {each} µs",
                LIMIT.as_secs()
            ));
        }
    }
    Ok(start.elapsed())
}

struct Growth {
    kib: u64,
    time: Duration,
}

impl Growth {
    fn judge(&self, what: &str) -> Result<(), String> {
        if self.kib <= SLACK_KIB {
            return Ok(());
        }
        Err(format!(
            "memory grew by {} KiB over these {what}: something is allocated and never freed",
            self.kib
        ))
    }
}

/// By how much the process's memory grows while `work` runs.
fn growth(work: impl FnOnce() -> Result<Duration, String>) -> Result<Growth, String> {
    let before = resident_kib()?;
    let time = work()?;
    let kib = resident_kib()?.saturating_sub(before);
    Ok(Growth { kib, time })
}

/// Resident anonymous memory: what every allocator's growth shows in, whatever language it serves.
fn resident_kib() -> Result<u64, String> {
    let status =
        fs::read_to_string("/proc/self/status").map_err(|e| format!("/proc/self/status: {e}"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.ok_or_else(|| "/proc/self/status has no RssAnon".to_owned())
}
