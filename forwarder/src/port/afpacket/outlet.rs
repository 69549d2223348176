//! Hands batches of frames to the kernel and counts what became of each.
//!
//! The socket bypasses the queueing discipline, whose work a frame's sender has done already. But the
//! bypass drops what it would have to cut: a super-frame for a device that cannot segment it comes back as
//! ENOBUFS (`__dev_direct_xmit`). The first such answer ends the bypass for this port; the ordinary path
//! segments, and costs a few per cent more.

use std::io::{self, IoSlice};
use std::os::fd::AsFd as _;

use socket2::Socket;

use crate::port::Flushed;
use crate::port::vnet::{self, VNET_LEN};
use crate::sys;

/// How often a flush tries again when the interface is full.
const RETRIES: u32 = 1;

/// Where batches go: a packet socket, or a script in the tests.
pub(super) trait Sink {
    /// Sends as many of the frames as it can; an error is the first frame's.
    fn send(&mut self, frames: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Switches PACKET_QDISC_BYPASS.
    fn bypass(&mut self, on: bool) -> io::Result<()>;
}

impl Sink for Socket {
    fn send(&mut self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        sys::send_batch(self.as_fd(), frames)
    }

    fn bypass(&mut self, on: bool) -> io::Result<()> {
        sys::set_option(
            self.as_fd(),
            libc::SOL_PACKET,
            libc::PACKET_QDISC_BYPASS,
            i32::from(on),
        )
    }
}

/// A sink and its counters.
#[derive(Debug)]
pub(super) struct Outlet<S> {
    sink: S,
    bypasses: bool,
    retries: u32,
    flushed: Flushed,
    errors: Vec<(i32, u64)>,
}

impl<S: Sink> Outlet<S> {
    /// An outlet that bypasses the queueing discipline.
    pub(super) fn new(mut sink: S) -> io::Result<Self> {
        sink.bypass(true)?;
        Ok(Self {
            sink,
            bypasses: true,
            retries: 0,
            flushed: Flushed::default(),
            errors: Vec::new(),
        })
    }

