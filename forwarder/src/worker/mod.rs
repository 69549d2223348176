//! A worker: one thread, one engine, a port of every interface. It takes batches, asks the engine, sends, and
//! lets the time pass; desired state comes in by [`Watch`](watch::Watch)es, questions by a channel, and nothing
//! blocks it. It knows of no other worker.

mod ahead;
mod answers;
mod ask;
mod colleagues;
mod heartbeat;
mod hold;
mod inheritance;
mod latency;
mod ledger;
mod out;
mod status;
mod succession;
pub(crate) mod watch;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::os::fd::AsRawFd;
use uvs_core::engine::{Engine, Seen};
use uvs_core::fib::Fib;
use uvs_core::flow::Addr;
use uvs_core::frame::Frame;
use uvs_core::offload::{Hook, Reach, Room};
use uvs_core::outbox::Outbox;
use uvs_core::time::Instant;
use uvs_core::verdict::{Egress, PortId, Verdict};

use crate::clock::monotonic;
use crate::port::filter::Program;
use crate::port::{Budget, Coverage, Ends, FrameRef, Link, Receive, Received, Transmit, port_id};
use crate::trace::live::Live;
pub(crate) use ask::{Ask, Desired, KillOrder, Line, Notice, Published};
pub(crate) use colleagues::Colleagues;
pub(crate) use heartbeat::Heartbeat;
use hold::{Held, HoldQueue};
pub(crate) use inheritance::Inheritance;
pub(crate) use latency::Latencies;
pub(crate) use ledger::BATCH_BUCKETS;
use ledger::{Before, Ledger, batch_bucket};
pub(crate) use status::{PortStatus, Status, Work, WorkerStatus};
pub(crate) use succession::{Estate, HandedDown, Own};

/// Connections looked at for expiry per turn: a bounded pause for the packets that wait.
const EXPIRY_BUDGET: u32 = 1024;
/// The longest sleep: frames held for a next hop are looked at this often.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);
/// How often the ports are asked whether the kernel still fills their rings.
const STALL_LOOK: Duration = Duration::from_secs(1);
/// Turns without a pause after which the interfaces' states are looked at all the same.
const LINK_TURNS: u32 = 256;
/// The waker's token; ports have theirs from 0.
const WAKE: Token = Token(usize::MAX);

/// What a worker uses of the hook.
pub(crate) struct Hooked {
    /// Its end of the program's memory.
    pub(crate) hook: Box<dyn Hook>,
    /// How far the kernel's part goes.
    pub(crate) reach: Reach,
    /// How much of the memory is its own.
    pub(crate) room: Room,
    /// What an earlier daemon has left there.
    pub(crate) inheritance: Option<Inheritance>,
}

/// All that a worker takes frames from, and gives them to.
pub(crate) struct Ports {
    /// Of the interfaces, in the order of their [`PortId`]s.
    pub(crate) interfaces: Vec<Ends>,
    /// The host's own stack, for its programs.
    pub(crate) host: Ends,
    /// Into the host's own stack, to be forwarded.
    pub(crate) reinject: Box<dyn Transmit>,
    /// The hook, where its program tells what is ours and the engine has it not yet.
    pub(crate) hooked: Option<Hooked>,
    /// What a worker of another process has handed down, whose rings these are.
    pub(crate) handed_down: Option<Own>,
}

/// The worker's end of everything.
pub(crate) struct Worker {
    engine: Engine,
    line: Line,
    /// The ports, and behind them the host's own stack.
    rx: Vec<Box<dyn Receive>>,
    tx: Vec<Box<dyn Transmit>>,
    /// Into the host's own stack, to be forwarded.
    reinject: Box<dyn Transmit>,
    gone: Vec<bool>,
    ledgers: Vec<Ledger>,
    before: Vec<Before>,
    batches: ([u64; BATCH_BUCKETS], u64),
    started: Instant,
    waited: Duration,
    looked_for_stalls: Instant,
    poll: Poll,
    seen_desired: u64,
    seen_fib: u64,
    apply_error: Option<String>,
    fib: Arc<Fib>,
    filter: Option<Arc<Desired>>,
    hold: HoldQueue,
    given_up: Vec<(PortId, Held)>,
    /// Next hops to be asked for when what is queued has left.
    solicited: Vec<(PortId, Addr)>,
    outbox: Outbox,
    /// What was read of a batch's frames, in their order; none where nobody has looked ahead.
    seen: Vec<Seen>,
    latency: Latencies,
    arrivals: Vec<u64>,
    live: Option<Box<Live>>,
    /// The kernel has no copy of the frames that come in, but for ARP.
    hides: bool,
    /// After a batch it looks once more before it sleeps: what it has forwarded is often answered by then. Not where
    /// the kernel forwards the answers.
    lingers: bool,
    /// What an earlier daemon has left in the kernel, until it is taken over.
    inheritance: Option<Inheritance>,
    /// What a worker of another process has handed down, until there is something to serve.
    handed_down: Option<Own>,
    /// How long it looks for frames before it sleeps, and when it last had some.
    busy_poll: Duration,
    last_busy: Instant,
}

