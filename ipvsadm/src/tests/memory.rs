//! A daemon in memory: the real table, engine and estimator, between the recording's two interfaces and in
//! virtual time. Frames go straight into the engine; there are no sockets and no guard.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uvs_control::client::{CallError, Daemon, Take};
use uvs_control::protocol::{
    Answer, Answers, Ask, Change, Command, Errno, Info, Refusal, Services, SyncDaemon, SyncNumbers,
    SyncStatus, ask, whole,
};
use uvs_control::table::{Table, UnassignedVips};
use uvs_core::engine::ConnReport;
use uvs_core::flow::Addr;
use uvs_core::marks::MarkRule;
use uvs_core::service::ServiceSpec;
use uvs_core::snapshot::Timeouts;
use uvs_core::time::Instant as Virtual;
use uvs_forwarder::daemon::parts::{Clock, Rates, listed};
use uvs_forwarder::golden::director::Director;
use uvs_forwarder::golden::{packets6_book, unhex};

/// Between two frames, as the recording's sender paced them.
const PACE: Duration = Duration::from_millis(20);

pub(super) struct Memory {
    pub(super) table: Table,
    /// How many batches it was sent.
    pub(super) batches: usize,
    /// The VIPs that it says its host does not have.
    pub(super) absent_vips: Vec<Addr>,
    absent: bool,
    director: Director,
    rates: Rates,
    estimator: Clock,
    /// The same moment in both times.
    start: (Instant, Virtual),
}

impl Default for Memory {
    fn default() -> Self {
        static TOPOLOGY: OnceLock<Value> = OnceLock::new();
        let topology = TOPOLOGY.get_or_init(|| packets6_book()["topology"].clone());
        let mut director = Director::new(topology, &json!({"c0": 1500, "s0": 1500}));
        director.step = PACE;
        let start = (Instant::now(), director.now);
        Self {
            table: Table::new(Arc::default()),
            batches: 0,
            absent_vips: Vec::new(),
            absent: false,
            director,
            rates: Rates::default(),
            estimator: Clock::new(start.0),
            start,
        }
    }
}

impl Memory {
    /// A daemon that is not there.
    pub(super) fn absent() -> Self {
        Self {
            absent: true,
            ..Self::default()
        }
    }

    /// A frame comes in on a side of the recording's; where it goes is another test's matter.
    pub(super) fn receive(&mut self, side: &str, hex: &str) {
        self.director.send(side, &unhex(hex));
        self.estimate();
    }

    /// Lets time pass.
    pub(super) fn wait(&mut self, time: Duration) {
        let end = self.director.now + time;
        while self.director.now < end {
            let left = end.since(self.director.now);
            self.director.wait(left.min(PACE));
            self.estimate();
        }
    }

    fn now(&self) -> Instant {
        self.start.0 + self.director.now.since(self.start.1)
    }

    fn estimate(&mut self) {
        if self.estimator.is_due(self.now()) {
            self.rates
                .tick(&self.director.engine.report(self.director.now));
        }
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut Table) -> T) -> T {
        let was_empty = self.table.services().is_empty();
        let changed = change(&mut self.table);
        self.director.snapshot = self.table.snapshot(&UnassignedVips::default());
        self.director.apply();
        if was_empty && !self.table.services().is_empty() {
            self.estimator.half_way(self.now());
        }
        changed
    }

    fn carry_out(&mut self, command: Command) -> Answer {
        match command {
            Command::Change(change) => whole(change, self),
            Command::Ask(Ask::Batch(changes)) => whole(ask::Batch(changes), self),
            Command::Ask(Ask::Zero(key)) => whole(ask::Zero(key), self),
            Command::Ask(Ask::ListServices(key)) => whole(ask::ListServices(key), self),
            Command::Ask(Ask::ListMarks) => whole(ask::ListMarks, self),
            Command::Ask(Ask::ListConnections) => whole(ask::ListConnections, self),
            Command::Ask(Ask::Info) => whole(ask::Info, self),
            Command::Ask(Ask::GetTimeouts) => whole(ask::GetTimeouts, self),
            Command::Ask(Ask::StartSync(daemon)) => whole(ask::StartSync(daemon), self),
            Command::Ask(Ask::StopSync(role)) => whole(ask::StopSync(role), self),
            Command::Ask(Ask::ListSync) => whole(ask::ListSync, self),
            Command::Ask(other) => unreachable!("ipvsadm does not ask {other:?}"),
        }
    }
}

