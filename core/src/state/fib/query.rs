//! What a route is looked up by: the part of the kernel's `flowi4` and `flowi6` that rules and next hops are chosen by.

use std::hash::{Hash, Hasher};

use super::Mix;
use crate::flow::{Addr, Endpoint, Family};
use crate::service::Forwarding;

/// The index of `lo` in every network namespace: where packets of the director's own come from
/// (LOOPBACK_IFINDEX in include/net/flow.h).
pub const LOOPBACK: u32 = 1;

/// What a route is looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Query {
    /// Where the packet goes.
    pub dst: Addr,
    /// Where it comes from, [`Addr::UNSPECIFIED`] while the director's own address is still to be chosen.
    pub src: Addr,
    /// The kernel's index of the interface that it came in by, [`LOOPBACK`] where the director sends it.
    pub iif: u32,
    /// The kernel's index of the interface that it must leave by: where a link-local address is. 0 = any; only
    /// link-local destinations ask for one.
    pub out: u32,
    /// What tells one connection from another where there are several next hops: its client.
    pub client: Endpoint,
    /// The packet will carry the source that the route chooses: the rules are asked again with it, as they are
    /// for a tunnel's outer header (IP_VS_RT_MODE_CONNECT in ip_vs_xmit.c).
    pub binds_source: bool,
}

impl Query {
    /// For a packet that the director sends to `dst`, from an address that the route chooses.
    pub const fn to(dst: Addr) -> Self {
        Self {
            dst,
            src: Addr::UNSPECIFIED,
            iif: LOOPBACK,
            out: 0,
            client: Endpoint::NONE,
            binds_source: false,
        }
    }

    /// For what a real server gets, from FULLNAT's local address where it has one. As in the kernel it is the
    /// director that sends, and the client's address and interface choose no rule (`do_output_route4` in
    /// ip_vs_xmit.c).
    pub fn to_server(server: Addr, forwarding: Forwarding, local: Option<Addr>) -> Self {
        let local = local.filter(|_| forwarding.takes_local());
        Self {
            src: local.unwrap_or(Addr::UNSPECIFIED),
            binds_source: forwarding == Forwarding::Tunnel,
            ..Self::to(server)
        }
    }

    /// For one that comes from `src`.
    pub const fn from(self, src: Addr) -> Self {
        Self { src, ..self }
    }

    /// For one that came in by an interface.
    pub const fn by(self, iif: u32) -> Self {
        Self { iif, ..self }
    }

    /// For one to whoever sent a packet that came in by an interface: where that is link-local, it is there.
    pub const fn back(self, iif: u32) -> Self {
        Self { out: iif, ..self }
    }

    /// Of which family it is.
    #[inline]
    pub const fn family(&self) -> Family {
        self.dst.family()
    }

    /// For one of this client's connection.
    pub const fn of(self, client: Endpoint) -> Self {
        Self { client, ..self }
    }

    /// Where among several next hops the connection belongs: equally spread over all 64 bits.
    pub(super) fn spread(&self) -> u64 {
        let mut mix = Mix::default();
        (self.dst, self.client).hash(&mut mix);
        finalize(mix.finish())
    }
}

/// Makes every bit of the outcome depend on every bit of `n` (the finalizer of MurmurHash3).
pub(super) const fn finalize(mut n: u64) -> u64 {
    n = (n ^ (n >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    n = (n ^ (n >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    n ^ (n >> 33)
}
