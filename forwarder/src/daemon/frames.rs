//! Where every frame went, interface by interface, for `uvs show drops`: both sums of the workers' ledgers,
//! and whether they come out even.

use uvs_control::protocol::{Answers, Drops, Ended, InterfaceFrames, Refusal, Totals, ask};
use uvs_core::counters::ByReason;
use uvs_core::verdict::DropReason;

use super::Daemon;
use super::status::totals;
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
            totals: totals(&counters),
            ended: Ended {
                ended: counters.expired,
                evicted: counters.evicted,
                dropped_entries: counters.dropped_entries,
                replaced_over: counters.replaced_over,
                replaced_live: counters.replaced_live,
                told_clients: counters.told_clients,
                told_servers: counters.told_servers,
            },
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
    let ended = ledger.ends.accounted();
    InterfaceFrames {
        interface: name.to_owned(),
        came: Totals {
            received: ledger.received,
            lost,
            ..totals(&ledger.ends)
        },
        drops: by_reason(&ledger.ends.drops),
        handed: ledger.handed,
        left: ledger.sent,
        waiting: port.waiting,
        losses: by_reason(&ledger.lost),
        ring_full: port.rx.kernel_drops,
        unaccounted: ledger.received.wrapping_sub(ended) as i64,
        unsent: ledger
            .handed
            .wrapping_sub(ledger.sent + port.waiting + lost) as i64,
    }
}

fn by_reason(counts: &ByReason) -> Vec<(String, u64)> {
    let all = DropReason::ALL.iter().zip(counts.iter());
    let some = all.filter(|(_, count)| **count > 0);
    some.map(|(reason, count)| (reason.label().to_owned(), *count))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::verdict::Verdict;

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
        assert_eq!(told.drops, [("no_route".to_owned(), 1)]);
        assert_eq!((told.unaccounted, told.unsent, told.ring_full), (1, 1, 7));
    }
}
