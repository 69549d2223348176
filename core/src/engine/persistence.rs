//! Persistence: one client stays with one server by a template. After `ip_vs_sched_persist` of
//! `net/netfilter/ipvs/ip_vs_core.c` and `ip_vs_control_add` of `ip_vs_conn.c`.
//!
//! A template counts the connections that it controls, and lives for as long as it has any. It is ASSURED
//! once one of them was established; one that never was is worth nothing to anybody when places run out.

use super::Engine;
use super::schedule::{FTP, Opening, Refused};
use crate::conn::{self, Conn, ConnId};
use crate::flow::{Addr, Endpoint, Flow, Protocol};
use crate::ranks::Rank;
use crate::service::Persistence;
use crate::time::Instant;
use crate::trace::Recorder;

/// The port that an invalidated template shows.
const INVALID: u16 = 0xffff;

/// What a client's template is found by.
pub(super) struct TemplateKey {
    protocol: Protocol,
    client: Endpoint,
    vip: Endpoint,
    /// Whether it stands for the service's port alone.
    own_port: bool,
    /// Whether it stands for all that has a firewall mark, of all protocols.
    marked: bool,
}

impl TemplateKey {
    pub(super) const fn flow(&self) -> Flow {
        self.template().client_flow()
    }

    /// A template that leads nowhere yet.
    const fn template(&self) -> Conn {
        let mut t = Conn::new(self.protocol, self.client, self.vip, Endpoint::NONE);
        t.flags = conn::TEMPLATE | if self.marked { conn::MARKED } else { 0 };
        t
    }
}

impl<R: Recorder> Engine<R> {
    /// Makes a connection to the server that the client's template names, or to a new one and a template.
    pub(super) fn schedule_persistent(
        &mut self,
        now: Instant,
        new: &Opening<'_>,
        p: Persistence,
    ) -> Result<ConnId, Refused> {
        let key = self
            .template_key(new.slot, new.flow, p)
            .ok_or(Refused::NoServer)?;
        let known = self.conns.find(&key.flow()).map(|(id, _)| id);
        self.record(|e| e.persisted(now, key.client.addr, p, known));
        let template = match known.filter(|id| self.template_is_valid(*id)) {
            Some(id) => id,
            None => {
                if let Some(id) = known {
                    self.conns.invalidate(id, INVALID);
                }
                self.make_template(now, new, &key, p)?
            }
        };
        let server = self.conns.get(template).backend;
        // Held before there is a connection: nothing that makes room for one may take its template.
        self.hold_template(template);
        let opened = self.open(now, new, server, template.0);
        match opened {
            Ok(_) => self.conns.touch(now, template),
            Err(_) => self.release_template(template),
        }
        opened
    }

    fn make_template(
        &mut self,
        now: Instant,
        new: &Opening<'_>,
        key: &TemplateKey,
        p: Persistence,
    ) -> Result<ConnId, Refused> {
        let server = self.choose(now, new)?;
        let end = self.servers.get(server).key.1;
        let mut t = key.template();
        t.server = Endpoint::new(end.addr, if key.own_port { end.port } else { 0 });
        t.timeout = p.timeout;
        t.backend = server;
        self.insert(now, t, false)
    }

    /// One more connection is under this template.
    fn hold_template(&mut self, id: ConnId) {
        self.conns.get_mut(id).controlled += 1;
        self.conns.set_rank(id, Rank::Kept);
    }

    /// One connection less is.
    pub(super) fn release_template(&mut self, id: ConnId) {
        let t = self.conns.get_mut(id);
        t.controlled = t.controlled.saturating_sub(1);
        let rank = match t.in_packets {
            _ if t.controlled > 0 || t.state == conn::ASSURED => Rank::Kept,
            0 => Rank::Unproven,
            // One-packet scheduling's connections are never established: its datagrams count.
            1 => Rank::Single,
            _ => Rank::Kept,
        };
        self.conns.set_rank(id, rank);
    }

    /// A connection was established, or answered: so its template counts (`ip_vs_control_assure_ct`).
    pub(super) fn assure_template(&mut self, id: ConnId) {
        let template = self.conns.get_mut(id);
        if template.has(conn::TEMPLATE) && template.state != conn::ASSURED {
            template.state = conn::ASSURED;
        }
    }

    /// Where persistence looks for this client's server; `None` for a protocol that has none.
    pub(super) fn template_key(
        &self,
        slot: u32,
        flow: &Flow,
        p: Persistence,
    ) -> Option<TemplateKey> {
        let service_port = self.service_port(slot);
        let own_port = flow.dst_port == service_port && service_port != FTP;
        let mark = self.mark_of(slot);
        let vip = match mark {
            Some(mark) => Endpoint::new(Addr::v4(mark.to_be_bytes()), 0),
            None => Endpoint::new(flow.dst, if own_port { flow.dst_port } else { 0 }),
        };
        Some(TemplateKey {
            protocol: Protocol::from_number(flow.protocol)?,
            client: Endpoint::new(mask(flow.src, p.mask), 0),
            vip,
            own_port,
            marked: mark.is_some(),
        })
    }

    /// A template holds while its server is there (`ip_vs_check_template`).
    pub(super) fn template_is_valid(&self, id: ConnId) -> bool {
        let server = self.servers.get(self.conns.get(id).backend);
        let quiesced =
            server.spec.weight == 0 && self.snapshot.sysctls.expire_quiescent_template != 0;
        server.service != conn::NONE && !quiesced && !server.is_timed_out()
    }
}

/// A client's address as a service's persistence sees it: an IPv4 netmask of any form, an IPv6 prefix.
fn mask(addr: Addr, mask: u32) -> Addr {
    match addr.as_v4() {
        Some(b) => Addr::v4((u32::from_be_bytes(b) & mask).to_be_bytes()),
        None => addr.masked(mask.min(128) as u8),
    }
}
