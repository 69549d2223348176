//! Whatever comes, it makes no difference whether the kernel forwards connections or the engine does.

use proptest::prelude::*;
use uvs_core::offload::Reach;
use uvs_core::testing::exercise::exercise_handed_over;

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn noise_makes_no_difference(data in prop::collection::vec(any::<u8>(), 0..6000)) {
        for reach in [Reach::Everything, Reach::Established, Reach::Guard] {
            exercise_handed_over(uvs_modes::BUILTIN, &data, reach);
        }
    }
}
