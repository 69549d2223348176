//! Telling the neighbours where the VIPs are that UVS owns, by ARP (RFC 5227) and by neighbour discovery (RFC 4861
//! §7.2.6), and hearing them ask.

use std::collections::BTreeSet;

use uvs_core::fib::Query;
use uvs_core::flow::Addr;
use uvs_core::verdict::PortId;
use uvs_core::wire::ethernet::Mac;
use uvs_core::wire::{arp, ndp};

use super::{Daemon, UnassignedVips};

impl Daemon {
    /// Announces where an owned VIP is new, or has come to another interface or MAC address.
    pub(super) fn announce_moved(&mut self) {
        self.groups
            .follow(&self.unassigned.owned, &self.mirror.fib());
        let places = self.places();
        let moved = places.difference(&self.announced).next().is_some();
        self.announced = places;
        if moved {
            self.begin_announcing();
        }
    }

    /// Announces now, and again as often as is due, one period apart (RFC 5227 §3: 2 s; RFC 4861 allows three, 1 s apart
    /// at least).
    pub(super) fn begin_announcing(&mut self) {
        self.announcements = arp::ANNOUNCEMENTS - 1;
        self.announce();
    }

    /// Tells the neighbours of each owned VIP where it is (RFC 5227 §2.3).
    pub(super) fn announce(&self) {
        let router = self.mirror.fib().forwarding_ipv6;
        for (vip, port, mac) in self.places() {
            let frame = match vip.as_v4() {
                Some(vip) => arp::announcement(vip, mac).to_vec(),
                None => ndp::announcement(vip.v6_octets(), mac, router),
            };
            self.workers.send(port, frame);
        }
    }

    /// The owned VIPs that have neighbours and that nobody else claims: each with its port and its MAC address. One
    /// that is link-local has neighbours on every link.
    fn places(&self) -> BTreeSet<(Addr, PortId, Mac)> {
        let fib = self.mirror.fib();
        let places = |vip: &Addr| -> Vec<(Addr, PortId, Mac)> {
            if vip.is_link_local() {
                let links = fib.interfaces().iter();
                return links.map(|i| (*vip, i.port, i.mac)).collect();
            }
            let hop = fib.lookup(Query::to(*vip)).ok();
            let hop = hop.filter(|hop| hop.via == *vip);
            hop.map(|hop| (*vip, hop.port, hop.source_mac))
                .into_iter()
                .collect()
        };
        let UnassignedVips { owned, yielded, .. } = &self.unassigned;
        let ours = owned.iter().filter(|vip| !yielded.contains(vip));
        ours.flat_map(places).collect()
    }
}
