//! What a change of the guard adds to its sets and takes out of them, as the kernel's keys in bytes.
//!
//! Replacing the table costs time that grows with the services, which every one of a thousand `ipvsadm -a`
//! would pay, and the counts and the datagrams that it remembers. Between two states of the same
//! interfaces only elements of sets differ. Pure.

use std::collections::BTreeSet;

use uvs_core::flow::{Addr, Family};
use uvs_core::shared::Set;

use super::nft::message::{Attributes, Batch, Kind};
use super::nft::table::{NAME, TABLE as OF_TABLE, elements};
use super::rules::vips;
use super::sets::{SIDES, Side, TABLE};
use super::spec::{Destined, GuardSpec, Server};

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

/// What leads from one state to another; `None` where the table must be replaced.
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
    let mut changes = Changes {
        all: Vec::new(),
        family: Family::V4,
    };
    for Side { family, names, .. } in SIDES {
        changes.family = *family;
        changes.services(
            [names.nat_service, names.nat_service_any_port],
            &from.nat.services,
            &to.nat.services,
        );
        changes.services(
            [names.service, names.service_any_port],
            &from.services,
            &to.services,
        );
        changes.servers(
            &[[names.own_server, names.own_server_any_port]],
            &from.nat.own_servers,
            &to.nat.own_servers,
        );
        changes.servers(
            &[[names.caller, names.caller_any_port]],
            &from.nat.callers,
            &to.nat.callers,
        );
        changes.servers(
            &[
                [names.nat_server, names.nat_server_any_port],
                [names.inner, names.inner_any_port],
            ],
            &from.nat_servers,
            &to.nat_servers,
        );
        changes.servers(
            &[[names.fullnat_server, names.fullnat_server_any_port]],
            &from.fullnat.servers,
            &to.fullnat.servers,
        );
        changes.addresses(names.fullnat_local, &from.fullnat.local, &to.fullnat.local);
        changes.addresses(names.ftp, &from.ftp, &to.ftp);
        changes.addresses(names.owned, &from.owned, &to.owned);
        if *family == Family::V6 {
            changes.addresses(names.vips, &vips(from), &vips(to));
        }
        changes.addresses(names.local, &from.local, &to.local);
    }
    let changes = changes.all;
    let count: usize = changes.iter().map(|c| c.keys.len()).sum();
    (count <= LIMIT).then_some(changes)
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

/// The transaction that takes all elements out of sets, also of one that has none.
pub(super) fn emptying(sets: [&str; 2]) -> Batch {
    let all = sets.map(|set| {
        let of_set = Attributes::of(|out| {
            out.text(OF_TABLE, TABLE).text(NAME, set);
        });
        (Kind::DELETE_ELEMENTS, of_set)
    });
    Batch::of(&all)
}

struct Changes {
    all: Vec<Change>,
    /// The family that is being compared.
    family: Family,
}

