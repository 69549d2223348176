//! All workers, as the control thread has them: a set of one or of several, which share nothing and are one
//! director. What is published reaches all of them, a question is answered when all have answered, and what
//! they count is one sum. A worker that is not well is named.

mod cursor;
mod events;
mod handle;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant as Wall};

use uvs_control::trace::{LiveRequest, LiveState};
use uvs_core::crew::{Fan, Steering};
use uvs_core::engine::{ConnReport, Engine, Event, Killed, Report};
use uvs_core::fib::Fib;
use uvs_core::flow::{Addr, Endpoint};
use uvs_core::narrow;
use uvs_core::peer::{TakenUp, Told};
use uvs_core::service::ServiceKey;
use uvs_core::time::Instant;
use uvs_core::trace::Trace;
use uvs_core::verdict::PortId;

use crate::clock::monotonic;
use crate::connection_log::ConnectionLog;
use crate::daemon::Placement;
use crate::port::Ends;
use crate::trace;
use crate::trace::arrival::Arrival;
use crate::trace::live::{Look, Seen};
use crate::worker::{
    Ask, Colleagues, Desired, HandedDown, KillOrder, Notice, Ports, Published, Status, Work,
    WorkerStatus,
};
pub(crate) use cursor::Cursor;
use events::Events;
use handle::{Handle, Lines, Pending};
pub(crate) use handle::{MISSED, Name, NoAnswer, WorkerHeartbeat};

/// The running workers.
pub(crate) struct Workers {
    published: Arc<Published>,
    /// In the order of their numbers; at least one.
    all: Vec<Handle>,
    notices: Receiver<(usize, Notice)>,
    /// What other directors are to be told.
    told: Receiver<(Vec<Told>, u64)>,
    events: Events,
    /// The look at real frames that was begun last.
    look: Option<Arc<Look>>,
    /// How client and worker belong together, and what was last put in force of that.
    fan: Fan,
    steering: Arc<Steering>,
    /// FULLNAT's local ports.
    local_ports: (u16, u16),
}

/// What holds for all workers from the start.
pub(crate) struct Common<'a> {
    /// Where they run, and how they wait.
    pub(crate) placement: &'a Placement,
    /// How client and worker belong together.
    pub(crate) fan: Fan,
    /// FULLNAT's local ports.
    pub(crate) local_ports: (u16, u16),
    /// Where connections are logged.
    pub(crate) log: &'a ConnectionLog,
}

/// Why what was published is not in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotInForce {
    /// It is not known whether it is.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// An engine refused it.
    #[error("{0}")]
    Refused(String),
}

/// A copy of everything that is counted.
#[derive(Clone)]
pub(crate) struct Counted {
    /// By all workers together.
    pub(crate) all: Status,
    /// By each, in the order of their numbers.
    pub(crate) each: Vec<WorkerStatus>,
}

impl Workers {
    /// Starts one worker for each engine with its ports; connections are logged to `log`, and `wake` is called when there
    /// is a notice.
    ///
    /// # Errors
    /// The host has no thread or descriptor left.
    pub(crate) fn start(
        parts: Vec<(Engine, Ports)>,
        fib: Arc<Fib>,
        common: &Common<'_>,
        wake: impl Fn() + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let published = Arc::new(Published::nothing());
        published.fib.publish(fib);
        let (to, notices) = channel();
        let (to_others, told) = channel();
        let of = parts.len();
        let (colleagues, wakers) = Colleagues::of(of);
        let start = |(number, (parts, colleagues))| {
            let more = wake.clone();
            let (to, wake): (Sender<_>, _) = (to.clone(), wake.clone());
            let notice = move |notice| {
                if to.send((number, notice)).is_ok() {
                    wake();
                }
            };
            let (to, wake): (Sender<_>, _) = (to_others.clone(), more.clone());
            let tell = move |told, lost| {
                if to.send((told, lost)).is_ok() {
                    wake();
                }
            };
            let name = Name { number, of };
            let line = Lines {
                published: Arc::clone(&published),
                notices: Box::new(notice),
                told: Box::new(tell),
                colleagues,
                records: common.log.outlet(),
            };
            Handle::start(name, parts, line, common.placement)
        };
        let all = parts.into_iter().zip(colleagues).enumerate().map(start);
        let all: Vec<Handle> = all.collect::<io::Result<_>>()?;
        let _ = wakers.set(all.iter().map(Handle::waker).collect());
        Ok(Self {
            all,
            published,
            notices,
            told,
            events: Events::new(of),
            look: None,
            fan: common.fan,
            steering: Arc::default(),
            local_ports: common.local_ports,
        })
    }

