//! Plugins that misbehave: each fault costs one connection and is counted, too many disable the plugin, and
//! a new version, or another try, begins with the next connection.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use uvs_core::narrow;
use uvs_core::plugins::{Fallback, PluginFault};
use uvs_core::testing::servers::{backends, flow};
use uvs_plugin::abi::{NONE, Params, Table};
use uvs_plugin::guest::{self, Export};
use uvs_plugin::host::{Plugin, TableError};
use uvs_plugin::supervised::{Source, Tolerance};
use uvs_plugin::{Backend, Flow, Scheduler, SchedulerParams};

/// A scheduler that does what the client's number modulo 8 says.
struct Moody;

impl Scheduler for Moody {
    fn pick(&mut self, flow: &Flow, backends: &[Backend]) -> Option<usize> {
        match flow.src_port % 8 {
            1 => panic!("in a bad mood"),
            2 => Some(backends.len()),
            3 => backends.iter().position(|b| !b.is_available()),
            4 => None,
            5 => {
                std::thread::sleep(Duration::from_millis(20));
                Some(0)
            }
            6 => {
                std::thread::sleep(Duration::from_millis(20));
                panic!("late, and in a bad mood")
            }
            _ => backends.iter().position(Backend::is_available),
        }
    }
}

struct Exported;

impl Export for Exported {
    type Scheduler = Moody;

    fn create(_: &SchedulerParams) -> Moody {
        Moody
    }
}

static MOODY: Table = guest::table::<Exported>(
    guest::name("moody\0"),
    guest::text("1.0\0"),
    guest::text("a test\0"),
    0,
);

fn plugin(table: &'static Table) -> Arc<Plugin> {
    // SAFETY: a static table of functions with the ABI's signatures.
    Arc::new(unsafe { Plugin::from_table(table) }.expect("a table of this ABI"))
}

/// A source that falls back, after so many faults, to the last server.
fn source(table: &'static Table, max_faults: u32) -> Arc<Source> {
    struct Last;
    impl Scheduler for Last {
        fn pick(&mut self, _: &Flow, backends: &[Backend]) -> Option<usize> {
            backends.len().checked_sub(1)
        }
    }
    let tolerance = Tolerance {
        max_faults,
        budget: BUDGET,
    };
    Source::new(plugin(table), tolerance, ("last", || Box::new(Last)))
}

/// More than an honest pick takes on a busy machine, and less than Moody's naps.
const BUDGET: Duration = Duration::from_millis(10);

/// A client in the given mood.
fn mood(n: u16) -> Flow {
    Flow {
        src_port: 40_000 + n,
        ..flow(0)
    }
}

const FAULT: Option<usize> = Some(usize::MAX);

fn counts(source: &Source) -> [u64; 5] {
    source.faults().read().map(|(_, count)| count)
}

#[test]
fn a_fault_costs_its_connection_and_is_counted_by_reason() {
    let source = source(&MOODY, 0);
    let mut scheduler = source.scheduler(&SchedulerParams::default());
    let set = backends(&[(1, 0), (2, 1)]);
    scheduler.backends_changed(&set);
    let moods = [0, 1, 2, 3, 4, 7];
    let picks: Vec<_> = moods.map(|n| scheduler.pick(&mood(n), &set)).into();
    assert_eq!(picks, [Some(1), FAULT, FAULT, FAULT, None, Some(1)]);
    assert_eq!(
        source.faults().read(),
        [
            ("panic", 1),
            ("wrong_index", 1),
            ("forbidden_server", 1),
            ("failed", 0),
            ("slow", 0)
        ]
    );
    assert_eq!(source.fallen_back(), [""; 0], "0 = it never falls back");
}

#[test]
fn after_the_set_number_of_faults_the_service_falls_back() {
    let source = source(&MOODY, 3);
    let mut scheduler = source.scheduler(&SchedulerParams::default());
    let mut other = source.scheduler(&SchedulerParams::default());
    let set = backends(&[(1, 1), (2, 1), (3, 1)]);
    let picks: Vec<_> = [1, 0, 1, 1, 0, 1]
        .map(|n| scheduler.pick(&mood(n), &set))
        .into();
    assert_eq!(picks, [FAULT, Some(0), FAULT, FAULT, Some(2), Some(2)]);
    assert_eq!(counts(&source), [3, 0, 0, 0, 0]);
    assert_eq!(source.fallen_back(), ["TCP 192.0.2.0:80"]);
    assert_eq!(
        other.pick(&mood(0), &set),
        Some(0),
        "another service keeps its plugin"
    );

    source.take_over(source.plugin());
    assert_eq!(
        scheduler.pick(&mood(0), &set),
        Some(0),
        "it has another try"
    );
    assert_eq!(source.fallen_back(), [""; 0]);
    let picks: Vec<_> = [1, 1, 1].map(|n| scheduler.pick(&mood(n), &set)).into();
    assert_eq!(picks, [FAULT; 3]);
    assert_eq!(source.fallen_back().len(), 1);
    drop(scheduler);
    assert_eq!(
        source.fallen_back(),
        [""; 0],
        "a removed service is not listed"
    );
}

