//! Workers over recorded traffic, from memory: what a worker's whole turn costs a frame, without sockets, and without a
//! program that makes the traffic and competes for the same CPUs.
//!
//! A [`Tape`] is laid into the slots of a ring batch by batch, as the kernel would, and what leaves is copied once and
//! counted. Everything between is the daemon's own: workers, each with its engine, as `uvs run` starts them.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{EventfdFlags, eventfd};
use rustix::time::{ClockId, clock_gettime};
use uvs_core::counters::Counters;
use uvs_core::crew::Fan;
use uvs_core::engine::Engine;
use uvs_core::fib::Fib;
use uvs_core::frame::{Frame, Offload};
use uvs_core::snapshot::{Limits, Snapshot};
use uvs_core::verdict::DropReason;

use crate::connection_log::ConnectionLog;
use crate::cpu;
use crate::daemon::Placement;
use crate::port::fan_out::FanOut;
use crate::port::filter::{FilterSpec, Program};
use crate::port::vnet::{self, VNET_LEN};
use crate::port::{
    Budget, Coverage, Ends, Flushed, FrameRef, HandedRing, Link, Receive, Received, RxMeta,
    RxStatistics, Transmit,
};
use crate::worker::{Desired, Ports};
use crate::workers::{Common, Workers};

/// Bytes of a slot: a frame of an Ethernet MTU with its headroom.
const SLOT: usize = 2048;
/// Free bytes before each frame.
const HEADROOM: usize = 128;
/// How long a tape may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Frames of one port that come in together, at most [`Tape::BATCH`].
pub type Batch = Vec<(Vec<u8>, Offload)>;

/// Recorded traffic: what each port gets, turn by turn. A port that gets nothing in a turn has an empty batch.
#[derive(Debug)]
pub struct Tape {
    turns: Vec<[Batch; Self::PORTS]>,
}

impl Tape {
    /// Ports that a worker has.
    pub const PORTS: usize = 2;
    /// Frames that a port gets in a turn at most: what a worker takes.
    pub const BATCH: usize = 64;

    /// A tape of these turns.
    ///
    /// # Errors
    /// A batch or a frame is too large for the ring.
    pub fn new(turns: Vec<[Batch; Self::PORTS]>) -> Result<Self> {
        let batches = || turns.iter().flatten();
        let fits = |(bytes, _): &(Vec<u8>, Offload)| VNET_LEN + HEADROOM + bytes.len() <= SLOT;
        anyhow::ensure!(
            batches().all(|batch| batch.len() <= Self::BATCH && batch.iter().all(fits)),
            "a batch has at most {} frames, and a frame at most {} bytes",
            Self::BATCH,
            SLOT - VNET_LEN - HEADROOM
        );
        Ok(Self { turns })
    }

    /// Frames on it.
    pub fn frames(&self) -> usize {
        self.turns.iter().flatten().map(Vec::len).sum()
    }
}

/// How a worker's part went.
#[derive(Clone, Debug)]
pub struct Played {
    /// What its engine counted.
    pub counters: Counters,
    /// From its first frame to its last.
    pub lasted: Duration,
    /// Processor time of its thread meanwhile.
    pub cpu: Duration,
}

/// What a worker plays.
pub struct Part {
    /// Its engine, without services.
    pub engine: Engine,
    /// Its traffic.
    pub tape: Arc<Tape>,
    /// How often the tape is played.
    pub passes: usize,
    /// The CPU that its thread is to run on; `None` = any.
    pub cpu: Option<usize>,
}

