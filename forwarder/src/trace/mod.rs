//! `uvs trace` in the daemon: how frames come in, what the engine says of them without consequence, and which
//! real ones are looked at while they pass.

pub mod arrival;
pub(crate) mod live;

use uvs_core::engine::{Engine, Rehearsal};
use uvs_core::frame::Frame;
use uvs_core::time::Instant;
use uvs_core::trace::Trace;

use arrival::Arrival;

/// Bytes of a real frame that are kept: all headers are within.
const HEAD: usize = 192;

/// Looks at frames one after the other, each seeing what those before it did.
pub fn rehearse(engine: &Engine, now: Instant, arrivals: &[Arrival]) -> Vec<Option<Trace>> {
    let mut rehearsal = Rehearsal::of(engine);
    let mut look = |arrival: &Arrival| {
        let port = arrival.port?;
        let at = Instant(now.0 + arrival.after_ns);
        let mut bytes = arrival.bytes.clone();
        let end = bytes.len();
        let frame = Frame::new(&mut bytes, 0, end, arrival.offload);
        Some(rehearsal.frame(engine, at, port, &frame))
    };
    arrivals.iter().map(&mut look).collect()
}
