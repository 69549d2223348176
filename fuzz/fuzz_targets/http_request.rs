//! The metrics exporter under everything that a client can send: it answers HTTP or nothing, and never grants
//! what was not asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use uvs_exporter::testing::Listening;

thread_local! {
    static EXPORTER: Listening = Listening::new();
}

fuzz_target!(|data: &[u8]| EXPORTER.with(|exporter| exporter.exercise(data)));