/// Plays all parts at once, each through a worker of its own, with these services and this network.
///
/// # Errors
/// The host has no thread or descriptor left, the services cannot be served, or it takes too long.
pub fn play(parts: Vec<Part>, fib: Arc<Fib>, snapshot: Arc<Snapshot>) -> Result<Vec<Played>> {
    let start = Arc::new(AtomicBool::new(false));
    let (mut events, mut times, mut staffed) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        let (done, time) = channel();
        let mut interfaces = Vec::new();
        for port in 0..Tape::PORTS {
            let event = Arc::new(eventfd(0, EventfdFlags::NONBLOCK)?);
            let last = port + 1 == Tape::PORTS;
            let reel = Reel {
                tape: Arc::clone(&part.tape),
                port,
                turns: 0..part.tape.turns.len() * part.passes,
                start: Arc::clone(&start),
                event: Arc::clone(&event),
                slots: vec![0; Tape::BATCH * SLOT],
                batch: Vec::with_capacity(Tape::BATCH),
                received: 0,
                pin: part.cpu.filter(|_| port == 0),
                begun: None,
                done: last.then(|| done.clone()),
            };
            interfaces.push(ends(reel));
            events.push(event);
        }
        let host = ends(Reel::silent(Arc::new(eventfd(0, EventfdFlags::NONBLOCK)?)));
        let ports = Ports {
            interfaces,
            host,
            reinject: Box::new(Outlet::default()),
            hooked: None,
            handed_down: None,
        };
        staffed.push((part.engine, ports));
        times.push(time);
    }
    // Each has connections of its own, and frames of no other's.
    let common = Common {
        placement: &Placement::default(),
        fan: Fan::new(1, 0),
        local_ports: Limits::default().local_ports,
        log: &ConnectionLog::default(),
    };
    let mut workers = Workers::start(staffed, fib, &common, || ())?;
    let played = (|| {
        workers.put_in_force(Desired {
            snapshot,
            filter: Arc::new(FilterSpec::default().compile()),
            host_filter: Arc::new(FilterSpec::default().compile()),
            fan_out: None,
        })?;
        start.store(true, Ordering::Release);
        for event in &events {
            rustix::io::write(event, &1u64.to_ne_bytes()).context("wake a worker")?;
        }
        let times = times.iter().map(|time| time.recv_timeout(PATIENCE));
        let times: Vec<_> = times
            .collect::<Result<_, _>>()
            .context("a worker did not come to its tape's end")?;
        let counted = workers.status()?.each;
        let each = counted.into_iter().zip(times);
        let each = each.map(|(status, (lasted, cpu))| Played {
            counters: status.counted.counters,
            lasted,
            cpu,
        });
        Ok(each.collect())
    })();
    workers.stop();
    played
}

fn ends(reel: Reel) -> Ends {
    (Box::new(reel), Box::new(Outlet::default()))
}

/// The receiving side: a ring that a tape is laid into.
struct Reel {
    tape: Arc<Tape>,
    /// Which of the tape's ports it is.
    port: usize,
    /// Turns that are still to come, over all passes.
    turns: Range<usize>,
    start: Arc<AtomicBool>,
    event: Arc<OwnedFd>,
    slots: Vec<u8>,
    batch: Vec<Laid>,
    received: u64,
    /// The CPU that the thread is to run on, until it does.
    pin: Option<usize>,
    /// When the first turn began, and what processor time the thread had had.
    begun: Option<(Instant, Duration)>,
    /// Told at the end how long it took, and what processor time.
    done: Option<Sender<(Duration, Duration)>>,
}

/// A frame of the current batch.
struct Laid {
    len: usize,
    offload: Offload,
    sealed: Range<usize>,
}

impl Reel {
    /// One that nothing comes in by.
    fn silent(event: Arc<OwnedFd>) -> Self {
        Self {
            tape: Arc::new(Tape { turns: Vec::new() }),
            port: 0,
            turns: 0..0,
            start: Arc::default(),
            event,
            slots: Vec::new(),
            batch: Vec::new(),
            received: 0,
            pin: None,
            begun: None,
            done: None,
        }
    }

    fn slot(&mut self, index: usize) -> &mut [u8] {
        &mut self.slots[index * SLOT..(index + 1) * SLOT]
    }
}

