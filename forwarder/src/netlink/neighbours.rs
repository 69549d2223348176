//! The kernel's neighbour entries, followed message by message, and which of them it is to keep
//! resolved for us. Pure: it says what to ask for, the mirror asks.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use uvs_core::fib::Fib;
use uvs_core::flow::Addr;
use uvs_core::time::Instant;
use uvs_core::verdict::PortId;
use uvs_core::wire::ethernet::Mac;

use super::event::Event;
use super::messages::Neighbour;

/// Least time between two solicitations of one address: the kernel's own retransmission time.
const SOLICIT_INTERVAL: Duration = Duration::from_secs(1);
/// Addresses remembered for that; beyond it those whose second is over are forgotten first.
const SOLICITED_LIMIT: usize = 4096;

/// Interface index and address.
pub(super) type Key = (u32, Addr);

/// An entry, for those who look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The interface.
    pub(crate) ifindex: u32,
    /// The address.
    pub(crate) addr: Addr,
    /// `None` in a state in which the kernel would not send to it.
    pub(crate) mac: Option<Mac>,
    /// ARP or neighbour discovery went unanswered.
    pub(crate) failed: bool,
    /// Set by an administrator or a routing daemon.
    pub(crate) maintained: bool,
    /// The kernel keeps it resolved.
    pub(crate) managed: bool,
    /// The real servers that it leads to.
    pub(crate) servers: Vec<Addr>,
}

/// The entries and what is wanted of them.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    entries: HashMap<Key, Neighbour>,
    /// Those that the kernel was asked to keep.
    kept: BTreeSet<Key>,
    /// Those of them that are to be tried again where they do not answer, though no packet asks for it.
    tried: BTreeSet<Key>,
    solicited: HashMap<Key, Instant>,
}

impl Neighbours {
    /// Takes a new reading of the whole table and says what is different.
    pub(super) fn replace(
        &mut self,
        entries: HashMap<Key, Neighbour>,
        ports: &HashMap<u32, PortId>,
    ) -> Vec<Event> {
        let gone = self.entries.keys().filter(|k| !entries.contains_key(*k));
        let gone: Vec<_> = gone.copied().collect();
        let mut events: Vec<_> = gone
            .into_iter()
            .filter_map(|k| self.remove(k, ports))
            .collect();
        events.extend(
            entries
                .into_iter()
                .filter_map(|(k, n)| self.set(k, n, ports)),
        );
        events
    }

    /// Notes an entry as it is now.
    pub(super) fn set(
        &mut self,
        key: Key,
        mut now: Neighbour,
        ports: &HashMap<u32, PortId>,
    ) -> Option<Event> {
        let before = self.entries.get(&key).copied();
        // While the kernel tries again, an entry that failed has still failed: it is told once.
        now.failed |= now.mac.is_none() && before.is_some_and(|b| b.failed);
        self.entries.insert(key, now);
        let port = *ports.get(&key.0)?;
        let (addr, old) = (key.1, before.and_then(|b| b.mac));
        let newly_failed = now.failed && !before.is_some_and(|b| b.failed);
        match now.mac {
            Some(mac) if old == Some(mac) => None,
            Some(mac) => Some(Event::NeighbourKnown {
                port,
                addr,
                mac,
                before: old,
            }),
            None if newly_failed || old.is_some() => Some(Event::NeighbourLost {
                port,
                addr,
                failed: now.failed,
            }),
            None => None,
        }
    }

    /// Notes that an entry is gone.
    pub(super) fn remove(&mut self, key: Key, ports: &HashMap<u32, PortId>) -> Option<Event> {
        let before = self.entries.remove(&key)?;
        let port = *ports.get(&key.0)?;
        before.mac.map(|_| Event::NeighbourLost {
            port,
            addr: key.1,
            failed: false,
        })
    }

    /// Adds the known and the failed ones to a forwarding information base.
    pub(super) fn fill(&self, fib: &mut Fib) {
        for (&(ifindex, addr), n) in &self.entries {
            match n.mac {
                Some(mac) => fib.set_neighbour(ifindex, addr, mac),
                None if n.failed => fib.set_failed(ifindex, addr),
                None => {}
            }
        }
    }

    /// Entries on these interfaces: with a MAC address, and without.
    pub(super) fn count(&self, interfaces: &[u32]) -> (u64, u64) {
        let ours = self.entries.iter();
        let ours = ours.filter(|((ifindex, _), _)| interfaces.contains(ifindex));
        let (known, unknown): (Vec<_>, Vec<_>) = ours.partition(|(_, n)| n.mac.is_some());
        (known.len() as u64, unknown.len() as u64)
    }

