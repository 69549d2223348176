//! What is served, as it is listed: services, connections, marks, lists of clients, time-outs.

use std::sync::Arc;

use uvs_control::protocol::{
    AccessPage, Answers, Lists, Refusal, Services, TABLE_SIZE, Traffic, ask,
};
use uvs_core::engine::{ConnReport, ServiceReport};
use uvs_core::marks::MarkRule;
use uvs_core::service::ServiceSpec;
use uvs_core::snapshot::Timeouts;

use super::{Daemon, failed, status};
use crate::workers::Cursor;

/// Entries of the deny and allow lists in one answer.
const ACCESS_PAGE: u32 = 10_000;

impl Answers<ask::ListServices> for Daemon {
    fn answer(&mut self, ask::ListServices(key): ask::ListServices) -> Result<Services, Refusal> {
        let fib = self.mirror.fib();
        let marks = self.table.marks();
        let listed = |s: &Arc<ServiceSpec>, counted: Option<&ServiceReport>| {
            status::listed(s, marks, counted, &self.rates, &fib)
        };
        let services = if let Some(key) = key {
            let service = self.table.find(&key)?;
            let counted = self.workers.service(key).map_err(failed)?;
            vec![listed(service, counted.as_ref())]
        } else {
            let report = self.counted()?.all.services;
            let counted = report.by_key();
            let all = self.table.services().iter();
            all.map(|s| listed(s, counted.get(&s.key).copied()))
                .collect()
        };
        Ok(Services {
            table_size: TABLE_SIZE,
            services,
        })
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
