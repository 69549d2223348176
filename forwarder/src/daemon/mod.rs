//! The daemon behind `uvs run`: the control thread. It owns the desired state, follows the host's network,
//! keeps the guard, and publishes to the worker, which alone touches packets.

mod commands;
mod derive;
mod plugins;
mod rates;
mod start;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant as Wall};

use anyhow::{Context, Result};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use uvs_core::flow::Addr;
use uvs_core::snapshot::{Limits, Snapshot};
use uvs_core::verdict::PortId;

use crate::control::protocol::{Errno, Refusal};
use crate::control::server::Server;
use crate::control::table::Table;
use crate::guard::{Guard, GuardSpec};
use crate::netlink::{Event, Mirror};
use crate::port::afpacket::{Port, PortOptions};
use crate::worker::{self, Ask as Question, Desired, Notice, Shared, Status};
use rates::Rates;
pub(crate) use start::{Options, run};

const NETLINK: Token = Token(0);
const SIGNALS: Token = Token(1);
const NOTICES: Token = Token(2);
const RULES: Token = Token(3);
/// The control socket's tokens begin here.
const SOCKET: Token = Token(16);

/// The worker answers within a turn; one that does not is stuck.
const WORKER_PATIENCE: Duration = Duration::from_secs(5);

/// The running daemon.
pub(crate) struct Daemon {
    options: Options,
    limits: Limits,
    interfaces: Vec<String>,
    table: Table,
    mirror: Mirror,
    guard: Guard,
    guarded: GuardSpec,
    owned: Vec<Addr>,
    rates: Rates,
    shared: Arc<Shared>,
    asks: Sender<Question>,
    waker: Arc<Waker>,
    worker: Option<JoinHandle<()>>,
    notices: Receiver<Notice>,
    poll: Poll,
    signals: Signals,
    started: Wall,
    announcements: u32,
}

impl Daemon {
    /// Runs until a signal ends it.
    pub(crate) fn run(mut self, mut server: Server) -> Result<()> {
        let mut events = Events::with_capacity(128);
        let mut tick = self.started;
        server.register(self.poll.registry(), SOCKET)?;
        loop {
            let period = Duration::from_secs(rates::PERIOD).saturating_sub(tick.elapsed());
            let timeout = server
                .timeout(Wall::now())
                .map_or(period, |t| t.min(period));
            if let Err(e) = self.poll.poll(&mut events, Some(timeout))
                && e.kind() != std::io::ErrorKind::Interrupted
            {
                return Err(e).context("the control thread cannot wait for events");
            }
            for event in &events {
                match event.token() {
                    NETLINK => self.follow_network(),
                    RULES => self.keep_guard(),
                    SIGNALS => {
                        if self.take_signals() {
                            return self.stop();
                        }
                    }
                    // Notices are looked at below; the rest is the control socket's.
                    _ => {}
                }
            }
            self.take_notices();
            server.turn(&events, Wall::now());
            while let Some(call) = server.next(Wall::now()) {
                let answer = self.answer(call.ask);
                server.answer(call.ticket, answer, Wall::now());
            }
            if tick.elapsed().as_secs() >= rates::PERIOD {
                tick += Duration::from_secs(rates::PERIOD);
                self.period();
            }
        }
    }

    /// Every two seconds: rates, neighbours that need asking again, announcements.
    fn period(&mut self) {
        if let Ok(status) = self.status() {
            self.rates.tick(&status.services);
        }
        if let Err(e) = self.mirror.renew() {
            tracing::warn!("asking for neighbours: {e}");
        }
        if self.announcements > 0 {
            self.announcements -= 1;
            self.announce();
        }
    }

    /// Brings engine, sockets and guard to the table's state.
    ///
    /// The guard grows before the engine serves, and shrinks after it has stopped to, so that the kernel
    /// never sees what is ours.
    fn publish(&mut self) -> Result<(), Refusal> {
        let fib = self.mirror.fib();
        let owned = derive::owned_vips(self.table.services(), &fib);
        let local = self.mirror.local_addresses();
        let services = self.table.services();
        let wanted = derive::guard(
            services,
            &owned,
            &self.interfaces,
            local.clone(),
            self.limits.local_ports,
        );
        let filter = derive::filter(services, &owned, &local).compile();
        let both = wanted.union(&self.guarded);
        if both != self.guarded {
            self.guard.apply(&both).map_err(failed)?;
        }
        let snapshot: Arc<Snapshot> = Arc::new(self.table.snapshot(&owned));
        self.shared
            .desired
            .publish(Arc::new(Desired { snapshot, filter }));
        self.sync()?;
        if wanted != both {
            self.guard.apply(&wanted).map_err(failed)?;
        }
        self.guarded = wanted;
        if let Err(e) = self
            .mirror
            .keep(derive::servers(self.table.services()).into_iter())
        {
            tracing::warn!("{e}");
        }
        if owned.iter().any(|a| !self.owned.contains(a)) {
            self.announcements = uvs_core::arp::ANNOUNCEMENTS;
        }
        self.owned = owned;
        Ok(())
    }

    /// Waits until the worker has taken up what was published.
    fn sync(&self) -> Result<(), Refusal> {
        self.ask(Question::Sync)?.map_err(|message| Refusal {
            errno: Errno::Failed,
            message,
        })
    }

