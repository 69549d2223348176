//! Frames that wait for their next hop's MAC address. The kernel resolves it; here they only wait, few
//! and not for long, so that a connection's first packet is not lost.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uvs_core::fib::Fib;
use uvs_core::flow::Addr;
use uvs_core::frame::Offload;
use uvs_core::time::Instant;
use uvs_core::verdict::PortId;
use uvs_core::wire::ethernet::{self, Mac};

/// Frames kept for one next hop (about the kernel's unres_qlen_bytes in small packets).
const PER_HOP: usize = 64;
/// Next hops waited for.
const HOPS: usize = 256;
/// The kernel gives up after three probes a second apart.
const PATIENCE: Duration = Duration::from_secs(3);

/// A waiting frame.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Held {
    /// From the destination MAC on.
    pub(super) bytes: Vec<u8>,
    pub(super) offload: Offload,
}

#[derive(Clone, Serialize, Deserialize)]
struct Hop {
    since: Instant,
    frames: Vec<Held>,
}

/// All waiting frames.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct HoldQueue {
    hops: HashMap<(PortId, Addr), Hop>,
}

/// What became of a frame that was to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It waits, and is the first to do so: the next hop must be asked for.
    First,
    /// It waits.
    Kept,
    /// No room.
    Full,
}

impl HoldQueue {
    /// Keeps a copy of a frame.
    pub(super) fn keep(
        &mut self,
        now: Instant,
        port: PortId,
        via: Addr,
        bytes: &[u8],
        offload: Offload,
    ) -> Admission {
        if self.hops.len() >= HOPS && !self.hops.contains_key(&(port, via)) {
            return Admission::Full;
        }
        let hop = self.hops.entry((port, via)).or_insert_with(|| Hop {
            since: now,
            frames: Vec::new(),
        });
        if hop.frames.len() >= PER_HOP {
            return Admission::Full;
        }
        hop.frames.push(Held {
            bytes: bytes.to_vec(),
            offload,
        });
        if hop.frames.len() == 1 {
            Admission::First
        } else {
            Admission::Kept
        }
    }

    /// What is waited for.
    pub(super) fn hops(&self) -> Vec<(PortId, Addr)> {
        self.hops.keys().copied().collect()
    }

    /// Hands over the frames whose next hop is known now, their destination MAC filled in.
    pub(super) fn resolved(&mut self, fib: &Fib, mut send: impl FnMut(PortId, Held)) {
        let known: Vec<((PortId, Addr), Mac)> = self
            .hops
            .keys()
            .filter_map(|key| Some((*key, fib.neighbour(key.0, key.1)?)))
            .collect();
        for (key, mac) in known {
            for mut held in self.hops.remove(&key).into_iter().flat_map(|h| h.frames) {
                ethernet::Header::new_mut(&mut held.bytes).set_dst(mac);
                send(key.0, held);
            }
        }
    }

    /// Gives up on next hops that did not answer, and hands over the frames that waited for them.
    pub(super) fn expire(&mut self, now: Instant, gone: &mut Vec<(PortId, Held)>) {
        let hops = self
            .hops
            .extract_if(|_, hop| now.since(hop.since) >= PATIENCE);
        for ((port, _), hop) in hops {
            gone.extend(hop.frames.into_iter().map(|held| (port, held)));
        }
    }

    /// Gives up on one next hop, since the kernel has; hands over the frames that waited for it.
    pub(super) fn give_up(&mut self, port: PortId, via: Addr, gone: &mut Vec<(PortId, Held)>) {
        let hop = self.hops.remove(&(port, via));
        let frames = hop.into_iter().flat_map(|hop| hop.frames);
        gone.extend(frames.map(|held| (port, held)));
    }

    /// Frames that wait to leave by a port.
    pub(super) fn waiting(&self, port: PortId) -> u64 {
        let hops = self.hops.iter().filter(|((p, _), _)| *p == port);
        hops.map(|(_, hop)| hop.frames.len() as u64).sum()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.hops.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::fib::{Interface, ReversePath};

    const VIA: Addr = Addr::v4([10, 0, 0, 9]);

    fn fib() -> Fib {
        let mut f = Fib::new();
        f.set_interface(Interface {
            port: PortId(0),
            ifindex: 2,
            mac: [1; 6],
            mtu: 1500,
            up: true,
            reverse_path: ReversePath::Off,
        });
        f
    }

    #[test]
    fn a_frame_leaves_when_its_next_hop_is_known() {
        let mut q = HoldQueue::default();
        assert_eq!(
            q.keep(Instant::ZERO, PortId(0), VIA, &[0; 60], Offload::default()),
            Admission::First
        );
        assert_eq!(
            q.keep(Instant::ZERO, PortId(0), VIA, &[0; 60], Offload::default()),
            Admission::Kept
        );
        let mut sent = Vec::new();
        q.resolved(&fib(), |p, h| sent.push((p, h.bytes[..6].to_vec())));
        assert!(sent.is_empty());
        let mut f = fib();
        f.set_neighbour(2, VIA, [7; 6]);
        q.resolved(&f, |p, h| sent.push((p, h.bytes[..6].to_vec())));
        assert_eq!(sent, vec![(PortId(0), vec![7; 6]); 2]);
        assert!(q.is_empty());
    }

    #[test]
    fn it_is_bounded_in_number_and_time() {
        let mut q = HoldQueue::default();
        let full = (0..100).filter(|_| {
            q.keep(Instant::ZERO, PortId(0), VIA, &[0; 60], Offload::default()) == Admission::Full
        });
        assert_eq!(full.count(), 100 - PER_HOP);
        assert_eq!(q.waiting(PortId(0)), PER_HOP as u64);
        let mut gone = Vec::new();
        q.expire(Instant::from_millis(2999), &mut gone);
        assert_eq!(gone.len(), 0);
        q.expire(Instant::from_secs(3), &mut gone);
        assert_eq!(gone.len(), PER_HOP);
        assert!(gone.iter().all(|(port, _)| *port == PortId(0)));
    }
}
