//! Connections by filter, for `uvs show conns` and `uvs top`. A request looks at a bounded part of the table
//! and answers with a bounded number: whoever wants all of it asks again.

use uvs_control::protocol::{
    Answers, ClientFilter, Filter, Find, Found, Refusal, ask, keep_latest,
};
use uvs_core::engine::ConnReport;
use uvs_core::flow::Endpoint;

use super::{Daemon, failed};
use crate::workers::Cursor;

/// Pages of the connection table that one request looks at: 32768 places.
const PAGES: u32 = 64;
/// Connections after which a request's answer is full.
const FULL: usize = 2048;

impl Answers<ask::FindConnections> for Daemon {
    fn answer(
        &mut self,
        ask::FindConnections(find): ask::FindConnections,
    ) -> Result<Found, Refusal> {
        let mut found = Found {
            next: Some(find.from),
            ..Found::default()
        };
        for _ in 0..PAGES {
            let Some(from) = found.next else { break };
            let page = self.workers.connections(Cursor::from(from));
            let (page, rest) = page.map_err(failed)?;
            take(&mut found, &find, page);
            found.next = rest.map(u64::from);
            if found.connections.len() >= FULL {
                break;
            }
        }
        Ok(found)
    }
}

fn take(found: &mut Found, find: &Find, page: Vec<ConnReport>) {
    for fitting in page.into_iter().filter(|c| fits(&find.filter, c)) {
        found.connections.push(fitting);
        found.matched += 1;
    }
    if let Some(most) = find.latest {
        keep_latest(&mut found.connections, most);
    }
}

pub(super) fn fits(filter: &Filter, c: &ConnReport) -> bool {
    filter.service.is_none_or(|service| service == c.service)
        && filter.server.is_none_or(|wanted| is_at(wanted, c.server))
        && filter.client.is_none_or(|wanted| is_of(wanted, c.client))
}

fn is_at(wanted: Endpoint, server: Endpoint) -> bool {
    wanted.addr == server.addr && (wanted.port == 0 || wanted.port == server.port)
}

fn is_of(wanted: ClientFilter, client: Endpoint) -> bool {
    wanted.addr.is_v4() == client.addr.is_v4()
        && client.addr.masked(wanted.prefix) == wanted.addr.masked(wanted.prefix)
        && (wanted.port == 0 || wanted.port == client.port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::flow::{Addr, Protocol};
    use uvs_core::service::ServiceKey;

    const VIP: Endpoint = Endpoint::new(Addr::v4([10, 0, 0, 1]), 80);

    fn connection(client: [u8; 4], server: u8, idle: u64) -> ConnReport {
        ConnReport {
            protocol: Some(Protocol::Tcp),
            client: Endpoint::new(Addr::v4(client), 4711),
            vip: VIP,
            server: Endpoint::new(Addr::v4([10, 0, 1, server]), 8080),
            local: None,
            state: "ESTABLISHED",
            expires: 900,
            service: ServiceKey::address(Protocol::Tcp, VIP),
            idle_ns: 1_000_000 * idle,
            sequence: None,
            call: None,
            in_kernel: false,
        }
    }

    #[test]
    fn every_part_of_a_filter_must_fit() {
        let c = connection([192, 0, 2, 7], 2, 1);
        let at = |port| Some(Endpoint::new(c.server.addr, port));
        let from = |prefix, port| {
            let addr = Addr::v4([192, 0, 2, 9]);
            Some(ClientFilter { addr, prefix, port })
        };
        let (own, other) = (Some(c.service), Endpoint::new(VIP.addr, 443));
        let other = Some(ServiceKey::address(Protocol::Tcp, other));
        for (service, server, client, wanted) in [
            (None, None, None, true),
            (None, at(0), None, true),
            (None, at(8080), None, true),
            (None, at(80), None, false),
            (None, None, from(24, 0), true),
            (None, None, from(24, 4711), true),
            (None, None, from(24, 4712), false),
            (None, None, from(32, 0), false),
            (own, at(8080), from(24, 4711), true),
            (own, None, from(32, 0), false),
            (other, None, None, false),
        ] {
            let filter = Filter {
                service,
                server,
                client,
            };
            assert_eq!(fits(&filter, &c), wanted, "{filter:?}");
        }
    }

    #[test]
    fn the_latest_stay_and_all_are_counted() {
        let pages = [
            [
                connection([192, 0, 2, 1], 2, 5),
                connection([192, 0, 2, 2], 2, 50),
            ],
            [
                connection([192, 0, 2, 3], 2, 7),
                connection([192, 0, 2, 4], 3, 99),
            ],
        ];
        let server = Some(Endpoint::new(Addr::v4([10, 0, 1, 2]), 0));
        let find = Find {
            filter: Filter {
                server,
                ..Filter::default()
            },
            latest: Some(2),
            ..Find::default()
        };
        let mut found = Found::default();
        for page in pages {
            take(&mut found, &find, page.into());
        }
        let idle: Vec<u64> = found
            .connections
            .iter()
            .map(|c| c.idle_ns / 1_000_000)
            .collect();
        assert_eq!((idle, found.matched), (vec![5, 7], 3));
    }
}
