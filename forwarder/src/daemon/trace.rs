//! The daemon's part of `uvs trace`: how frames would come in, what the workers say of them, and what
//! becomes of the kernel's copies.

use uvs_control::protocol::{Answers, Errno, Refusal, ask};
use uvs_control::trace::{KernelCopy, LiveState, MAX_FRAMES, Subject, Traced, TracedFrames};
use uvs_core::fib::Fib;
use uvs_core::trace::{End, Trace};
use uvs_core::verdict::PortId;

use super::frames::OWN_STACK;
use super::{Daemon, failed};
use crate::trace::arrival::Arrival;
use crate::trace::live::Seen;

impl Answers<ask::Trace> for Daemon {
    fn answer(&mut self, ask::Trace(subjects): ask::Trace) -> Result<TracedFrames, Refusal> {
        let arrivals = arrivals(&subjects, &self.mirror.fib())?;
        let traces = self.workers.trace(&arrivals).map_err(failed)?;
        let frames = arrivals.iter().zip(traces).map(|(arrival, trace)| Traced {
            after_ns: arrival.after_ns,
            interface: self.name_of(arrival.port),
            guard: arrival
                .port
                .map(|_| self.kernel_copy(&arrival.bytes, trace.as_ref())),
            trace,
            decided: None,
        });
        Ok(self.traced(frames.collect(), LiveState::default()))
    }
}

impl Answers<ask::TraceLive> for Daemon {
    fn answer(&mut self, ask::TraceLive(request): ask::TraceLive) -> Result<(), Refusal> {
        if request.count as usize > MAX_FRAMES {
            let message = format!(
                "{} packets are more than the {MAX_FRAMES} that one trace takes",
                request.count
            );
            return Err(invalid(message));
        }
        if self.workers.begin_look(request).map_err(failed)? {
            return Ok(());
        }
        let message = "another `uvs trace --live` is running; it ends by itself, or try again after its --for";
        Err(failed(message))
    }
}

impl Answers<ask::TraceLiveSeen> for Daemon {
    fn answer(&mut self, _: ask::TraceLiveSeen) -> Result<TracedFrames, Refusal> {
        let (seen, state) = self.workers.seen().map_err(failed)?;
        let frames = seen.into_iter().map(|seen| self.seen(seen)).collect();
        Ok(self.traced(frames, state))
    }
}

impl Daemon {
    fn seen(&self, seen: Seen) -> Traced {
        Traced {
            after_ns: seen.at.0,
            interface: self.name_of(Some(PortId(seen.trace.port))),
            guard: Some(self.kernel_copy(&seen.head, Some(&seen.trace))),
            trace: Some(seen.trace),
            decided: seen.decided,
        }
    }

    fn traced(&self, frames: Vec<Traced>, live: LiveState) -> TracedFrames {
        TracedFrames {
            interfaces: self.interfaces.clone(),
            frames,
            live,
        }
    }

    fn name_of(&self, port: Option<PortId>) -> Option<String> {
        if port == Some(PortId::HOST) {
            return Some(OWN_STACK.to_owned());
        }
        self.interfaces.get(usize::from(port?.0)).cloned()
    }

    /// What of a NAT server's is of no connection passes the guard, which knows the connections' clients.
    fn kernel_copy(&self, frame: &[u8], trace: Option<&Trace>) -> KernelCopy {
        let ours = trace.is_some_and(|t| t.end != End::Pass);
        KernelCopy {
            by: self
                .in_force
                .guarded
                .dropped_by(frame, ours)
                .map(str::to_owned),
        }
    }
}

fn arrivals(subjects: &[Subject], fib: &Fib) -> Result<Vec<Arrival>, Refusal> {
    if subjects.len() > MAX_FRAMES {
        return Err(invalid(format!("more than {MAX_FRAMES} frames at once")));
    }
    let arrival = |subject: &Subject| {
        let bytes = subject.bytes().filter(|bytes| bytes.len() >= 14);
        let bytes = bytes.ok_or_else(|| {
            invalid("a frame is not hexadecimal, or is shorter than a header".to_owned())
        })?;
        Ok(Arrival::new(subject.after_ns, bytes, fib))
    };
    subjects.iter().map(arrival).collect()
}

fn invalid(message: String) -> Refusal {
    Refusal {
        errno: Errno::Invalid,
        message,
    }
}
