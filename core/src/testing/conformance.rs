//! The conformance suite that every scheduler, built-in or plugin, must pass.
//!
//! [`check`] drives two instances through the same history (empty, growing, shrinking, unavailable,
//! extreme and random sets) and reports the first broken rule of each part in words a plugin's author
//! can act on. It calls a scheduler as the engine does: a set is announced before it is picked from, and
//! each announcement is one change.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::backend::Backend;
use crate::flow::Flow;
use crate::random::Random;
use crate::scheduler::{Fork, Scheduler};
use crate::testing::servers::{backend, flow};
use crate::time::Instant;

/// Operations of the random part.
const OPERATIONS: u64 = 10_000;
/// The largest set of the growing and the random part.
const MAX_SERVERS: usize = 48;
/// The highest weight there is.
const MAX_WEIGHT: u32 = i32::MAX as u32;

/// A rule of the contract that a scheduler broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The part of the suite: `growing set`, `random operations`, …
    pub part: &'static str,
    /// What happened and what the contract asks for.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.what)
    }
}

/// One part of the suite.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// What it tries.
    pub name: &'static str,
    run: fn(&mut Trial) -> Result<(), String>,
}

/// The suite.
pub const PARTS: &[Part] = &[
    part("empty set", empty_set),
    part("no server available", none_available),
    part("growing and shrinking set", grow_and_shrink),
    part("extreme weights and loads", extremes),
    part("random operations", random_operations),
];

const fn part(name: &'static str, run: fn(&mut Trial) -> Result<(), String>) -> Part {
    Part { name, run }
}

/// Runs the suite on instances that `make` makes; no failures = the scheduler conforms.
///
/// With `deterministic`, two instances with the same history must pick the same servers.
pub fn check(deterministic: bool, make: &dyn Fn() -> Box<dyn Scheduler>) -> Vec<Failure> {
    let broken = |part: &Part| part.check(deterministic, make).err();
    PARTS.iter().filter_map(broken).collect()
}

impl Part {
    /// Runs this part alone.
    ///
    /// # Errors
    /// The first rule that was broken.
    pub fn check(
        &self,
        deterministic: bool,
        make: &dyn Fn() -> Box<dyn Scheduler>,
    ) -> Result<(), Failure> {
        let trial = || (self.run)(&mut Trial::new(deterministic, make));
        let result = catch_unwind(AssertUnwindSafe(trial));
        let result = result.unwrap_or_else(|panic| Err(panic_text(&*panic)));
        result.map_err(|what| Failure {
            part: self.name,
            what,
        })
    }
}

/// Two instances with one history, and the set they were last told of.
struct Trial {
    subject: Box<dyn Scheduler>,
    twin: Option<Box<dyn Scheduler>>,
    set: Vec<Backend>,
    random: Random,
    now: Instant,
    next_id: u64,
    picks: u64,
}

impl Trial {
    fn new(deterministic: bool, make: &dyn Fn() -> Box<dyn Scheduler>) -> Self {
        let mut trial = Self {
            subject: make(),
            twin: deterministic.then(make),
            set: Vec::new(),
            random: Random::new(4),
            now: Instant::ZERO,
            next_id: 1,
            picks: 0,
        };
        trial.announce();
        trial
    }

    fn announce(&mut self) {
        self.subject.backends_changed(&self.set);
        if let Some(twin) = &mut self.twin {
            twin.backends_changed(&self.set);
        }
    }

    fn tick(&mut self) {
        self.now = Instant(self.now.0 + 60_000_000_000);
        self.subject.tick(self.now);
        if let Some(twin) = &mut self.twin {
            twin.tick(self.now);
        }
    }

    fn add(&mut self, weight: u32) {
        self.set.insert(0, backend(self.next_id, weight));
        self.next_id += 1;
        self.announce();
    }

    fn remove(&mut self, index: usize) {
        self.set.remove(index);
        self.announce();
    }

