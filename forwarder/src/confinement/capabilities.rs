//! The capabilities that a running daemon may need, and no other.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_ambient_set,
    capability_is_in_bounding_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// A capability that is kept where the process has it.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// What it is called.
    pub name: &'static str,
    /// As the kernel has it.
    pub set: CapabilitySet,
    /// What of the daemon's later work needs it.
    pub what_for: &'static str,
}

/// All of them; docs/security.md has the same table.
pub const KEPT: &[Kept] = &[
    Kept {
        name: "CAP_NET_RAW",
        set: CapabilitySet::NET_RAW,
        what_for: "packet sockets: a ring that is made anew, ARP for owned VIPs, `uvs trace --live`",
    },
    Kept {
        name: "CAP_NET_ADMIN",
        set: CapabilitySet::NET_ADMIN,
        what_for: "the guard's rules, neighbours, the hook on an interface that comes back, large receive buffers, `nft`",
    },
    Kept {
        name: "CAP_BPF",
        set: CapabilitySet::BPF,
        what_for: "the hook's maps and programs, and those of the next release at an upgrade",
    },
    Kept {
        name: "CAP_PERFMON",
        set: CapabilitySet::PERFMON,
        what_for: "the hook's programs at an upgrade: without it the kernel puts barriers against speculation into them, and they take twice the time",
    },
    Kept {
        name: "CAP_NET_BIND_SERVICE",
        set: CapabilitySet::NET_BIND_SERVICE,
        what_for: "a metrics port below 1024, at an upgrade again",
    },
    Kept {
        name: "CAP_DAC_READ_SEARCH",
        set: CapabilitySet::DAC_READ_SEARCH,
        what_for: "a configuration, a list or a plugin in another user's directory, where root may read it",
    },
];

/// Every capability that the kernel may know; newer ones have greater numbers (CAP_LAST_CAP, linux/capability.h).
const NUMBERS: std::ops::Range<u32> = 0..64;

/// Gives up all others: effective, permitted, inheritable, ambient, and where it may, of the bounding set.
pub(super) fn drop_all() -> io::Result<()> {
    let kept = KEPT
        .iter()
        .fold(CapabilitySet::empty(), |all, kept| all | kept.set);
    let had = capabilities(None)?;
    // The bounding set first: it takes CAP_SETPCAP, which goes with the rest. Without that it is what it was, and a
    // program that is started gets no more than it may by no_new_privs.
    if had.effective.contains(CapabilitySet::SETPCAP) {
        for one in each().filter(|one| !kept.contains(*one)) {
            // Beyond those that the kernel knows.
            if !capability_is_in_bounding_set(one).unwrap_or(false) {
                continue;
            }
            remove_capability_from_bounding_set(one)?;
        }
    }
    for one in each().filter(|one| !kept.contains(*one)) {
        if capability_is_in_ambient_set(one).unwrap_or(false) {
            configure_capability_in_ambient_set(one, false)?;
        }
    }
    set_capabilities(
        None,
        CapabilitySets {
            effective: had.effective & kept,
            permitted: had.permitted & kept,
            inheritable: had.inheritable & kept,
        },
    )?;
    Ok(())
}

fn each() -> impl Iterator<Item = CapabilitySet> {
    NUMBERS.map(|number| CapabilitySet::from_bits_retain(1 << number))
}

/// Those that the calling thread has.
pub(super) fn names() -> Vec<String> {
    let has = capabilities(None).map(|sets| sets.permitted);
    named(has.unwrap_or(CapabilitySet::empty()))
}

/// Those that a program which it starts could have.
pub(super) fn bounding_names() -> Vec<String> {
    let may = each().filter(|one| capability_is_in_bounding_set(*one).unwrap_or(false));
    named(may.fold(CapabilitySet::empty(), |all, one| all | one))
}

/// Ours by their names, others by theirs where there are names for them.
fn named(set: CapabilitySet) -> Vec<String> {
    let names = set.iter_names().map(|(name, _)| format!("CAP_{name}"));
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_the_kernels() {
        for kept in KEPT {
            assert_eq!(named(kept.set), [kept.name]);
        }
    }
}
