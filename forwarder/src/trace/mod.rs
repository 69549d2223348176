//! `uvs trace` behind the command line: frames that are looked at without consequence, and real ones while
//! they pass. What is decided is told by the engine itself ([`uvs_core::trace`]); here is what goes in and out.

pub(crate) mod arrival;
pub(crate) mod filter;
pub(crate) mod flow;
pub(crate) mod live;

use serde::{Deserialize, Serialize};
use uvs_core::engine::{Engine, Rehearsal};
use uvs_core::flow::Endpoint;
use uvs_core::frame::Frame;
use uvs_core::time::Instant;
use uvs_core::trace::{End, Step, Template, Trace};

use arrival::Arrival;
use filter::Filter;

/// Frames of one request: their bytes must fit a request line.
pub(crate) const MAX_FRAMES: usize = 1000;
/// Bytes of a request's frames: a request line has them as hex, and has 1 MiB.
pub(crate) const MAX_BYTES: usize = 400 << 10;
/// Bytes of a real frame that are kept: all headers are within.
const HEAD: usize = 192;

/// A frame to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// Nanoseconds after the first one.
    pub(crate) after_ns: u64,
    /// From the destination MAC on, as hex. A destination of zeros is "as if sent to the director".
    pub(crate) hex: String,
}

impl Subject {
    pub(crate) fn new(after_ns: u64, bytes: &[u8]) -> Self {
        let hex = bytes.iter().map(|b| format!("{b:02x}")).collect();
        Self { after_ns, hex }
    }

    /// The bytes, `None` where that is no hex.
    pub(crate) fn bytes(&self) -> Option<Vec<u8>> {
        let digits = self.hex.as_bytes().chunks(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        digits.map(byte).collect()
    }
}

/// What to look for among the real frames, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LiveRequest {
    /// Which.
    pub(crate) filter: Filter,
    /// How many at most.
    pub(crate) count: u32,
    /// Seconds at most.
    pub(crate) seconds: u32,
}

/// What was found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LiveState {
    /// Whether there will be no more.
    pub(crate) over: bool,
    /// Frames that matched, traced or not.
    pub(crate) matched: u64,
}

/// A frame and all that was decided about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Traced {
    /// Nanoseconds after the first frame.
    pub(crate) after_ns: u64,
    /// The interface it came in by; `None` where the frame is not one that comes in.
    pub(crate) interface: Option<String>,
    /// Whether the guard keeps the kernel's copy from the kernel, and by which rule.
    pub(crate) guard: Option<Kept>,
    /// The decisions; `None` for a frame that the director itself sent.
    pub(crate) trace: Option<Trace>,
    /// A real frame's real fate.
    pub(crate) decided: Option<Decided>,
}

/// What becomes of the copy of a frame that the kernel has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The counter of the guard's rule that drops it; `None` = it goes on to the host's stack.
    pub(crate) by: Option<String>,
}

/// What the data path did with a real frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Decided {
    /// The verdict.
    #[serde(flatten)]
    pub(crate) end: End,
    /// The real server that its connection has.
    pub(crate) server: Option<Endpoint>,
}

/// Looks at frames one after the other, each seeing what those before it did.
pub(crate) fn rehearse(engine: &Engine, now: Instant, arrivals: &[Arrival]) -> Vec<Option<Trace>> {
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

/// What several workers say of the same frames as one: of each frame what one of them says that knows its
/// connection, and the first where none does. As a frame of a rehearsed connection is known to all, the one
/// that told of the frame before counts before the others.
pub(crate) fn joined(told: Vec<Vec<Option<Trace>>>) -> Vec<Option<Trace>> {
    let frames = told.first().map_or(0, Vec::len);
    let mut last = 0;
    let mut choose = |frame: usize| {
        let knows = |worker: &usize| told[*worker][frame].as_ref().is_some_and(knows_connection);
        last = std::iter::once(last)
            .chain(0..told.len())
            .find(knows)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_way_to_the_daemon() {
        let subject = Subject::new(5, &[0, 0x7f, 0xff]);
        assert_eq!(subject.hex, "007fff");
        assert_eq!(subject.bytes(), Some(vec![0, 0x7f, 0xff]));
        let broken = Subject {
            hex: "0x".to_owned(),
            ..subject
        };
        assert_eq!(broken.bytes(), None);
    }
}