    /// One pick, checked against every rule that holds for a single pick.
    fn pick(&mut self) -> Result<Option<usize>, String> {
        let flow = flow(self.random.below(1_000));
        let predicted = self.dry_run(&flow);
        let picked = self.subject.pick(&flow, &self.set);
        if predicted.is_some_and(|predicted| predicted != picked) {
            return Err(format!(
                "its exact copy (`fork`) picked {predicted:?} and it itself {picked:?}; both must pick the same"
            ));
        }
        if let Some(i) = picked {
            let n = self.set.len();
            let b = self.set.get(i).ok_or_else(|| {
                format!("picked index {i} of {n} servers; an index must be below their number")
            })?;
            if b.weight == 0 {
                return Err(format!(
                    "picked server {i}, whose weight is 0; it must get nothing new"
                ));
            }
            if !b.is_available() {
                return Err(format!(
                    "picked server {i}, which is overloaded; it must get nothing new"
                ));
            }
        }
        let second = self.twin.as_mut().map(|twin| twin.pick(&flow, &self.set));
        match second {
            Some(other) if other != picked => Err(format!(
                "two instances with the same seed and history picked {picked:?} and {other:?} for {flow:?}"
            )),
            _ => Ok(picked),
        }
    }

    /// What an exact copy would pick, where there is one, now and then. That the copy's pick is without
    /// consequence is seen by the twin.
    fn dry_run(&mut self, flow: &Flow) -> Option<Option<usize>> {
        const ONE_IN: u64 = 16;
        self.picks += 1;
        if !self.picks.is_multiple_of(ONE_IN) {
            return None;
        }
        match self.subject.fork() {
            Fork::Exact(mut copy) => Some(copy.pick(flow, &self.set)),
            Fork::Example(_) | Fork::None => None,
        }
    }

    fn pick_many(&mut self, picks: usize) -> Result<(), String> {
        (0..picks).try_for_each(|_| self.pick().map(drop))
    }

    fn must_refuse(&mut self, why: &str) -> Result<(), String> {
        match self.pick()? {
            None => Ok(()),
            Some(i) => Err(format!(
                "picked server {i} although {why}; it must return none"
            )),
        }
    }
}

fn empty_set(trial: &mut Trial) -> Result<(), String> {
    trial.must_refuse("there is no server")?;
    trial.add(1);
    trial.pick_many(3)?;
    trial.remove(0);
    trial.must_refuse("the last server was removed")
}

fn none_available(trial: &mut Trial) -> Result<(), String> {
    for n in 1..=8 {
        trial.add(n);
        trial.pick_many(3)?;
        let saved = trial.set.clone();
        trial
            .set
            .iter_mut()
            .for_each(|b| b.flags = Backend::OVERLOADED);
        trial.must_refuse("every server is overloaded")?;
        trial.set = saved;
        trial.pick_many(3)?;
    }
    for i in 0..8 {
        trial.set[i].weight = 0;
        trial.announce();
        trial.pick_many(3)?;
    }
    trial.must_refuse("every server has weight 0")
}

fn grow_and_shrink(trial: &mut Trial) -> Result<(), String> {
    for weight in (0..5).cycle().take(MAX_SERVERS) {
        trial.add(weight);
        trial.pick_many(8)?;
    }
    while !trial.set.is_empty() {
        let i = trial.random.index(trial.set.len());
        trial.remove(i);
        trial.pick_many(8)?;
    }
    trial.must_refuse("all servers were removed")
}

fn extremes(trial: &mut Trial) -> Result<(), String> {
    for weight in [1, MAX_WEIGHT, 2, MAX_WEIGHT - 1, 0] {
        trial.add(weight);
        for load in [0, 1, u32::MAX] {
            for i in 0..trial.set.len() {
                trial.set[i].active = load;
                trial.set[i].inactive = load;
                trial.set[i].handshake = load;
                trial.pick_many(8)?;
            }
        }
    }
    Ok(())
}

fn random_operations(trial: &mut Trial) -> Result<(), String> {
    for _ in 0..OPERATIONS {
        random_operation(trial)?;
    }
    Ok(())
}

