//! Routes as the kernel has them, and tables of them.

use std::sync::Arc;

use super::HashMap;
use crate::flow::{Addr, Family};

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination; bits after `prefix` are zero.
    pub dst: Addr,
    /// Prefix length, 0 to 32, or 128 in IPv6.
    pub prefix: u8,
    /// What it does with a packet.
    pub target: Target,
    /// The kernel's metric: the lowest wins among equal prefixes.
    pub metric: u32,
    /// The route's own MTU, where it has one.
    pub mtu: Option<u32>,
}

/// What a route does with a packet (RTN_* in linux/rtnetlink.h).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Sends it to a next hop.
    Hop(Hop),
    /// Sends each connection's to one of several next hops. None at all, where the kernel has only such as
    /// cannot be followed: then there is no way.
    Hops(Arc<[Hop]>),
    /// It is the host's own.
    Local,
    /// The next rule decides.
    Throw,
    /// Refuses it.
    Refuse(Refusal),
}

/// A next hop of a route's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The neighbour to send to, `None` = the destination itself.
    pub gateway: Option<Addr>,
    /// The interface to leave by.
    pub ifindex: u32,
    /// Source address that the kernel prefers, `None` = the interface's first in scope.
    pub source: Option<Addr>,
    /// Its share among several, 1 to 256.
    pub weight: u16,
    /// The kernel has declared it dead, or its link down.
    pub dead: bool,
}

/// How a route refuses, and what the kernel tells the sender of a packet that it would have routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `blackhole`: nothing is told.
    Blackhole,
    /// `unreachable`: ICMP host unreachable, ICMPv6 no route.
    Unreachable,
    /// `prohibit`: ICMP communication administratively prohibited.
    Prohibit,
}

impl Hop {
    /// A next hop by an interface: a gateway, or with `None` each destination itself.
    pub const fn by(ifindex: u32, gateway: Option<Addr>) -> Self {
        Self {
            gateway,
            ifindex,
            source: None,
            weight: 1,
            dead: false,
        }
    }
}

impl Route {
    /// A route without metric and MTU.
    pub const fn new(dst: Addr, prefix: u8, target: Target) -> Self {
        Self {
            dst,
            prefix,
            target,
            metric: 0,
            mtu: None,
        }
    }

    /// Of which family it is.
    pub const fn family(&self) -> Family {
        self.dst.family()
    }

    /// Its next hops; empty where it sends nothing anywhere.
    pub fn hops(&self) -> &[Hop] {
        match &self.target {
            Target::Hop(hop) => std::slice::from_ref(hop),
            Target::Hops(hops) => hops,
            Target::Local | Target::Throw | Target::Refuse(_) => &[],
        }
    }
}

/// A routing table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table {
    /// One map per prefix length in use, the longest first.
    by_prefix: Vec<(u8, HashMap<Addr, Route>)>,
    /// Whether a route with several next hops was added.
    pub(super) several_hops: bool,
}

impl Table {
    /// Adds a route; of two to the same prefix the one with the lower metric stays.
    pub(super) fn add(&mut self, r: Route) {
        self.several_hops |= matches!(r.target, Target::Hops(_));
        let at = match self.by_prefix.binary_search_by(|(p, _)| r.prefix.cmp(p)) {
            Ok(i) => i,
            Err(i) => {
                self.by_prefix.insert(i, (r.prefix, HashMap::default()));
                i
            }
        };
        let known = self.by_prefix[at].1.get(&r.dst);
        if known.is_none_or(|known| r.metric < known.metric) {
            self.by_prefix[at].1.insert(r.dst, r);
        }
    }

    /// Forgets the route to a prefix.
    pub(super) fn remove(&mut self, dst: Addr, prefix: u8) {
        for (_, routes) in self.by_prefix.iter_mut().filter(|(p, _)| *p == prefix) {
            routes.remove(&dst);
        }
    }

    /// The route with the longest prefix.
    pub(super) fn find(&self, dst: Addr) -> Option<&Route> {
        let mut tables = self.by_prefix.iter();
        tables.find_map(|(prefix, routes)| routes.get(&dst.masked(*prefix)))
    }
}
