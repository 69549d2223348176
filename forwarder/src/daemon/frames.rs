//! Where every frame went, interface by interface, for `uvs show drops`: both sums of the workers' ledgers,
//! and whether they come out even.

use uvs_control::protocol::{Answers, Drops, InterfaceFrames, Refusal, ask};
use uvs_core::numbers::{Ended, Totals};
use uvs_core::verdict::DropReason;

use super::Daemon;
use crate::worker::{PortStatus, Status};

/// The interface that the host's own stack is reached by.
pub(super) const OWN_STACK: &str = "lo";

impl Answers<ask::Drops> for Daemon {
    fn answer(&mut self, _: ask::Drops) -> Result<Drops, Refusal> {
        let status = self.counted()?.all;
        let interfaces = of(&self.interfaces, &status);
        let counters = status.counters;
        let reasons = DropReason::ALL.iter().map(|r| {
            let at = *r as usize;
            (r.label().to_owned(), counters.drops[at] + counters.lost[at])
        });
        Ok(Drops {
            totals: Totals::from(&counters),
            ended: Ended::from(&counters),
            reasons: reasons.collect(),
            interfaces,
        })
    }
}

/// The interfaces in the order of their ports, and the host's own stack where anything came or went by it.
fn of(names: &[String], status: &Status) -> Vec<InterfaceFrames> {
    let ports = names.iter().map(String::as_str).zip(&status.ports);
    let own = Some((OWN_STACK, &status.own))
        .filter(|(_, own)| own.ledger.handed + own.ledger.received > 0);
    ports
        .chain(own)
        .map(|(name, port)| interface(name, port))
        .collect()
}

fn interface(name: &str, port: &PortStatus) -> InterfaceFrames {
    let ledger = &port.ledger;
    let lost: u64 = ledger.lost.iter().sum();
    InterfaceFrames {
        interface: name.to_owned(),
        came: Totals {
            received: ledger.received,
            lost,
            ..Totals::from(&ledger.ends)
        },
        drops: ledger.ends.drops,
        handed: ledger.handed,
        left: ledger.sent,
        waiting: port.waiting,
        losses: ledger.lost,
        ring_full: port.rx.kernel_drops,
        unaccounted: ledger.unaccounted(),
        unsent: ledger
            .handed
            .wrapping_sub(ledger.sent + port.waiting + lost)
            .cast_signed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::verdict::{DropReason, Verdict};

    #[test]
    fn what_is_missing_is_told() {
        let mut port = PortStatus::default();
        port.ledger.received = 3;
        port.ledger.ends.count(Verdict::Drop(DropReason::NoRoute));
        port.ledger.ends.count(Verdict::Pass);
        port.ledger.handed = 2;
        port.waiting = 1;
        port.rx.kernel_drops = 7;
        let told = interface("eth0", &port);
        assert_eq!(
            (told.came.received, told.came.passed, told.came.dropped),
            (3, 1, 1)
        );
        assert!(told.drops.counted().eq([("no_route", 1)]));
        assert_eq!((told.unaccounted, told.unsent, told.ring_full), (1, 1, 7));
    }
}
