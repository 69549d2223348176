//! The hook's numbers as the exporter wants them.

use std::time::Duration;

use uvs_control::protocol::{HookPort, HookStatus, HookTier};
use uvs_core::offload::{Untaken, Up};
use uvs_exporter::{HookMetrics, HookPortMetrics, HookState};

use super::Daemon;
use crate::worker::Status;

impl Daemon {
    /// What the program in the kernel does and counts.
    pub(super) fn hook_metrics(&self, counted: &Status) -> HookMetrics {
        let hook = self.hook_status(counted);
        let mut metrics = of(&hook);
        // Sums over all interfaces need each of them, hook or no hook.
        metrics.ports = self
            .interfaces
            .iter()
            .map(|name| port(&hook, name))
            .collect();
        metrics
    }
}

/// All but the interfaces.
fn of(hook: &HookStatus) -> HookMetrics {
    let beat = hook.program.as_ref();
    let millis = |of: fn(&uvs_control::protocol::HookProgram) -> u64| {
        Duration::from_millis(beat.map_or(0, of))
    };
    HookMetrics {
        state: match hook.works {
            HookTier::Off => HookState::Off,
            HookTier::Guard => HookState::Guard,
            HookTier::Tier => HookState::Tier,
        },
        connections: hook.taken,
        known: hook.known,
        limit: hook.limit,
        taken: hook.installs,
        released: hook.releases,
        untaken: all(Untaken::ALL.iter().map(|why| why.label()), &hook.untaken),
        up: all(Up::ALL.iter().map(|why| why.label()), &hook.up),
        events: hook.events,
        events_lost: hook.events_lost,
        heartbeat_age: millis(|p| p.heartbeat_age_ms),
        heartbeat_limit: millis(|p| p.heartbeat_limit_ms),
        repairs: hook.repaired,
        ports: Vec::new(),
    }
}

/// The counts of all reasons: a series must be there before the first of its kind.
fn all<'a>(labels: impl Iterator<Item = &'a str>, counted: &[(String, u64)]) -> Vec<(String, u64)> {
    let count = |label: &str| counted.iter().find(|(known, _)| known == label);
    let counts = labels.map(|label| (label.to_owned(), count(label).map_or(0, |(_, n)| *n)));
    counts.collect()
}

fn port(hook: &HookStatus, name: &str) -> HookPortMetrics {
    let known = hook.ports.iter().find(|port| port.interface == name);
    let none = HookPort::default();
    let port = known.unwrap_or(&none);
    HookPortMetrics {
        interface: name.to_owned(),
        attached: !port.attach.is_empty(),
        forwarded: port.forwarded,
        forwarded_bytes: port.forwarded_bytes,
        lost: port.lost,
        gso_unsupported: port.gso_unsupported,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_never_were_have_a_series() {
        let hook = HookStatus {
            untaken: vec![("full".to_owned(), 3)],
            ..HookStatus::default()
        };
        let metrics = of(&hook);
        assert_eq!(metrics.untaken.len(), Untaken::COUNT);
        assert_eq!(metrics.up.len(), Up::COUNT);
        assert!(metrics.untaken.contains(&("full".to_owned(), 3)));
        assert_eq!(metrics.up.iter().map(|(_, n)| n).sum::<u64>(), 0);
        assert_eq!((metrics.state, metrics.limit), (HookState::Off, 0));
    }

    #[test]
    fn an_interface_that_the_hook_is_not_on_has_its_numbers_too() {
        let there = HookPort {
            interface: "eth0".to_owned(),
            attach: "tcx".to_owned(),
            forwarded: 7,
            ..HookPort::default()
        };
        let hook = HookStatus {
            ports: vec![there],
            ..HookStatus::default()
        };
        assert!(port(&hook, "eth0").attached);
        assert_eq!(port(&hook, "eth0").forwarded, 7);
        assert!(!port(&hook, "eth1").attached);
        assert_eq!(port(&hook, "eth1").interface, "eth1");
    }
}
