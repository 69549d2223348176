//! Engines of which each goes on where the one before has stopped, as in an upgrade: nothing tells that there was
//! more than one.

use proptest::prelude::*;
use uvs_core::testing::exercise::exercise_handed_down;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn whatever_comes_it_makes_no_difference(
        data in proptest::collection::vec(any::<u8>(), 0..1200), each in 1_u32..8
    ) {
        exercise_handed_down(uvs_modes::BUILTIN, &data, each, None);
    }
}
