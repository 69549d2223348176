//! The groups that neighbours ask for owned IPv6 VIPs in: each address's solicited-node group (RFC 4291 §2.7.1).
//!
//! An interface lets a group's frames in, and a switch that looks into MLD forwards them, where somebody is in the
//! group. UVS joins as any program does, by a socket: the kernel then sets the interface's filter and sends the
//! reports, and leaves when the process ends, however it does. The kernel's own stack says nothing in the group, for
//! the VIP is not its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv6Addr;

use socket2::{Domain, Socket, Type};
use uvs_core::fib::Fib;
use uvs_core::flow::Addr;
use uvs_core::wire::ndp;

/// A group on an interface, by its index.
type Membership = (u32, Ipv6Addr);

/// The groups that UVS is in.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// One socket can be in a few hundred groups (net.core.optmem_max).
    sockets: Vec<Socket>,
    /// In which of them each is.
    joined: BTreeMap<Membership, usize>,
    /// Those that could not be joined, which is told once.
    refused: BTreeSet<Membership>,
}

impl Groups {
    /// Is in the groups of these VIPs on every interface that UVS runs on, and in no other.
    pub(super) fn follow(&mut self, owned: &[Addr], fib: &Fib) {
        let vips = owned.iter().filter(|vip| !vip.is_v4());
        let groups: BTreeSet<Ipv6Addr> = vips
            .map(|vip| ndp::solicited_node(&vip.v6_octets()).into())
            .collect();
        let interfaces = fib.interfaces().iter().map(|i| i.ifindex);
        let wanted: BTreeSet<Membership> = interfaces
            .flat_map(|ifindex| groups.iter().map(move |group| (ifindex, *group)))
            .collect();
        self.leave_all_but(&wanted);
        for membership in wanted {
            if self.joined.contains_key(&membership) {
                continue;
            }
            match self.join(membership) {
                Ok(place) => {
                    self.joined.insert(membership, place);
                    self.refused.remove(&membership);
                }
                Err(error) if self.refused.insert(membership) => {
                    let (ifindex, group) = membership;
                    tracing::warn!(
                        "cannot join {group} on the interface of index {ifindex}: {error}; neighbours there may not \
                         find the owned VIPs of this group"
                    );
                }
                Err(_) => {}
            }
        }
    }

    fn leave_all_but(&mut self, wanted: &BTreeSet<Membership>) {
        let sockets = &self.sockets;
        self.joined.retain(|membership, place| {
            let (ifindex, group) = membership;
            let keep = wanted.contains(membership);
            if !keep {
                // Where the interface is gone, so is the membership.
                let _ = sockets[*place].leave_multicast_v6(group, *ifindex);
            }
            keep
        });
        self.refused
            .retain(|membership| wanted.contains(membership));
    }

    /// Joins by a socket that has room; gives its place.
    fn join(&mut self, (ifindex, group): Membership) -> io::Result<usize> {
        for (place, socket) in self.sockets.iter().enumerate() {
            match socket.join_multicast_v6(&group, ifindex) {
                Err(e) if is_full(&e) => {}
                joined => return joined.map(|()| place),
            }
        }
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
        socket.join_multicast_v6(&group, ifindex)?;
        self.sockets.push(socket);
        Ok(self.sockets.len() - 1)
    }
}

/// Whether a socket can be in no more groups.
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS))
}
