//! The connection log's part of an engine: what is counted of each connection of a logged service, and the records
//! that are made of it.
//!
//! Nothing is remembered of others, and where no service is logged a packet pays one comparison. What the kernel
//! forwards it counts itself, in the connection's cell; that is added when the record is made, and so its numbers are
//! those of all packets, whoever forwarded them.

use serde::{Deserialize, Serialize};

use super::Flows;
use super::event::Cause;
use super::report::state_name;
use crate::conn::{self, Conn, ConnId};
use crate::flow::Protocol;
use crate::offload::Traffic;
use crate::ranks::Rank;
use crate::record::{Ended, Event, Record, Why};
use crate::sctp::SctpState;
use crate::service::{ConnectionLog, ServiceSpec};
use crate::tcp::TcpState;
use crate::time::Instant;

/// Records that wait to be taken, at most: more than what a turn ends by time.
const RECORDS: usize = 4096;

/// What is remembered of logged connections, while there are logged services.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Logging {
    /// By the connection's place.
    entries: Vec<Option<Entry>>,
    /// How many there are.
    known: u32,
    #[serde(skip)]
    records: Vec<Record>,
    #[serde(skip)]
    lost: u64,
}

/// What is remembered of one connection.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Entry {
    /// When it began, where that was here.
    began: Option<Instant>,
    /// What the engine itself has forwarded of it.
    traffic: Traffic,
}

/// What docs/operations.md says of memory.
const _: () = assert!(size_of::<Option<Entry>>() == 48);

impl Logging {
    fn enter(&mut self, id: ConnId, entry: Entry) {
        let place = id.0 as usize;
        if place >= self.entries.len() {
            self.entries.resize(place + 1, None);
        }
        self.known += u32::from(self.entries[place].is_none());
        self.entries[place] = Some(entry);
    }

    fn leave(&mut self, id: ConnId) -> Option<Entry> {
        let entry = self.entries.get_mut(id.0 as usize)?.take()?;
        self.known -= 1;
        Some(entry)
    }

    fn entry_mut(&mut self, id: ConnId) -> Option<&mut Entry> {
        self.entries.get_mut(id.0 as usize)?.as_mut()
    }

    fn make(&mut self, record: Record) {
        if self.records.len() < RECORDS {
            self.records.push(record);
        } else {
            self.lost += 1;
        }
    }
}

impl Flows {
    /// After services were taken up: whether any is logged.
    pub(super) fn set_logging(&mut self, wanted: bool) {
        if wanted {
            self.logging.get_or_insert_default();
        } else if self.logging.as_ref().is_some_and(|l| l.known == 0) {
            self.logging = None;
        }
    }

    /// What the service of a connection is, where it is still there.
    fn service_of(&self, c: &Conn) -> Option<&ServiceSpec> {
        let slot = self.server_of(c).service;
        let service = self.pool.services.get(slot as usize)?;
        Some(&service.spec)
    }

    /// What is logged of a connection.
    fn logged(&self, c: &Conn) -> ConnectionLog {
        if self.logging.is_none() || c.has(conn::TEMPLATE) {
            return ConnectionLog::Off;
        }
        let spec = self.service_of(c);
        spec.map_or(ConnectionLog::Off, |spec| spec.connection_log)
    }

    /// Whether what the kernel forwards of a connection is to be counted.
    pub(super) fn counts(&self, id: ConnId) -> bool {
        let logging = self.logging.as_ref();
        logging.is_some_and(|l| l.entries.get(id.0 as usize).is_some_and(Option::is_some))
    }

    /// A client has begun a connection.
    pub(super) fn log_start(&mut self, now: Instant, id: ConnId) {
        let c = *self.conns.get(id);
        let logged = self.logged(&c);
        if !logged.is_on() {
            return;
        }
        if logged == ConnectionLog::StartsAndEnds {
            let record = self.record(now, &c, Some(now), Event::Started);
            if let Some(logging) = &mut self.logging {
                logging.make(record);
            }
        }
        self.log_from_now(id, Some(now));
    }

    /// A connection that has begun elsewhere is taken up: nobody knows when that was.
    pub(super) fn log_taken_up(&mut self, id: ConnId) {
        if self.logged(self.conns.get(id)).is_on() {
            self.log_from_now(id, None);
        }
    }

    fn log_from_now(&mut self, id: ConnId, began: Option<Instant>) {
        let entry = Entry {
            began,
            traffic: Traffic::default(),
        };
        if let Some(logging) = &mut self.logging {
            logging.enter(id, entry);
        }
    }

    /// Counts a packet of a connection that the engine forwards.
    #[inline]
    pub(super) fn log_packet(&mut self, id: ConnId, out: bool, bytes: u64) {
        if let Some(logging) = &mut self.logging
            && let Some(entry) = logging.entry_mut(id)
        {
            entry.traffic.count(out, bytes);
        }
    }

