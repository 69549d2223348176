//! Who may open a connection, and making it.

use super::Engine;
use super::desired::FTP_DATA;
use super::flows::{Refused, Scheduling};
use crate::conn::ConnId;
use crate::flow::{Addr, Flow, Protocol};
use crate::packet::{Packet, Transport};
use crate::time::Instant;
use crate::trace::{Recorder, Step};
use crate::verdict::DropReason;

/// A server that begins a connection.
pub(super) struct Caller {
    /// The slot of its service.
    pub(super) slot: u32,
    /// Its place.
    server: u32,
    /// The flow of the client's packets, once it answers.
    pub(super) flow: Flow,
}

impl<R: Recorder> Engine<R> {
    /// Finds a server and makes the connection; the packet has `data` behind the transport's header, where it is a datagram.
    pub(super) fn schedule(
        &mut self,
        now: Instant,
        slot: u32,
        (flow, data): (&Flow, &[u8]),
    ) -> Result<ConnId, Refused> {
        if flow.src_port == FTP_DATA {
            return Err(Refused::NotForUs);
        }
        let admitted = self.flows.admit(now, slot, flow.src);
        admitted.map_err(Refused::Drop)?;
        if self.upkeep.drops() {
            return Err(Refused::Drop(DropReason::DropPacket));
        }
        self.scheduling(now, slot, (flow, data)).run(None)
    }

    /// A connection that a server begins (`ip_vs_new_conn_out`): one with a client, which is to take it for the service.
    pub(super) fn schedule_from(
        &mut self,
        now: Instant,
        caller: &Caller,
        data: &[u8],
    ) -> Result<ConnId, Refused> {
        let new = self.scheduling(now, caller.slot, (&caller.flow, data));
        new.run(Some(caller.server))
    }

    fn scheduling<'a>(
        &'a mut self,
        now: Instant,
        slot: u32,
        (flow, data): (&'a Flow, &'a [u8]),
    ) -> Scheduling<'a, R> {
        Scheduling {
            flows: &mut self.flows,
            recorder: &mut self.recorder,
            now,
            slot,
            flow,
            data,
            expire_quiescent: self.desired.sysctls().expire_quiescent_template != 0,
        }
    }

    /// Who begins a connection with this packet, of no connection yet and with a client for its destination: a NAT server of a
    /// service whose persistence engine knows to which call it belongs (`__ip_vs_rs_conn_out`).
    pub(super) fn caller(&self, packet: &Packet, data: &[u8]) -> Option<Caller> {
        if packet.transport != Transport::Udp {
            return None;
        }
        let flow = &packet.flow;
        let services = self.desired.services_of_caller(flow.source());
        let callers = services.filter_map(|service| {
            let slot = self.desired.slot(&service)?;
            Some(Caller {
                slot,
                server: self.flows.server_in(slot, flow.source())?,
                flow: Flow::new(Protocol::Udp, flow.destination(), service.vip()),
            })
        });
        // Of several services, the one that has the call already; else the first.
        callers.min_by_key(|c| !self.flows.has_template(c.slot, &c.flow, data))
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