    /// Their heartbeats.
    pub(crate) fn heartbeats(&self) -> Vec<WorkerHeartbeat> {
        self.all
            .iter()
            .map(|worker| worker.heartbeat.clone())
            .collect()
    }

    /// One that has ended, where one has.
    pub(crate) fn ended(&self) -> Option<Name> {
        let ended = self.all.iter().find(|worker| worker.has_ended());
        ended.map(|worker| worker.heartbeat.name)
    }

    /// Publishes the desired state, and waits until it is in force everywhere.
    ///
    /// # Errors
    /// It is not, or nobody knows; some workers may have taken it up.
    pub(crate) fn put_in_force(&mut self, desired: Desired) -> Result<(), NotInForce> {
        self.steering = Arc::clone(&desired.snapshot.steering);
        self.published.desired.publish(Arc::new(desired));
        let outcomes = self.ask_all(Ask::Sync)?;
        let all: Result<(), String> = outcomes.into_iter().collect();
        all.map_err(NotInForce::Refused)
    }

    /// Publishes interfaces, routes and neighbours.
    pub(crate) fn publish_fib(&self, fib: Arc<Fib>) {
        self.published.fib.publish(fib);
        self.all.iter().for_each(Handle::wake);
    }

    /// Copies everything that is counted.
    pub(crate) fn status(&self) -> Result<Counted, NoAnswer> {
        let mut all = self.ask_all(Ask::Report)?;
        for (worker, status) in self.all.iter().zip(&mut all) {
            let mut next = Some(0);
            while let Some(from) = next {
                let (page, rest) = worker.ask(|to| Ask::Services(from, to)).wait()?;
                status.counted.services.services.extend(page);
                next = rest;
            }
        }
        Ok(Counted::of(all))
    }

    /// Copies what is counted of these services, those that are there, in no order.
    pub(crate) fn services(&self, keys: &[ServiceKey]) -> Result<Report, NoAnswer> {
        let parts = self.ask_all(|to| Ask::ServicesOf(keys.to_vec(), to))?;
        let parts = parts.into_iter().map(|services| Report {
            services,
            ..Report::default()
        });
        let sum = parts.reduce(|mut all, part| {
            all += &part;
            all
        });
        Ok(sum.unwrap_or_default())
    }

