//! What is served, as it is listed: services, connections, marks, lists of clients, time-outs.

use std::sync::Arc;

use uvs_control::protocol::{
    AccessPage, Answers, Lists, Refusal, Services, TABLE_SIZE, Traffic, ask,
};
use uvs_core::engine::ConnReport;
use uvs_core::marks::MarkRule;
use uvs_core::service::ServiceSpec;
use uvs_core::services::Serial;
use uvs_core::snapshot::Timeouts;

use super::{Daemon, failed, status};
use crate::workers::Cursor;

/// Services in one part of a listing: while a client reads one, the next is made.
const SERVICE_PAGE: usize = 500;
/// Entries of the deny and allow lists in one answer.
const ACCESS_PAGE: u32 = 10_000;

impl Lists<ask::ListServices> for Daemon {
    fn part(
        &mut self,
        ask::ListServices(key): &ask::ListServices,
        from: u64,
    ) -> Result<(Services, Option<u64>), Refusal> {
        let (wanted, next) = match key {
            Some(key) => (vec![self.table.find(key)?], None),
            None => {
                let mut rest = self.table.services().iter_from(Serial::from_number(from));
                let page = rest.by_ref().take(SERVICE_PAGE).map(|(_, s)| s).collect();
                (page, rest.next().map(|(serial, _)| serial.number()))
            }
        };
        let keys: Vec<_> = wanted.iter().map(|s| s.key).collect();
        let report = self.workers.services(&keys).map_err(failed)?;
        let counted = report.by_key();
        let (marks, fib) = (self.table.marks(), self.mirror.fib());
        let listed = |s: &Arc<ServiceSpec>| {
            status::listed(s, marks, counted.get(&s.key).copied(), &self.rates, &fib)
        };
        let services = Services {
            table_size: TABLE_SIZE,
            services: wanted.into_iter().map(listed).collect(),
        };
        Ok((services, next))
    }
}

impl Lists<ask::ListConnections> for Daemon {
    fn part(
        &mut self,
        _: &ask::ListConnections,
        from: u64,
    ) -> Result<(Vec<ConnReport>, Option<u64>), Refusal> {
        let page = self.workers.connections(Cursor::from(from));
        let (page, rest) = page.map_err(failed)?;
        Ok((page, rest.map(u64::from)))
    }
}

impl Answers<ask::Traffic> for Daemon {
    fn answer(&mut self, _: ask::Traffic) -> Result<Traffic, Refusal> {
        let (stats, rates) = self.rates.all();
        Ok(Traffic { stats, rates })
    }
}

impl Answers<ask::Zero> for Daemon {
    fn answer(&mut self, ask::Zero(key): ask::Zero) -> Result<(), Refusal> {
        if let Some(key) = key {
            self.table.find(&key)?;
        }
        self.rates.zero(key);
        Ok(())
    }
}

impl Answers<ask::ListMarks> for Daemon {
    fn answer(&mut self, _: ask::ListMarks) -> Result<Vec<MarkRule>, Refusal> {
        Ok(self.table.marks().to_vec())
    }
}

impl Answers<ask::ListAccess> for Daemon {
    fn answer(&mut self, ask::ListAccess(from): ask::ListAccess) -> Result<AccessPage, Refusal> {
        let (entries, next) = self.table.lists().page(from, ACCESS_PAGE);
        Ok(AccessPage { entries, next })
    }
}

impl Answers<ask::GetTimeouts> for Daemon {
    fn answer(&mut self, _: ask::GetTimeouts) -> Result<Timeouts, Refusal> {
        Ok(self.table.timeouts())
    }
}