impl Answers<Change> for Memory {
    fn answer(&mut self, change: Change) -> Result<(), Refusal> {
        self.change(|table| table.apply(&change))
    }
}

impl Answers<ask::Batch> for Memory {
    fn answer(
        &mut self,
        ask::Batch(changes): ask::Batch,
    ) -> Result<Vec<Result<(), Refusal>>, Refusal> {
        self.batches += 1;
        Ok(self.change(|table| table.apply_all(&changes)))
    }
}

impl Answers<ask::Zero> for Memory {
    fn answer(&mut self, ask::Zero(key): ask::Zero) -> Result<(), Refusal> {
        if let Some(key) = key {
            self.table.find(&key)?;
        }
        self.rates.zero(key);
        Ok(())
    }
}

impl Answers<ask::ListServices> for Memory {
    fn answer(&mut self, ask::ListServices(key): ask::ListServices) -> Result<Services, Refusal> {
        if let Some(key) = key {
            self.table.find(&key)?;
        }
        let report = self.director.engine.report(self.director.now);
        let (rates, fib) = (&self.rates, &self.director.fib);
        let marks = self.table.marks();
        let counted = report.by_key();
        let status = |s: &ServiceSpec| listed(s, marks, counted.get(&s.key).copied(), rates, fib);
        let services = self.table.services().iter().map(AsRef::as_ref);
        let wanted = services.filter(|s| key.is_none_or(|k| s.key == k));
        Ok(Services {
            table_size: 4096,
            services: wanted.map(status).collect(),
        })
    }
}

impl Answers<ask::ListMarks> for Memory {
    fn answer(&mut self, _: ask::ListMarks) -> Result<Vec<MarkRule>, Refusal> {
        Ok(self.table.marks().to_vec())
    }
}

impl Answers<ask::ListConnections> for Memory {
    fn answer(&mut self, _: ask::ListConnections) -> Result<Vec<ConnReport>, Refusal> {
        let engine = &self.director.engine;
        let (all, _) = engine.report_connections(self.director.now, 0, u32::MAX);
        Ok(all)
    }
}

impl Answers<ask::Info> for Memory {
    fn answer(&mut self, _: ask::Info) -> Result<Info, Refusal> {
        Ok(Info {
            absent_vips: self.absent_vips.clone(),
            ..Info::default()
        })
    }
}

impl Answers<ask::GetTimeouts> for Memory {
    fn answer(&mut self, _: ask::GetTimeouts) -> Result<Timeouts, Refusal> {
        Ok(self.table.timeouts())
    }
}

impl Answers<ask::StartSync> for Memory {
    fn answer(&mut self, ask::StartSync(wanted): ask::StartSync) -> Result<(), Refusal> {
        self.table.check_families()?;
        if !["c0", "s0", "m0", "lo"].contains(&wanted.interface.as_str()) {
            return Err(Refusal {
                errno: Errno::NoDevice,
                message: format!("{}: no such interface", wanted.interface),
            });
        }
        self.table.start_sync(wanted.on(1500))
    }
}

impl Answers<ask::StopSync> for Memory {
    fn answer(&mut self, ask::StopSync(role): ask::StopSync) -> Result<(), Refusal> {
        self.table.stop_sync(role)
    }
}

impl Answers<ask::ListSync> for Memory {
    fn answer(&mut self, _: ask::ListSync) -> Result<Vec<SyncStatus>, Refusal> {
        let status = |daemon: &SyncDaemon| SyncStatus {
            daemon: daemon.clone(),
            numbers: SyncNumbers::default(),
        };
        Ok(self.table.sync_daemons().iter().map(status).collect())
    }
}

impl Daemon for Memory {
    fn call(&mut self, command: Command, take: &mut Take<'_>) -> Result<(), CallError> {
        if self.absent {
            return Err(CallError::Absent(PathBuf::from("/run/uvs/control.sock")));
        }
        let Answer::Last(answer) = self.carry_out(command) else {
            unreachable!("it answers whole");
        };
        let answer = answer.map_err(CallError::Refused)?;
        take(&answer).expect("an answer to the question");
        Ok(())
    }
}
