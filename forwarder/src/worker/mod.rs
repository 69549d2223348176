//! The worker: one thread, one engine, all ports. It takes batches, asks the engine, sends, and lets the
//! time pass; desired state comes in by [`Watch`]es, questions by a channel, and nothing blocks it.

mod hold;
mod ledger;
pub(crate) mod watch;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::os::fd::{AsFd, AsRawFd};
use uvs_core::counters::Counters;
use uvs_core::engine::{ConnReport, Engine, Event, Report};
use uvs_core::fib::Fib;
use uvs_core::flow::{Addr, Endpoint};
use uvs_core::frame::{Frame, Offload};
use uvs_core::outbox::Outbox;
use uvs_core::service::ServiceKey;
use uvs_core::snapshot::Snapshot;
use uvs_core::time::Instant;
use uvs_core::trace::Trace;
use uvs_core::verdict::{DropReason, Egress, PortId, Verdict};

use crate::port::filter::Program;
use crate::port::vnet::VNET_LEN;
use crate::port::{Budget, Coverage, FrameRef, Link, Receive, Received, RxStatistics, Transmit};
use crate::trace::arrival::Arrival;
use crate::trace::live::{Live, Seen};
use crate::trace::{self, LiveRequest, LiveState};
use hold::{Admission, Held, HoldQueue};
use ledger::batch_bucket;
pub(crate) use ledger::{BATCH_BUCKETS, Ledger};
use watch::Watch;

/// Connections looked at for expiry per turn: a bounded pause for the packets that wait.
const EXPIRY_BUDGET: u32 = 1024;
/// The longest sleep: frames held for a next hop are looked at this often.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);
/// Turns without a pause after which the interfaces' states are looked at all the same.
const LINK_TURNS: u32 = 256;
/// Connections copied per question.
const PAGE: u32 = 2048;
/// Bytes of a MAC address.
const MAC_LEN: usize = 6;
/// The waker's token; ports have theirs from 0.
const WAKE: Token = Token(usize::MAX);

/// The desired state as the worker takes it up.
pub(crate) struct Desired {
    /// Services.
    pub(crate) snapshot: Arc<Snapshot>,
    /// What the ports let through.
    pub(crate) filter: Program,
}

/// What control and worker share.
pub(crate) struct Shared {
    /// Services and filter.
    pub(crate) desired: Watch<Desired>,
    /// Interfaces, routes and neighbours.
    pub(crate) fib: Watch<Fib>,
}

/// What a worker is asked.
pub(crate) enum Ask {
    /// Answer once all that was published before is in force.
    Sync(Sender<Result<(), String>>),
    /// Copy the counters.
    Report(Sender<Status>),
    /// How many connections each of these servers has, removed or not.
    ConnectionsOf(Vec<(ServiceKey, Endpoint)>, Sender<Vec<u32>>),
    /// Copy a page of connections, from this place on.
    Connections(u32, Sender<Page>),
    /// What would become of these frames, each seeing what those before it did.
    Trace(Vec<Arrival>, Sender<Vec<Option<Trace>>>),
    /// Look into real frames from now on; `false` = somebody's look is not over yet.
    Live(LiveRequest, Sender<bool>),
    /// What was seen since this was last asked.
    LiveSeen(Sender<(Vec<Seen>, LiveState)>),
    /// An interface is back: use this port.
    Port(PortId, Box<dyn Receive>, Box<dyn Transmit>),
    /// The kernel has given up on this next hop.
    Unreachable(PortId, Addr),
    /// Send a frame.
    Send(PortId, Vec<u8>),
    /// End.
    Stop,
}

/// Some connections, and the place to go on from.
pub(crate) type Page = (Vec<ConnReport>, Option<u32>);

/// A copy of everything the worker counts.
#[derive(Clone)]
pub(crate) struct Status {
    /// When it was copied.
    pub(crate) taken: Instant,
    /// When the worker began to count.
    pub(crate) started: Instant,
    /// Services and servers.
    pub(crate) services: Report,
    /// The engine's totals.
    pub(crate) counters: Counters,
    /// Connections in the table.
    pub(crate) connections: u32,
    /// Per port.
    pub(crate) ports: Vec<PortStatus>,
    /// The way into the host's own stack, which nothing comes in by.
    pub(crate) own: PortStatus,
    /// Nanoseconds from a frame's arrival in the ring until it was sent.
    pub(crate) latency: Histogram<u64>,
    /// Batches by size, and the frames in all of them.
    pub(crate) batches: ([u64; BATCH_BUCKETS], u64),
    /// How long the worker has worked.
    pub(crate) busy: Duration,
    /// How long it has waited.
    pub(crate) waited: Duration,
}

