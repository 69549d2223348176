//! `uvs trace` in the control protocol: frames to look at without consequence, and real ones while they pass.
//! Decisions are reported by the engine itself ([`uvs_core::trace`]); here is what goes to the daemon and comes
//! back.

pub mod filter;
pub mod flow;

use serde::{Deserialize, Serialize};
use uvs_core::flow::Endpoint;
use uvs_core::trace::{End, Trace};

use filter::Filter;

/// Frames of one request: their bytes must fit a request line.
pub const MAX_FRAMES: usize = 1000;
/// Bytes of a request's frames: a request line has them as hex, and has 1 MiB.
pub const MAX_BYTES: usize = 400 << 10;

/// A frame to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Nanoseconds after the first one.
    pub after_ns: u64,
    /// From the destination MAC on, as hex. A destination of zeros is "as if sent to the director".
    pub hex: String,
}

impl Subject {
    /// From the bytes of a frame.
    pub fn new(after_ns: u64, bytes: &[u8]) -> Self {
        let hex = bytes.iter().map(|b| format!("{b:02x}")).collect();
        Self { after_ns, hex }
    }

    /// The bytes, `None` where that is no hex.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let digits = self.hex.as_bytes().chunks(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        digits.map(byte).collect()
    }
}

/// What to look for among the real frames, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRequest {
    /// Which.
    pub filter: Filter,
    /// How many at most.
    pub count: u32,
    /// Seconds at most.
    pub seconds: u32,
}

/// What was found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveState {
    /// Whether there will be no more.
    pub over: bool,
    /// Frames that matched, traced or not.
    pub matched: u64,
}

/// Frames with all that was decided about them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TracedFrames {
    /// The interfaces' names, in the order of their ports.
    pub interfaces: Vec<String>,
    /// The frames.
    pub frames: Vec<Traced>,
    /// How the look at real frames stands.
    pub live: LiveState,
}

/// A frame and all that was decided about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traced {
    /// Nanoseconds after the first frame.
    pub after_ns: u64,
    /// The interface it came in by; `None` where the frame is not one that comes in.
    pub interface: Option<String>,
    /// Whether the guard keeps the kernel's copy from the kernel, and by which rule.
    pub guard: Option<KernelCopy>,
    /// The decisions; `None` for a frame that the director itself sent.
    pub trace: Option<Trace>,
    /// A real frame's real fate.
    pub decided: Option<Decided>,
}

/// What becomes of the copy of a frame that the kernel has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelCopy {
    /// The counter of the guard's rule that drops it; `None` = it goes on to the host's stack.
    pub by: Option<String>,
}

/// What the data path did with a real frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// The verdict.
    #[serde(flatten)]
    pub end: End,
    /// The real server that its connection has.
    pub server: Option<Endpoint>,
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
