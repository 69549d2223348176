//! What directors tell each other of connections, so that one can take over from another: when a connection is
//! told of (`ip_vs_sync_conn_needed` of `net/netfilter/ipvs/ip_vs_sync.c`), what of it, and what is taken up.
//!
//! The bytes are the crate `uvs-sync`'s.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::conn::Conn;
use crate::flow::{Endpoint, Protocol};
use crate::sctp::SctpState;
use crate::service::Forwarding;
use crate::tcp::TcpState;
use crate::time::Instant;

/// How long what is told waits for company on its way (`IPVS_SYNC_FLUSH_TIME`).
pub const WAIT: Duration = Duration::from_secs(2);

/// A connection or template, to be told to other directors.
#[derive(Clone, Debug)]
pub struct Told {
    /// As it is.
    pub conn: Conn,
    /// How its packets reach the server.
    pub method: Forwarding,
    /// Its service's firewall mark, 0 for none.
    pub mark: u32,
    /// The Call-ID of the call that a template stands for, with the persistence engine sip.
    pub call: Option<Box<str>>,
    /// It came from another director itself.
    pub taken_up: bool,
    /// How long ago it had its last packet; in answer to who asks for all.
    pub idle: Option<Duration>,
    /// How its segments change on their way.
    pub shifts: Shifts,
}

/// How a connection's numbers differ at its two ends, where its server is told of its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shifts {
    /// The TCP sequence number of the client's first byte, and how many bytes the server has before it.
    pub bytes: Option<(u32, u32)>,
    /// How much later than the client's the timestamps are at the server.
    pub timestamps: Option<u32>,
}

/// A connection or template that another director has told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenUp {
    /// `None` for a template of a firewall mark, which stands for all.
    pub protocol: Option<Protocol>,
    /// The client; port 0 in a template.
    pub client: Endpoint,
    /// The VIP as the client used it.
    pub vip: Endpoint,
    /// The real server.
    pub server: Endpoint,
    /// FULLNAT's local endpoint.
    pub local: Option<Endpoint>,
    /// How packets reach a server that is not known here; `None` for a way that there is not.
    pub method: Option<Forwarding>,
    /// A persistence template.
    pub template: bool,
    /// Replies have not been seen.
    pub no_output: bool,
    /// Counts as inactive at its server.
    pub inactive: bool,
    /// The state, by the protocol's own numbers.
    pub state: u8,
    /// Seconds that it lives without a packet, 0 where that is the state's own.
    pub timeout: u32,
    /// Its service's firewall mark, 0 for none.
    pub mark: u32,
    /// The Call-ID of the call that a template stands for, with the persistence engine sip.
    pub call: Option<Box<str>>,
    /// How long ago it had its last packet at the other director, which was asked for all that it has; `None` where it
    /// told by itself, as something happened.
    pub idle: Option<Duration>,
    /// How its segments change on their way.
    pub shifts: Shifts,
}

/// Why a connection that another director has told of is not taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTakenUp {
    /// The end of one that was replaced here since.
    Replaced,
    /// The table is full.
    Full,
    /// Its replies would look like those of a connection that lives here.
    Taken,
    /// Its server is not known here, and the way to it neither.
    NoWay,
    /// What is known here is newer; or it would have expired by now.
    Older,
}

/// The sysctls that decide (`net.ipv4.vs.sync_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Connections that are for one packet are never told of; with version 0 their templates neither, nor those of
    /// connections that are not told of. sync_version.
    pub version: u8,
    /// The packet of a connection's that it is told with, and, where [`Policy::period`] is not 0, each packet whose
    /// number leaves this remainder. sync_threshold's first number.
    pub threshold: u32,
    /// Packets after which an unchanged connection is told of again, 0 for never. sync_threshold's second number.
    pub period: u32,
    /// Seconds by which a time-out must have moved for the connection to be told of again; 0 for no such rule.
    pub refresh: u32,
    /// How often it is told of within that all the same.
    pub retries: u8,
    /// Of persistent services only templates are told of. sync_persist_mode.
    pub templates_only: bool,
}

impl Default for Policy {
    /// The kernel's.
    fn default() -> Self {
        Self {
            version: 1,
            threshold: 3,
            period: 50,
            refresh: 0,
            retries: 0,
            templates_only: false,
        }
    }
}