/// What one port counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct PortStatus {
    /// Received by the kernel for us.
    pub(crate) rx: RxStatistics,
    /// Where the frames went.
    pub(crate) ledger: Ledger,
    /// Frames that wait for their next hop.
    pub(crate) waiting: u64,
    /// Refused frames by errno.
    pub(crate) errors: BTreeMap<i32, u64>,
}

/// What a worker tells the control thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A frame waits for this next hop: have the kernel resolve it.
    Solicit(PortId, Addr),
    /// A port's interface is gone.
    Gone(PortId),
    /// Something happened to a server's connections.
    Server(Event),
}

/// The worker's end of everything.
pub(crate) struct Worker {
    engine: Engine,
    rx: Vec<Box<dyn Receive>>,
    tx: Vec<Box<dyn Transmit>>,
    /// Into the host's own stack.
    own: Box<dyn Transmit>,
    own_ledger: Ledger,
    gone: Vec<bool>,
    ledgers: Vec<Ledger>,
    batches: ([u64; BATCH_BUCKETS], u64),
    started: Instant,
    waited: Duration,
    poll: Poll,
    shared: Arc<Shared>,
    seen_desired: u64,
    seen_fib: u64,
    apply_error: Option<String>,
    fib: Arc<Fib>,
    filter: Option<Arc<Desired>>,
    asks: Receiver<Ask>,
    notices: Box<dyn Fn(Notice) + Send>,
    hold: HoldQueue,
    given_up: Vec<(PortId, Held)>,
    outbox: Outbox,
    latency: Histogram<u64>,
    arrivals: Vec<u64>,
    live: Option<Box<Live>>,
}

impl Worker {
    /// A worker over ports in the order of their [`PortId`]s, with the waker that ends its sleep.
    pub(crate) fn new(
        engine: Engine,
        ports: Vec<(Box<dyn Receive>, Box<dyn Transmit>)>,
        own: Box<dyn Transmit>,
        shared: Arc<Shared>,
        asks: Receiver<Ask>,
        notices: Box<dyn Fn(Notice) + Send>,
    ) -> std::io::Result<(Self, Arc<Waker>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (rx, tx): (Vec<_>, Vec<_>) = ports.into_iter().unzip();
        for (i, r) in rx.iter().enumerate() {
            register(&poll, r.as_ref(), i)?;
        }
        let count = rx.len();
        let worker = Self {
            engine,
            rx,
            tx,
            own,
            own_ledger: Ledger::default(),
            gone: vec![false; count],
            ledgers: vec![Ledger::default(); count],
            batches: Default::default(),
            started: monotonic(),
            waited: Duration::ZERO,
            poll,
            shared,
            seen_desired: 0,
            seen_fib: 0,
            apply_error: None,
            fib: Arc::new(Fib::new()),
            filter: None,
            asks,
            notices,
            hold: HoldQueue::default(),
            given_up: Vec::new(),
            outbox: Outbox::new(),
            // 1 ns to 10 s at two digits: 28 KiB.
            latency: Histogram::new_with_bounds(1, 10_000_000_000, 2)
                .map_err(std::io::Error::other)?,
            arrivals: Vec::new(),
            live: None,
        };
        Ok((worker, waker))
    }

