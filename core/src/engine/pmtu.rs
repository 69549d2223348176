//! Path MTUs to tunnels' ends, learnt from the routers between, as Linux's route exceptions do
//! (`__ip_rt_update_pmtu` and `update_or_create_fnhe` of `net/ipv4/route.c`).

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::flow::{Addr, Family};
use crate::narrow;
use crate::time::Instant;
use crate::wire::ipv6;

/// How long a learnt MTU holds (net.ipv4.route.mtu_expires).
const LIFETIME: Duration = Duration::from_secs(600);
/// What is believed at least of a path in IPv4 (net.ipv4.route.min_pmtu).
const MIN: u32 = 552;
/// The smallest MTU that an IPv4 link may have (RFC 791).
pub(super) const MIN_MTU: usize = 68;

/// The smallest MTU that a link of a family may have.
pub(super) const fn least_mtu(family: Family) -> usize {
    match family {
        Family::V4 => MIN_MTU,
        Family::V6 => ipv6::MIN_MTU,
    }
}

/// What is believed at least of a path to an address: in IPv6, what each link has (`ip6_rt_update_pmtu`).
fn least_believed(to: Addr) -> u32 {
    match to.family() {
        Family::V4 => MIN,
        Family::V6 => narrow::to_u32(ipv6::MIN_MTU),
    }
}

/// Learnt MTUs: at most one per address of a server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct PathMtus {
    learnt: HashMap<Addr, Learnt>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Learnt {
    mtu: u32,
    until: Instant,
    /// Whether a packet has been sent since it was first learnt: only then does the kernel's cached
    /// route have it.
    bound: bool,
}

impl PathMtus {
    /// The MTU towards `to` over a link whose own is `link`, for a packet that is sent now.
    pub(super) fn mtu(&mut self, now: Instant, to: Addr, link: u32) -> u32 {
        if self.learnt.is_empty() {
            return link;
        }
        let Some(learnt) = self.learnt.get_mut(&to) else {
            return link;
        };
        learnt.bound = true;
        learnt.current(now, link)
    }

    /// A router has reported `mtu` on the way to `to`. Returns what is believed to hold now, which at
    /// the first report is still the link's.
    pub(super) fn learn(&mut self, now: Instant, to: Addr, mtu: u32, link: u32) -> u32 {
        let known = self.learnt.get(&to).copied();
        let current = known.map_or(link, |l| l.current(now, link));
        if mtu < current {
            let learnt = Learnt {
                mtu: mtu.max(least_believed(to).min(current)),
                until: now + LIFETIME,
                bound: known.is_some_and(|l| l.bound),
            };
            self.learnt.insert(to, learnt);
        }
        let bound = self.learnt.get(&to).filter(|l| l.bound);
        bound.map_or(link, |l| l.current(now, link))
    }

    /// Forgets all but those of `wanted`.
    pub(super) fn retain(&mut self, wanted: impl Fn(Addr) -> bool) {
        self.learnt.retain(|to, _| wanted(*to));
    }
}

impl Learnt {
    fn current(self, now: Instant, link: u32) -> u32 {
        if self.until <= now {
            return link;
        }
        self.mtu.min(link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Addr = Addr::v4([10, 0, 2, 11]);
    const NOW: Instant = Instant::from_secs(1000);

    #[test]
    fn the_first_report_is_believed_from_the_next_packet_on() {
        let mut p = PathMtus::default();
        assert_eq!(p.learn(NOW, TO, 1400, 1500), 1500);
        assert_eq!(p.learn(NOW, TO, 1390, 1500), 1500);
        assert_eq!(p.mtu(NOW, TO, 1500), 1390);
        assert_eq!(p.learn(NOW, TO, 1300, 1500), 1300);
        assert_eq!(p.mtu(NOW, Addr::v4([10, 0, 2, 12]), 1500), 1500);
    }

    #[test]
    fn it_holds_for_ten_minutes() {
        let mut p = PathMtus::default();
        p.learn(NOW, TO, 1400, 1500);
        assert_eq!(p.mtu(NOW + Duration::from_secs(599), TO, 1500), 1400);
        assert_eq!(p.mtu(NOW + Duration::from_secs(600), TO, 1500), 1500);
    }

    #[test]
    fn of_ipv6_nothing_below_1280_is_believed() {
        let to = Addr([0x20; 16]);
        let mut p = PathMtus::default();
        p.learn(NOW, to, 600, 1500);
        assert_eq!(p.mtu(NOW, to, 1500), 1280);
    }

    #[test]
    fn neither_a_larger_nor_a_tiny_mtu_is_believed() {
        let mut p = PathMtus::default();
        p.learn(NOW, TO, 1600, 1500);
        assert_eq!(p.mtu(NOW, TO, 1500), 1500);
        p.learn(NOW, TO, 68, 1500);
        assert_eq!(p.mtu(NOW, TO, 1500), 552);
        p.learn(NOW, TO, 0, 500);
        assert_eq!(p.mtu(NOW, TO, 500), 500);
    }
}
