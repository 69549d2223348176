//! Persistence templates: which server a client stays with. After `ip_vs_control_add` and
//! `ip_vs_check_template` of `net/netfilter/ipvs/ip_vs_conn.c`.
//!
//! A template counts the connections that it controls, and lives for as long as it has any. It is ASSURED
//! once one of them was established; one that never was is worth nothing to anybody when places run out.

use super::Flows;
use super::event::Standing;
use crate::conn::{self, Conn, ConnId, InsertError};
use crate::engine::desired::FTP;
use crate::flow::{Addr, Endpoint, Flow, Protocol};
use crate::ranks::Rank;
use crate::service::{Persistence, ServiceKey, ServiceSpec};
use crate::time::Instant;
use crate::verdict::DropReason;
use crate::wire::sip;

/// The port that an invalidated template shows.
const INVALID: u16 = 0xffff;

/// A template that leads nowhere yet.
pub(in crate::engine) struct Template<'a> {
    pub(super) conn: Conn,
    /// Whether it stands for the service's port alone.
    pub(super) own_port: bool,
    /// The one call that it stands for, with the persistence engine sip.
    pub(super) call: Option<&'a str>,
}

impl<'a> Template<'a> {
    /// What persistence looks for this client's server by; `None` for a protocol that has none.
    ///
    /// # Errors
    /// The service's persistence engine finds nothing in the data behind the packet's transport header.
    pub(super) fn of(
        spec: &ServiceSpec,
        (flow, data): (&Flow, &'a [u8]),
        p: Persistence,
    ) -> Result<Option<Self>, DropReason> {
        let call = match spec.engine {
            Some(_) => Some(sip::call_id(data).ok_or(DropReason::NoCallId)?),
            None => None,
        };
        let template = Self::by_address(spec, flow, p);
        Ok(template.map(|template| Self { call, ..template }))
    }

    /// As where the service has no persistence engine; `None` for a protocol that has no persistence.
    pub(super) fn by_address(spec: &ServiceSpec, flow: &Flow, p: Persistence) -> Option<Self> {
        let protocol = Protocol::from_number(flow.protocol)?;
        let client = Endpoint::new(mask(flow.src, p.mask), 0);
        let (vip, own_port, flags) = match spec.key {
            // It stands for all that has the mark, of all protocols.
            ServiceKey::Mark { mark, .. } => {
                let vip = Endpoint::new(Addr::v4(mark.to_be_bytes()), 0);
                (vip, flow.dst_port == 0, conn::MARKED)
            }
            ServiceKey::Address { port, .. } => {
                let own_port = flow.dst_port == port && port != FTP;
                let vip = Endpoint::new(flow.dst, if own_port { port } else { 0 });
                (vip, own_port, 0)
            }
        };
        let mut conn = Conn::new(protocol, client, vip, Endpoint::NONE);
        conn.flags = conn::TEMPLATE | flags;
        conn.timeout = p.timeout;
        Some(Self {
            conn,
            own_port,
            call: None,
        })
    }

    /// It leads to the server at a place.
    pub(super) const fn lead_to(&mut self, end: Endpoint, place: u32) {
        let port = if self.own_port { end.port } else { 0 };
        self.conn.ends.server = Endpoint::new(end.addr, port);
        self.conn.backend = place;
    }

    /// Whose server it is to find.
    pub(in crate::engine) const fn client(&self) -> Addr {
        self.conn.ends.client.addr
    }
}

impl Flows {
    /// What a client's template is found by; `None` where the service has none, or not for this packet.
    pub(super) fn template_of<'a>(
        &self,
        slot: u32,
        flow: &Flow,
        data: &'a [u8],
    ) -> Option<Template<'a>> {
        let spec = self.service(slot);
        Template::of(spec, (flow, data), spec.persistence?).ok()?
    }

    /// Whether the service at a slot has a template for such a packet.
    pub(in crate::engine) fn has_template(&self, slot: u32, flow: &Flow, data: &[u8]) -> bool {
        let wanted = self.template_of(slot, flow, data);
        wanted.is_some_and(|wanted| self.find_template(&wanted).is_some())
    }

    /// The template that is the wanted one, whether it holds or not.
    pub(super) fn find_template(&self, wanted: &Template<'_>) -> Option<ConnId> {
        self.find_of(&wanted.conn.client_flow(), wanted.call)
    }

    /// Inserts a template, whose server is in it.
    ///
    /// # Errors
    /// The table is full; nothing is changed.
    pub(super) fn insert_template(
        &mut self,
        now: Instant,
        template: &Template<'_>,
    ) -> Result<ConnId, InsertError> {
        match template.call {
            Some(call) => self.insert_call(now, &template.conn, call),
            None => self.insert(now, &template.conn, false),
        }
    }

    /// A template holds while its server is there (`ip_vs_check_template`); `quiescent` where it does not
    /// hold either while that has weight 0 (expire_quiescent_template).
    pub(in crate::engine) fn template_is_valid(&self, id: ConnId, quiescent: bool) -> bool {
        let server = self.server_of(self.conns.get(id));
        let quiesced = server.spec.weight == 0 && quiescent;
        !server.is_removed() && !quiesced && !server.is_timed_out()
    }

    /// A template is to be found no more.
    pub(super) fn invalidate_template(&mut self, id: ConnId) {
        self.calls.remove(id, &self.conns);
        self.conns.invalidate(id, INVALID);
    }

    /// One more connection is under this template.
    pub(super) fn hold_template(&mut self, id: ConnId) {
        self.conns.get_mut(id).controlled += 1;
        self.conns.set_rank(id, Rank::Protected);
    }

    /// One connection less is.
    pub(super) fn release_template(&mut self, id: ConnId) {
        let t = self.conns.get_mut(id);
        t.controlled = t.controlled.saturating_sub(1);
        let rank = match t.in_packets {
            _ if t.controlled > 0 || t.state == conn::ASSURED => Rank::Protected,
            0 => Rank::Unproven,
            // One-packet scheduling's connections are never established: its datagrams count.
            1 => Rank::Single,
            _ => Rank::Protected,
        };
        self.conns.set_rank(id, rank);
    }

    /// A connection was established, or answered: so its template counts (`ip_vs_control_assure_ct`).
    pub(super) fn assure_template(&mut self, id: ConnId) {
        let template = self.conns.get_mut(id);
        if template.has(conn::TEMPLATE) && template.state != conn::ASSURED {
            let before = Standing::of(template);
            template.state = conn::ASSURED;
            self.changed(id, before);
        }
    }
}

/// A client's address as a service's persistence sees it: an IPv4 netmask of any form, an IPv6 prefix.
fn mask(addr: Addr, mask: u32) -> Addr {
    match addr.as_v4() {
        Some(b) => Addr::v4((u32::from_be_bytes(b) & mask).to_be_bytes()),
        None => addr.masked(mask.min(128) as u8),
    }
}
