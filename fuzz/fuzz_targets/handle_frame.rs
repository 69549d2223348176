//! `Engine::handle_frame` under everything that bytes can say: services of every mode, frames whole or
//! bent, offload metadata, ICMP errors about what left, time, sysctls, servers that come and go.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    uvs_core::testing::exercise::exercise(uvs_modes::BUILTIN, data);
});
