//! Telling other directors of connections: what is remembered for it, and with which packet it is done. After
//! `ip_vs_sync_conn` of `net/netfilter/ipvs/ip_vs_sync.c`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Flows;
use crate::conn::{self, Conn, ConnId, NONE};
use crate::peer::{Memory, Policy, Subject, Told, WAIT};
use crate::service::ServiceKey;
use crate::time::Instant;

/// What is told and not taken yet, at most; what comes on top is lost and counted (sync_qlen_max's part).
const QUEUE: usize = 1 << 16;

/// What a director remembers of what it has told, while it tells.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Telling {
    policy: Policy,
    /// By the connection's place.
    entries: Vec<Entry>,
    #[serde(skip)]
    told: Vec<Told>,
    lost: u64,
}

/// What is remembered of one connection.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Entry {
    memory: Memory,
    /// Its client's packets.
    packets: u32,
    /// Another director has told of it.
    taken_up: bool,
    /// It stands for the connection that is at this place now.
    known: bool,
}

impl Entry {
    const UNKNOWN: Self = Self {
        memory: Memory::new(Instant::ZERO),
        packets: 0,
        taken_up: false,
        known: false,
    };
}

impl Telling {
    const fn new(policy: Policy) -> Self {
        Self {
            policy,
            entries: Vec::new(),
            told: Vec::new(),
            lost: 0,
        }
    }

    fn entry(&mut self, id: ConnId) -> &mut Entry {
        let place = id.0 as usize;
        if place >= self.entries.len() {
            self.entries.resize(place + 1, Entry::UNKNOWN);
        }
        &mut self.entries[place]
    }

    /// A connection begins at a place.
    pub(super) fn begin(&mut self, now: Instant, id: ConnId) {
        *self.entry(id) = Entry {
            memory: Memory::new(now),
            known: true,
            ..Entry::UNKNOWN
        };
    }

    /// Another director has told of the connection at a place, in the state in which it is.
    pub(super) fn taken_up(&mut self, now: Instant, id: ConnId, state: u8) {
        let packets = self.policy.threshold;
        *self.entry(id) = Entry {
            memory: Memory::taken_up(now, state),
            packets,
            taken_up: true,
            known: true,
        };
    }

    /// Counts a packet of a connection; what is remembered of it.
    fn count(&mut self, now: Instant, id: ConnId, c: &Conn) -> &mut Entry {
        let entry = self.entry(id);
        if !entry.known {
            // It was there before anything was told: its packets so far are known up to 255.
            let packets = u32::from(c.in_packets).saturating_sub(1);
            *entry = Entry {
                memory: Memory::new(now),
                packets,
                known: true,
                ..Entry::UNKNOWN
            };
        }
        entry.packets = entry.packets.saturating_add(1);
        entry
    }

    fn tell(&mut self, told: Told) {
        if self.told.len() < QUEUE {
            self.told.push(told);
        } else {
            self.lost += 1;
        }
    }
}

impl Flows {
    /// From now on, other directors are told of connections by this policy; or no more.
    pub(in crate::engine) fn set_telling(&mut self, policy: Option<Policy>) {
        // What peers are told depends on each packet: connections come up while they are told.
        if self.telling.is_some() != policy.is_some() {
            self.change_ways();
        }
        match (&mut self.telling, policy) {
            (Some(telling), Some(policy)) => telling.policy = policy,
            (telling, policy) => *telling = policy.map(Telling::new).map(Box::new),
        }
    }

    /// After a packet of a connection's client: tells of it and of its template, where it is time.
    #[inline]
    pub(in crate::engine) fn tell_peers(&mut self, now: Instant, id: ConnId) {
        if self.telling.is_some() {
            self.tell_peers_of(now, id);
        }
    }

    /// Whether other directors are told of connections.
    pub(in crate::engine) const fn tells_peers(&self) -> bool {
        self.telling.is_some()
    }

    fn tell_peers_of(&mut self, now: Instant, id: ConnId) {
        let Some(mut telling) = self.telling.take() else {
            return;
        };
        let control = self.conns.get(id).control;
        let told = self.tell_if_needed(&mut telling, now, id);
        if control != NONE && (told || telling.policy.version > 0) {
            self.tell_if_needed(&mut telling, now, ConnId(control));
        }
        self.telling = Some(telling);
    }

    fn tell_if_needed(&self, telling: &mut Telling, now: Instant, id: ConnId) -> bool {
        let c = self.conns.get(id);
        if c.has(conn::ONE_PACKET) {
            return false;
        }
        let policy = telling.policy;
        let entry = telling.count(now, id, c);
        let subject = subject_of(c, entry.packets);
        if !policy.is_needed(now, &subject, &mut entry.memory) {
            return false;
        }
        let taken_up = entry.taken_up;
        telling.tell(Told {
            taken_up,
            ..self.told(id, *c)
        });
        true
    }

    fn told(&self, id: ConnId, conn: Conn) -> Told {
        let server = self.server_of(&conn);
        let mark = match server.key.0 {
            ServiceKey::Mark { mark, .. } => mark,
            ServiceKey::Address { .. } => 0,
        };
        Told {
            conn,
            method: server.spec.forwarding,
            mark,
            call: self.call_of(id).map(Into::into),
            taken_up: conn.is_told(),
            idle: None,
            shifts: self.shifts_of(&conn),
        }
    }

    /// All that other directors are told of sooner or later, for one that asks: from place `from` on, at most `max`
    /// places looked at, with where to go on. Nothing where none are told of.
    pub(in crate::engine) fn tell_all(
        &self,
        now: Instant,
        from: u32,
        max: u32,
    ) -> (Vec<Told>, Option<u32>) {
        let Some(telling) = &self.telling else {
            return (Vec::new(), None);
        };
        let end = from.saturating_add(max).min(self.conns.places());
        let there = (from..end).filter(|place| self.conns.at(*place).is_some());
        let told = there.filter_map(|place| {
            let id = ConnId(place);
            let c = self.shown(id).conn;
            let subject = subject_of(&c, c.in_packets.into());
            let is_found = c.is_found() || self.call_of(id).is_some();
            let is_told = !c.has(conn::ONE_PACKET) && is_found;
            (is_told && telling.policy.is_told(&subject)).then(|| Told {
                idle: Some(idle(now, &c)),
                ..self.told(id, c)
            })
        });
        let rest = (end < self.conns.places()).then_some(end);
        (told.collect(), rest)
    }

    /// What is to be told since this was asked last, and how much of it was lost.
    pub(in crate::engine) fn take_told(&mut self) -> (Vec<Told>, u64) {
        match &mut self.telling {
            Some(telling) => (
                std::mem::take(&mut telling.told),
                std::mem::take(&mut telling.lost),
            ),
            None => (Vec::new(), 0),
        }
    }
}

/// How long ago a connection had its last packet. What another director has told of may have waited before it came, and
/// is no newer than what that one knows itself.
fn idle(now: Instant, c: &Conn) -> Duration {
    let waited = if c.is_told() { WAIT } else { Duration::ZERO };
    c.idle(now) + waited
}

/// What the policy asks of a connection whose client has sent so many packets.
fn subject_of(c: &Conn, packets: u32) -> Subject {
    Subject {
        protocol: (!c.has(conn::MARKED)).then_some(c.protocol),
        state: c.state,
        template: c.has(conn::TEMPLATE),
        persistent: c.control != NONE,
        packets,
        timeout: c.lifetime(),
    }
}
