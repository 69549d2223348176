//! `uvs doctor`: looks at a director or a real server for the mistakes that keep a right configuration
//! from working, and says for each what was seen, why it matters and which command fixes it.
//!
//! `catalog` is the closed list of checks. A check judges facts that were gathered before or are read
//! through `host`, so that its logic can be tried on data. Nothing is changed, and nothing waits for
//! longer than the second in which ARP and pings are answered. What cannot be looked at is said, not skipped.
#![forbid(unsafe_code)]

mod catalog;
mod director;
#[cfg(test)]
mod docs;
mod echo;
mod finding;
mod host;
mod neighbour;
mod owner;
mod probe;
mod receive;
mod report;
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use uvs_core::access::{Access, AccessList, Rule};
use uvs_core::marks::destinations;
use uvs_core::service::ServiceKey;

pub use catalog::Check;
pub use finding::Finding;
pub use report::{NagiosState, Report};
pub use server::{Mode as ServerMode, Request as ServerRequest, find as find_server};

use director::{Counted, Director, Service, Wanted};
use host::ThisHost;
use uvs_control::access::{ListFiles, Lists};
use uvs_control::client::{Asking, CallError, Daemon};
use uvs_control::config::{self, Config, HostFirewall, OwnVips};
use uvs_control::firewall::{Ruleset, followed};
use uvs_control::protocol::{AccessEntry, HookStatus, Info, ServerStatus, ServiceStatus, ask};
use uvs_forwarder::guard;
use uvs_realserver::RsError;

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// The daemon did not answer.
    #[error(transparent)]
    Daemon(#[from] CallError),
    /// The daemon is on another host, as far as the network is concerned.
    #[error(
        "the daemon {pid} runs in another network namespace: look at it there (nsenter -t {pid} -n uvs doctor)"
    )]
    Elsewhere {
        /// The daemon's process.
        pid: u32,
    },
    /// A real server's state could not be read.
    #[error(transparent)]
    Server(#[from] RsError),
    /// The host could not be read at all.
    #[error("{0}")]
    Host(String),
    /// The real server's VIP or mode cannot be determined.
    #[error("{0}")]
    Untold(String),
}

/// Looks at a director that has a daemon.
///
/// # Errors
/// The daemon, or the host, does not answer.
pub fn director(daemon: &mut dyn Daemon, only: &[Check]) -> Result<Report, DoctorError> {
    let info = daemon.ask(ask::Info)?;
    if is_elsewhere(info.pid) {
        return Err(DoctorError::Elsewhere { pid: info.pid });
    }
    let services = daemon.ask(ask::ListServices(None))?.services;
    let access = denied_by(daemon)?;
    examine(wanted_by(info, services, access), only)
}

/// Looks at a host that is to be a director by a configuration.
///
/// # Errors
/// The host does not answer.
pub fn future_director(
    file: &Path,
    config: &Config,
    only: &[Check],
) -> Result<Report, DoctorError> {
    let services = config.services.iter().map(|spec| Service {
        to: destinations(spec.key, &config.marks).collect(),
        servers: spec.servers.iter().copied().map(Counted::nothing).collect(),
        spec: spec.clone(),
    });
    let wanted = Wanted {
        interfaces: config.interfaces.clone(),
        services: services.collect(),
        access: denied_in(config)?,
        local_ports: config.limits.local_ports,
        connections: config.limits.connections,
        workers: config.workers.count.unwrap_or_default().number() as usize,
        cpus: cpus(),
        own: config.own_vips.clone(),
        daemon: None,
        guard: None,
        hook: HookStatus {
            wanted: config.hook.mode.unwrap_or_default(),
            ..HookStatus::default()
        },
        pins: config.hook.pins.clone(),
        run: format!(" --config {}", file.display()),
    };
    examine(wanted, only)
}

