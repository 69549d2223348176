//! Plugins that misbehave: each fault costs one connection and is counted, too many disable the plugin, and
//! a new version, or another try, begins with the next connection.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use uvs_core::narrow;
use uvs_core::testing::servers::{backends, flow};
use uvs_plugin::abi::{NONE, Params, Table};
use uvs_plugin::guest::{self, Export};
use uvs_plugin::host::{Plugin, TableError};
use uvs_plugin::supervised::Source;
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
    Source::new(plugin(table), max_faults, ("last", || Box::new(Last)))
}

/// A client in the given mood.
fn mood(n: u16) -> Flow {
    Flow {
        src_port: 40_000 + n,
        ..flow(0)
    }
}

const FAULT: Option<usize> = Some(usize::MAX);

fn counts(source: &Source) -> [u64; 4] {
    source.faults().read().map(|(_, count)| count)
}

#[test]
fn a_fault_costs_its_connection_and_is_counted_by_reason() {
    let source = source(&MOODY, 0);
    let mut scheduler = source.scheduler(&SchedulerParams::default());
    let set = backends(&[(1, 0), (2, 1)]);
    scheduler.backends_changed(&set);
    let picks: Vec<_> = (0..8).map(|n| scheduler.pick(&mood(n), &set)).collect();
    assert_eq!(
        picks,
        [
            Some(1),
            FAULT,
            FAULT,
            FAULT,
            None,
            Some(1),
            Some(1),
            Some(1)
        ]
    );
    assert_eq!(
        source.faults().read(),
        [
            ("panic", 1),
            ("wrong_index", 1),
            ("forbidden_server", 1),
            ("failed", 0)
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
    assert_eq!(counts(&source), [3, 0, 0, 0]);
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
    assert_eq!(counts(&failing), [0, 0, 0, 2]);
    assert_eq!(failing.fallen_back(), ["the one of server 10.0.0.1:80"]);

    let without_state = source(&NO_STATE, 2);
    let mut scheduler = without_state.scheduler(&SchedulerParams::default());
    assert_eq!(
        scheduler.pick(&flow(0), &set),
        Some(1),
        "there is nothing else to ask"
    );
    assert_eq!(counts(&without_state), [0, 0, 0, 1]);
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
