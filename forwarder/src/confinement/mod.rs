//! What the daemon gives up at its start: capabilities that it does not need, rights that programs could give it, and
//! system calls that neither it nor a plugin has any business with.
//!
//! All of it is a thread's, and what a thread starts has it too. So it is done while the process has one thread, before
//! the configuration has a plugin loaded. The one thing that only a beginning needs, a bpffs to pin in, is made before. Programs (`nft`, and
//! the next release) are started by a thread of their own, as the others may start none.
//!
//! Nothing of it ends a daemon: what the kernel refuses to take is kept, and said.

mod calls;
mod capabilities;
mod refusals;
pub(crate) mod starter;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustix::thread::{no_new_privs, set_no_new_privs};
use uvs_control::config::{Confinement, Seccomp};
use uvs_control::protocol::{ConfinementStatus, HookMode};

use crate::hook;
use crate::kernel::Version;
pub use calls::{GROUPS, Group};
pub use capabilities::{KEPT, Kept};
use refusals::Refusals;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What is to be given up.
    pub confinement: Confinement,
    /// How much is to be given to the kernel.
    pub hook: HookMode,
    /// Where that is pinned.
    pub pins: PathBuf,
    /// Whether a daemon has started this one, which then has its filter already.
    pub succeeds: bool,
}

/// What has been given up, once it has.
static CONFINED: OnceLock<Confined> = OnceLock::new();

struct Confined {
    wanted: Confinement,
    refusals: Arc<Refusals>,
    /// What is kept against what was asked for, a sentence each.
    kept: Vec<String>,
    mounted: bool,
}

/// Gives all up, once a process. To be called before there is a second thread, and before the log: [`report`] says
/// what came of it.
pub fn begin(wanted: &Wanted) {
    let mut kept = Vec::new();
    let mounted = wanted.hook != HookMode::Off && hook::prepare_pins(&wanted.pins);
    if wanted.confinement.drops_capabilities
        && let Err(e) = capabilities::drop_all()
    {
        kept.push(format!("capabilities could not be given up: {e}"));
    }
    if wanted.confinement != Confinement::NONE
        && let Err(e) = set_no_new_privs(true)
    {
        kept.push(format!("no_new_privs could not be set: {e}"));
    }
    let refusals = Arc::default();
    if wanted.confinement.seccomp != Seccomp::Off
        && let Err(e) = filter(wanted, &refusals)
    {
        kept.push(format!("system calls are not filtered: {e}"));
    }
    let _ = CONFINED.set(Confined {
        wanted: wanted.confinement,
        refusals,
        kept,
        mounted,
    });
}

fn filter(wanted: &Wanted, refusals: &Arc<Refusals>) -> io::Result<()> {
    let mode = wanted.confinement.seccomp;
    // It would leave whoever calls without an answer.
    if mode == Seccomp::Log && !Version::running().is_some_and(Version::carries_out_what_it_asked) {
        let why = "confinement.seccomp = \"log\" needs Linux 5.5";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    // A daemon's successor has the filter that its starter had.
    let is_stacked = wanted.succeeds && is_filtered();
    let of_programs = (mode == Seccomp::On && !is_stacked).then(calls::of_started_programs);
    starter::begin(of_programs)?;
    let may_bpf = wanted.hook != HookMode::Off;
    refusals::begin(mode, may_bpf, refusals)
}

/// Logs what was not as it was asked for.
pub fn report() {
    let Some(confined) = CONFINED.get() else {
        return;
    };
    if confined.mounted {
        tracing::info!("no bpffs was mounted on /sys/fs/bpf: one is now, and stays");
    }
    for what in &confined.kept {
        tracing::warn!("{what}. The daemon goes on with more rights than it needs");
    }
}

/// What was asked for.
pub(crate) fn wanted() -> Confinement {
    CONFINED.get().map_or(Confinement::NONE, |c| c.wanted)
}

/// What the calling thread has and may.
pub(crate) fn status() -> ConfinementStatus {
    let confined = CONFINED.get();
    let wanted = wanted().seccomp;
    ConfinementStatus {
        capabilities: capabilities::names(),
        bounding: capabilities::bounding_names(),
        no_new_privs: no_new_privs().unwrap_or(false),
        is_filtered: is_filtered(),
        seccomp: wanted.name().to_owned(),
        refused: confined.map_or(0, |c| c.refusals.count()),
        kept: confined.map_or_else(Vec::new, |c| c.kept.clone()),
    }
}

/// Whether a filter of system calls is in force for the calling thread.
fn is_filtered() -> bool {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"));
    line.is_some_and(|mode| mode.trim() == "2")
}

/// What to say beside a refusal of a file (EACCES) that the superuser does not expect; `None` = it may.
pub fn hint() -> Option<&'static str> {
    let has_given_up = CONFINED.get().is_some_and(|c| c.wanted.drops_capabilities);
    (has_given_up && rustix::process::geteuid().is_root()).then_some(
        "; the daemon has given up CAP_DAC_OVERRIDE, so that root, too, writes only where root is allowed to: change the owner or the mode, or set confinement.capabilities = \"keep\"",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_is_kept_and_what_is_refused() {
        let page = include_str!("../../../docs/security.md");
        for kept in KEPT {
            let row = format!("| {} | {} |\n", kept.name, kept.what_for);
            assert!(page.contains(&row), "docs/security.md lacks {row}");
        }
        for group in GROUPS {
            let names: Vec<String> = group
                .calls
                .iter()
                .map(|(name, _)| format!("`{name}`"))
                .collect();
            let row = format!("| {} | {}", group.what, names.join(" "));
            // Other machines have fewer.
            assert!(
                cfg!(not(target_arch = "x86_64")) || page.contains(&row),
                "docs/security.md lacks {row}"
            );
        }
        // The page says which rows these are.
        let may: Vec<bool> = GROUPS.iter().map(|group| group.programs_may).collect();
        assert_eq!(may, [true, true, true, false, false, false, false]);
    }
}
