//! Every recorded run of the kernel's schedulers, with the built-in ones: each pick must be the kernel's.

mod replay;

use replay::{SCHED, SCHED6};
use uvs_core::scheduler::{Scheduler, SchedulerParams};

fn built_in(name: &str, params: &SchedulerParams) -> Option<Box<dyn Scheduler>> {
    uvs_schedulers::find(name).map(|def| (def.new)(params))
}

#[test]
fn every_run_picks_what_the_kernel_picked() {
    assert_eq!(replay::play_all(SCHED, built_in, |_| true), 201);
    assert_eq!(replay::play_all(SCHED6, built_in, |_| true), 64);
}

#[test]
fn so_it_does_through_the_engine() {
    let play = |book| replay::play_all_through_the_engine(book, built_in, |_| true);
    assert_eq!(play(SCHED), 201);
    assert_eq!(play(SCHED6), 64);
}
