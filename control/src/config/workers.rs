//! How many workers there are, on which CPUs, and how they wait.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use uvs_core::crew::MOST;

use super::fields::{Fields, Value};

/// Numbers of CPUs: as many as Linux knows at most (NR_CPUS).
const CPUS: RangeInclusive<i64> = 0..=8191;
/// Microseconds for which a worker looks for frames before it sleeps.
const BUSY_POLL: RangeInclusive<i64> = 0..=1_000_000;

/// How many workers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerCount {
    /// One for each CPU that the daemon may run on.
    Auto,
    /// So many: 1 to 64.
    Fixed(u32),
}

impl Default for WorkerCount {
    fn default() -> Self {
        Self::Fixed(1)
    }
}

impl WorkerCount {
    /// The number.
    pub fn number(self) -> u32 {
        match self {
            Self::Fixed(count) => count,
            Self::Auto => {
                let cpus = thread::available_parallelism().map_or(1, usize::from);
                u32::try_from(cpus).map_or(MOST, |n| n.clamp(1, MOST))
            }
        }
    }
}

/// As the configuration and the command line write it.
impl fmt::Display for WorkerCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(count) => write!(f, "{count}"),
        }
    }
}

impl FromStr for WorkerCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let count = text.parse().ok().filter(|n| (1..=MOST).contains(n));
        let help = || format!("use a whole number from 1 to {MOST}, or auto");
        count.map(Self::Fixed).ok_or_else(help)
    }
}

/// The workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workers {
    /// How many, where the configuration says it.
    pub count: Option<WorkerCount>,
    /// The CPUs that they run on, one after the other and round again; empty = where the kernel puts them.
    pub cpus: Vec<u32>,
    /// How long each looks for frames before it sleeps.
    pub busy_poll: Duration,
}

/// Reads the keys, where they are there.
pub(super) fn read(top: &Fields<'_>) -> Workers {
    let cpus = top.get("worker_cpus").map(|value| value.items());
    let cpus = cpus.into_iter().flatten();
    Workers {
        count: top.get("workers").and_then(|value| count(&value)),
        cpus: cpus.filter_map(|value| value.integer(CPUS)).collect(),
        busy_poll: Duration::from_micros(top.integer("busy_poll", BUSY_POLL).unwrap_or(0)),
    }
}

fn count(value: &Value<'_>) -> Option<WorkerCount> {
    let text = value.number_or_string()?;
    let count = text.parse();
    count
        .map_err(|help: String| value.refuse(format!("{text} is no number of workers"), help))
        .ok()
}
