//! Frames between workers: one that has a frame of another's connection hands a copy over.
//!
//! The kernel's fan-out program knows nearly always whose a frame is, so that these are few: what a datagram's fragments
//! have become, errors about tunnels' packets, connections of another director, and for as long as it takes what services
//! that have just changed have had. A queue has an end, and who finds it full drops the frame by name.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};

use mio::Waker;
use uvs_core::crew::Handing;
use uvs_core::fragment::Reassembled;
use uvs_core::frame::{Frame, Offload};
use uvs_core::outbox::HEADROOM;
use uvs_core::time::Instant;
use uvs_core::verdict::{DropReason, PortId, Verdict};

use super::{Worker, decide};
use crate::port::port_id;

/// Frames that wait for one worker, at most.
const WAITING: usize = 4096;
/// Frames that a worker takes from the others in a turn.
const A_TURN: usize = 64;

/// A frame on its way between workers.
pub(crate) struct Passed {
    /// The place of the port that it came in by.
    port: usize,
    what: What,
    mark: u32,
    asked: u64,
    arrived_ns: u64,
}

/// A frame, or a datagram that came in fragments.
enum What {
    /// Headroom, and the frame behind it.
    Frame(Vec<u8>, Offload),
    Datagram(Reassembled),
}

/// What wakes each worker, in the order of their numbers, once all have been started.
pub(crate) type Wakers = Arc<OnceLock<Vec<Arc<Waker>>>>;

/// What a worker has of the others.
pub(crate) struct Colleagues {
    inbox: Receiver<Passed>,
    to: Vec<SyncSender<Passed>>,
    wakers: Wakers,
    /// Who has been given something since all were last woken.
    given: u64,
    /// More waits than a turn takes.
    waits: bool,
}

impl Colleagues {
    /// Those of each of so many workers, and where their wakers are to be put.
    pub(crate) fn of(workers: usize) -> (Vec<Self>, Wakers) {
        let (to, inboxes): (Vec<_>, Vec<_>) = (0..workers).map(|_| sync_channel(WAITING)).unzip();
        let wakers = Wakers::default();
        let colleagues = inboxes.into_iter().map(|inbox| Self {
            inbox,
            to: to.clone(),
            wakers: Arc::clone(&wakers),
            given: 0,
            waits: false,
        });
        (colleagues.collect(), wakers)
    }

    /// Whether frames of the others' wait, as far as is known.
    pub(super) const fn has_frames(&self) -> bool {
        self.waits
    }

    fn give(&mut self, to: u32, passed: Passed) -> Result<(), DropReason> {
        let Some(queue) = self.to.get(to as usize) else {
            return Err(DropReason::WorkerBehind);
        };
        match queue.try_send(passed) {
            Ok(()) => {
                self.given |= 1 << to;
                Ok(())
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                Err(DropReason::WorkerBehind)
            }
        }
    }

    /// Wakes those that were given something.
    fn wake(&mut self) {
        let given = std::mem::take(&mut self.given);
        let Some(wakers) = self.wakers.get().filter(|_| given != 0) else {
            return;
        };
        for (number, waker) in wakers.iter().enumerate() {
            if given & 1 << number != 0 {
                // One that cannot be woken wakes by itself soon enough.
                let _ = waker.wake();
            }
        }
    }
}

impl Worker {
    /// Hands a frame that came in by the port at a place over to another worker, or the datagram that it has made whole.
    /// `bytes` are the frame's.
    pub(super) fn pass_on(
        &mut self,
        handing: Handing,
        port: usize,
        (bytes, offload): (&[u8], Offload),
        (mark, arrived_ns): (u32, u64),
    ) {
        let what = match self.engine.take_elsewhere() {
            Some(whole) => What::Datagram(whole),
            None => {
                let mut own = vec![0; HEADROOM];
                own.extend_from_slice(bytes);
                What::Frame(own, offload)
            }
        };
        let passed = Passed {
            port,
            what,
            mark,
            asked: handing.asked,
            arrived_ns,
        };
        if let Err(reason) = self.line.colleagues.give(handing.to, passed) {
            self.engine.count_not_handed(reason);
            self.ledgers[port].refuse(reason);
        }
    }

    /// Handles what the others have handed over; whether there was anything.
    pub(super) fn take_over(&mut self, now: Instant) -> bool {
        let mut taken = 0;
        while taken < A_TURN
            && let Ok(passed) = self.line.colleagues.inbox.try_recv()
        {
            self.handle_passed(now, passed);
            taken += 1;
        }
        self.line.colleagues.waits = taken == A_TURN;
        taken > 0
    }

    /// Lets the others know what they were given.
    pub(super) fn wake_colleagues(&mut self) {
        self.line.colleagues.wake();
    }

    fn handle_passed(&mut self, now: Instant, passed: Passed) {
        let port = passed.port;
        self.ledgers[port].taken_over += 1;
        let id = match port == self.host() {
            true => PortId::HOST,
            false => port_id(port),
        };
        // What becomes of a datagram is in the outbox.
        let (mut bytes, offload) = match passed.what {
            What::Frame(bytes, offload) => (bytes, offload),
            What::Datagram(whole) => {
                let rest = (passed.mark, passed.asked);
                let out = &mut self.outbox;
                let verdict = self.engine.handle_reassembled(now, id, whole, rest, out);
                let rest = (passed.mark, passed.arrived_ns);
                let none = (&[][..], Offload::default());
                return self.end_passed(now, (port, verdict), none, rest);
            }
        };
        let end = bytes.len();
        let mut frame = Frame::new(&mut bytes, HEADROOM, end, offload);
        (frame.mark, frame.asked) = (passed.mark, passed.asked);
        let verdict = decide(
            (&mut self.engine, &mut self.outbox, &mut self.live),
            (now, id),
            (&mut frame, None),
        );
        let rest = (passed.mark, passed.arrived_ns);
        self.end_passed(now, (port, verdict), (frame.bytes(), frame.offload), rest);
    }

    /// Does what was said of a frame, or datagram, of another worker's.
    fn end_passed(
        &mut self,
        now: Instant,
        (port, verdict): (usize, Verdict),
        (bytes, offload): (&[u8], Offload),
        (mark, arrived_ns): (u32, u64),
    ) {
        self.ledgers[port].end(verdict);
        if matches!(verdict, Verdict::Send(_) | Verdict::SendOutbox) {
            self.arrivals.push(arrived_ns);
        }
        match verdict {
            Verdict::Send(egress) => self.send_made(now, bytes, offload, egress),
            Verdict::SendOutbox | Verdict::Answered => self.send_outbox(now),
            Verdict::Local => self.send_copy_to_host(now, bytes, &offload),
            Verdict::Pass if self.hides && !bytes.is_empty() => {
                self.give_copy_back(bytes, &offload)
            }
            Verdict::Elsewhere(handing) => {
                self.pass_on(handing, port, (bytes, offload), (mark, arrived_ns));
            }
            Verdict::Pass | Verdict::Held | Verdict::Drop(_) => {}
        }
        self.outbox.clear();
    }
}