    /// How many connections each of these servers has, removed or not.
    pub(crate) fn connections_of(
        &self,
        servers: &[(ServiceKey, Endpoint)],
    ) -> Result<Vec<u32>, NoAnswer> {
        let mut sums = vec![0; servers.len()];
        for counts in self.ask_all(|to| Ask::ConnectionsOf(servers.to_vec(), to))? {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        Ok(sums)
    }

    /// Copies a page of connections, and tells where to go on: through one worker's table after the other. A
    /// cursor that is nobody's is behind the last.
    pub(crate) fn connections(
        &self,
        from: Cursor,
    ) -> Result<(Vec<ConnReport>, Option<Cursor>), NoAnswer> {
        self.page(from, |to| Ask::Connections(from.place, to))
    }

    /// Ends connections of a page, and tells where to go on, as [`Workers::connections`] does; at the same place where their
    /// ends may not be told yet.
    pub(crate) fn kill(
        &self,
        from: Cursor,
        order: &Arc<KillOrder>,
    ) -> Result<(Killed, Option<Cursor>), NoAnswer> {
        let Some(worker) = self.all.get(from.worker as usize) else {
            return Ok((Killed::default(), None));
        };
        let killed = worker.ask(|to| Ask::Kill(from.place, Arc::clone(order), to));
        let killed = killed.wait()?;
        Ok((killed, self.behind(from, killed.next)))
    }

    /// Copies part of what another director is told that asks for all, and tells where to go on, as
    /// [`Workers::connections`] does.
    pub(crate) fn tell_all(&self, from: Cursor) -> Result<(Vec<Told>, Option<Cursor>), NoAnswer> {
        self.page(from, |to| Ask::TellAll(from.place, to))
    }

    fn page<T>(
        &self,
        from: Cursor,
        question: impl FnOnce(Sender<(Vec<T>, Option<u32>)>) -> Ask,
    ) -> Result<(Vec<T>, Option<Cursor>), NoAnswer> {
        let Some(worker) = self.all.get(from.worker as usize) else {
            return Ok((Vec::new(), None));
        };
        let (page, rest) = worker.ask(question).wait()?;
        Ok((page, self.behind(from, rest)))
    }

    /// Where to go on: in the same table, in the next worker's, or nowhere.
    fn behind(&self, from: Cursor, rest: Option<u32>) -> Option<Cursor> {
        let worker = match rest {
            Some(_) => from.worker,
            None => from.worker + 1,
        };
        let next = Cursor {
            worker,
            place: rest.unwrap_or(0),
        };
        ((next.worker as usize) < self.all.len()).then_some(next)
    }

    /// What would become of these frames, each seeing what those before it did.
    pub(crate) fn trace(&self, arrivals: &[Arrival]) -> Result<Vec<Option<Trace>>, NoAnswer> {
        let told = self.ask_all(|to| Ask::Trace(arrivals.to_vec(), to))?;
        Ok(trace::joined(told))
    }

    /// Begins to look into real frames; `false` = somebody's look is not over yet.
    pub(crate) fn begin_look(&mut self, request: LiveRequest) -> Result<bool, NoAnswer> {
        let now = monotonic();
        if self.look.as_ref().is_some_and(|look| !look.is_over(now)) {
            return Ok(false);
        }
        let look = Arc::new(Look::new(request, now));
        self.look = Some(Arc::clone(&look));
        self.ask_all(|to| Ask::Live(Arc::clone(&look), to))?;
        Ok(true)
    }

    /// The real frames that were seen since this was last asked, in the order of time, and how the look stands.
    pub(crate) fn seen(&mut self) -> Result<(Vec<Seen>, LiveState), NoAnswer> {
        // Known before the frames are taken, so that none is seen after the last answer.
        let over = self
            .look
            .as_ref()
            .is_none_or(|look| look.is_over(monotonic()));
        let parts = self.ask_all(|to| Ask::LiveSeen(over, to))?;
        let matched = self.look.as_ref().map_or(0, |look| look.matched());
        if over {
            self.look = None;
        }
        let mut seen: Vec<Seen> = parts.into_iter().flatten().collect();
        seen.sort_by_key(|seen| seen.at);
        Ok((seen, LiveState { over, matched }))
    }

    /// An interface is back: each worker is given a port of its own, in the order of their numbers.
    pub(crate) fn replace_port(&self, port: PortId, opened: Vec<Ends>) {
        for (worker, ends) in self.all.iter().zip(opened) {
            worker.tell(Ask::Port(port, ends));
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        narrow::to_u32(self.all.len())
    }

    /// The kernel has given up on this next hop.
    pub(crate) fn unreachable(&self, port: PortId, via: Addr) {
        for worker in &self.all {
            worker.tell(Ask::Unreachable(port, via));
        }
    }

    /// Sends a frame of the control thread's, by one worker.
    pub(crate) fn send(&self, port: PortId, frame: Vec<u8>) {
        if let Some(worker) = self.all.first() {
            worker.tell(Ask::Send(port, frame));
        }
    }

    /// Has connections of other directors taken up, each by its worker.
    pub(crate) fn take_up(&self, told: Vec<TakenUp>) {
        for (worker, told) in self.divided(told) {
            worker.tell(Ask::TakeUp(told));
        }
    }

    /// Has part of all that another director has taken up, and waits until it is: so there is never more of it under way
    /// than what a worker takes up between two batches.
    pub(crate) fn take_up_part(&self, told: Vec<TakenUp>) -> Result<(), NoAnswer> {
        let parts = self.divided(told);
        let pending = parts.map(|(worker, told)| worker.ask(|to| Ask::TakeUpPart(told, to)));
        let pending: Vec<_> = pending.collect();
        pending.into_iter().try_for_each(Pending::wait)
    }

    /// What is told of connections, each with its worker.
    fn divided(&self, told: Vec<TakenUp>) -> impl Iterator<Item = (&Handle, Vec<TakenUp>)> {
        let mut parts: Vec<Vec<TakenUp>> = self.all.iter().map(|_| Vec::new()).collect();
        let (first, last) = self.local_ports;
        let gives_out = |port| (first..=last).contains(&port);
        for told in told {
            let ends = (told.client, told.vip);
            let worker = self
                .steering
                .worker_of(self.fan, ends, told.local, gives_out);
            if let Some(part) = parts.get_mut(worker as usize) {
                part.push(told);
            }
        }
        let parts = self.all.iter().zip(parts);
        parts.filter(|(_, told)| !told.is_empty())
    }

    /// What other directors are to be told next, and how much of it was lost.
    pub(crate) fn next_told(&self) -> Option<(Vec<Told>, u64)> {
        self.told.try_recv().ok()
    }

    /// What the workers tell unasked, as if they were one.
    pub(crate) fn next_notice(&mut self) -> Option<Notice> {
        while let Ok((worker, notice)) = self.notices.try_recv() {
            let notice = match notice {
                Notice::Server(event) => self.events.note(worker, event).map(Notice::Server),
                // Every worker has a port of the interface.
                Notice::Gone(_) if worker > 0 => None,
                Notice::Gone(_) | Notice::Stalled(_) | Notice::Solicit(..) | Notice::Claim(_) => {
                    Some(notice)
                }
            };
            if notice.is_some() {
                return notice;
            }
        }
        None
    }

    /// Called once a period with what is counted: what happened to servers of which some workers had nothing to
    /// tell.
    pub(crate) fn settle(&mut self, report: &Report) -> Vec<Event> {
        self.events.settle(report)
    }

    /// Has all hand down what they know and stand by, until they are told to [go on](Self::go_on) or
    /// [to end](Self::stop).
    pub(crate) fn hand_down(&self) -> anyhow::Result<Vec<HandedDown>> {
        let all = self.ask_all(Ask::HandDown)?;
        all.into_iter().collect()
    }

    /// Has those that stand by go on as if nothing had been.
    pub(crate) fn go_on(&self) {
        self.all.iter().for_each(|worker| worker.tell(Ask::GoOn));
    }

    /// Ends all, one after the other; one that is stuck is left behind.
    pub(crate) fn stop(&mut self) {
        let told = Wall::now();
        self.all.iter().for_each(|worker| worker.tell(Ask::Stop));
        self.all.iter_mut().for_each(|worker| worker.end(told));
    }

    /// Asks all at once, and waits for all answers, in the order of their numbers.
    fn ask_all<T>(&self, question: impl Fn(Sender<T>) -> Ask) -> Result<Vec<T>, NoAnswer> {
        let pending: Vec<_> = self.all.iter().map(|w| w.ask(&question)).collect();
        pending.into_iter().map(Pending::wait).collect()
    }
}

impl Counted {
    fn of(each: Vec<WorkerStatus>) -> Self {
        let mut all = Status::default();
        each.iter().for_each(|worker| all += &worker.counted);
        Self { all, each }
    }

    /// When the last of it was copied.
    pub(crate) fn taken(&self) -> Instant {
        self.work().map(|w| w.taken).max().unwrap_or_default()
    }

    /// When the first worker began to count.
    pub(crate) fn started(&self) -> Instant {
        self.work().map(|w| w.started).min().unwrap_or_default()
    }

    /// How long all workers together have worked.
    pub(crate) fn busy(&self) -> Duration {
        self.work().map(|w| w.busy).sum()
    }

    fn work(&self) -> impl Iterator<Item = &Work> {
        self.each.iter().map(|worker| &worker.work)
    }
}
