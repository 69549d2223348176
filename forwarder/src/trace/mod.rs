//! `uvs trace` in the daemon: how frames come in, what the engine says of them without consequence, and which
//! real ones are looked at while they pass.

pub mod arrival;
pub(crate) mod live;

use uvs_core::engine::{DryRun, Engine};
use uvs_core::frame::Frame;
use uvs_core::time::Instant;
use uvs_core::trace::{End, Step, Template, Trace};

use arrival::Arrival;

/// Bytes of a real frame that are kept: all headers are within.
const HEAD: usize = 192;

/// Looks at frames one after the other, each seeing what those before it did.
pub fn dry_run(engine: &Engine, now: Instant, arrivals: &[Arrival]) -> Vec<Option<Trace>> {
    let mut dry_run = DryRun::of(engine);
    let mut look = |arrival: &Arrival| {
        let port = arrival.port?;
        let at = Instant(now.0 + arrival.after_ns);
        let mut bytes = arrival.bytes.clone();
        let end = bytes.len();
        let frame = Frame::new(&mut bytes, 0, end, arrival.offload);
        Some(dry_run.frame(engine, at, port, &frame))
    };
    arrivals.iter().map(&mut look).collect()
}

/// What several workers say of the same frames as one: of each frame what one of them says that knows its
/// connection, and where none does, one that does not leave it to another. As a frame of a dry-run connection is known to all, the one
/// that told of the frame before counts before the others.
pub(crate) fn joined(told: Vec<Vec<Option<Trace>>>) -> Vec<Option<Trace>> {
    let frames = told.first().map_or(0, Vec::len);
    let mut last = 0;
    let mut choose = |frame: usize| {
        let knows = |worker: &usize| told[*worker][frame].as_ref().is_some_and(knows_connection);
        let decides = |worker: &usize| {
            let trace = told[*worker][frame].as_ref();
            trace.is_some_and(|trace| !matches!(trace.end, End::Elsewhere { .. }))
        };
        last = std::iter::once(last)
            .chain(0..told.len())
            .find(knows)
            .or_else(|| (0..told.len()).find(decides))
            .unwrap_or(0);
        told[last][frame].clone()
    };
    (0..frames).map(&mut choose).collect()
}

fn knows_connection(trace: &Trace) -> bool {
    trace.steps.iter().any(|step| {
        matches!(
            step,
            Step::Lookup { found: Some(_) }
                | Step::Persistence {
                    template: Template::Hit { .. },
                    ..
                }
        )
    })
}
