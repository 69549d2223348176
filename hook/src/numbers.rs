//! What the programs count: per port, per server, and how full the maps are.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use uvs_core::offload::Up;

use crate::error::HookError;
use crate::hook::Hook;
use crate::layout::{CELLS, cell};
use crate::up;

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Packets; a super-frame is one.
    pub packets: u64,
    /// Their bytes: of IP in a server's, of whole frames in a port's.
    pub bytes: u64,
}

/// What a port's program has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortTotals {
    /// Forwarded in the kernel.
    pub forwarded: Total,
    /// Of a taken connection, and lost, since there was no memory to change it.
    pub lost: Total,
    /// Super-frames that were UVS's and that no ring can describe: dropped.
    pub gso_unsupported: Total,
    /// Given to the ring, by reason.
    pub up: [Total; Up::COUNT],
}

/// How full the hook is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Connections in it, taken and known.
    pub connections: u32,
    /// How many there may be.
    pub limit: u32,
}

impl Hook {
    /// How full it is.
    pub fn fill(&self) -> Fill {
        Fill {
            connections: self.taken.load(Relaxed),
            limit: self.setup.limits.connections,
        }
    }

    /// What a port's program has done; all zero where it has none.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn port(&self, ifindex: u32) -> Result<PortTotals, HookError> {
        let place = self.maps.ports.lookup(&ifindex.to_le_bytes());
        let place = place.map_err(HookError::io("a port's numbers"))?;
        let place = place.and_then(|p| p.first_chunk().map(|p| u32::from_le_bytes(*p)));
        let cell = |what: u32| {
            place.map_or_else(Total::default, |place| {
                sum(self
                    .maps
                    .cells
                    .lookup(&(place * CELLS + what).to_le_bytes()))
            })
        };
        let mut reasons = [Total::default(); Up::COUNT];
        for (why, to) in Up::ALL.iter().zip(&mut reasons) {
            *to = cell(up::place(*why));
        }
        Ok(PortTotals {
            forwarded: cell(cell::FORWARDED),
            lost: cell(cell::LOST),
            gso_unsupported: cell(cell::GSO),
            up: reasons,
        })
    }

    /// A server's total, of all CPUs.
    pub(crate) fn total(&self, place: u32) -> Total {
        sum(self.maps.totals.lookup(&place.to_le_bytes()))
    }
}

/// The sum of all CPUs' totals.
fn sum(values: io::Result<Option<Vec<u8>>>) -> Total {
    let words = values.ok().flatten().unwrap_or_default();
    let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    let mut total = Total::default();
    for cpu in words.chunks_exact(16) {
        total.packets += word(cpu);
        total.bytes += word(&cpu[8..]);
    }
    total
}
