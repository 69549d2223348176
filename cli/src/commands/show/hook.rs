//! What `uvs show hook` and `uvs show info` say of the program in the kernel in sentences.

use uvs_control::protocol::{HookMode, HookProgram, HookStatus, HookTier};

use super::tables::listed;

/// What works, of what was asked for, and why not more.
pub(super) fn in_a_line(hook: &HookStatus) -> String {
    let works = match (hook.works, hook.wanted) {
        (HookTier::Off, HookMode::Off) => "off, as was asked for".to_owned(),
        (works, wanted) => format!("{} (asked for: {})", works.name(), wanted.name()),
    };
    let lacks = hook.why_not.iter().chain(&hook.wrong);
    lacks.fold(works, |said, why| said + "; " + why)
}

/// All but the interfaces.
pub(super) fn text(hook: &HookStatus) -> String {
    let mut lines = vec![("hook", in_a_line(hook))];
    if let Some(program) = &hook.program {
        lines.extend([
            ("program", of_program(program)),
            ("pinned", pinned(program)),
            ("heartbeat", heartbeat(program)),
            (
                "connections",
                format!(
                    "{} of {} are forwarded by the kernel",
                    hook.taken, hook.limit
                ),
            ),
            ("known flows", hook.known.to_string()),
            (
                "since the start",
                format!(
                    "{} handed to the kernel, {} taken back, {} events of theirs",
                    hook.installs, hook.releases, hook.events
                ),
            ),
            ("events lost", hook.events_lost.to_string()),
            ("repaired", hook.repaired.to_string()),
            ("frames up", by_reason(&hook.up)),
            ("not taken", by_reason(&hook.untaken)),
        ]);
    }
    listed(&lines)
}

/// The reasons that there were.
fn by_reason(counts: &[(String, u64)]) -> String {
    let counts = counts.iter().filter(|(_, count)| *count > 0);
    let counts: Vec<String> = counts.map(|(why, n)| format!("{why} {n}")).collect();
    counts.join(", ")
}

fn of_program(program: &HookProgram) -> String {
    format!("id {}, tag {}", program.id, program.tag)
}

fn pinned(program: &HookProgram) -> String {
    match &program.pinned {
        Some(path) => path.clone(),
        None => "nowhere: it ends with the daemon, however that ends".to_owned(),
    }
}

fn heartbeat(program: &HookProgram) -> String {
    format!(
        "{} ms ago; after {} s without one the host has everything back",
        program.heartbeat_age_ms,
        program.heartbeat_limit_ms / 1000
    )
}