    /// Entries on these interfaces, by interface and address.
    pub(super) fn list(&self, interfaces: &[u32]) -> Vec<Entry> {
        let ours = self.entries.iter();
        let ours = ours.filter(|((ifindex, _), _)| interfaces.contains(ifindex));
        let mut all: Vec<_> = ours
            .map(|(&(ifindex, addr), n)| Entry {
                ifindex,
                addr,
                mac: n.mac,
                failed: n.failed,
                maintained: n.maintained,
                managed: n.managed,
                servers: Vec::new(),
            })
            .collect();
        all.sort_by_key(|e| (e.ifindex, e.addr));
        all
    }

    /// Whether the kernel's answer to this neighbour is somebody else's work, not to be touched.
    pub(super) fn is_maintained(&self, key: Key) -> bool {
        self.entries.get(&key).is_some_and(|n| n.maintained)
    }

    /// Whether the neighbour is one of those to be kept.
    pub(super) fn is_kept(&self, key: Key) -> bool {
        self.kept.contains(&key)
    }

    /// Whether the kernel is to keep it from now on: not while it does not answer.
    pub(super) fn is_to_be_kept(&self, key: Key) -> bool {
        let rests = self.entries.get(&key).is_some_and(|n| self.rests(&key, n));
        self.is_kept(key) && !rests
    }

    /// Whether there is a usable entry.
    pub(super) fn is_known(&self, key: Key) -> bool {
        self.entries.get(&key).is_some_and(|n| n.mac.is_some())
    }

    /// Takes the set to be kept, and those of it that are to be `tried` again where they do not answer; returns
    /// those that need no longer be kept.
    pub(super) fn want(&mut self, wanted: BTreeSet<Key>, tried: BTreeSet<Key>) -> Vec<Key> {
        let released = self.kept.difference(&wanted).copied().collect();
        self.kept = wanted;
        self.tried = tried;
        released
    }

    /// Those to be kept that the kernel does not keep (any more), so that it must be asked: new ones,
    /// flushed ones, those that answer again, and on a kernel before 5.16 all of them.
    pub(super) fn unkept(&self) -> Vec<Key> {
        let managed = |k: &Key| {
            let entry = self.entries.get(k);
            entry.is_some_and(|n| n.managed || n.maintained || self.rests(k, n))
        };
        self.kept.iter().filter(|k| !managed(k)).copied().collect()
    }

    /// Those that the kernel keeps and that did not answer: it would go on to ask, every few seconds for ever.
    pub(super) fn unanswered(&self) -> Vec<Key> {
        let kept = self.kept.iter().filter(|k| {
            let entry = self.entries.get(k);
            entry.is_some_and(|n| n.managed && !n.maintained && self.rests(k, n))
        });
        kept.copied().collect()
    }

    /// Whether a neighbour that did not answer is asked again by the next packet to it only.
    fn rests(&self, key: &Key, entry: &Neighbour) -> bool {
        entry.failed && !self.tried.contains(key)
    }

    /// Those that an earlier run asked for and that nobody wants any more.
    pub(super) fn leftovers(&self) -> Vec<Key> {
        let left = self
            .entries
            .iter()
            .filter(|(k, n)| n.ours && n.managed && !self.kept.contains(*k));
        left.map(|(k, _)| *k).collect()
    }

