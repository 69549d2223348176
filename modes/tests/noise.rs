//! Noise: whatever comes in, nothing panics and every frame is accounted for.

use proptest::prelude::*;
use uvs_core::random::Random;
use uvs_core::testing::exercise::exercise;

/// Versions of each seed that are tried beside itself.
const VERSIONS: u64 = 12;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_survived(data in proptest::collection::vec(any::<u8>(), 0..1500)) {
        exercise(uvs_modes::BUILTIN, &data);
    }
}

/// The fuzzer's seeds, which are the kernel's recorded frames of both families: as they are, and with bytes replaced,
/// left out and put in, as the fuzzer would begin.
#[test]
fn recorded_frames_and_their_neighbours_are_survived() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/handle_frame");
    let mut seeds: Vec<_> = std::fs::read_dir(seeds)
        .expect("the fuzzer's seeds")
        .map(|seed| seed.expect("a seed").path())
        .collect();
    seeds.sort();
    assert!(seeds.len() > 150, "those of both families");
    for (n, seed) in (0_u64..).zip(&seeds) {
        let data = std::fs::read(seed).expect("a seed");
        exercise(uvs_modes::BUILTIN, &data);
        for version in 0..VERSIONS {
            let mut random = Random::new(n * VERSIONS + version);
            let mut bent = data.clone();
            for _ in 0..=random.index(20) {
                let at = random.index(bent.len());
                let byte = (random.next_u64() & 0xff) as u8;
                match random.index(8) {
                    0 => drop(bent.remove(at)),
                    1 => bent.insert(at, byte),
                    _ => bent[at] = byte,
                }
            }
            exercise(uvs_modes::BUILTIN, &bent);
        }
    }
}
