//! The kernel's recorded runs with schedulers taken through the ABI: all of them, and so rr, wrr and lc.

#[path = "../../schedulers/tests/replay/mod.rs"]
mod replay;

use std::cell::Cell;

use replay::{SCHED, SCHED6};
use uvs_core::scheduler::{Scheduler, SchedulerParams};
use uvs_plugin::abi::DETERMINISTIC;
use uvs_plugin::guest::Export;
use uvs_plugin::host::Plugin;

thread_local! {
    /// The built-in scheduler that [`Exported`] is at the moment.
    static NAME: Cell<&'static str> = const { Cell::new("") };
}

/// Any built-in scheduler, as `export_scheduler!` would have exported it.
struct Exported;

impl Export for Exported {
    type Scheduler = BuiltIn;

    fn create(params: &SchedulerParams) -> BuiltIn {
        let def = uvs_schedulers::find(NAME.get()).expect("built in");
        BuiltIn((def.new)(params))
    }
}

/// `Box<dyn Scheduler>` as a type that implements [`Scheduler`].
struct BuiltIn(Box<dyn Scheduler>);

impl Scheduler for BuiltIn {
    fn backends_changed(&mut self, backends: &[uvs_plugin::Backend]) {
        self.0.backends_changed(backends);
    }

    fn pick(&mut self, flow: &uvs_plugin::Flow, backends: &[uvs_plugin::Backend]) -> Option<usize> {
        self.0.pick(flow, backends)
    }

    fn tick(&mut self, now: uvs_plugin::Instant) {
        self.0.tick(now);
    }
}

fn plugin(name: &str) -> Option<Plugin> {
    NAME.set(uvs_schedulers::find(name)?.name);
    let plugin = Plugin::in_process::<Exported>(c"exported", c"1.0.0", c"built in", DETERMINISTIC);
    Some(plugin.expect("a table of this ABI"))
}

fn make(name: &str, params: &SchedulerParams) -> Option<Box<dyn Scheduler>> {
    Some(Box::new(plugin(name)?.instance(params).expect("made")))
}

#[test]
fn rr_wrr_and_lc_pick_through_the_abi_what_the_kernel_picked() {
    let these = |name: &str| ["rr", "wrr", "lc"].contains(&name);
    let played = replay::play_all_through_the_engine(SCHED, make, these);
    assert_eq!(played, 39);
}

#[test]
fn so_does_every_other_scheduler() {
    let all = |_: &str| true;
    assert_eq!(replay::play_all(SCHED, make, all), 201);
    assert_eq!(replay::play_all(SCHED6, make, all), 64);
    let played = |book| replay::play_all_through_the_engine(book, make, all);
    assert_eq!((played(SCHED), played(SCHED6)), (201, 64));
}

#[test]
fn every_built_in_scheduler_conforms_through_the_abi() {
    for def in uvs_schedulers::BUILTIN {
        let plugin = plugin(def.name).expect("a table for each built-in scheduler");
        let params = SchedulerParams::default();
        let make = || make(def.name, &params).expect("made");
        let failures = uvs_plugin::testing::conformance::check(plugin.is_deterministic(), &make);
        assert_eq!(failures, [], "{}", def.name);
    }
}