impl Worker {
    /// A worker, with the waker that ends its sleep.
    pub(crate) fn new(
        mut engine: Engine,
        ports: Ports,
        line: Line,
    ) -> std::io::Result<(Self, Waker)> {
        let inheritance = ports.hooked.and_then(|hooked| {
            engine.attach(hooked.hook, hooked.reach, hooked.room);
            hooked.inheritance
        });
        let reach = engine.reach();
        // What stands there before anything was published is nothing to serve by.
        let mut seen_desired = 0;
        line.published.desired.newer(&mut seen_desired);
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let all = ports.interfaces.into_iter().chain([ports.host]);
        let (rx, tx): (Vec<_>, Vec<_>) = all.unzip();
        for (i, r) in rx.iter().enumerate() {
            register(&poll, r.as_ref(), i)?;
        }
        let count = rx.len();
        let worker = Self {
            engine,
            line,
            rx,
            tx,
            reinject: ports.reinject,
            gone: vec![false; count],
            ledgers: vec![Ledger::default(); count],
            before: vec![Before::default(); count],
            batches: Default::default(),
            started: monotonic(),
            waited: Duration::ZERO,
            looked_for_stalls: monotonic(),
            poll,
            seen_desired,
            seen_fib: 0,
            apply_error: None,
            fib: Arc::new(Fib::new()),
            filter: None,
            hold: HoldQueue::default(),
            given_up: Vec::new(),
            solicited: Vec::new(),
            outbox: Outbox::new(),
            seen: Vec::new(),
            latency: Latencies::default(),
            arrivals: Vec::new(),
            live: None,
            hides: reach.is_some(),
            lingers: reach != Some(Reach::Everything),
            inheritance,
            handed_down: ports.handed_down,
            busy_poll: Duration::ZERO,
            last_busy: monotonic(),
        };
        Ok((worker, waker))
    }

    /// Looks for frames for so long before it sleeps.
    pub(crate) const fn poll_busily(&mut self, time: Duration) {
        self.busy_poll = time;
    }