#[test]
#[cfg_attr(miri, ignore = "Miri does not say how long a thread has run")]
fn a_slow_pick_counts_and_serves_all_the_same() {
    let source = source(&MOODY, 3);
    let mut scheduler = source.scheduler(&SchedulerParams::default());
    let set = backends(&[(1, 1), (2, 1), (3, 1)]);
    scheduler.backends_changed(&set);
    let picks: Vec<_> = [5, 0, 5].map(|n| scheduler.pick(&mood(n), &set)).into();
    assert_eq!(picks, [Some(0); 3], "late, and as good as any");
    assert_eq!(counts(&source), [0, 0, 0, 0, 2]);
    let numbers = scheduler.numbers().expect("a plugin");
    assert_eq!((numbers.picks.count, numbers.over_budget), (3, 2));
    assert!(numbers.picks.longest_ns >= 20_000_000);
    assert_eq!(numbers.fallback, None);

    assert_eq!(scheduler.pick(&mood(1), &set), FAULT, "the third fault");
    assert_eq!(scheduler.pick(&mood(5), &set), Some(2), "the fallback's");
    let numbers = scheduler.numbers().expect("a plugin");
    assert_eq!(numbers.picks.count, 4, "the fallback's picks are its own");
    let fallback = numbers.fallback.expect("it fell back");
    let fault = PluginFault::Panic;
    let ago = fallback.ago;
    assert_eq!(
        fallback,
        Fallback {
            ago,
            fault,
            workers: 1
        }
    );

    assert_eq!(source.take_over(source.plugin()), ["TCP 192.0.2.0:80"]);
    let numbers = scheduler.numbers().expect("a plugin");
    assert_eq!(
        numbers.fallback, None,
        "over, though no connection has come"
    );
    assert_eq!(scheduler.pick(&mood(0), &set), Some(0));
    assert_eq!(scheduler.numbers().expect("a plugin").picks.count, 5);
}

#[test]
fn what_fails_late_is_one_fault() {
    let source = source(&MOODY, 2);
    let mut scheduler = source.scheduler(&SchedulerParams::default());
    let set = backends(&[(1, 1), (2, 1), (3, 1)]);
    assert_eq!(scheduler.pick(&mood(6), &set), FAULT);
    assert_eq!(counts(&source), [1, 0, 0, 0, 0]);
    assert_eq!(
        scheduler.pick(&mood(0), &set),
        Some(0),
        "still the plugin's"
    );
}

#[test]
#[cfg_attr(miri, ignore = "Miri does not say how long a thread has run")]
fn a_budget_is_put_in_force_for_what_runs() {
    let source = source(&MOODY, 1);
    let mut scheduler = source.scheduler(&SchedulerParams::default());
    let set = backends(&[(1, 1), (2, 1), (3, 1)]);
    source.tolerate(Tolerance {
        max_faults: 1,
        budget: Duration::ZERO,
    });
    assert_eq!(scheduler.pick(&mood(5), &set), Some(0));
    assert_eq!(counts(&source), [0; 5], "0 is any time");
    source.tolerate(Tolerance {
        max_faults: 1,
        budget: BUDGET,
    });
    assert_eq!(scheduler.pick(&mood(5), &set), Some(0));
    assert_eq!(counts(&source), [0, 0, 0, 0, 1]);
    assert_eq!(scheduler.pick(&mood(0), &set), Some(2), "the fallback's");
}

#[test]
fn a_pick_that_does_not_return_is_named() {
    let source = source(&MOODY, 0);
    let mut scheduler = source.scheduler(&SchedulerParams::default());
    let set = backends(&[(1, 1)]);
    let named = || source.unreturned(Duration::ZERO);
    // On a busy machine a nap may be over before anybody has looked.
    let mut asked = Vec::new();
    while asked.is_empty() {
        asked = std::thread::scope(|scope| {
            let napping = scope.spawn(|| scheduler.pick(&mood(5), &set));
            while !napping.is_finished() {
                let said = named();
                if !said.is_empty() {
                    return said;
                }
            }
            Vec::new()
        });
    }
    let said = asked.first().map(ToString::to_string);
    let expected = "pick() has not returned for 0 s, for TCP 192.0.2.0:80";
    assert_eq!(said.as_deref(), Some(expected));
    assert!(named().is_empty(), "it has returned");
}

/// States made less states freed, and the set the newest one was told of.
static ALIVE: AtomicI64 = AtomicI64::new(0);
static TOLD: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn create(_: *const Params) -> *mut c_void {
    ALIVE.fetch_add(1, Ordering::Relaxed);
    (&raw const ALIVE).cast_mut().cast()
}

unsafe extern "C" fn destroy(_: *mut c_void) {
    ALIVE.fetch_sub(1, Ordering::Relaxed);
}

unsafe extern "C" fn changed(_: *mut c_void, _: *const Backend, count: usize) -> i32 {
    TOLD.store(count as u64, Ordering::Relaxed);
    0
}

unsafe extern "C" fn pick_first(
    _: *mut c_void,
    _: *const Flow,
    _: *const Backend,
    _: usize,
) -> i64 {
    0
}

