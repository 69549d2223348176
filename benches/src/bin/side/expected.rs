//! What ratios, UVS / peer, throw-away forwarders of this design reached when the design was chosen by
//! measurement, on a virtual machine with two CPUs: the marks that a run is held against.

use uvs_lab::Mode;

use crate::cells::{Cell, Figure};
use crate::peers::Peer;

/// A mark.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mark {
    /// More is better: at least this.
    AtLeast(f64),
    /// Less is better: at most this.
    AtMost(f64),
}

impl Mark {
    /// Whether a ratio reaches it. Two ratios that differ by a twentieth are not told apart by a run.
    pub(crate) fn reached(self, ratio: f64) -> bool {
        const RESOLUTION: f64 = 0.05;
        match self {
            Self::AtLeast(mark) => ratio >= mark * (1.0 - RESOLUTION),
            Self::AtMost(mark) => ratio <= mark * (1.0 + RESOLUTION),
        }
    }
}

/// The mark for a figure beside a peer, where there is one.
pub(crate) fn mark(mode: Mode, cell: Cell, figure: Figure, peer: Peer) -> Option<Mark> {
    use Mark::{AtLeast, AtMost};
    let haproxy = peer == Peer::Haproxy;
    if !matches!(peer, Peer::Haproxy | Peer::Nft) {
        return None;
    }
    let pick = |beside_haproxy, beside_nft| if haproxy { beside_haproxy } else { beside_nft };
    match (mode, cell, figure) {
        (_, Cell::PerRequest, Figure::Rate) => Some(pick(AtLeast(1.5), AtLeast(1.3))),
        (_, Cell::KeepAlive, Figure::Rate) => Some(pick(AtLeast(1.0), AtLeast(0.7))),
        (_, Cell::Body, Figure::Rate) => Some(pick(AtLeast(1.3), AtLeast(0.88))),
        (_, Cell::Bulk, Figure::Rate) => Some(pick(AtLeast(1.3), AtLeast(0.6))),
        (_, Cell::PingPong, Figure::P50) => Some(pick(AtMost(0.75), AtMost(1.6))),
        (Mode::Nat, Cell::Packets, Figure::Rate) if !haproxy => Some(AtLeast(1.35)),
        (Mode::Nat, Cell::Packets, Figure::MachineCpu) if !haproxy => Some(AtMost(1.2)),
        (Mode::Nat, Cell::KeepAlive | Cell::PerRequest, Figure::BalancerCpu) if haproxy => {
            Some(AtMost(0.6))
        }
        (Mode::Dr, Cell::KeepAlive | Cell::PerRequest | Cell::Body, Figure::BalancerCpu)
            if haproxy =>
        {
            Some(AtMost(0.5))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_reached_from_its_own_side() {
        assert!(Mark::AtLeast(1.3).reached(1.3) && !Mark::AtLeast(1.3).reached(1.2));
        assert!(Mark::AtMost(0.6).reached(0.6) && !Mark::AtMost(0.6).reached(0.7));
    }

    #[test]
    fn only_peers_have_marks() {
        let rate = |peer| mark(Mode::Nat, Cell::Bulk, Figure::Rate, peer);
        assert_eq!(rate(Peer::Haproxy), Some(Mark::AtLeast(1.3)));
        assert_eq!(rate(Peer::Nft), Some(Mark::AtLeast(0.6)));
        assert_eq!(rate(Peer::Direct), None);
    }
}
