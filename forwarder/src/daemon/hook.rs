//! What the daemon says of its hook, and what the kernel has forwarded of the frames that are counted.

use uvs_control::protocol::{
    Answers, HookMode, HookPort, HookProgram, HookStatus, HookTier, Refusal, ask,
};
use uvs_core::offload::{HandedOver, Reach, Untaken, Up};
use uvs_hook::PortTotals;

use super::Daemon;
use crate::clock::monotonic;
use crate::hook::{Keeper, Place};
use crate::port::port_id;
use crate::worker::{PortStatus, Status};

impl Answers<ask::Hook> for Daemon {
    fn answer(&mut self, _: ask::Hook) -> Result<HookStatus, Refusal> {
        let counted = self.counted()?;
        Ok(self.hook_status(&counted.all))
    }
}

impl Daemon {
    /// The hook as it is now.
    pub(super) fn hook_status(&self, counted: &Status) -> HookStatus {
        let wanted = self.options.hook;
        let Some(keeper) = self.isolation.keeper() else {
            let why = self.isolation.why_not_hooked();
            return HookStatus {
                wanted,
                why_not: why.map(ToString::to_string),
                ..HookStatus::default()
            };
        };
        let ports: Vec<(HookPort, Option<PortTotals>)> =
            keeper.places().iter().map(|p| port(keeper, p)).collect();
        let up = Up::ALL.iter().map(|why| {
            let known = ports.iter().filter_map(|(_, totals)| totals.as_ref());
            let count = known.map(|totals| totals.up[*why as usize].packets);
            (why.label().to_owned(), count.sum())
        });
        let handed = &counted.handed_over;
        let untaken = Untaken::ALL.iter();
        let untaken = untaken.map(|why| (why.label().to_owned(), handed.untaken[*why as usize]));
        HookStatus {
            wanted,
            works: match keeper.hook().reach() {
                Reach::Guard => HookTier::Guard,
                Reach::Established | Reach::Everything => HookTier::Tier,
            },
            why_not: shortfall(keeper, wanted),
            program: Some(program(
                keeper,
                self.options.config.hook.heartbeat,
                self.liveness.oldest(),
            )),
            up: up.collect(),
            untaken: untaken.collect(),
            ports: ports.into_iter().map(|(port, _)| port).collect(),
            repaired: keeper.repairs().removed,
            wrong: keeper.look(),
            ..handed_over(handed)
        }
    }

    /// Adds what the kernel has forwarded to what came in by each port.
    pub(super) fn count_in_kernel(&self, status: &mut Status) {
        let Some(keeper) = self.isolation.keeper() else {
            return;
        };
        let fib = self.mirror.fib();
        for place in 0..self.interfaces.len() {
            let interface = fib.interface(port_id(place));
            let Some(totals) = interface.and_then(|i| keeper.hook().port(i.ifindex).ok()) else {
                continue;
            };
            let forwarded = totals.forwarded.packets;
            status.counters.count_in_kernel(forwarded);
            if let Some(PortStatus { ledger, .. }) = status.ports.get_mut(place) {
                ledger.ends.count_in_kernel(forwarded);
                ledger.received += forwarded;
                ledger.bytes += totals.forwarded.bytes;
            }
        }
    }
}

fn handed_over(handed: &HandedOver) -> HookStatus {
    HookStatus {
        taken: handed.taken.into(),
        known: handed.known.into(),
        limit: handed.limit.into(),
        installs: handed.takes,
        releases: handed.releases,
        events: handed.events,
        ..HookStatus::default()
    }
}

/// Why the kernel does less than was asked for.
fn shortfall(keeper: &Keeper, wanted: HookMode) -> Option<String> {
    let less = keeper.hook().shortfall().map(str::to_owned);
    less.filter(|_| wanted != HookMode::Guard)
}

fn program(keeper: &Keeper, heartbeat: u32, beat: uvs_core::time::Instant) -> HookProgram {
    let (id, tag) = keeper
        .hook()
        .program()
        .map_or_else(|_| (0, String::new()), |program| (program.id, program.tag));
    let age = monotonic().since(beat);
    HookProgram {
        tag,
        id,
        pinned: keeper.pins().map(str::to_owned),
        heartbeat_age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        heartbeat_limit_ms: u64::from(heartbeat) * 1000,
    }
}

fn port(keeper: &Keeper, (name, place): (&String, &Place)) -> (HookPort, Option<PortTotals>) {
    let mut port = HookPort {
        interface: name.clone(),
        others: place.attached.others,
        ..HookPort::default()
    };
    if keeper.is_at(place.ifindex) {
        place.attached.way.name().clone_into(&mut port.attach);
    }
    let totals = keeper.hook().port(place.ifindex).ok();
    if let Some(totals) = &totals {
        port.forwarded = totals.forwarded.packets;
        port.forwarded_bytes = totals.forwarded.bytes;
        port.ours = totals.up.iter().map(|up| up.packets).sum();
        port.lost = totals.lost.packets;
        port.gso_unsupported = totals.gso_unsupported.packets;
        port.received = port.forwarded + port.ours + port.lost + port.gso_unsupported;
    }
    (port, totals)
}