    /// Runs until told to stop.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(64);
        let mut busy_turns = 0_u32;
        loop {
            let now = monotonic();
            self.take_up();
            let busy = self.turn(now);
            let expiring = self.expire(now);
            self.give_up_on_held(now);
            if !self.answer_asks(now) {
                return;
            }
            let work = busy || expiring || self.rx.iter().any(|r| r.is_ready());
            busy_turns = if work { busy_turns.wrapping_add(1) } else { 0 };
            if !work {
                let before = monotonic();
                let _ = self.poll.poll(&mut events, Some(self.sleep(now)));
                self.waited += monotonic().since(before);
                self.look_at_links(&events);
            } else if busy_turns.is_multiple_of(LINK_TURNS) {
                // Readiness is asked of the rings, not of epoll; only links need it while there is work.
                let _ = self.poll.poll(&mut events, Some(Duration::ZERO));
                self.look_at_links(&events);
            }
        }
    }

    /// Takes up what was published since.
    fn take_up(&mut self) {
        if let Some(fib) = self.shared.fib.newer(&mut self.seen_fib) {
            self.engine.set_fib(Arc::clone(&fib));
            let (tx, ledgers, engine) = (&mut self.tx, &mut self.ledgers, &mut self.engine);
            self.hold.resolved(&fib, |port, held| {
                let port = usize::from(port.0);
                if let Err(reason) = tx[port].queue_copy(&held.bytes, &held.offload) {
                    ledgers[port].lose(1, reason);
                    engine.count_lost(1, reason);
                }
            });
            self.fib = fib;
            self.flush();
        }
        if let Some(desired) = self.shared.desired.newer(&mut self.seen_desired) {
            self.apply_error = self
                .engine
                .apply(Arc::clone(&desired.snapshot))
                .err()
                .map(|e| e.to_string());
            for rx in &mut self.rx {
                set_filter(rx.as_mut(), &desired.filter);
            }
            self.filter = Some(desired);
        }
    }

    /// Lets the engine do what is due by time, and sends what it says; whether there is more at once.
    fn expire(&mut self, now: Instant) -> bool {
        let more = self
            .engine
            .handle_timeout(now, EXPIRY_BUDGET, &mut self.outbox);
        if !self.outbox.is_empty() {
            self.send_outbox(now);
            self.outbox.clear();
            self.flush();
        }
        for event in self.engine.take_events() {
            (self.notices)(Notice::Server(event));
        }
        more
    }

    /// One batch of every port; whether there was anything.
    fn turn(&mut self, now: Instant) -> bool {
        let mut busy = false;
        for port in 0..self.rx.len() {
            let count = self.rx[port].fill(Budget::default());
            if count > 0 {
                self.ledgers[port].received += count as u64;
                self.batches.0[batch_bucket(count)] += 1;
                self.batches.1 += count as u64;
            }
            for index in 0..count {
                self.handle(now, port, index);
            }
            busy |= count > 0;
        }
        if busy {
            self.flush();
            self.record_latency();
            for rx in &mut self.rx {
                rx.release();
            }
        }
        busy
    }

    fn handle(&mut self, now: Instant, port: usize, index: usize) {
        let id = PortId(port as u16);
        let (verdict, range, offload) = match self.rx[port].frame(index) {
            Received::Pass => {
                self.engine.count_passed();
                return self.ledgers[port].end(Verdict::Pass);
            }
            Received::Drop(reason) => {
                self.engine.count_unhandled(reason);
                return self.ledgers[port].end(Verdict::Drop(reason));
            }
            Received::Frame(mut frame, meta) => {
                let looked = self.live.as_mut();
                let looked = looked.is_some_and(|l| l.look(&self.engine, now, id, &frame));
                let verdict = self
                    .engine
                    .handle_frame(now, id, &mut frame, &mut self.outbox);
                if looked && let Some(live) = &mut self.live {
                    live.note(&self.engine, verdict);
                }
                self.ledgers[port].end(verdict);
                self.ledgers[port].bytes += u64::from(meta.len);
                if matches!(verdict, Verdict::Send(_) | Verdict::SendOutbox) {
                    self.arrivals.push(meta.arrived_ns);
                }
                if let Verdict::Send(Egress {
                    port,
                    unresolved: Some(via),
                }) = verdict
                {
                    let admission = self.hold.keep(now, port, via, frame.bytes(), frame.offload);
                    self.ledgers[usize::from(port.0)].handed += 1;
                    return self.held(port, via, admission);
                }
                (verdict, frame.range(), frame.offload)
            }
        };
        match verdict {
            Verdict::Send(egress) => {
                self.rx[port].seal(index, range, &offload);
                self.ledgers[usize::from(egress.port.0)].handed += 1;
                self.tx[usize::from(egress.port.0)].queue(FrameRef { source: id, index });
            }
            Verdict::SendOutbox | Verdict::Answered => self.send_outbox(now),
            Verdict::Local => self.send_to_host(port, index, range, &offload),
            Verdict::Pass | Verdict::Held | Verdict::Drop(_) => {}
        }
        self.outbox.clear();
    }

    /// For the host itself, which the guard has kept from it: in by the loopback interface.
    fn send_to_host(&mut self, port: usize, index: usize, range: Range<usize>, offload: &Offload) {
        let outbox = std::mem::take(&mut self.outbox);
        let (mut handed, mut lost) = (0, 0);
        let mut send = |bytes: &[u8], offload: &Offload| {
            let mut bytes = bytes.to_vec();
            bytes[..2 * MAC_LEN].fill(0);
            handed += 1;
            lost += u64::from(self.own.queue_copy(&bytes, offload).is_err());
        };
        if outbox.is_empty() {
            self.rx[port].seal(index, range, offload);
            send(&self.rx[port].sealed(index)[VNET_LEN..], offload);
        } else {
            outbox
                .iter()
                .for_each(|(bytes, offload, _)| send(bytes, &offload));
        }
        self.own_ledger.handed += handed;
        self.own_ledger.lose(lost, DropReason::SendQueueFull);
        self.engine.count_lost(lost, DropReason::SendQueueFull);
        self.outbox = outbox;
    }

    fn send_outbox(&mut self, now: Instant) {
        let outbox = std::mem::take(&mut self.outbox);
        for (bytes, offload, egress) in outbox.iter() {
            let port = usize::from(egress.port.0);
            self.ledgers[port].handed += 1;
            if let Some(via) = egress.unresolved {
                let admission = self.hold.keep(now, egress.port, via, bytes, offload);
                self.held(egress.port, via, admission);
            } else if let Err(reason) = self.tx[port].queue_copy(bytes, &offload) {
                self.lose(port, 1, reason);
            }
        }
        self.outbox = outbox;
    }

    fn held(&mut self, port: PortId, via: Addr, admission: Admission) {
        match admission {
            Admission::First => (self.notices)(Notice::Solicit(port, via)),
            Admission::Kept => {}
            Admission::Full => self.lose(usize::from(port.0), 1, DropReason::HoldQueueFull),
        }
    }

    /// Frames that were to leave by a port did not.
    fn lose(&mut self, port: usize, n: u64, reason: DropReason) {
        self.ledgers[port].lose(n, reason);
        self.engine.count_lost(n, reason);
    }

    fn flush(&mut self) {
        let own = self.own.flush(&self.rx);
        self.own_ledger.flushed(&own);
        self.engine
            .count_lost(own.queue_full + own.failed, DropReason::SendFailed);
        for (tx, ledger) in self.tx.iter_mut().zip(&mut self.ledgers) {
            let flushed = tx.flush(&self.rx);
            ledger.flushed(&flushed);
            self.engine
                .count_lost(flushed.queue_full, DropReason::SendQueueFull);
            self.engine
                .count_lost(flushed.failed, DropReason::SendFailed);
        }
    }

    /// One clock reading for the whole batch: it left together.
    fn record_latency(&mut self) {
        let now = realtime_ns();
        for arrived in self.arrivals.drain(..) {
            self.latency
                .saturating_record(now.saturating_sub(arrived).max(1));
        }
    }

    /// Frames whose next hop did not answer in time are lost, and their senders are told.
    fn give_up_on_held(&mut self, now: Instant) {
        if !self.hold.is_empty() {
            self.hold.expire(now, &mut self.given_up);
            self.tell_senders(now);
        }
    }

    fn tell_senders(&mut self, now: Instant) {
        for (port, held) in std::mem::take(&mut self.given_up) {
            self.lose(usize::from(port.0), 1, DropReason::NeighbourUnresolved);
            let mut bytes = held.bytes;
            let end = bytes.len();
            let mut frame = Frame::new(&mut bytes, 0, end, held.offload);
            self.engine
                .handle_unreachable(now, &mut frame, &mut self.outbox);
            self.send_outbox(now);
            self.outbox.clear();
        }
        self.flush();
    }

    fn sleep(&self, now: Instant) -> Duration {
        let expiry = self
            .engine
            .poll_timeout()
            .map_or(LONGEST_SLEEP, |t| t.since(now));
        expiry.clamp(Duration::from_millis(1), LONGEST_SLEEP)
    }

    /// An interface that changed its state makes its port's descriptor report it.
    fn look_at_links(&mut self, events: &Events) {
        for event in events {
            let Token(port) = event.token();
            if event.token() == WAKE || !(event.is_error() || event.is_read_closed()) {
                continue;
            }
            if self.rx[port].link() == Link::Gone && !self.gone[port] {
                self.gone[port] = true;
                let _ = self
                    .poll
                    .registry()
                    .deregister(&mut SourceFd(&self.rx[port].as_fd().as_raw_fd()));
                (self.notices)(Notice::Gone(PortId(port as u16)));
            }
        }
    }

    /// Answers what is asked; `false` = stop.
    fn answer_asks(&mut self, now: Instant) -> bool {
        loop {
            match self.asks.try_recv() {
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) | Ok(Ask::Stop) => return false,
                Ok(Ask::Sync(to)) => {
                    self.take_up();
                    let _ = to.send(self.apply_error.clone().map_or(Ok(()), Err));
                }
                Ok(Ask::Report(to)) => {
                    let _ = to.send(self.status());
                }
                Ok(Ask::Connections(from, to)) => {
                    let _ = to.send(self.engine.report_connections(now, from, PAGE));
                }
                Ok(Ask::ConnectionsOf(servers, to)) => {
                    let of = |(service, server)| self.engine.connections_of(service, server);
                    let _ = to.send(servers.into_iter().map(of).collect());
                }
                Ok(Ask::Trace(arrivals, to)) => {
                    let _ = to.send(trace::rehearse(&self.engine, now, &arrivals));
                }
                Ok(Ask::Live(request, to)) => {
                    let free = self.live.as_ref().is_none_or(|live| live.is_over(now));
                    if free {
                        self.live = Some(Box::new(Live::new(request, now)));
                    }
                    let _ = to.send(free);
                }
                Ok(Ask::LiveSeen(to)) => {
                    let _ = to.send(self.live_seen(now));
                }
                Ok(Ask::Unreachable(port, via)) => {
                    self.hold.give_up(port, via, &mut self.given_up);
                    self.tell_senders(now);
                }
                Ok(Ask::Port(port, rx, tx)) => self.replace_port(usize::from(port.0), rx, tx),
                Ok(Ask::Send(port, bytes)) => self.send(usize::from(port.0), &bytes),
            }
        }
    }

    /// What the look at real frames has seen; one that is over ends with it.
    fn live_seen(&mut self, now: Instant) -> (Vec<Seen>, LiveState) {
        let Some(live) = &mut self.live else {
            let over = true;
            return (Vec::new(), LiveState { over, matched: 0 });
        };
        let seen = live.take(now);
        if seen.1.over {
            self.live = None;
        }
        seen
    }

    /// A frame of the control thread's, which was never received: what becomes of it is not counted with
    /// the engine's.
    fn send(&mut self, port: usize, bytes: &[u8]) {
        self.flush();
        // With nothing else queued there is room, and a link that is down is told of by itself.
        let ledger = &mut self.ledgers[port];
        ledger.handed += 1;
        if let Err(reason) = self.tx[port].queue_copy(bytes, &Default::default()) {
            ledger.lose(1, reason);
        }
        ledger.flushed(&self.tx[port].flush(&self.rx));
    }

    fn replace_port(&mut self, port: usize, mut rx: Box<dyn Receive>, tx: Box<dyn Transmit>) {
        if !self.gone[port] {
            let _ = self
                .poll
                .registry()
                .deregister(&mut SourceFd(&self.rx[port].as_fd().as_raw_fd()));
        }
        if let Some(desired) = &self.filter {
            set_filter(rx.as_mut(), &desired.filter);
        }
        if let Err(e) = register(&self.poll, rx.as_ref(), port) {
            tracing::error!("port {port} cannot be watched again: {e}");
        }
        self.ledgers[port].keep(self.rx[port].statistics(), self.tx[port].errors());
        (self.rx[port], self.tx[port], self.gone[port]) = (rx, tx, false);
    }

    fn status(&mut self) -> Status {
        let ports = self.rx.iter_mut().zip(&self.tx).zip(&self.ledgers);
        let ports = ports.enumerate().map(|(i, ((rx, tx), ledger))| PortStatus {
            rx: ledger.rx(rx.statistics()),
            waiting: self.hold.waiting(PortId(i as u16)),
            errors: ledger.errors(tx.errors()),
            ledger: ledger.clone(),
        });
        Status {
            taken: monotonic(),
            started: self.started,
            ports: ports.collect(),
            own: PortStatus {
                errors: self.own_ledger.errors(self.own.errors()),
                ledger: self.own_ledger.clone(),
                ..PortStatus::default()
            },
            services: self.engine.report(),
            counters: self.engine.counters().clone(),
            connections: self.engine.connections().len(),
            latency: self.latency.clone(),
            batches: self.batches,
            busy: monotonic().since(self.started).saturating_sub(self.waited),
            waited: self.waited,
        }
    }
}

fn register(poll: &Poll, rx: &dyn Receive, port: usize) -> std::io::Result<()> {
    let fd = rx.as_fd().as_raw_fd();
    poll.registry()
        .register(&mut SourceFd(&fd), Token(port), Interest::READABLE)
}

fn set_filter(rx: &mut dyn Receive, program: &Program) {
    match rx.set_filter(program) {
        Ok(Coverage::Exact) => {}
        Ok(Coverage::Everything) => {
            tracing::warn!(
                "more addresses than a socket filter holds: all IPv4 traffic is looked at"
            );
        }
        Err(e) => tracing::error!("a socket filter was refused: {e}"),
    }
}

/// CLOCK_MONOTONIC as the engine's time.
pub(crate) fn monotonic() -> Instant {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Instant(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
}

/// CLOCK_REALTIME, which the ring's time stamps are in.
fn realtime_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}
