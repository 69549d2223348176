//! rp_filter: whether a packet may have come from where it says, judged by the way back (RFC 3704). IPv6 has none:
//! there it is a rule of the host's firewall.

use super::{Fib, LOOPBACK, Query, Unreachable};
use crate::flow::{Addr, Family};

/// How an interface filters what comes in by the way back to its source: the effective rp_filter
/// (ip-sysctl.rst), the larger of `all` and its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReversePath {
    /// 0: it does not.
    #[default]
    Off,
    /// 1: the way back must lead out of the same interface.
    Strict,
    /// 2: there must be a way back.
    Loose,
}

impl Fib {
    /// Whether an interface filters sources; where none does, [`Fib::is_spoofed`] is never true.
    pub fn filters(&self) -> bool {
        self.filters
    }

    /// Whether the host's rp_filter refuses a packet from `src` to `dst` that came in by the interface
    /// `arrival` (`fib_validate_source` in net/ipv4/fib_frontend.c). The host's own source is no matter of
    /// this filter.
    pub fn is_spoofed(&self, src: Addr, dst: Addr, arrival: u32) -> bool {
        let back = Query::to(src).from(dst);
        if back.family() == Family::V6 {
            return false;
        }
        let interface = self.interfaces.iter().find(|i| i.ifindex == arrival);
        let mode = interface.map_or(ReversePath::Off, |i| i.reverse_path);
        if mode == ReversePath::Off {
            return false;
        }
        match self.find(&back.by(self.exit(src, dst, arrival))) {
            Ok(route) if route.hops().iter().any(|h| h.ifindex == arrival) => false,
            // An interface without an address is never loose.
            Ok(_) => mode == ReversePath::Strict || self.sources.first(arrival).is_none(),
            Err(Unreachable::Local) => false,
            Err(_) => true,
        }
    }

    /// Where the way back comes from, for the rules: the interface that the packet itself would leave by,
    /// or the host.
    fn exit(&self, src: Addr, dst: Addr, arrival: u32) -> u32 {
        if !self.has_rules(Family::V4) {
            return LOOPBACK;
        }
        let query = Query::to(dst).from(src).by(arrival);
        let route = self.find(&query);
        let hop = route.ok().and_then(|route| self.choose(route, &query));
        hop.map_or(LOOPBACK, |hop| hop.ifindex)
    }
}