impl Changes {
    /// A pair of sets: those with a port, and those for all ports.
    fn services(&mut self, pair: [&'static str; 2], old: &Set<Destined>, new: &Set<Destined>) {
        let only = new.since(old);
        for (gained, only) in [(true, only.new), (false, only.gone)] {
            self.pairs(&[pair], gained, only.into_iter().map(ends));
        }
    }

    /// As many pairs of sets.
    fn servers(&mut self, pairs: &[[&'static str; 2]], old: &Set<Server>, new: &Set<Server>) {
        let only = new.since(old);
        for (gained, only) in [(true, only.new), (false, only.gone)] {
            self.pairs(pairs, gained, only.into_iter().copied());
        }
    }

    fn pairs(
        &mut self,
        pairs: &[[&'static str; 2]],
        gained: bool,
        ends: impl Iterator<Item = Server>,
    ) {
        let [with_port, any_port] = tuples(self.family, ends);
        for [with_port_set, any_port_set] in pairs {
            self.note(with_port_set, gained, with_port.clone());
            self.note(any_port_set, gained, any_port.clone());
        }
    }

    fn addresses(&mut self, set: &'static str, old: &Set<Addr>, new: &Set<Addr>) {
        let only = new.since(old);
        for (gained, only) in [(true, only.new), (false, only.gone)] {
            self.note(set, gained, addresses(self.family, only));
        }
    }

    fn note(&mut self, set: &'static str, gained: bool, keys: Vec<Vec<u8>>) {
        if !keys.is_empty() {
            self.all.push(Change { set, gained, keys });
        }
    }
}

/// A family's keys of those with a port, and of those for all ports, in order, each once.
pub(super) fn tuples(family: Family, of: impl Iterator<Item = Server>) -> [Vec<Vec<u8>>; 2] {
    let (any_port, with_port): (Vec<_>, Vec<_>) = of.partition(|s| s.2 == 0);
    [with_port, any_port].map(|of| in_order(keys(family, &of).into_iter()))
}

/// A service's address as a server's is written.
pub(super) const fn ends(&(protocol, vip, port): &Destined) -> Server {
    (vip, protocol, port)
}

/// A family's keys of addresses, in order, each once.
pub(super) fn addresses<'a>(
    family: Family,
    of: impl IntoIterator<Item = &'a Addr>,
) -> Vec<Vec<u8>> {
    let of_family = of.into_iter().filter(|a| a.family() == family);
    in_order(of_family.map(octets))
}

/// A family's keys.
pub(super) fn keys<'a>(family: Family, of: impl IntoIterator<Item = &'a Server>) -> Vec<Vec<u8>> {
    let of_family = of.into_iter().filter(|s| s.0.family() == family);
    of_family.map(key).collect()
}

fn in_order(keys: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    keys.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Address, protocol and port, each padded to registers of four bytes.
fn key((addr, protocol, port): &Server) -> Vec<u8> {
    let mut key = octets(addr);
    key.extend([*protocol as u8, 0, 0, 0]);
    if *port != 0 {
        key.extend(port.to_be_bytes());
        key.extend([0, 0]);
    }
    key
}

/// An address as packets of its family have it.
pub(super) fn octets(addr: &Addr) -> Vec<u8> {
    let v4 = addr.as_v4().map(|four| four.to_vec());
    v4.unwrap_or_else(|| addr.v6_octets().to_vec())
}

#[cfg(test)]
mod tests {
    use uvs_core::flow::Protocol;

    use super::*;

    const VIP: Addr = Addr::v4([10, 0, 1, 100]);

    fn spec(ports: &[u16]) -> GuardSpec {
        GuardSpec {
            interfaces: vec!["eth0".into()],
            services: ports.iter().map(|p| (Protocol::Tcp, VIP, *p)).collect(),
            ..GuardSpec::default()
        }
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
    fn each_family_has_sets_of_its_own() {
        let mut both = spec(&[80]);
        let vip = Addr([0x20; 16]);
        both.services.insert((Protocol::Tcp, vip, 80));
        both.owned.insert(vip);
        let mut tcp_80 = vec![0x20; 16];
        tcp_80.extend([6, 0, 0, 0, 0, 80, 0, 0]);
        let gained = |set, key| Change {
            set,
            gained: true,
            keys: vec![key],
        };
        assert_eq!(
            changes(&spec(&[80]), &both).unwrap(),
            [
                gained("service6", tcp_80),
                gained("owned6", vec![0x20; 16]),
                gained("vips6", vec![0x20; 16])
            ]
        );
    }

    #[test]
    fn other_interfaces_and_great_changes_replace_the_table() {
        let mut other = spec(&[80]);
        other.interfaces.push("eth1".into());
        assert_eq!(changes(&spec(&[80]), &other), None);
        let mut wide = spec(&[80]);
        wide.wide.insert("tcp 10.0.1.100:81-90".parse().unwrap());
        assert_eq!(changes(&spec(&[80]), &wide), None);
        let many: Vec<u16> = (1..=1001).collect();
        assert_eq!(changes(&spec(&[]), &spec(&many)), None);
    }
}