fn random_operation(trial: &mut Trial) -> Result<(), String> {
    let n = trial.set.len();
    let operation = trial.random.below(100);
    let i = trial.random.index(n);
    let weight = random_weight(&mut trial.random);
    match operation {
        0..4 if trial.set.len() < MAX_SERVERS => trial.add(weight),
        4..7 if n > 0 => trial.remove(i),
        7..12 if n > 0 => {
            trial.set[i].weight = weight;
            trial.announce();
        }
        12..16 if n > 0 => trial.set[i].flags ^= Backend::OVERLOADED,
        16..40 if n > 0 => {
            trial.set[i].active = trial.random.below_u32(1 << 12);
            trial.set[i].inactive = trial.random.below_u32(1 << 20);
            trial.set[i].handshake = trial.random.below_u32(1 << 20);
        }
        40 => trial.tick(),
        _ => trial.pick().map(drop)?,
    }
    Ok(())
}

fn random_weight(random: &mut Random) -> u32 {
    match random.below(10) {
        0..2 => 0,
        2 => MAX_WEIGHT - random.below_u32(3),
        _ => random.below_u32(200),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("no message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scheduler that is nothing but the given `pick`.
    struct Picks(fn(&[Backend]) -> Option<usize>);

    impl Scheduler for Picks {
        fn pick(&mut self, _flow: &Flow, backends: &[Backend]) -> Option<usize> {
            (self.0)(backends)
        }
    }

    fn failures(pick: fn(&[Backend]) -> Option<usize>) -> String {
        let failures = check(true, &|| Box::new(Picks(pick)));
        failures.iter().map(|f| format!("{f}\n")).collect()
    }

    #[test]
    fn the_first_available_server_conforms() {
        assert_eq!(
            failures(|set| set.iter().position(Backend::is_available)),
            ""
        );
    }

    #[test]
    fn each_broken_rule_is_named() {
        assert!(failures(|_| Some(0)).contains("picked index 0 of 0 servers"));
        assert!(failures(|set| (!set.is_empty()).then_some(0)).contains("whose weight is 0"));
        assert!(failures(|set| set.iter().position(|b| b.weight > 0)).contains("is overloaded"));
        assert!(failures(|set| Some(set.len())).contains("an index must be below"));
        assert!(failures(|set| panic!("{} servers", set.len())).contains("panicked: 0 servers"));
    }

    #[test]
    fn a_copy_that_picks_otherwise_is_found() {
        /// Takes turns, and its copies begin again.
        struct Forgetful(usize);
        impl Scheduler for Forgetful {
            fn pick(&mut self, _: &Flow, backends: &[Backend]) -> Option<usize> {
                self.0 += 1;
                let usable = (0..backends.len()).filter(|&i| backends[i].is_available());
                let usable: Vec<usize> = usable.collect();
                usable.get(self.0 % usable.len().max(1)).copied()
            }

            fn fork(&self) -> Fork {
                Fork::Exact(Box::new(Self(0)))
            }
        }
        let failures = check(true, &|| Box::new(Forgetful(0)));
        assert!(failures[0].what.contains("its exact copy"), "{failures:?}");
    }

    #[test]
    fn instances_that_differ_are_found_where_determinism_is_claimed() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        struct Shifted(usize);
        impl Scheduler for Shifted {
            fn pick(&mut self, _flow: &Flow, backends: &[Backend]) -> Option<usize> {
                let usable: Vec<usize> = (0..backends.len())
                    .filter(|&i| backends[i].is_available())
                    .collect();
                usable.get(self.0 % usable.len().max(1)).copied()
            }
        }
        let made = AtomicUsize::new(0);
        let make =
            || -> Box<dyn Scheduler> { Box::new(Shifted(made.fetch_add(1, Ordering::Relaxed))) };
        assert!(check(true, &make)[0].what.contains("same seed and history"));
        assert_eq!(check(false, &make), []);
    }
}
