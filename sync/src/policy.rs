//! When a connection is told of: the rule by which a director spares the other one (`ip_vs_sync_conn_needed`).

use std::time::Duration;

use uvs_core::flow::Protocol;
use uvs_core::sctp::SctpState;
use uvs_core::tcp::TcpState;
use uvs_core::time::Instant;

/// The sysctls that decide (`net.ipv4.vs.sync_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
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
            threshold: 3,
            period: 50,
            refresh: 0,
            retries: 0,
            templates_only: false,
        }
    }
}

/// What a director remembers of having told of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        if !subject.template {
            if self.templates_only && subject.persistent {
                return false;
            }
            match phase(subject) {
                Phase::Early => return false,
                Phase::Ending if subject.state != memory.state => {
                    memory.note(now + subject.timeout, 0, subject.state);
                    return true;
                }
                Phase::Ending | Phase::Lasting => {}
            }
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
