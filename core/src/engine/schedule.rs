//! Who may open a connection, and making it.

use super::Engine;
use super::desired::FTP_DATA;
use super::flows::{Refused, Scheduling};
use crate::conn::ConnId;
use crate::flow::{Addr, Flow};
use crate::time::Instant;
use crate::trace::{Recorder, Step};
use crate::verdict::DropReason;

impl<R: Recorder> Engine<R> {
    /// Finds a server and makes the connection.
    pub(super) fn schedule(
        &mut self,
        now: Instant,
        slot: u32,
        flow: &Flow,
    ) -> Result<ConnId, Refused> {
        if flow.src_port == FTP_DATA {
            return Err(Refused::NotForUs);
        }
        let admitted = self.flows.admit(now, slot, flow.src);
        admitted.map_err(Refused::Drop)?;
        if self.upkeep.drops() {
            return Err(Refused::Drop(DropReason::DropPacket));
        }
        let new = Scheduling {
            flows: &mut self.flows,
            recorder: &mut self.recorder,
            now,
            slot,
            flow,
            expire_quiescent: self.desired.sysctls().expire_quiescent_template != 0,
        };
        new.run()
    }

    /// Counts a connection that a service wanted and could not make.
    pub(super) fn count_failure(&mut self, slot: u32, refused: &Refused) {
        if let Some(failure) = self.flows.count_failure(slot, refused) {
            self.record(|_| Step::Refused {
                why: failure.meaning().to_owned(),
            });
        }
    }

    /// Whether a client is kept out of a service.
    pub(super) fn denies(&mut self, slot: u32, client: Addr) -> bool {
        let service = self.desired.service(slot).key;
        if R::ON {
            let [everywhere, own] = self.desired.rules(&service, client);
            for (service, rule) in [(None, everywhere), (Some(service), own)] {
                if let Some(rule) = rule {
                    self.recorder.note(Step::Access {
                        client,
                        service,
                        rule,
                    });
                }
            }
        }
        self.desired.denies(&service, client)
    }
}