/// Looks at a real server.
///
/// # Errors
/// The host does not answer.
pub fn server(request: &ServerRequest, only: &[Check]) -> Result<Report, DoctorError> {
    server::examine(request, &ThisHost, only)
}

/// Whether a process is known to have another network than this one.
fn is_elsewhere(pid: u32) -> bool {
    let network = |of: &str| fs::metadata(format!("/proc/{of}/ns/net")).map(|ns| ns.ino());
    match (network(&pid.to_string()), network("self")) {
        (Ok(theirs), Ok(ours)) => theirs != ours,
        _ => false,
    }
}

/// The daemon's deny and allow lists.
fn denied_by(daemon: &mut dyn Daemon) -> Result<Arc<Access>, DoctorError> {
    let (mut rules, mut next) = (BTreeMap::<_, Vec<Rule>>::new(), Some(0));
    while let Some(from) = next {
        let page = daemon.ask(ask::ListAccess(from))?;
        for AccessEntry {
            service,
            prefix,
            action,
            ..
        } in page.entries
        {
            rules
                .entry(service)
                .or_default()
                .push(Rule { prefix, action });
        }
        next = page.next;
    }
    let mut access = Access::default();
    for (service, rules) in rules {
        let list = Arc::new(AccessList::new(rules.into_iter()));
        match service {
            None => access.everywhere = list,
            Some(key) => drop(access.services.insert(key, list)),
        }
    }
    Ok(Arc::new(access))
}

/// The lists that a configuration would bring, with the host's firewall where that is followed.
fn denied_in(config: &Config) -> Result<Arc<Access>, DoctorError> {
    let files = ListFiles::load(&config.access).map_err(|e| DoctorError::Host(e.to_string()))?;
    let mut lists = Lists::default();
    lists.configure(&config.access, &files);
    // Where they cannot be read, the check of the firewall says so.
    let rules = Ruleset::of_host(|words| guard::ask(words, ""));
    if let (Ok(rules), HostFirewall::Follow) = (rules, config.host_firewall) {
        let services = config.services.iter().map(|s| s.key);
        lists.follow(followed(&rules.drop_rules(), services));
    }
    Ok(lists.built())
}

fn wanted_by(info: Info, services: Vec<ServiceStatus>, access: Arc<Access>) -> Wanted {
    let counted = |server: ServerStatus| Counted {
        spec: server.spec,
        stats: server.numbers.stats,
        rates: server.rates,
        handshakes: server.numbers.handshakes,
    };
    let services = services.into_iter().map(|service| Service {
        to: match service.spec.key {
            ServiceKey::Mark { .. } => service.matches,
            key @ ServiceKey::Address { .. } => destinations(key, &[]).collect(),
        },
        spec: service.spec,
        servers: service.servers.into_iter().map(counted).collect(),
    });
    let file = info.config.iter().map(|file| format!(" --config {file}"));
    let own = info.own_vip.iter().map(|vip| format!(" --own-vip {vip}"));
    Wanted {
        interfaces: info.interfaces,
        services: services.collect(),
        access,
        local_ports: info.local_ports,
        connections: info.connection_limit,
        workers: info.workers.len(),
        cpus: cpus(),
        own: OwnVips::Some(info.owned_vips),
        daemon: Some(info.pid),
        guard: info.guard,
        hook: info.hook,
        pins: config::Hook::default().pins,
        run: file.chain(own).collect(),
    }
}

/// CPUs that this process may run on.
fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn examine(wanted: Wanted, only: &[Check]) -> Result<Report, DoctorError> {
    let director = Director::gather(wanted, &ThisHost).map_err(|e| DoctorError::Host(e.0))?;
    let mut report = Report::new("director", director.about());
    for (check, make) in director::FAMILIES.iter().copied().flatten() {
        if is_asked(*check, only) {
            report.add(*check, make(&director));
        }
    }
    Ok(report)
}

fn is_asked(check: Check, only: &[Check]) -> bool {
    only.is_empty() || only.contains(&check)
}
