//! What the daemon says of itself: `uvs show info`.

use std::time::{Instant, SystemTime};

use uvs_control::config::OwnVips;
use uvs_control::protocol::{Answers, GuardStatus, Info, Refusal, WorkerInfo, ask};

use super::Daemon;
use super::live::nanoseconds;
use crate::confinement;
use crate::worker::WorkerStatus;

impl Answers<ask::Info> for Daemon {
    fn answer(&mut self, _: ask::Info) -> Result<Info, Refusal> {
        let counted = self.counted()?;
        let own_vip = self.options.own_vips.as_ref();
        Ok(Info {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime: self.started.elapsed().as_secs(),
            interfaces: self.interfaces.clone(),
            ipvs_socket: self.options.ipvs_socket.display().to_string(),
            config: self.options.file.as_ref().map(|f| f.display().to_string()),
            schedulers: self.options.schedulers.names(),
            connections: counted.all.connections,
            connection_limit: self.limits.connections,
            workers: counted.each.iter().map(worker_info).collect(),
            own_vip: own_vip.into_iter().flat_map(OwnVips::words).collect(),
            owned_vips: self.unassigned.owned.clone(),
            yielded_vips: self.yielded.list(&self.interfaces),
            absent_vips: self.unassigned.absent.clone(),
            local_ports: self.limits.local_ports,
            confinement: confinement::status(),
            reload_on_trial: self.trial_left(Instant::now()).map(|left| left.as_secs()),
            log: self.log_losses(),
            connection_log: self.connection_log.numbers(),
            guard: Some(self.guard_status()),
            hook: self.hook_status(&counted.all),
        })
    }
}

impl Daemon {
    /// Looks at the guard as the kernel has it now.
    fn guard_status(&self) -> GuardStatus {
        let wrong = self.isolation.look();
        let repairs = self.isolation.repairs();
        let ago = |at: SystemTime| at.elapsed().map_or(0, |ago| ago.as_secs());
        GuardStatus {
            removed: repairs.removed,
            damaged: repairs.damaged,
            last: repairs
                .last
                .map(|(at, tampering)| (ago(at), tampering.to_string())),
            wrong: wrong.map(|what| match repairs.broken {
                Some(why) => format!("{what}; it could not be repaired: {why}"),
                None => what,
            }),
        }
    }
}

fn worker_info(status: &WorkerStatus) -> WorkerInfo {
    WorkerInfo {
        connections: status.counted.connections,
        busy_ns: nanoseconds(status.work.busy),
        waited_ns: nanoseconds(status.work.waited),
    }
}
