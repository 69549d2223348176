//! The VIPs that the host does not have: those that UVS owns, and those that nobody answers for here.

use std::collections::BTreeSet;

use uvs_core::fib::Fib;
use uvs_core::flow::Addr;
use uvs_core::marks::Destination;

use crate::config::OwnVips;

/// The VIPs on none of the host's interfaces, each list in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnassignedVips {
    /// Those that UVS answers for.
    pub owned: Vec<Addr>,
    /// Those of them that another host claims.
    pub yielded: Vec<Addr>,
    /// Those that nobody answers for here.
    pub absent: Vec<Addr>,
}

impl UnassignedVips {
    /// Of these destinations; none is yielded yet. A network of a mark's is routed here, so neither it nor
    /// what lies within it is absent.
    pub fn of(to: impl Iterator<Item = Destination>, own: &OwnVips, fib: &Fib) -> Self {
        let (hosts, networks): (Vec<_>, Vec<_>) = to.partition(Destination::is_host);
        let vips: BTreeSet<Addr> = hosts.iter().map(|to| to.addr).collect();
        let unassigned = vips
            .into_iter()
            .filter(|a| !a.is_unspecified() && !fib.is_local(*a));
        let (owned, others): (Vec<Addr>, Vec<Addr>) = unassigned.partition(|a| own.has(*a));
        let routed_here = |a: &Addr| networks.iter().any(|to| to.has_address(*a));
        Self {
            owned,
            absent: others.into_iter().filter(|a| !routed_here(a)).collect(),
            yielded: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_does_not_have_is_owned_only_where_that_was_said() {
        let to = [
            "tcp 10.0.0.1:80",
            "tcp 10.0.0.3:80",
            "udp 10.0.0.2:53",
            "any 10.0.0.2",
            "tcp 10.9.0.5:80",
            "tcp 10.9.0.0/16:80",
            "tcp [2001:db8::1]:80",
            "tcp [2001:db8::2]:80",
        ];
        let mut fib = Fib::new();
        fib.add_local(2, Addr::v4([10, 0, 0, 1]));
        fib.add_local(
            2,
            Addr::from(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        );
        let of = |own: OwnVips| {
            let to = to.iter().map(|to| to.parse().expect("a destination"));
            let UnassignedVips { owned, absent, .. } = UnassignedVips::of(to, &own, &fib);
            (owned, absent)
        };
        let [two, three, routed] = [[10, 0, 0, 2], [10, 0, 0, 3], [10, 9, 0, 5]].map(Addr::v4);
        let six = |end: u8| {
            Addr::from(std::net::Ipv6Addr::new(
                0x2001,
                0xdb8,
                0,
                0,
                0,
                0,
                0,
                end.into(),
            ))
        };
        assert_eq!(of(OwnVips::None), (vec![], vec![two, three, six(2)]));
        assert_eq!(of(OwnVips::All), (vec![two, three, routed, six(2)], vec![]));
        let here = Addr::v4([10, 0, 0, 1]);
        let some = OwnVips::Some(vec![three, here, Addr::v4([10, 0, 0, 9])]);
        assert_eq!(of(some), (vec![three], vec![two, six(2)]));
    }
}