    /// Sends frames, each behind its virtio_net_hdr; every one ends in exactly one counter.
    pub(super) fn deliver(&mut self, mut frames: &[IoSlice<'_>]) {
        while let Some(first) = frames.first() {
            let is_super = vnet::is_super_frame(first);
            let done = match self.sink.send(frames) {
                Ok(sent) => self.sent(&frames[..sent]),
                Err(e) => self.refused(&e, is_super, frames.len()),
            };
            frames = &frames[done..];
        }
    }

    /// The counters since the last call; the next batches are of another flush.
    pub(super) fn finish(&mut self) -> Flushed {
        self.retries = 0;
        std::mem::take(&mut self.flushed)
    }

    /// Refusals since the beginning, by errno.
    pub(super) fn errors(&self) -> &[(i32, u64)] {
        &self.errors
    }

    fn sent(&mut self, frames: &[IoSlice<'_>]) -> usize {
        self.flushed.sent += frames.len() as u64;
        self.flushed.bytes += frames
            .iter()
            .map(|f| (f.len() - VNET_LEN) as u64)
            .sum::<u64>();
        frames.len()
    }

    /// The kernel refused the first of `left` frames; returns how many to give up.
    fn refused(&mut self, error: &io::Error, is_super: bool, left: usize) -> usize {
        let errno = error.raw_os_error().unwrap_or(0);
        match errno {
            libc::ENOBUFS if is_super && self.bypasses && self.sink.bypass(false).is_ok() => {
                self.bypasses = false;
                0
            }
            libc::EAGAIN | libc::ENOBUFS | libc::EINTR if self.retries < RETRIES => {
                self.retries += 1;
                0
            }
            // The socket's own buffer is full: nothing fits within the time that we could wait.
            libc::EAGAIN => self.queue_full(left),
            // The driver had no room for this frame; it may have for the next.
            libc::ENOBUFS => self.queue_full(1),
            // None of the others would fare better.
            libc::ENETDOWN | libc::ENXIO | libc::ENODEV => self.failed(errno, left),
            _ => self.failed(errno, 1),
        }
    }

    fn queue_full(&mut self, frames: usize) -> usize {
        self.flushed.queue_full += frames as u64;
        frames
    }

    fn failed(&mut self, errno: i32, frames: usize) -> usize {
        self.flushed.failed += frames as u64;
        match self.errors.iter_mut().find(|(e, _)| *e == errno) {
            Some((_, count)) => *count += frames as u64,
            None => self.errors.push((errno, frames as u64)),
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use uvs_core::frame::{Gso, Offload};

    use super::*;

    /// Answers the n-th call as `answers[n]` says.
    struct Script {
        answers: Vec<Result<usize, i32>>,
        calls: usize,
        bypasses: bool,
    }

    impl Sink for Script {
        fn send(&mut self, _: &[IoSlice<'_>]) -> io::Result<usize> {
            self.calls += 1;
            self.answers[self.calls - 1].map_err(io::Error::from_raw_os_error)
        }

        fn bypass(&mut self, on: bool) -> io::Result<()> {
            self.bypasses = on;
            Ok(())
        }
    }

    fn deliver_as(gso: Gso, answers: &[Result<usize, i32>]) -> Outlet<Script> {
        let mut frame = vnet::encode(&Offload {
            gso,
            ..Offload::default()
        })
        .to_vec();
        frame.extend([0; 60]);
        let script = Script {
            answers: answers.to_vec(),
            calls: 0,
            bypasses: false,
        };
        let mut outlet = Outlet::new(script).expect("a script takes the option");
        outlet.deliver(&[IoSlice::new(&frame); 5]);
        outlet
    }

    /// Delivers five frames of 60 bytes.
    fn deliver(answers: &[Result<usize, i32>]) -> Outlet<Script> {
        deliver_as(Gso::None, answers)
    }

    fn counts(sent: u64, queue_full: u64, failed: u64) -> Flushed {
        Flushed {
            sent,
            bytes: sent * 60,
            queue_full,
            failed,
        }
    }

    #[test]
    fn a_partial_send_goes_on_behind_the_frame_that_failed() {
        let mut outlet = deliver(&[Ok(2), Err(libc::EMSGSIZE), Ok(2)]);
        assert_eq!(outlet.finish(), counts(4, 0, 1));
        assert_eq!(outlet.errors(), [(libc::EMSGSIZE, 1)]);
        assert_eq!(outlet.finish(), Flushed::default(), "counted once");
    }

    #[test]
    fn a_full_buffer_is_tried_once_more_and_then_costs_the_rest() {
        let mut outlet = deliver(&[Ok(1), Err(libc::EAGAIN), Ok(1), Err(libc::EAGAIN)]);
        assert_eq!(outlet.finish(), counts(2, 3, 0));
        assert_eq!(outlet.sink.calls, 4);
    }

    #[test]
    fn a_full_driver_queue_costs_the_frame_only_and_no_bypass() {
        let mut outlet = deliver(&[Err(libc::ENOBUFS), Err(libc::ENOBUFS), Ok(4)]);
        assert_eq!(outlet.finish(), counts(4, 1, 0));
        assert_eq!(outlet.errors(), []);
        assert!(outlet.sink.bypasses);
    }

    #[test]
    fn a_super_frame_that_the_bypass_cannot_cut_ends_the_bypass() {
        let mut outlet = deliver_as(Gso::UdpL4, &[Err(libc::ENOBUFS), Ok(5)]);
        assert_eq!(outlet.finish(), counts(5, 0, 0));
        assert!(!outlet.sink.bypasses);
    }

    #[test]
    fn an_interface_that_is_down_costs_one_call() {
        let mut outlet = deliver(&[Err(libc::ENETDOWN)]);
        assert_eq!(outlet.finish(), counts(0, 0, 5));
        assert_eq!(outlet.errors(), [(libc::ENETDOWN, 5)]);
        assert_eq!(outlet.sink.calls, 1);
    }
}