impl Receive for Reel {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.event.as_fd()]
    }

    fn is_ready(&self) -> bool {
        !self.turns.is_empty() && self.start.load(Ordering::Acquire)
    }

    fn fill(&mut self, _budget: Budget) -> usize {
        if !self.is_ready() {
            return 0;
        }
        if let Some(own) = self.pin.take()
            && let Err(error) = cpu::pin(own)
        {
            tracing::warn!("a worker is not on CPU {own}: {error}");
        }
        self.begun
            .get_or_insert_with(|| (Instant::now(), cpu_time()));
        let turn = self.turns.next().unwrap_or_default();
        let tape = Arc::clone(&self.tape);
        let batch = &tape.turns[turn % tape.turns.len()][self.port];
        for (index, (bytes, offload)) in batch.iter().enumerate() {
            let start = VNET_LEN + HEADROOM;
            self.slot(index)[start..start + bytes.len()].copy_from_slice(bytes);
            self.batch.push(Laid {
                len: bytes.len(),
                offload: *offload,
                sealed: 0..0,
            });
        }
        self.received += batch.len() as u64;
        batch.len()
    }

    fn frame(&mut self, index: usize) -> Received<'_> {
        let Laid { len, offload, .. } = self.batch[index];
        let meta = RxMeta {
            len: u32::try_from(len).unwrap_or(u32::MAX),
            arrived_ns: 0,
        };
        let buffer = &mut self.slot(index)[VNET_LEN..];
        let frame = Frame::new(buffer, HEADROOM, HEADROOM + len, offload);
        Received::Frame(frame, meta)
    }

    fn seal(&mut self, index: usize, range: Range<usize>, offload: &Offload) {
        let header = vnet::encode(offload);
        self.slot(index)[range.start..range.start + VNET_LEN].copy_from_slice(&header);
        self.batch[index].sealed = range.start..range.end + VNET_LEN;
    }

    fn sealed(&self, index: usize) -> &[u8] {
        &self.slots[index * SLOT..(index + 1) * SLOT][self.batch[index].sealed.clone()]
    }

    fn release(&mut self) {
        self.batch.clear();
        let Some((begun, before)) = self.begun.filter(|_| self.turns.is_empty()) else {
            return;
        };
        if let Some(done) = self.done.take() {
            // Nobody listens any more where it took too long.
            let _ = done.send((begun.elapsed(), cpu_time().saturating_sub(before)));
        }
    }

    fn set_filter(&mut self, _program: &Program) -> io::Result<Coverage> {
        Ok(Coverage::Everything)
    }

    fn set_fan_out(&mut self, _: &FanOut) -> io::Result<()> {
        Ok(())
    }

    fn link(&mut self) -> Link {
        Link::Up
    }

    fn has_stalled(&mut self) -> bool {
        false
    }

    /// It has no ring of the kernel's.
    fn hand_down(&self) -> io::Result<Vec<HandedRing>> {
        Ok(Vec::new())
    }

    fn statistics(&mut self) -> RxStatistics {
        RxStatistics {
            received: self.received,
            ..RxStatistics::default()
        }
    }
}

/// The sending side: copies each frame out, as the kernel does, and forgets it.
struct Outlet {
    queue: Vec<FrameRef>,
    copies: Flushed,
    wire: Vec<u8>,
}

impl Default for Outlet {
    fn default() -> Self {
        Self {
            queue: Vec::new(),
            copies: Flushed::default(),
            wire: vec![0; SLOT],
        }
    }
}

impl Outlet {
    fn send(&mut self, sealed: &[u8], flushed: &mut Flushed) {
        self.wire[..sealed.len()].copy_from_slice(sealed);
        flushed.sent += 1;
        flushed.bytes += sealed.len().saturating_sub(VNET_LEN) as u64;
    }
}

impl Transmit for Outlet {
    fn queue(&mut self, frame: FrameRef) {
        self.queue.push(frame);
    }

    fn queue_copy(&mut self, bytes: &[u8], _offload: &Offload) -> Result<(), DropReason> {
        self.copies.sent += 1;
        self.copies.bytes += bytes.len() as u64;
        Ok(())
    }

    fn flush(&mut self, sources: &[Box<dyn Receive>]) -> Flushed {
        let mut flushed = std::mem::take(&mut self.copies);
        let mut queue = std::mem::take(&mut self.queue);
        for at in queue.drain(..) {
            self.send(
                sources[usize::from(at.source.0)].sealed(at.index),
                &mut flushed,
            );
        }
        self.queue = queue;
        flushed
    }

    fn errors(&self) -> &[(i32, u64)] {
        &[]
    }
}

/// Processor time that this thread has had.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
