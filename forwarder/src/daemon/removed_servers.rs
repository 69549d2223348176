//! Servers that were removed, or whose forwarding method was changed, while replies of theirs still pass
//! the director.
//!
//! Their connections go on until they expire: the engine translates what such a server sends, so that the
//! sockets must let it in, and the kernel must not forward it a second time under the server's own name.

use serde::{Deserialize, Serialize};
use uvs_core::flow::Endpoint;
use uvs_core::marks::MarkRule;
use uvs_core::service::ServiceKey;
use uvs_core::services::Services;
use uvs_core::shared::{Changes, Set};

use super::derive::{self, Replier};
use super::footing::Followed;

/// What is known of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct RemovedServers {
    current: Set<Replier>,
    left: Set<Replier>,
    /// What `current` is of.
    #[serde(skip)]
    followed: Followed,
    /// Another after each change of what is known.
    #[serde(skip)]
    version: u64,
}

impl RemovedServers {
    /// These are the services now; the servers of those before may still have connections.
    pub(super) fn follow(&mut self, services: &Services, marks: &[MarkRule]) {
        match self.followed.follow(services, marks) {
            Some((gone, new)) => self.change(gone, new),
            None => self.update(derive::repliers(services, marks)),
        }
    }

    /// These are the services' now.
    fn update(&mut self, current: Set<Replier>) {
        let Changes { gone, new } = current.since(&self.current);
        let cloned = |of: Vec<&Replier>| of.into_iter().cloned().collect();
        let (gone, new) = (cloned(gone), cloned(new));
        self.change(gone, new);
    }

    /// These are the services' no more, and then these are.
    fn change(&mut self, gone: Vec<Replier>, new: Vec<Replier>) {
        if gone.iter().eq(&new) {
            return;
        }
        for replier in gone {
            if self.current.remove(&replier) {
                self.left.insert(replier);
            }
        }
        for replier in new {
            self.left.remove(&replier);
            self.current.insert(replier);
        }
        self.version += 1;
    }

    /// Another after each change of what is known.
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// All whose replies are the engine's: those of services, and those that have left them.
    pub(super) const fn all(&self) -> [&Set<Replier>; 2] {
        [&self.current, &self.left]
    }

    /// What the engine is to be asked about; in order.
    pub(super) fn left(&self) -> Vec<(ServiceKey, Endpoint)> {
        self.left.iter().map(|r| (r.service, r.server)).collect()
    }

    /// Forgets those without connections: the counts are in the order of [`RemovedServers::left`]. Says whether
    /// there were any.
    pub(super) fn forget_idle(&mut self, connections: &[u32]) -> bool {
        let before = self.left.len();
        let mut counts = connections.iter();
        let has_some = |_: &&Replier| counts.next().is_some_and(|n| *n > 0);
        self.left = self.left.iter().filter(has_some).cloned().collect();
        let forgotten = self.left.len() < before;
        self.version += u64::from(forgotten);
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::flow::{Addr, Protocol};

    fn replier(host: u8, local: Vec<Addr>) -> Replier {
        let at = |d, port| Endpoint::new(Addr::v4([10, 0, 0, d]), port);
        Replier {
            service: ServiceKey::address(Protocol::Tcp, at(100, 80)),
            server: at(host, 8080),
            port: 8080,
            protocols: [Protocol::Tcp].into(),
            local,
        }
    }

    fn hosts(l: &RemovedServers) -> Vec<u8> {
        let all = l.all().map(Set::clone);
        let all = all[0].union(&all[1]);
        all.iter().map(|r| r.server.addr.0[15]).collect()
    }

    #[test]
    fn a_removed_one_stays_while_it_has_connections() {
        let mut l = RemovedServers::default();
        let set = |hosts: &[u8]| hosts.iter().map(|h| replier(*h, Vec::new())).collect();
        l.update(set(&[1, 2, 3]));
        assert!(l.left().is_empty());
        l.update(set(&[3]));
        assert_eq!((hosts(&l), l.left().len()), (vec![1, 2, 3], 2));
        assert!(!l.forget_idle(&[1, 5]));
        assert!(l.forget_idle(&[0, 5]));
        assert_eq!(hosts(&l), [2, 3]);
        // Back again, and gone without a connection.
        l.update(set(&[2, 3]));
        assert!(l.left().is_empty());
        l.update(set(&[]));
        assert!(l.forget_idle(&[0, 0]));
        assert_eq!(hosts(&l), Vec::<u8>::new());
    }

    #[test]
    fn one_whose_way_changed_lingers_in_the_old_one() {
        let mut l = RemovedServers::default();
        let local = vec![Addr::v4([10, 0, 0, 200])];
        l.update([replier(1, Vec::new())].into());
        l.update([replier(1, local)].into());
        assert_eq!(hosts(&l), [1, 1]);
        assert!(l.forget_idle(&[0]));
        assert_eq!(hosts(&l), [1]);
    }
}
