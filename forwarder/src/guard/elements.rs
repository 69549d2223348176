//! What a change of the guard adds to its sets and takes out of them, as the kernel's keys in bytes.
//!
//! Replacing the table costs an `nft` and time that grows with the services (35 ms at 300 of them), which
//! every one of a thousand `ipvsadm -a` would pay. Between two states of the same interfaces only
//! elements of sets differ. Pure.

use uvs_core::flow::Addr;

use super::rules::{GuardSpec, Server};

/// More elements than this are quicker in a script that replaces the table.
const LIMIT: usize = 1000;

/// Elements that one set gains or loses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The set's name.
    pub(super) set: &'static str,
    /// Gained, else lost.
    pub(super) gained: bool,
    /// The elements.
    pub(super) keys: Vec<Vec<u8>>,
}

/// What leads from one state to another; `None` where the table must be replaced. The lists of both are
/// in order, as [`GuardSpec::union`] leaves them.
pub(super) fn changes(from: &GuardSpec, to: &GuardSpec) -> Option<Vec<Change>> {
    if from.interfaces != to.interfaces || from.fullnat.ports != to.fullnat.ports {
        return None;
    }
    let mut changes = Changes::default();
    let service = |s: &GuardSpec| -> Vec<Server> {
        s.services
            .iter()
            .map(|&(p, vip, port)| (vip, p, port))
            .collect()
    };
    let (old, new) = (service(from), service(to));
    changes.tuples(["service", "service_any_port"], &old, &new);
    let (old, new) = (&from.nat_servers, &to.nat_servers);
    changes.tuples(["nat_server", "nat_server_any_port"], old, new);
    changes.tuples(["inner", "inner_any_port"], old, new);
    let (old, new) = (&from.fullnat.servers, &to.fullnat.servers);
    changes.tuples(["fullnat_server", "fullnat_server_any_port"], old, new);
    changes.addresses("fullnat_local", &from.fullnat.local, &to.fullnat.local);
    changes.addresses("owned", &from.owned, &to.owned);
    changes.addresses("local", &from.local, &to.local);
    let count: usize = changes.0.iter().map(|c| c.keys.len()).sum();
    (count <= LIMIT).then_some(changes.0)
}

#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    /// Two sets: those with a port, and those for all ports.
    fn tuples(&mut self, [with_port, any_port]: [&'static str; 2], old: &[Server], new: &[Server]) {
        self.differ(with_port, old, new, |s| key(s).filter(|_| s.2 != 0));
        self.differ(any_port, old, new, |s| key(s).filter(|_| s.2 == 0));
    }

    fn addresses(&mut self, set: &'static str, old: &[Addr], new: &[Addr]) {
        self.differ(set, old, new, |a| a.as_v4().map(|b| b.to_vec()));
    }

    fn differ<T: Ord>(
        &mut self,
        set: &'static str,
        old: &[T],
        new: &[T],
        key: impl Fn(&T) -> Option<Vec<u8>>,
    ) {
        for (gained, of, without) in [(true, new, old), (false, old, new)] {
            let only = of.iter().filter(|e| without.binary_search(e).is_err());
            let keys: Vec<_> = only.filter_map(&key).collect();
            if !keys.is_empty() {
                self.0.push(Change { set, gained, keys });
            }
        }
    }
}

/// Address, protocol and port, each padded to a register of four bytes; IPv4 only.
fn key(&(addr, protocol, port): &Server) -> Option<Vec<u8>> {
    let mut key = addr.as_v4()?.to_vec();
    key.extend([protocol as u8, 0, 0, 0]);
    if port != 0 {
        key.extend(port.to_be_bytes());
        key.extend([0, 0]);
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use uvs_core::flow::Protocol;

    use super::*;

    const VIP: Addr = Addr::v4([10, 0, 1, 100]);

    fn spec(ports: &[u16]) -> GuardSpec {
        let spec = GuardSpec {
            interfaces: vec!["eth0".into()],
            services: ports.iter().map(|p| (Protocol::Tcp, VIP, *p)).collect(),
            ..GuardSpec::default()
        };
        spec.union(&spec)
    }

    #[test]
    fn only_what_differs_is_told() {
        assert_eq!(changes(&spec(&[80, 81]), &spec(&[81, 80])).unwrap(), []);
        let changed = changes(&spec(&[80, 0]), &spec(&[443, 80])).unwrap();
        let with_port = vec![10, 0, 1, 100, 6, 0, 0, 0, 1, 187, 0, 0];
        let any_port = vec![10, 0, 1, 100, 6, 0, 0, 0];
        let change = |set, gained, key| Change {
            set,
            gained,
            keys: vec![key],
        };
        assert_eq!(
            changed,
            [
                change("service", true, with_port),
                change("service_any_port", false, any_port)
            ]
        );
    }

    #[test]
    fn other_interfaces_and_great_changes_replace_the_table() {
        let mut other = spec(&[80]);
        other.interfaces.push("eth1".into());
        assert_eq!(changes(&spec(&[80]), &other), None);
        let many: Vec<u16> = (1..=1001).collect();
        assert_eq!(changes(&spec(&[]), &spec(&many)), None);
    }
}
