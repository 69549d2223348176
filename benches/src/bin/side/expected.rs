//! The marks that a run is held against, as ratios UVS / peer on a virtual machine with two CPUs. Without the hook they
//! are what throw-away forwarders of this design reached when it was chosen; with it, what it was built to reach
//! after a prototype had been measured.

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

use Mark::{AtLeast, AtMost};

impl Mark {
    /// Whether a ratio reaches it. Two ratios that differ by a twentieth are not told apart by a run.
    pub(crate) fn reached(self, ratio: f64) -> bool {
        const RESOLUTION: f64 = 0.05;
        match self {
            AtLeast(mark) => ratio >= mark * (1.0 - RESOLUTION),
            AtMost(mark) => ratio <= mark * (1.0 + RESOLUTION),
        }
    }
}

/// The mark for a figure of one beside that of another, where there is one.
pub(crate) fn mark(
    mode: Mode,
    cell: Cell,
    figure: Figure,
    (ours, theirs): (Peer, Peer),
) -> Option<Mark> {
    match (ours, theirs) {
        (Peer::Hook, Peer::Nft) => hook_beside_nft(cell, figure),
        // Foreign traffic passes haproxy by.
        (Peer::Hook, Peer::Haproxy) if cell != Cell::Foreign => hook_beside_haproxy(figure),
        // The price of the program for what is none of UVS's, beside a director that only routes.
        (Peer::Hook, Peer::Direct) if (cell, figure) == (Cell::Foreign, Figure::MachineCpu) => {
            Some(AtMost(1.1))
        }
        (Peer::Plain, Peer::Haproxy | Peer::Nft) => plain(mode, cell, figure, theirs),
        _ => None,
    }
}

fn hook_beside_nft(cell: Cell, figure: Figure) -> Option<Mark> {
    match (cell, figure) {
        (Cell::KeepAlive | Cell::Body | Cell::Bulk, Figure::Rate) => Some(AtLeast(1.1)),
        (Cell::PerRequest, Figure::Rate) => Some(AtLeast(1.15)),
        (Cell::PerRequest, Figure::MachineCpu) => Some(AtMost(1.0)),
        (Cell::Packets, Figure::MachineCpu) => Some(AtMost(0.9)),
        (Cell::PingPong, Figure::P50) => Some(AtMost(1.0)),
        (Cell::PingPong, Figure::P99) => Some(AtMost(1.05)),
        _ => None,
    }
}

/// Ahead of it everywhere.
fn hook_beside_haproxy(figure: Figure) -> Option<Mark> {
    match figure {
        Figure::Rate => Some(AtLeast(1.0)),
        Figure::P50 | Figure::P99 | Figure::BalancerCpu | Figure::MachineCpu => Some(AtMost(1.0)),
        Figure::Loss | Figure::Failed => None,
    }
}

fn plain(mode: Mode, cell: Cell, figure: Figure, peer: Peer) -> Option<Mark> {
    let haproxy = peer == Peer::Haproxy;
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
    fn marks_go_by_who_is_beside_whom() {
        let rate = |ours, theirs| mark(Mode::Nat, Cell::Bulk, Figure::Rate, (ours, theirs));
        assert_eq!(rate(Peer::Plain, Peer::Haproxy), Some(AtLeast(1.3)));
        assert_eq!(rate(Peer::Plain, Peer::Nft), Some(AtLeast(0.6)));
        assert_eq!(rate(Peer::Hook, Peer::Nft), Some(AtLeast(1.1)));
        assert_eq!(rate(Peer::Hook, Peer::Direct), None);
        assert_eq!(rate(Peer::Hook, Peer::Haproxy), Some(AtLeast(1.0)));
        let foreign = |ours| {
            let figure = Figure::MachineCpu;
            mark(Mode::Nat, Cell::Foreign, figure, (ours, Peer::Direct))
        };
        assert_eq!(foreign(Peer::Hook), Some(AtMost(1.1)));
        assert_eq!(foreign(Peer::Plain), None);
        let past = (Peer::Hook, Peer::Haproxy);
        assert_eq!(mark(Mode::Nat, Cell::Foreign, Figure::Rate, past), None);
    }
}