/// What a director remembers of having told of a connection, or of having been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// When it would have expired, as was told.
    end: Instant,
    /// How often that was repeated.
    repeats: u8,
    /// The state that was told, or taken up from another director.
    state: u8,
}

impl Memory {
    /// Of a connection that is made now and was never told of.
    pub const fn new(now: Instant) -> Self {
        Self {
            end: now,
            repeats: 0,
            state: 0,
        }
    }

    /// Of a connection that another director has told of.
    pub const fn taken_up(now: Instant, state: u8) -> Self {
        Self {
            end: now,
            repeats: 0,
            state,
        }
    }
}

/// What of a connection decides.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// `None` for a template of a firewall mark.
    pub protocol: Option<Protocol>,
    /// Its state now.
    pub state: u8,
    /// A persistence template.
    pub template: bool,
    /// A template controls it.
    pub persistent: bool,
    /// Its client's packets so far, this one included.
    pub packets: u32,
    /// The time-out of its state.
    pub timeout: Duration,
}

/// What a state says.
enum Phase {
    /// Not worth telling of.
    Early,
    /// By the rules of counting and time.
    Lasting,
    /// At once, where it is new.
    Ending,
}

impl Policy {
    /// Whether a connection is to be told of with the client's packet that has just moved it, which is then
    /// remembered.
    pub fn is_needed(&self, now: Instant, subject: &Subject, memory: &mut Memory) -> bool {
        if !self.is_told(subject) {
            return false;
        }
        let ends = !subject.template && matches!(phase(subject), Phase::Ending);
        if ends && subject.state != memory.state {
            memory.note(now + subject.timeout, 0, subject.state);
            return true;
        }
        let end = now + subject.timeout;
        let Some(repeats) = self.is_time(now, end, subject.timeout, memory) else {
            return false;
        };
        if !self.is_turn(subject) {
            return false;
        }
        memory.note(end, repeats, subject.state);
        true
    }

    /// Whether a connection in this state is told of at all, sooner or later.
    pub fn is_told(&self, subject: &Subject) -> bool {
        if subject.template {
            return true;
        }
        let by_template = self.templates_only && subject.persistent;
        !by_template && !matches!(phase(subject), Phase::Early)
    }

    /// How often it will then have been repeated, where the refresh period lets it be told of.
    fn is_time(
        &self,
        now: Instant,
        end: Instant,
        timeout: Duration,
        memory: &Memory,
    ) -> Option<u8> {
        let refresh = Duration::from_secs(self.refresh.into());
        let moved = end.since(memory.end).max(memory.end.since(end));
        let least = (timeout / 2).max(Duration::from_secs(10)).min(refresh);
        if moved >= least {
            return Some(0);
        }
        let again = memory.end - timeout + refresh / 8;
        (memory.repeats < self.retries && now >= again).then(|| memory.repeats + 1)
    }

    /// Whether it is the turn of a connection with so many packets.
    const fn is_turn(&self, subject: &Subject) -> bool {
        match self.period {
            0 => self.refresh > 0 || subject.packets == self.threshold,
            _ => subject.template || subject.packets % self.period == self.threshold,
        }
    }
}

impl Memory {
    const fn note(&mut self, end: Instant, repeats: u8, state: u8) {
        *self = Self {
            end,
            repeats,
            state,
        };
    }
}

fn phase(subject: &Subject) -> Phase {
    match subject.protocol {
        Some(Protocol::Tcp) => match TcpState::from_number(subject.state) {
            TcpState::Established => Phase::Lasting,
            TcpState::FinWait | TcpState::Close | TcpState::CloseWait | TcpState::TimeWait => {
                Phase::Ending
            }
            _ => Phase::Early,
        },
        Some(Protocol::Sctp) => match SctpState::from_number(subject.state) {
            SctpState::Established => Phase::Lasting,
            SctpState::ShutdownSent
            | SctpState::ShutdownReceived
            | SctpState::ShutdownAckSent
            | SctpState::Closed => Phase::Ending,
            _ => Phase::Early,
        },
        Some(Protocol::Udp) | None => Phase::Lasting,
    }
}
