//! A daemon in memory: the real table, engine and estimator, between the recording's two interfaces and in
//! virtual time. Frames go straight into the engine; there are no sockets and no guard.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uvs_control::client::{CallError, Daemon};
use uvs_control::protocol::{Command, Data, Info, Refusal};
use uvs_control::table::{Homeless, Table};
use uvs_core::flow::Addr;
use uvs_core::time::Instant as Virtual;
use uvs_forwarder::daemon::parts::{Clock, Rates, connection_status, service_status};
use uvs_forwarder::golden::director::Director;
use uvs_forwarder::golden::{packets_book, unhex};

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
        let topology = TOPOLOGY.get_or_init(|| packets_book()["topology"].clone());
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
        if self.estimator.has_struck(self.now()) {
            self.rates.tick(&self.director.engine.report());
        }
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut Table) -> T) -> T {
        let was_empty = self.table.services().is_empty();
        let changed = change(&mut self.table);
        self.director.snapshot = self.table.snapshot(&Homeless::default());
        self.director.apply();
        if was_empty && !self.table.services().is_empty() {
            self.estimator.half_way(self.now());
        }
        changed
    }

    fn carry_out(&mut self, command: Command) -> Result<Data, Refusal> {
        if let Command::Batch(commands) = &command {
            self.batches += 1;
            return Ok(Data::Outcomes(self.change(|t| t.apply_all(commands))));
        }
        if self.change(|table| table.apply(&command))? {
            return Ok(Data::Done);
        }
        if let Command::Zero(Some(key)) | Command::ListServices(Some(key)) = &command {
            self.table.find(key)?;
        }
        let engine = &self.director.engine;
        Ok(match command {
            Command::Zero(key) => {
                self.rates.zero(key);
                Data::Done
            }
            Command::ListServices(key) => {
                let report = engine.report();
                let (rates, fib) = (&self.rates, &self.director.fib);
                let marks = self.table.marks();
                let status = |s| service_status(s, marks, &report, rates, fib);
                let services = self.table.services().iter().map(AsRef::as_ref);
                let wanted = services.filter(|s| key.is_none_or(|k| s.key == k));
                Data::Services {
                    table_size: 4096,
                    services: wanted.map(status).collect(),
                }
            }
            Command::ListMarks => Data::Marks(self.table.marks().to_vec()),
            Command::ListConnections => {
                let (all, _) = engine.report_connections(self.director.now, 0, u32::MAX);
                Data::Connections(all.iter().map(connection_status).collect())
            }
            Command::Info => Data::Info(Info {
                absent_vips: self.absent_vips.clone(),
                ..Info::default()
            }),
            Command::GetTimeouts => Data::Timeouts(self.table.timeouts()),
            other => unreachable!("ipvsadm does not send {other:?}"),
        })
    }
}

impl Daemon for Memory {
    fn call(&mut self, command: Command) -> Result<Data, CallError> {
        if self.absent {
            return Err(CallError::Absent(PathBuf::from("/run/uvs/control.sock")));
        }
        self.carry_out(command).map_err(CallError::Refused)
    }
}