    /// Runs until told to stop.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(64);
        let mut busy_turns = 0_u32;
        loop {
            let now = monotonic();
            self.line.heartbeat.beat(now);
            self.take_up(now);
            self.inherit(now);
            self.engine.catch_up();
            let busy = self.turn(now);
            let expiring = self.is_serving() && self.expire(now);
            self.give_up_on_held(now);
            self.engine.give_orders(now);
            self.look_for_stalls(now);
            if !self.answer_asks(now) {
                return self.close();
            }
            let work =
                busy && self.lingers || expiring || self.has_frames() || self.spins(now, busy);
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

    /// Whether it goes on looking for frames, as it has had some a short while ago.
    fn spins(&mut self, now: Instant, busy: bool) -> bool {
        if self.busy_poll.is_zero() {
            return false;
        }
        if busy {
            self.last_busy = now;
            return true;
        }
        self.waited += monotonic().since(now);
        now.since(self.last_busy) < self.busy_poll
    }

    /// Closing a packet socket takes the kernel a grace period or two (`packet_release`): all sockets at once take no
    /// longer than one.
    fn close(self) {
        let reinject: Box<dyn Transmit> = self.reinject;
        thread::scope(|scope| {
            let close = thread::Builder::new;
            for rx in self.rx {
                let _ = close().spawn_scoped(scope, move || drop(rx));
            }
            for tx in self.tx.into_iter().chain([reinject]) {
                let _ = close().spawn_scoped(scope, move || drop(tx));
            }
        });
    }

    /// Whether frames wait. Before there are services none is looked at: where the hook has outlived an earlier
    /// daemon they may be its connections'.
    fn has_frames(&self) -> bool {
        let waits = || self.line.colleagues.has_frames() || self.rx.iter().any(|r| r.is_ready());
        self.is_serving() && waits()
    }

    /// Takes up what was published since.
    fn take_up(&mut self, now: Instant) {
        if let Some(fib) = self.line.published.fib.newer(&mut self.seen_fib) {
            self.engine.set_fib(Arc::clone(&fib));
            self.fib = fib;
            self.send_resolved(now);
        }
        if let Some(desired) = self.line.published.desired.newer(&mut self.seen_desired) {
            self.apply_error = self
                .engine
                .apply(Arc::clone(&desired.snapshot))
                .err()
                .map(|e| e.to_string());
            let before = self.filter.replace(Arc::clone(&desired));
            let fan_out = before.as_ref().and_then(|d| d.fan_out.as_ref());
            let fan_outs = fan_out.zip(desired.fan_out.as_ref());
            let same_fan_out = fan_outs.is_some_and(|(before, now)| Arc::ptr_eq(before, now));
            for port in 0..self.rx.len() {
                let filter = self.filter_of(port, &desired);
                let before = before.as_ref().map(|d| self.filter_of(port, d));
                if !before.is_some_and(|before| Arc::ptr_eq(before, filter)) {
                    set_filter(self.rx[port].as_mut(), filter);
                }
                if !same_fan_out {
                    set_fan_out(self.rx[port].as_mut(), &desired);
                }
            }
            if let Some(own) = self.handed_down.take() {
                self.succeed(own);
                self.send_resolved(now);
            }
        }
    }

    /// Sends what was held for next hops that are known now.
    fn send_resolved(&mut self, now: Instant) {
        let (tx, ledgers, engine) = (&mut self.tx, &mut self.ledgers, &mut self.engine);
        self.hold.resolved(&self.fib, |port, held| {
            let port = usize::from(port.0);
            if let Err(reason) = tx[port].queue_copy(&held.bytes, &held.offload) {
                ledgers[port].lose(1, reason);
                engine.count_lost(1, reason);
            }
        });
        self.flush(now);
    }

    /// Lets the engine do what is due by time, and sends what it says; whether there is more at once.
    fn expire(&mut self, now: Instant) -> bool {
        let more = self
            .engine
            .handle_timeout(now, EXPIRY_BUDGET, &mut self.outbox);
        if !self.outbox.is_empty() {
            self.send_outbox(now);
            self.outbox.clear();
            self.flush(now);
        }
        for event in self.engine.take_events() {
            (self.line.notices)(Notice::Server(event));
        }
        for claim in self.engine.take_claims() {
            (self.line.notices)(Notice::Claim(claim));
        }
        let (told, lost) = self.engine.take_told();
        if !told.is_empty() {
            (self.line.told)(told, lost);
        }
        self.line.records.take(&mut self.engine);
        more
    }

    /// One batch of every port; whether there was anything.
    fn turn(&mut self, now: Instant) -> bool {
        let mut busy = false;
        if !self.is_serving() {
            return busy;
        }
        for port in 0..self.rx.len() {
            let count = self.rx[port].fill(Budget::default());
            if count > 0 {
                self.ledgers[port].received += count as u64;
                self.batches.0[batch_bucket(count)] += 1;
                self.batches.1 += count as u64;
            }
            self.look_ahead(port, count);
            for index in 0..count {
                self.handle(now, port, index);
            }
            busy |= count > 0;
        }
        busy |= self.take_over(now);
        if busy {
            self.flush(now);
            self.record_latency();
            for rx in &mut self.rx {
                rx.release();
            }
            self.wake_colleagues();
        }
        busy
    }

    /// The place of the host's own stack among the ports.
    fn host(&self) -> usize {
        self.rx.len() - 1
    }

    /// A port's place.
    fn place(&self, port: PortId) -> usize {
        match port {
            PortId::HOST => self.host(),
            PortId(index) => usize::from(index),
        }
    }

    /// What is let in by the port at a place.
    fn filter_of<'a>(&self, port: usize, desired: &'a Desired) -> &'a Arc<Program> {
        if port == self.host() {
            &desired.host_filter
        } else {
            &desired.filter
        }
    }

    fn handle(&mut self, now: Instant, port: usize, index: usize) {
        let id = match port == self.host() {
            true => PortId::HOST,
            false => port_id(port),
        };
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
                let seen = self.seen.get(index);
                let verdict = decide(
                    (&mut self.engine, &mut self.outbox, &mut self.live),
                    (now, id),
                    (&mut frame, seen),
                );
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
                if let Verdict::Elsewhere(handing) = verdict {
                    let rest = (frame.mark, meta.arrived_ns);
                    let (bytes, offload) = (frame.bytes().to_vec(), frame.offload);
                    self.pass_on(handing, port, (&bytes, offload), rest);
                    return self.outbox.clear();
                }
                (verdict, frame.range(), frame.offload)
            }
        };
        match verdict {
            Verdict::Send(egress) => {
                self.rx[port].seal(index, range, &offload);
                self.ledgers[usize::from(egress.port.0)].handed += 1;
                let source = port_id(port);
                self.tx[usize::from(egress.port.0)].queue(FrameRef { source, index });
            }
            Verdict::SendOutbox | Verdict::Answered => self.send_outbox(now),
            Verdict::Local => self.send_to_host(now, port, index, range, &offload),
            Verdict::Pass if self.hides => self.give_back(port, index, range, &offload),
            Verdict::Pass | Verdict::Held | Verdict::Elsewhere(_) | Verdict::Drop(_) => {}
        }
        self.outbox.clear();
    }

    fn sleep(&self, now: Instant) -> Duration {
        let expiry = self
            .engine
            .poll_timeout()
            .map_or(LONGEST_SLEEP, |t| t.since(now));
        expiry.clamp(Duration::from_millis(1), LONGEST_SLEEP)
    }

    /// A ring that the kernel has stopped filling makes no descriptor say so.
    fn look_for_stalls(&mut self, now: Instant) {
        if now.since(self.looked_for_stalls) < STALL_LOOK {
            return;
        }
        self.looked_for_stalls = now;
        for (port, rx) in self.rx.iter_mut().enumerate() {
            if !self.gone[port] && rx.has_stalled() {
                (self.line.notices)(Notice::Stalled(port_id(port)));
            }
        }
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
                deregister(&self.poll, self.rx[port].as_ref());
                (self.line.notices)(Notice::Gone(port_id(port)));
            }
        }
    }
}

