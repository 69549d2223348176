//! Noise: whatever comes in, nothing panics and every frame is accounted for.

use proptest::prelude::*;
use uvs_core::testing::exercise::exercise;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_survived(data in proptest::collection::vec(any::<u8>(), 0..1500)) {
        exercise(uvs_modes::BUILTIN, &data);
    }
}
