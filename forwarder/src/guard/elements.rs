//! What a change of the guard adds to its sets and takes out of them, as the kernel's keys in bytes.
//!
//! Replacing the table costs time that grows with the services, which every one of a thousand `ipvsadm -a`
//! would pay, and the counts and the datagrams that it remembers. Between two states of the same
//! interfaces only elements of sets differ. Pure.

use std::collections::BTreeSet;

use uvs_core::flow::{Addr, Protocol};

use super::nft::message::{Attributes, Batch, Kind};
use super::nft::table::{NAME, TABLE as OF_TABLE, elements};
use super::sets::TABLE;
use super::spec::{GuardSpec, Server};

/// More elements than this are quicker in a message that replaces the table.
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
    let rules = |s: &GuardSpec| {
        let nat = &s.nat;
        let own_servers = !nat.own_servers.is_empty();
        let of_nat = (nat.wide.clone(), nat.idle, nat.answers_strays, own_servers);
        (
            s.interfaces.clone(),
            s.fullnat.ports,
            s.wide.clone(),
            of_nat,
        )
    };
    if rules(from) != rules(to) {
        return None;
    }
    let mut changes = Changes::default();
    let services = |of: &[(Protocol, Addr, u16)]| -> Vec<Server> {
        let server = |&(protocol, vip, port): &(Protocol, Addr, u16)| (vip, protocol, port);
        let mut servers: Vec<_> = of.iter().map(server).collect();
        servers.sort_unstable();
        servers
    };
    let pair = |with_port, any_port| [with_port, any_port];
    for (set, from, to) in [
        (
            pair("nat_service", "nat_service_any_port"),
            &from.nat.services,
            &to.nat.services,
        ),
        (
            pair("service", "service_any_port"),
            &from.services,
            &to.services,
        ),
    ] {
        changes.tuples(&[set], &services(from), &services(to));
    }
    changes.tuples(
        &[pair("own_server", "own_server_any_port")],
        &from.nat.own_servers,
        &to.nat.own_servers,
    );
    changes.tuples(
        &[
            pair("nat_server", "nat_server_any_port"),
            pair("inner", "inner_any_port"),
        ],
        &from.nat_servers,
        &to.nat_servers,
    );
    changes.tuples(
        &[pair("fullnat_server", "fullnat_server_any_port")],
        &from.fullnat.servers,
        &to.fullnat.servers,
    );
    changes.addresses("fullnat_local", &from.fullnat.local, &to.fullnat.local);
    changes.addresses("ftp", &from.ftp, &to.ftp);
    changes.addresses("owned", &from.owned, &to.owned);
    changes.addresses("local", &from.local, &to.local);
    let count: usize = changes.0.iter().map(|c| c.keys.len()).sum();
    (count <= LIMIT).then_some(changes.0)
}

/// The transaction that makes these changes.
pub(super) fn batch(changes: &[Change]) -> Batch {
    let messages = changes.iter().flat_map(|change| {
        let kind = if change.gained {
            Kind::NEW_ELEMENTS
        } else {
            Kind::DELETE_ELEMENTS
        };
        elements(kind, TABLE, change.set, &change.keys)
    });
    Batch::of(&messages.collect::<Vec<_>>())
}

/// The transaction that adds these elements to a set.
pub(super) fn addition(set: &'static str, keys: Vec<Vec<u8>>) -> Batch {
    let gained = true;
    batch(&[Change { set, gained, keys }])
}

/// The transaction that takes all elements out of a set, also of one that has none.
pub(super) fn emptying(set: &str) -> Batch {
    let all = Attributes::of(|out| {
        out.text(OF_TABLE, TABLE).text(NAME, set);
    });
    Batch::of(&[(Kind::DELETE_ELEMENTS, all)])
}

#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    /// Each pair of sets: those with a port, and those for all ports.
    fn tuples(&mut self, pairs: &[[&'static str; 2]], old: &[Server], new: &[Server]) {
        for (gained, only) in [(true, only(new, old)), (false, only(old, new))] {
            let (any_port, with_port): (Vec<_>, Vec<_>) = only.into_iter().partition(|s| s.2 == 0);
            for [with_port_set, any_port_set] in pairs {
                self.note(
                    with_port_set,
                    gained,
                    with_port.iter().copied().filter_map(key),
                );
                self.note(
                    any_port_set,
                    gained,
                    any_port.iter().copied().filter_map(key),
                );
            }
        }
    }

    fn addresses(&mut self, set: &'static str, old: &[Addr], new: &[Addr]) {
        for (gained, only) in [(true, only(new, old)), (false, only(old, new))] {
            let keys = only.into_iter().filter_map(|a| a.as_v4());
            self.note(set, gained, keys.map(|bytes| bytes.to_vec()));
        }
    }

    fn note(&mut self, set: &'static str, gained: bool, keys: impl Iterator<Item = Vec<u8>>) {
        let keys: Vec<_> = keys.collect();
        if !keys.is_empty() {
            self.0.push(Change { set, gained, keys });
        }
    }
}

/// What is in one list and not in the other, both in order: one walk, as the lists may be long.
fn only<'a, T: Ord>(of: &'a [T], without: &[T]) -> Vec<&'a T> {
    let mut without = without.iter().peekable();
    let is_new = |e: &&'a T| {
        while without.next_if(|other| other < e).is_some() {}
        without.peek() != Some(e)
    };
    of.iter().filter(is_new).collect()
}

/// The keys of those with a port, and of those for all ports, in order, each once; IPv4 only.
pub(super) fn tuples(of: &[Server]) -> [Vec<Vec<u8>>; 2] {
    let (any_port, with_port): (Vec<_>, Vec<_>) = of.iter().partition(|s| s.2 == 0);
    [with_port, any_port].map(|of| in_order(of.into_iter().filter_map(key)))
}

/// The keys of addresses, in order, each once; IPv4 only.
pub(super) fn addresses(of: &[Addr]) -> Vec<Vec<u8>> {
    in_order(of.iter().filter_map(|a| Some(a.as_v4()?.to_vec())))
}

fn in_order(keys: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    keys.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Address, protocol and port, each padded to a register of four bytes; IPv4 only.
pub(super) fn key(&(addr, protocol, port): &Server) -> Option<Vec<u8>> {
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
        let mut wide = spec(&[80]);
        wide.wide.push("tcp 10.0.1.100:81-90".parse().unwrap());
        assert_eq!(changes(&spec(&[80]), &wide), None);
        let many: Vec<u16> = (1..=1001).collect();
        assert_eq!(changes(&spec(&[]), &spec(&many)), None);
    }
}
