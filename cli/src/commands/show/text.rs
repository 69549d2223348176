//! What `uvs show` says in sentences: the sums under the drops, and the daemon itself.

use uvs_control::protocol::{ConfinementStatus, GuardStatus, Info};
use uvs_core::flow::Addr;
use uvs_core::numbers::{Ended, LogLosses, RecordNumbers, Totals};

use super::hook;
use super::tables::listed;

pub(super) fn totals_line(t: &Totals) -> String {
    format!(
        "received {} = sent {} + answered {} + held {} + passed {} + local {} + in the kernel {} + dropped {}; lost on the way out {}\n",
        t.received, t.sent, t.answered, t.held, t.passed, t.local, t.in_kernel, t.dropped, t.lost
    )
}

pub(super) fn ended_line(e: &Ended) -> String {
    format!(
        "connections ended {}, of these evicted {}, dropped by drop_entry {}, replaced: over {}, live {}; \
         told: clients {}, servers {}\n",
        e.ended,
        e.evicted,
        e.dropped_entries,
        e.replaced_over,
        e.replaced_live,
        e.told_clients,
        e.told_servers
    )
}

fn log_losses(log: LogLosses) -> String {
    format!(
        "{} not written in time, {} not written at all; {} left out as repetitions",
        log.queue_full, log.write_failed, log.suppressed
    )
}

fn connection_log(log: RecordNumbers) -> String {
    format!(
        "{} lines written; {} not written in time, {} not written at all",
        log.written, log.queue_full, log.write_failed
    )
}

/// Whether it is as it must be, and how often it was not.
fn guard(status: &GuardStatus) -> String {
    let now = status.wrong.as_deref().unwrap_or("as it must be");
    let (removed, damaged) = (status.removed, status.damaged);
    match &status.last {
        Some((ago, what)) => format!(
            "{now}; removed by others {removed} times, damaged {damaged}, last {ago} s ago: {what}"
        ),
        None => now.to_owned(),
    }
}

/// What the daemon has still, and what was refused.
fn confinement(status: &ConfinementStatus) -> String {
    let capabilities = match status.capabilities.as_slice() {
        [] => "none".to_owned(),
        names => names.join(" "),
    };
    let privileges = if status.no_new_privs {
        "no new privileges"
    } else {
        "new privileges by programs"
    };
    let calls = match (status.seccomp.as_str(), status.is_filtered) {
        ("off" | "", false) => "system calls not filtered".to_owned(),
        ("off" | "", true) => "system calls filtered by what started it".to_owned(),
        ("log", true) => format!(
            "seccomp log, {} calls it would have refused",
            status.refused
        ),
        (_, true) => format!("seccomp on, {} calls refused", status.refused),
        (_, false) => "system calls NOT filtered".to_owned(),
    };
    let kept: String = status.kept.iter().map(|why| format!("; {why}")).collect();
    format!("{capabilities}; {privileges}; {calls}{kept}")
}

pub(super) fn info_text(info: &Info) -> String {
    let vips = |of: &[Addr]| {
        of.iter()
            .map(Addr::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let yielded: Vec<String> = info.yielded_vips.iter().map(ToString::to_string).collect();
    let mut lines = vec![
        ("version", info.version.clone()),
        ("pid", info.pid.to_string()),
        ("uptime", format!("{} s", info.uptime)),
        ("interfaces", info.interfaces.join(", ")),
        ("IPVS socket", info.ipvs_socket.clone()),
        ("configuration", info.config.clone().unwrap_or_default()),
        ("schedulers", info.schedulers.join(", ")),
        (
            "connections",
            format!("{} of {}", info.connections, info.connection_limit),
        ),
        ("owned VIPs", vips(&info.owned_vips)),
        ("yielded VIPs", yielded.join(", ")),
        ("absent VIPs", vips(&info.absent_vips)),
        ("log lines lost", log_losses(info.log)),
        ("connection log", connection_log(info.connection_log)),
        ("hook", hook::in_a_line(&info.hook)),
        ("confinement", confinement(&info.confinement)),
        ("guard", info.guard.as_ref().map(guard).unwrap_or_default()),
    ];
    if let Some(left) = info.reload_on_trial {
        lines.push((
            "reload on trial",
            format!("for {left} s more, unless it is confirmed"),
        ));
    }
    listed(&lines)
}
