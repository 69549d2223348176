//! What happened to a server's connections, told once for all workers: each tells of its own only, one after
//! the other, and one that has had none of them does not tell at all.

use std::collections::BTreeMap;
use std::mem::discriminant;

use uvs_core::engine::{Event, EventKind, Report};
use uvs_core::flow::Endpoint;
use uvs_core::service::ServiceKey;

/// Events that wait for what the other workers say of the same.
pub(super) struct Events {
    workers: usize,
    waiting: Vec<Waiting>,
}

struct Waiting {
    service: ServiceKey,
    server: Endpoint,
    /// What each worker has told; all of it is of one kind.
    told: BTreeMap<usize, EventKind>,
    /// The other workers have had time to tell.
    is_old: bool,
}

impl Events {
    /// Nothing has happened at any of so many workers.
    pub(super) fn new(workers: usize) -> Self {
        Self {
            workers,
            waiting: Vec::new(),
        }
    }

    /// A worker has told of an event; returns what is to be said now that all have.
    pub(super) fn note(&mut self, worker: usize, event: Event) -> Option<Event> {
        let (service, server, what) = (event.service, event.server, event.what);
        if let EventKind::TimedOut(_) = what {
            // Where one worker's connections were ended, the server is not drained by others having had none.
            let drained = EventKind::Drained(Default::default());
            self.waiting.retain(|w| {
                !w.is(&Event {
                    what: drained,
                    ..event
                })
            });
        }
        let place = self.waiting.iter().position(|w| w.is(&event));
        let place = place.unwrap_or_else(|| {
            self.waiting.push(Waiting {
                service,
                server,
                told: BTreeMap::new(),
                is_old: false,
            });
            self.waiting.len() - 1
        });
        let waiting = &mut self.waiting[place];
        waiting.told.insert(worker, what);
        let all = waiting.told.len() == self.workers;
        all.then(|| self.waiting.swap_remove(place))
            .and_then(|w| w.joined())
    }

    /// Called once a period: returns what is to be said although some workers have not told of it.
    pub(super) fn settle(&mut self, report: &Report) -> Vec<Event> {
        let mut due = Vec::new();
        self.waiting.retain_mut(|waiting| {
            let outlook = waiting.outlook(report);
            if outlook == Outlook::Due {
                due.extend(waiting.joined());
            }
            waiting.is_old = true;
            outlook == Outlook::Waits
        });
        due
    }
}

/// What becomes of an event that not all workers have told of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outlook {
    Waits,
    Due,
    /// It is not so any more.
    Void,
}

impl Waiting {
    fn is(&self, event: &Event) -> bool {
        let kind = |what: &EventKind| discriminant(what) == discriminant(&event.what);
        self.service == event.service
            && self.server == event.server
            && self.told.values().next().is_some_and(kind)
    }

    /// A server is drained when no worker has an open connection of it; all else each worker tells at once.
    fn outlook(&self, report: &Report) -> Outlook {
        let Some(EventKind::Drained(_)) = self.told.values().next() else {
            return if self.is_old {
                Outlook::Due
            } else {
                Outlook::Waits
            };
        };
        let service = report.services.iter().find(|s| s.key == self.service);
        let mut servers = service.into_iter().flat_map(|s| &s.servers);
        match servers.find(|s| s.endpoint == self.server) {
            Some(server) if server.numbers.draining.is_some() && server.numbers.open > 0 => {
                Outlook::Waits
            }
            Some(server) if server.numbers.draining.is_some() => Outlook::Due,
            _ => Outlook::Void,
        }
    }

    fn joined(&self) -> Option<Event> {
        Some(Event {
            service: self.service,
            server: self.server,
            what: self.told.values().copied().reduce(join)?,
        })
    }
}

