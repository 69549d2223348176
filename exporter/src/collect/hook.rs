//! The program in the kernel: what it forwards, what it leaves to user space and why, and whether it is well.

use crate::catalog as c;
use crate::family::Families;
use crate::snapshot::{HookMetrics, HookState};

pub(super) fn collect(hook: &HookMetrics, to: &mut Families) {
    for (state, label) in HookState::ALL {
        let is_it = f64::from(u8::from(hook.state == state));
        to.add(&c::HOOK_STATE, &[label], is_it);
    }
    for (definition, value) in [
        (&c::HOOK_CONNECTIONS, hook.connections),
        (&c::HOOK_KNOWN, hook.known),
        (&c::HOOK_LIMIT, hook.limit),
        (&c::HOOK_TAKEN, hook.taken),
        (&c::HOOK_RELEASED, hook.released),
        (&c::HOOK_EVENTS, hook.events),
        (&c::HOOK_EVENTS_LOST, hook.events_lost),
        (&c::HOOK_REPAIRS, hook.repairs),
    ] {
        to.add(definition, &[], value as f64);
    }
    for (definition, counts) in [(&c::HOOK_UNTAKEN, &hook.untaken), (&c::HOOK_UP, &hook.up)] {
        for (reason, count) in counts {
            to.add(definition, &[reason], *count as f64);
        }
    }
    let (age, limit) = (hook.heartbeat_age, hook.heartbeat_limit);
    to.add(&c::HOOK_HEARTBEAT, &[], age.as_secs_f64());
    to.add(&c::HOOK_HEARTBEAT_LIMIT, &[], limit.as_secs_f64());
    // Each has its own from the start, also where there is no hook: sums over all frames need them.
    for port in &hook.ports {
        let name = port.interface.as_str();
        if hook.state != HookState::Off {
            let attached = f64::from(u8::from(port.attached));
            to.add(&c::HOOK_ATTACHED, &[name], attached);
        }
        to.add(&c::FRAMES_IN_KERNEL, &[name], port.forwarded as f64);
        to.add(&c::HOOK_BYTES, &[name], port.forwarded_bytes as f64);
        let lost = [
            ("no_memory", port.lost),
            ("gso_unsupported", port.gso_unsupported),
        ];
        for (reason, count) in lost {
            to.add(&c::HOOK_LOST, &[name, reason], count as f64);
        }
    }
}
