//! A port's receiving side: one socket for everything, or where the hook tells whose a frame is, one for what it hides
//! and one for ARP.
//!
//! A socket for everything sees a frame before the hook's program has; those for a protocol see it after, where the
//! kernel's own stack does. What the program has hidden has a protocol of its own there: the stack does not know it,
//! and the socket for it sees nothing of what is the stack's.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd};

use uvs_core::frame::Offload;

use super::receive::RingReceiver;
use crate::port::fan_out::FanOut;
use crate::port::filter::Program;
use crate::port::{Budget, Coverage, HandedRing, InletKind, Link, Receive, Received, RxStatistics};

/// The receiving side of an AF_PACKET port. A batch is those of its sockets, one after the other.
#[derive(Debug)]
pub(crate) struct Receiver {
    /// One for each socket, at least one.
    inlets: Vec<RingReceiver>,
    /// Where each socket's part of the batch ends.
    ends: Vec<usize>,
}

impl Receiver {
    pub(super) fn new(inlets: Vec<RingReceiver>) -> Self {
        let ends = Vec::with_capacity(inlets.len());
        Self { inlets, ends }
    }

    /// The socket that a frame of the batch is of, and the frame's place there.
    fn of(&self, index: usize) -> (usize, usize) {
        let inlet = self.ends.iter().take_while(|end| **end <= index).count();
        let before = inlet.checked_sub(1).map_or(0, |i| self.ends[i]);
        (inlet, index - before)
    }
}

impl Receive for Receiver {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.inlets.iter().map(|i| i.as_fd()).collect()
    }

    fn is_ready(&self) -> bool {
        self.inlets.iter().any(|i| i.is_ready())
    }

    /// Each socket has the whole budget, so that none waits for another.
    fn fill(&mut self, budget: Budget) -> usize {
        self.ends.clear();
        let mut end = 0;
        for inlet in &mut self.inlets {
            end += inlet.fill(budget);
            self.ends.push(end);
        }
        end
    }

    fn frame(&mut self, index: usize) -> Received<'_> {
        let (inlet, place) = self.of(index);
        self.inlets[inlet].frame(place)
    }

    fn seal(&mut self, index: usize, range: Range<usize>, offload: &Offload) {
        let (inlet, place) = self.of(index);
        self.inlets[inlet].seal(place, range, offload);
    }

    fn sealed(&self, index: usize) -> &[u8] {
        let (inlet, place) = self.of(index);
        self.inlets[inlet].sealed(place)
    }

    fn release(&mut self) {
        self.inlets.iter_mut().for_each(|i| i.release());
    }

    fn set_filter(&mut self, program: &Program) -> io::Result<Coverage> {
        let mut coverage = Coverage::Exact;
        // The filter of what the hook has marked never changes.
        for inlet in self.inlets.iter().filter(|i| i.kind() != InletKind::Marked) {
            coverage = inlet.set_filter(program)?;
        }
        Ok(coverage)
    }

    fn set_fan_out(&mut self, fan_out: &FanOut) -> io::Result<()> {
        self.inlets.iter().try_for_each(|i| i.set_fan_out(fan_out))
    }

    fn link(&mut self) -> Link {
        // Each has an error of its own to be taken off.
        let links: Vec<Link> = self.inlets.iter_mut().map(|i| i.link()).collect();
        links.into_iter().fold(Link::Up, Link::worse)
    }

    fn has_stalled(&mut self) -> bool {
        // Each has what it counts to be read, whatever those before it say.
        let stalled: Vec<bool> = self.inlets.iter_mut().map(|i| i.has_stalled()).collect();
        stalled.contains(&true)
    }

    fn hand_down(&self) -> io::Result<Vec<HandedRing>> {
        self.inlets.iter().map(RingReceiver::hand_down).collect()
    }

    fn statistics(&mut self) -> RxStatistics {
        let mut sum = RxStatistics::default();
        for inlet in &mut self.inlets {
            sum += inlet.statistics();
        }
        sum
    }
}
