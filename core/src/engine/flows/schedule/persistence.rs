//! Persistence: one client stays with one server by a template. After `ip_vs_sched_persist` of
//! `net/netfilter/ipvs/ip_vs_core.c`.

use super::{Refused, Scheduling};
use crate::conn::ConnId;
use crate::engine::flows::templates::Template;
use crate::service::Persistence;
use crate::trace::{Recorder, Step, Template as Found};

impl<R: Recorder> Scheduling<'_, R> {
    /// Makes a connection to the server that the client's template names, or to a new one and a template. Where a server
    /// `begins` it, the template must name that.
    pub(super) fn open_persistent(
        &mut self,
        p: Persistence,
        begins: Option<u32>,
    ) -> Result<ConnId, Refused> {
        let wanted = Template::of(self.spec(), (self.flow, self.data), p);
        let mut wanted = wanted.map_err(Refused::Drop)?.ok_or(Refused::NoServer)?;
        let known = self.flows.find_template(&wanted);
        self.record(|s| s.persisted(&wanted, p, known));
        let holds = |id: &ConnId| {
            let server = self.flows.conn(*id).backend;
            self.is_valid(*id) && begins.is_none_or(|begins| begins == server)
        };
        let template = match known.filter(holds) {
            Some(id) => id,
            None => {
                if let Some(id) = known {
                    self.flows.invalidate_template(id);
                }
                let server = begins.map_or_else(|| self.choose(), Ok)?;
                self.make_template(&mut wanted, server)?
            }
        };
        let server = self.flows.conn(template).backend;
        // Held before there is a connection: nothing that makes room for one may take its template.
        self.flows.hold_template(template);
        let opened = self.open(server, template.0);
        match opened {
            Ok(_) => self.flows.seen(self.now, template),
            Err(_) => self.flows.release_template(template),
        }
        opened
    }

    fn is_valid(&self, template: ConnId) -> bool {
        let quiescent = self.expire_quiescent;
        self.flows.template_is_valid(template, quiescent)
    }

    fn make_template(&mut self, wanted: &mut Template<'_>, server: u32) -> Result<ConnId, Refused> {
        wanted.lead_to(self.flows.pool.servers.get(server).key.1, server);
        self.insert(|flows, now| flows.insert_template(now, wanted))
    }

    /// What persistence has for a client.
    fn persisted(&self, wanted: &Template<'_>, p: Persistence, known: Option<ConnId>) -> Step {
        let template = known.map_or(Found::Miss, |id| {
            let c = self.flows.conn(id);
            let server = self.flows.server_of(c).key.1;
            if self.is_valid(id) {
                let left = c.deadline.since(self.now).as_secs();
                let expires = u32::try_from(left).unwrap_or(u32::MAX);
                Found::Hit { server, expires }
            } else {
                Found::Stale { server }
            }
        });
        Step::Persistence {
            client: wanted.client(),
            call: wanted.call.map(str::to_owned),
            mask: p.mask,
            timeout: p.timeout,
            template,
        }
    }
}