/// Connections add up; a drain took as long as it did where it took longest.
fn join(a: EventKind, b: EventKind) -> EventKind {
    match (a, b) {
        (EventKind::Drains(a), EventKind::Drains(b)) => EventKind::Drains(a + b),
        (EventKind::TimedOut(a), EventKind::TimedOut(b)) => EventKind::TimedOut(a + b),
        (EventKind::Ended(a), EventKind::Ended(b)) => EventKind::Ended(a + b),
        (EventKind::Drained(a), EventKind::Drained(b)) => EventKind::Drained(a.max(b)),
        (a, _) => a,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use uvs_core::engine::{ServerReport, ServiceReport};
    use uvs_core::flow::{Addr, Protocol};
    use uvs_core::numbers::{ServerNumbers, ServiceNumbers};

    const VIP: Endpoint = Endpoint::new(Addr::v4([10, 0, 0, 1]), 80);
    const SERVER: Endpoint = Endpoint::new(Addr::v4([10, 0, 1, 2]), 80);
    const SERVICE: ServiceKey = ServiceKey::address(Protocol::Tcp, VIP);

    fn event(what: EventKind) -> Event {
        Event {
            service: SERVICE,
            server: SERVER,
            what,
        }
    }

    fn drained(seconds: u64) -> EventKind {
        EventKind::Drained(Duration::from_secs(seconds))
    }

    /// The server drains, with so many open connections at all workers.
    fn report(open: u32) -> Report {
        let server = ServerReport {
            endpoint: SERVER,
            numbers: ServerNumbers {
                active: open,
                open,
                draining: Some(0),
                ..ServerNumbers::default()
            },
        };
        let service = ServiceReport {
            key: SERVICE,
            numbers: ServiceNumbers::default(),
            local_ports: Vec::new(),
            servers: vec![server],
        };
        Report {
            services: vec![service],
            ..Report::default()
        }
    }

    #[test]
    fn the_only_worker_is_heard_at_once() {
        let mut events = Events::new(1);
        for what in [
            EventKind::Drains(3),
            drained(5),
            EventKind::TimedOut(2),
            EventKind::Ended(7),
        ] {
            assert_eq!(events.note(0, event(what)), Some(event(what)));
        }
        assert_eq!(events.settle(&report(0)), []);
    }

    #[test]
    fn connections_of_all_workers_add_up_once_all_have_told() {
        let mut events = Events::new(3);
        assert_eq!(events.note(2, event(EventKind::Drains(3))), None);
        assert_eq!(events.note(0, event(EventKind::Drains(0))), None);
        let all = events.note(1, event(EventKind::Drains(4)));
        assert_eq!(all, Some(event(EventKind::Drains(7))));
        assert_eq!(events.settle(&report(7)), []);
    }

    #[test]
    fn a_worker_that_has_nothing_to_tell_is_not_waited_for_long() {
        let mut events = Events::new(3);
        assert_eq!(events.note(0, event(EventKind::Ended(2))), None);
        assert_eq!(events.settle(&report(0)), [], "it may just be late");
        assert_eq!(events.note(1, event(EventKind::Ended(5))), None);
        assert_eq!(events.settle(&report(0)), [event(EventKind::Ended(7))]);
        assert_eq!(events.settle(&report(0)), []);
    }

    #[test]
    fn a_server_is_drained_when_it_is_at_all_workers() {
        let mut events = Events::new(2);
        assert_eq!(events.note(0, event(drained(5))), None);
        for _ in 0..3 {
            assert_eq!(events.settle(&report(1)), []);
        }
        assert_eq!(events.note(1, event(drained(9))), Some(event(drained(9))));

        // The other worker had none of its connections.
        assert_eq!(events.note(0, event(drained(5))), None);
        assert_eq!(events.settle(&report(0)), [event(drained(5))]);

        // It is back in service before the other worker's last connection closed.
        assert_eq!(events.note(0, event(drained(5))), None);
        assert_eq!(events.settle(&Report::default()), []);
        assert_eq!(events.settle(&report(0)), []);
    }

    #[test]
    fn a_server_whose_drain_timed_out_anywhere_is_not_drained() {
        let mut events = Events::new(2);
        assert_eq!(events.note(0, event(drained(5))), None);
        assert_eq!(events.note(1, event(EventKind::TimedOut(4))), None);
        assert_eq!(events.settle(&report(0)), []);
        assert_eq!(events.settle(&report(0)), [event(EventKind::TimedOut(4))]);
    }
}