unsafe extern "C" fn pick_none(_: *mut c_void, _: *const Flow, _: *const Backend, _: usize) -> i64 {
    NONE
}

unsafe extern "C" fn create_nothing(_: *const Params) -> *mut c_void {
    null_mut()
}

unsafe extern "C" fn fail(_: *mut c_void, _: *const Backend, _: usize) -> i32 {
    -7
}

static FIRST: Table = Table {
    create: Some(create),
    destroy: Some(destroy),
    backends_changed: Some(changed),
    pick: Some(pick_first),
    ..BARE
};
/// What a C author with nothing but a pick writes.
const BARE: Table = Table {
    create: None,
    destroy: None,
    backends_changed: None,
    pick: Some(pick_none),
    tick: None,
    ..MOODY_TABLE
};
const MOODY_TABLE: Table = guest::table::<Exported>(
    guest::name("moody\0"),
    guest::text("2.0\0"),
    guest::text("a test\0"),
    0,
);
static ONLY_PICK: Table = BARE;
static NO_STATE: Table = Table {
    create: Some(create_nothing),
    ..BARE
};
static FAILING: Table = Table {
    backends_changed: Some(fail),
    ..BARE
};

#[test]
fn a_new_version_takes_over_with_the_next_connection_and_knows_the_set() {
    let source = source(&ONLY_PICK, 3);
    let mut scheduler = source.scheduler(&SchedulerParams::default());
    let set = backends(&[(1, 1), (2, 1)]);
    scheduler.backends_changed(&set);
    scheduler.tick(uvs_plugin::Instant::ZERO);
    assert_eq!(scheduler.pick(&flow(0), &set), None);

    source.take_over(plugin(&FIRST));
    assert_eq!(scheduler.pick(&flow(0), &set), Some(0));
    assert_eq!(TOLD.load(Ordering::Relaxed), 2);
    assert_eq!(ALIVE.load(Ordering::Relaxed), 1);
    source.take_over(source.plugin());
    assert_eq!(scheduler.pick(&flow(0), &set), Some(0));
    assert_eq!(
        ALIVE.load(Ordering::Relaxed),
        1,
        "what works is not made again"
    );
    drop(scheduler);
    assert_eq!(ALIVE.load(Ordering::Relaxed), 0);
}

#[test]
fn what_fails_outside_a_pick_counts_as_well() {
    let failing = source(&FAILING, 2);
    let mut scheduler = failing.scheduler(&SchedulerParams::default());
    let set = backends(&[(1, 1), (2, 1)]);
    scheduler.backends_changed(&set);
    assert_eq!(
        scheduler.pick(&flow(0), &set),
        None,
        "still the plugin's answer"
    );
    scheduler.backends_changed(&set);
    assert_eq!(scheduler.pick(&flow(0), &set), Some(1), "the fallback's");
    assert_eq!(counts(&failing), [0, 0, 0, 2, 0]);
    assert_eq!(failing.fallen_back(), ["the one of server 10.0.0.1:80"]);

    let without_state = source(&NO_STATE, 2);
    let mut scheduler = without_state.scheduler(&SchedulerParams::default());
    assert_eq!(
        scheduler.pick(&flow(0), &set),
        Some(1),
        "there is nothing else to ask"
    );
    assert_eq!(counts(&without_state), [0, 0, 0, 1, 0]);
}

fn refused(table: Table) -> TableError {
    // SAFETY: a table of functions with the ABI's signatures.
    unsafe { Plugin::from_table(&table) }.expect_err("refused")
}

#[test]
fn a_wrong_table_is_refused_with_both_versions_or_sizes() {
    let size = narrow::to_u32(size_of::<Table>());
    let said = |table| refused(table).to_string();
    assert!(
        said(Table { abi: 7, ..BARE }).contains("it has ABI version 7, this uvs has version 1")
    );
    assert!(
        said(Table {
            size: size + 8,
            ..BARE
        })
        .contains(&format!(
            "its table has {} bytes, this uvs's has {size}",
            size + 8
        ))
    );
    assert!(
        said(Table {
            backend_size: 56,
            ..BARE
        })
        .contains("its uvs_backend has 56 bytes, this uvs's has 48")
    );
    assert!(
        said(Table {
            flow_size: 24,
            ..BARE
        })
        .contains("its uvs_flow has 24 bytes, this uvs's has 40")
    );
    assert_eq!(refused(Table { pick: None, ..BARE }), TableError::NoPick);
    assert_eq!(
        refused(Table {
            version: std::ptr::null(),
            ..BARE
        }),
        TableError::Text("version")
    );
    for name in [c"", c"../evil", c"a b", c"sixteen-letters!", c"-s"] {
        let table = Table {
            name: name.as_ptr(),
            ..BARE
        };
        assert!(matches!(refused(table), TableError::Name(_)), "{name:?}");
    }
    // SAFETY: null is allowed.
    let null = unsafe { Plugin::from_table(std::ptr::null()) };
    assert_eq!(null.expect_err("refused"), TableError::Missing);
}
