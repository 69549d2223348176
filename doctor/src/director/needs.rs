//! What UVS needs before it can start: capabilities, room for its memory, nft and the kernel's hook.

use rustix::thread::CapabilitySet;
use uvs_forwarder::confinement::KEPT;
use uvs_forwarder::guard::GuardError;

use super::{Director, Made};
use crate::catalog::Check;
use crate::finding::{Finding, NotMade, Seen};

pub(super) const CHECKS: &[Made] = &[
    (Check::Capabilities, capabilities),
    (Check::Confinement, confinement),
    (Check::AddressSpace, address_space),
    (Check::NetdevIngress, netdev_ingress),
];

/// What each is for is in the catalog.
const NEEDED: [(CapabilitySet, &str); 2] = [
    (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
];
/// A ring's address space at its largest (slots for super-frames).
const PER_PORT: u64 = 64 << 20;
/// Of a connection with its places in the index (measured: 149 bytes).
const PER_CONNECTION: u64 = 160;
/// The program, its threads' stacks and the allocator's arenas (measured: 150 MB).
const REST: u64 = 192 << 20;

/// The daemon's, where there is one, else this process's: of whoever will start it, presumably.
fn capabilities(d: &Director<'_>) -> Result<Seen, NotMade> {
    let (who, had) = match d.wanted.daemon {
        None => ("this process".to_owned(), d.host.capabilities()),
        Some(pid) => {
            let status = d.host.read(&format!("/proc/{pid}/status"))?;
            (format!("the daemon {pid}"), effective(&status)?)
        }
    };
    let mut seen = Seen::default();
    let (with, without): (Vec<_>, Vec<_>) = NEEDED.iter().partition(|(set, _)| had.contains(*set));
    let names = |list: Vec<&(CapabilitySet, &'static str)>| {
        list.iter()
            .map(|(_, name)| *name)
            .collect::<Vec<_>>()
            .join(" and ")
    };
    if without.is_empty() {
        seen.well(format!("{who} has {}", names(with)));
    } else {
        let program = std::env::current_exe().map_err(NotMade::of)?;
        seen.wrong(Finding::here(
            Check::Capabilities,
            format!("{who} lacks {}", names(without)),
            format!("setcap cap_net_raw,cap_net_admin+ep {}", program.display()),
        ));
    }
    Ok(seen)
}

/// The daemon's own word is not asked: the kernel knows.
fn confinement(d: &Director<'_>) -> Result<Seen, NotMade> {
    let Some(pid) = d.wanted.daemon else {
        return Err(NotMade("it is a running daemon's".to_owned()));
    };
    let status = d.host.read(&format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.strip_prefix(':')).map(str::trim)
    };
    let kept = KEPT
        .iter()
        .fold(CapabilitySet::empty(), |all, kept| all | kept.set);
    let more = effective(&status)? - kept;
    let names: Vec<String> = more
        .iter_names()
        .map(|(name, _)| format!("CAP_{name}"))
        .collect();
    let mut lacks = Vec::new();
    if !names.is_empty() {
        lacks.push(format!(
            "has {}, since confinement.capabilities is \"keep\"",
            names.join(" ")
        ));
    }
    if field("NoNewPrivs") != Some("1") {
        lacks.push("may get new privileges by programs".to_owned());
    }
    if field("Seccomp") != Some("2") {
        lacks.push("may make any system call".to_owned());
    }
    let mut seen = Seen::default();
    if lacks.is_empty() {
        seen.well(format!(
            "the daemon {pid} has no other capabilities, no way to new privileges, and a filter of system calls"
        ));
    } else {
        seen.wrong(Finding::here(
            Check::Confinement,
            format!("the daemon {pid} {}", lacks.join(", ")),
            format!("uvs run{} --seccomp on", d.wanted.run),
        ));
    }
    Ok(seen)
}

/// `CapEff:` in /proc/PID/status: a mask in hexadecimal (proc(5)).
fn effective(status: &str) -> Result<CapabilitySet, NotMade> {
    let mask = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let mask = mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok());
    mask.map(CapabilitySet::from_bits_retain)
        .ok_or_else(|| NotMade("no CapEff in the process's status".to_owned()))
}

fn address_space(d: &Director<'_>) -> Result<Seen, NotMade> {
    let mut seen = Seen::default();
    if d.wanted.daemon.is_some() {
        seen.well("the daemon has what it takes at its start");
        return Ok(seen);
    }
    let limits = d.host.read("/proc/self/limits")?;
    let line = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max address space"));
    let soft = line.and_then(|l| l.split_whitespace().next());
    let ports = d.wanted.interfaces.len() as u64;
    let need = ports * PER_PORT + u64::from(d.wanted.connections) * PER_CONNECTION + REST;
    match soft.and_then(|limit| limit.parse::<u64>().ok()) {
        Some(limit) if limit < need => seen.wrong(Finding::here(
            Check::AddressSpace,
            format!(
                "the limit is {} MB, and about {} MB are needed",
                limit >> 20,
                need >> 20
            ),
            "ulimit -v unlimited".to_owned(),
        )),
        limit => seen.well(limit.map_or_else(
            || "unlimited".to_owned(),
            |limit| format!("{} MB", limit >> 20),
        )),
    }
    Ok(seen)
}

/// Has the kernel check a chain at the hook, without making it.
fn netdev_ingress(d: &Director<'_>) -> Result<Seen, NotMade> {
    if d.is_hooked() {
        let mut seen = Seen::default();
        seen.well("not needed: the hook does the guard's work");
        return Ok(seen);
    }
    let interface = d.up_ports().next();
    let interface = interface.ok_or_else(|| NotMade("no interface to try it on".to_owned()))?;
    let script = format!(
        "add table netdev uvs_doctor\nadd chain netdev uvs_doctor try {{ \
         type filter hook ingress device \"{interface}\" priority 0; }}\n"
    );
    let found = |seen: &GuardError, command: &str| {
        Finding::here(Check::NetdevIngress, seen.to_string(), command.to_owned())
    };
    let mut seen = Seen::default();
    match d.host.nft(&["-c", "-f", "-"], &script) {
        Ok(_) => seen.well(format!("nft can hook {interface}")),
        Err(e @ GuardError::NoNft(_)) => seen.wrong(found(&e, "apt-get install -y nftables")),
        Err(e @ GuardError::NoKernelSupport) => seen.wrong(found(&e, "modprobe nf_tables")),
        Err(e) => return Err(NotMade::of(e)),
    }
    Ok(seen)
}
