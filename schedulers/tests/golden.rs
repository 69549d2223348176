//! Every recorded run of the kernel's schedulers, with the built-in ones: each pick must be the kernel's.

mod replay;

#[test]
fn every_run_picks_what_the_kernel_picked() {
    let played = replay::play_all(
        |name, params| uvs_schedulers::find(name).map(|def| (def.new)(params)),
        |_| true,
    );
    assert_eq!(played, 201);
}
