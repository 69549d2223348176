//! Ends connections that somebody wants to be ended: a share of the table a call, and as fast as their ends may be told.

use super::flows::Cause;
use super::{ConnReport, Engine};
use crate::conn::{self, ConnId};
use crate::outbox::Outbox;
use crate::service::OnRemoval;
use crate::time::Instant;
use crate::trace::Recorder;

/// Which connections of a part of the table end.
pub struct Kill<'a> {
    /// The first place that is looked at.
    pub from: u32,
    /// How many places are.
    pub budget: u32,
    /// Whether a connection is meant.
    pub wants: &'a dyn Fn(&ConnReport) -> bool,
    /// Whether their ends are told; `None` = as their services' `on_removal` says.
    pub tell: Option<bool>,
}

/// What became of that part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Killed {
    /// Connections that were ended,
    pub killed: u32,
    /// and those of them whose ends were told.
    pub told: u32,
    /// The place to go on from; `None` at the end of the table.
    pub next: Option<u32>,
    /// Whether it ended early, as no more may be told yet.
    pub waits: bool,
}

impl<R: Recorder> Engine<R> {
    /// Ends connections. Templates are none. It stops early at one whose ends may not be told yet.
    pub fn kill(&mut self, now: Instant, kill: &Kill<'_>, out: &mut Outbox) -> Killed {
        let places = self.flows.table().places();
        let end = kill.from.saturating_add(kill.budget).min(places);
        let mut done = Killed {
            next: (end < places).then_some(end),
            ..Killed::default()
        };
        for place in kill.from..end {
            if self.flows.table().at(place).is_none() {
                continue;
            }
            let id = ConnId(place);
            self.flows.catch_up_with(id);
            let c = *self.flows.conn(id);
            if c.has(conn::TEMPLATE) || !(kill.wants)(&self.flows.report_of(now, id)) {
                continue;
            }
            let on_removal = self.flows.server_of(&c).teardown.on_removal;
            let tells = kill.tell.unwrap_or(on_removal == OnRemoval::Tell);
            let Some(told) = self.end_and_tell(now, id, (tells, Cause::Killed), out) else {
                (done.next, done.waits) = (Some(place), true);
                break;
            };
            done.told += u32::from(told);
            done.killed += 1;
        }
        done
    }
}