    /// What the kernel has counted of a connection belongs to what the engine has: its cell goes.
    pub(super) fn log_settled(&mut self, id: ConnId, forwarded: Traffic) {
        if let Some(logging) = &mut self.logging
            && let Some(entry) = logging.entry_mut(id)
        {
            entry.traffic += forwarded;
        }
    }

    /// A connection is about to leave the table. To be called while it has its cell.
    pub(super) fn log_end(&mut self, now: Instant, id: ConnId, why: impl FnOnce(&Conn) -> Why) {
        if self.logging.is_none() {
            return;
        }
        let forwarded = self.counted_in_kernel(id);
        let record = self.end_record(now, id, forwarded, why);
        let Some(logging) = &mut self.logging else {
            return;
        };
        logging.leave(id);
        if let Some(record) = record {
            logging.make(record);
        }
    }

    fn end_record(
        &self,
        now: Instant,
        id: ConnId,
        forwarded: Traffic,
        why: impl FnOnce(&Conn) -> Why,
    ) -> Option<Record> {
        let entries = &self.logging.as_ref()?.entries;
        let entry = *entries.get(id.0 as usize).unwrap_or(&None);
        let c = self.current(id);
        // A service that was removed has its connections logged to their end.
        let wanted = match self.service_of(&c) {
            Some(spec) => spec.connection_log.is_on(),
            None => entry.is_some(),
        };
        if !wanted || c.has(conn::TEMPLATE) {
            return None;
        }
        let ended = Ended {
            last_packet: c.last_packet().min(now),
            state: state_name(c.protocol, c.state),
            why: why(&c),
            traffic: entry.map(|entry| {
                let mut traffic = entry.traffic;
                traffic += forwarded;
                traffic
            }),
            replies_pass: c.is_replied_to(),
        };
        let began = entry.and_then(|entry| entry.began);
        Some(self.record(now, &c, began, Event::Ended(ended)))
    }

    fn record(&self, made: Instant, c: &Conn, began: Option<Instant>, event: Event) -> Record {
        let server = self.server_of(c);
        Record {
            event,
            service: server.key.0,
            protocol: c.protocol,
            client: c.ends.client,
            vip: c.ends.vip,
            local: c.ends.local_end(),
            server: c.ends.server,
            mode: server.spec.mode(),
            began,
            made,
        }
    }

    /// Hands over the records that were made since this was called last; how many were lost.
    pub(in crate::engine) fn take_records(&mut self, mut take: impl FnMut(Record)) -> u64 {
        let Some(logging) = &mut self.logging else {
            return 0;
        };
        logging.records.drain(..).for_each(&mut take);
        std::mem::take(&mut logging.lost)
    }

    /// Hands over the last records of all connections that are still there, for the daemon stops.
    pub(in crate::engine) fn log_stop(&self, now: Instant, mut take: impl FnMut(Record)) {
        if self.logging.is_none() {
            return;
        }
        for id in (0..self.conns.places()).map(ConnId) {
            if self.conns.at(id.0).is_some() {
                let forwarded = self.counted_in_kernel(id);
                let record = self.end_record(now, id, forwarded, |c| match by_state(c) {
                    Why::TimedOut => Why::Stopped,
                    over => over,
                });
                record.into_iter().for_each(&mut take);
            }
        }
    }
}

/// What an auditor calls that end: of one whose time is over, its state says it.
pub(super) fn why(c: &Conn, cause: Cause) -> Why {
    match cause {
        Cause::TimedOut | Cause::ReplacedOver | Cause::Unproven => by_state(c),
        Cause::OnePacket => Why::OnePacket,
        Cause::Reopened => Why::Reopened,
        Cause::ReplacedLive => Why::Replaced,
        Cause::Evicted => Why::Evicted,
        Cause::DropEntry => Why::DropEntry,
        Cause::ServerLeft => Why::ServerLeft,
        Cause::Denied => Why::Denied,
        Cause::Superseded => Why::Superseded,
        Cause::Killed => Why::Killed,
    }
}

fn by_state(c: &Conn) -> Why {
    match c.protocol {
        Protocol::Tcp => match TcpState::from_number(c.state) {
            TcpState::Close => Why::Reset,
            state if state.rank() == Rank::Over || state == TcpState::LastAck => Why::Closed,
            _ => Why::TimedOut,
        },
        Protocol::Sctp => match SctpState::from_number(c.state) {
            SctpState::Closed => Why::Closed,
            SctpState::Rejected => Why::Reset,
            _ => Why::TimedOut,
        },
        Protocol::Udp => Why::TimedOut,
    }
}