/// The engine's verdict about a frame, which is looked into where somebody wants to see it.
fn decide(
    (engine, outbox, live): (&mut Engine, &mut Outbox, &mut Option<Box<Live>>),
    (now, port): (Instant, PortId),
    (frame, seen): (&mut Frame<'_>, Option<&Seen>),
) -> Verdict {
    let looked = live.as_mut();
    let looked = looked.is_some_and(|l| l.look(engine, now, port, frame));
    let verdict = match seen {
        Some(seen) => engine.handle_seen(now, port, (frame, seen), outbox),
        None => engine.handle_frame(now, port, frame, outbox),
    };
    if looked && let Some(live) = live {
        live.note(engine, verdict);
    }
    verdict
}

fn register(poll: &Poll, rx: &dyn Receive, port: usize) -> std::io::Result<()> {
    let mut fds = rx.descriptors().into_iter();
    fds.try_for_each(|fd| {
        let mut source = SourceFd(&fd.as_raw_fd());
        poll.registry()
            .register(&mut source, Token(port), Interest::READABLE)
    })
}

/// Hears no more of a port, whose descriptors end soon anyway.
fn deregister(poll: &Poll, rx: &dyn Receive) {
    for fd in rx.descriptors() {
        let _ = poll.registry().deregister(&mut SourceFd(&fd.as_raw_fd()));
    }
}

/// Any of an interface's sockets says it for all of them.
fn set_fan_out(rx: &mut dyn Receive, desired: &Desired) {
    if let Some(fan_out) = &desired.fan_out
        && let Err(e) = rx.set_fan_out(fan_out)
    {
        tracing::error!("the kernel refused the fan-out program: {e}");
    }
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