    /// Whether a neighbour may be solicited now; if so, it counts as done.
    pub(super) fn may_solicit(&mut self, key: Key, now: Instant) -> bool {
        if self
            .solicited
            .get(&key)
            .is_some_and(|t| now.since(*t) < SOLICIT_INTERVAL)
        {
            return false;
        }
        if self.solicited.len() >= SOLICITED_LIMIT {
            self.solicited
                .retain(|_, t| now.since(*t) < SOLICIT_INTERVAL);
        }
        if self.solicited.len() >= SOLICITED_LIMIT {
            return false;
        }
        self.solicited.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = (2, Addr::v4([10, 0, 1, 7]));
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn ports() -> HashMap<u32, PortId> {
        HashMap::from([(2, PortId(0))])
    }

    fn entry(mac: Option<[u8; 6]>) -> Neighbour {
        Neighbour {
            mac,
            failed: false,
            maintained: false,
            managed: false,
            ours: false,
        }
    }

    fn failed() -> Neighbour {
        Neighbour {
            failed: true,
            ..entry(None)
        }
    }

    #[test]
    fn an_event_is_told_when_the_mac_changes_and_not_when_the_state_does() {
        let mut n = Neighbours::default();
        let (port, addr) = (PortId(0), KEY.1);
        let known = |mac, before| {
            Some(Event::NeighbourKnown {
                port,
                addr,
                mac,
                before,
            })
        };
        assert_eq!(n.set(KEY, entry(None), &ports()), None, "incomplete");
        assert_eq!(n.set(KEY, entry(Some(MAC)), &ports()), known(MAC, None));
        assert_eq!(n.set(KEY, entry(Some(MAC)), &ports()), None, "stale");
        assert_eq!(
            n.set(KEY, entry(Some([4; 6])), &ports()),
            known([4; 6], Some(MAC))
        );
        let forgotten = Event::NeighbourLost {
            port,
            addr,
            failed: false,
        };
        assert_eq!(n.remove(KEY, &ports()), Some(forgotten));
    }

    #[test]
    fn a_failure_is_told_once_while_the_kernel_keeps_trying() {
        let mut n = Neighbours::default();
        let lost = Event::NeighbourLost {
            port: PortId(0),
            addr: KEY.1,
            failed: true,
        };
        assert_eq!(n.set(KEY, failed(), &ports()), Some(lost));
        assert_eq!(n.set(KEY, entry(None), &ports()), None, "incomplete again");
        assert_eq!(n.set(KEY, failed(), &ports()), None, "failed again");
        assert!(n.set(KEY, entry(Some(MAC)), &ports()).is_some());
    }

    #[test]
    fn other_interfaces_are_followed_in_silence() {
        let mut n = Neighbours::default();
        assert_eq!(n.set((9, KEY.1), entry(Some(MAC)), &ports()), None);
        assert!(n.is_known((9, KEY.1)));
    }

    #[test]
    fn what_is_kept_is_asked_for_until_the_kernel_keeps_it() {
        let mut n = Neighbours::default();
        assert_eq!(n.want(BTreeSet::from([KEY]), BTreeSet::new()), []);
        assert_eq!(n.unkept(), [KEY]);
        n.set(
            KEY,
            Neighbour {
                managed: true,
                ours: true,
                ..entry(None)
            },
            &ports(),
        );
        assert_eq!(n.unkept(), []);
        assert_eq!(n.leftovers(), []);
        assert_eq!(n.want(BTreeSet::new(), BTreeSet::new()), [KEY]);
        assert_eq!(n.leftovers(), [KEY]);
    }

    #[test]
    fn who_does_not_answer_rests_unless_it_is_one_of_several() {
        let managed = Neighbour {
            managed: true,
            ..failed()
        };
        for tried in [BTreeSet::new(), BTreeSet::from([KEY])] {
            let mut n = Neighbours::default();
            let rests = tried.is_empty();
            n.want(BTreeSet::from([KEY]), tried);
            n.set(KEY, managed, &ports());
            assert_eq!(n.unanswered().is_empty(), !rests);
            n.set(KEY, failed(), &ports());
            assert_eq!(n.unkept().is_empty(), rests);
            n.set(KEY, entry(Some(MAC)), &ports());
            assert_eq!(n.unkept(), [KEY], "it answers again");
        }
    }

    #[test]
    fn an_administrators_entry_is_left_alone() {
        let mut n = Neighbours::default();
        n.set(
            KEY,
            Neighbour {
                maintained: true,
                ..entry(Some(MAC))
            },
            &ports(),
        );
        n.want(BTreeSet::from([KEY]), BTreeSet::new());
        assert!(n.is_maintained(KEY));
        assert_eq!(n.unkept(), []);
    }

    #[test]
    fn an_address_is_solicited_once_a_second() {
        let mut n = Neighbours::default();
        assert!(n.may_solicit(KEY, Instant::from_secs(5)));
        assert!(!n.may_solicit(KEY, Instant::from_millis(5999)));
        assert!(n.may_solicit(KEY, Instant::from_secs(6)));
    }

    #[test]
    fn the_memory_of_solicitations_is_bounded() {
        let mut n = Neighbours::default();
        let keys = (0..).map(|i| (i, KEY.1)).take(2 * SOLICITED_LIMIT);
        let asked = keys.filter(|key| n.may_solicit(*key, Instant::ZERO));
        assert_eq!(asked.count(), SOLICITED_LIMIT);
        assert!(
            n.may_solicit(KEY, Instant::from_secs(1)),
            "the second is over"
        );
        assert_eq!(n.solicited.len(), 1);
    }
}