    fn status(&self) -> Result<Status, Refusal> {
        self.ask(Question::Report)
    }

    fn ask<T>(&self, question: impl FnOnce(Sender<T>) -> Question) -> Result<T, Refusal> {
        let (to, from) = channel();
        let stuck = |_| Refusal {
            errno: Errno::Failed,
            message: format!(
                "the worker did not answer within {} s",
                WORKER_PATIENCE.as_secs()
            ),
        };
        self.tell(question(to));
        from.recv_timeout(WORKER_PATIENCE).map_err(stuck)
    }

    fn tell(&self, ask: Question) {
        if self.asks.send(ask).is_ok()
            && let Err(e) = self.waker.wake()
        {
            tracing::error!("the worker cannot be woken: {e}");
        }
    }

    fn follow_network(&mut self) {
        let events = match self.mirror.read_events() {
            Ok(events) => events,
            Err(e) => return tracing::error!("following the host's network: {e}"),
        };
        if events.is_empty() {
            return;
        }
        self.shared.fib.publish(self.mirror.fib());
        let mut republish = false;
        for event in events {
            match &event {
                Event::NeighbourKnown { before: None, .. }
                | Event::NeighbourLost { failed: false, .. } => {
                    tracing::debug!("{event}");
                }
                _ => tracing::info!("{event}"),
            }
            match event {
                Event::InterfaceBack { port, name, .. } => {
                    self.reopen(port, &name);
                    self.guarded = GuardSpec::default();
                    republish = true;
                }
                Event::InterfaceGone { .. } | Event::InterfaceChanged { .. } | Event::Overrun => {
                    republish = true
                }
                Event::AddressAdded { .. } | Event::AddressRemoved { .. } => republish = true,
                _ => {}
            }
        }
        if let Err(e) = self.wake_worker(republish) {
            tracing::error!("after a change of the host's network: {}", e.message);
        }
    }

    fn wake_worker(&mut self, republish: bool) -> Result<(), Refusal> {
        if republish {
            return self.publish();
        }
        self.waker.wake().map_err(failed)
    }

    /// Opens a port anew whose interface is back.
    fn reopen(&self, port: PortId, name: &str) {
        let services = self.table.services();
        let filter =
            derive::filter(services, &self.owned, &self.mirror.local_addresses()).compile();
        match Port::open(name, &PortOptions::default(), &filter) {
            Ok(p) => self.tell(Question::Port(
                port,
                Box::new(p.receive),
                Box::new(p.transmit),
            )),
            Err(e) => tracing::error!("{e}"),
        }
    }

    fn take_notices(&mut self) {
        let now = worker::monotonic();
        while let Ok(notice) = self.notices.try_recv() {
            match notice {
                Notice::Solicit(port, via) => {
                    if let Err(e) = self.mirror.solicit(port, via, now) {
                        tracing::warn!("{e}");
                    }
                }
                Notice::Gone(port) => {
                    if let Some(name) = self.interfaces.get(usize::from(port.0)) {
                        tracing::warn!(
                            "interface {name} is gone; its port waits for it to come back"
                        );
                    }
                }
            }
        }
    }

    /// Somebody changed nft's rules: ours must be among them.
    fn keep_guard(&mut self) {
        match self.guard.restore() {
            Ok(false) => {}
            Ok(true) => tracing::warn!("somebody removed the guard; it is up again"),
            Err(e) => tracing::error!("the guard is gone and could not be put up again: {e}"),
        }
    }

    fn watch_signals(&mut self) -> std::io::Result<()> {
        self.poll
            .registry()
            .register(&mut self.signals, SIGNALS, Interest::READABLE)
    }

    /// Tells the neighbours of each owned VIP where it is (RFC 5227 §2.3).
    fn announce(&self) {
        let fib = self.mirror.fib();
        for vip in &self.owned {
            let Some(hop) = fib.lookup(*vip).ok().filter(|hop| hop.via == *vip) else {
                continue;
            };
            let mut frame = vec![0; uvs_core::arp::FRAME_LEN];
            if uvs_core::arp::announcement(*vip, hop.source_mac, &mut frame).is_some() {
                self.tell(Question::Send(hop.port, frame));
            }
        }
    }

    /// Whether to stop.
    fn take_signals(&mut self) -> bool {
        let pending: Vec<i32> = self.signals.pending().collect();
        for signal in pending {
            match signal {
                SIGHUP => {
                    if let Err(e) = self.reload() {
                        tracing::error!("the configuration was not reloaded: {}", e.message);
                    }
                }
                _ => return true,
            }
        }
        false
    }

    fn stop(mut self) -> Result<()> {
        tracing::info!("stopping");
        self.tell(Question::Stop);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
        // The engine is silent now: the kernel may have its packets back.
        self.guard.remove().context("removing the guard")?;
        Ok(())
    }
}

fn failed(e: impl std::fmt::Display) -> Refusal {
    Refusal {
        errno: Errno::Failed,
        message: e.to_string(),
    }
}

/// Registers a descriptor that this module does not own.
fn watch(poll: &Poll, fd: RawFd, token: Token) -> std::io::Result<()> {
    poll.registry()
        .register(&mut SourceFd(&fd), token, Interest::READABLE)
}

/// The signals that the daemon answers.
fn signals() -> std::io::Result<Signals> {
    Signals::new([SIGTERM, SIGINT, SIGHUP])
}
