//! The hook: is it there, may it be, and is anything in its way; and what becomes of super-frames without it.

use uvs_control::protocol::{HookMode, HookTier};
use uvs_core::flow::Protocol;
use uvs_core::offload::Reach;
use uvs_core::service::ServiceKey;
use uvs_forwarder::kernel::{self, Version};

use super::ports::run_on;
use super::{Director, Made};
use crate::catalog::Check;
use crate::finding::{Finding, NotMade, Seen};

pub(super) const CHECKS: &[Made] = &[
    (Check::Hook, hook),
    (Check::HookPort, port),
    (Check::HookDetached, detached),
    (Check::HookOthers, others),
    (Check::HookUnpinned, unpinned),
    (Check::HookLeftover, leftover),
    (Check::UdpSegmentation, super_frames),
];

/// What the daemon has; without one, what this process could have.
fn hook(d: &Director<'_>) -> Result<Seen, NotMade> {
    let hook = &d.wanted.hook;
    let mut seen = Seen::default();
    if hook.wanted == HookMode::Off {
        seen.well("off, as was asked for");
        return Ok(seen);
    }
    let (works, why) = match d.wanted.daemon {
        Some(_) => (hook.works, hook.why_not.clone()),
        None => {
            let ability = d.host.hook_ability();
            let tier = |reach| match reach {
                Reach::Guard => HookTier::Guard,
                Reach::Established | Reach::Everything => HookTier::Tier,
            };
            (ability.reach.map_or(HookTier::Off, tier), ability.lack)
        }
    };
    match why.filter(|_| hook.wanted != HookMode::Guard || works == HookTier::Off) {
        None => seen.well(format!(
            "{} (asked for: {})",
            works.name(),
            hook.wanted.name()
        )),
        Some(why) => {
            let state = format!("{}: {why}", works.name());
            seen.wrong(Finding::here(Check::Hook, state, remedy(&why)?));
        }
    }
    Ok(seen)
}

/// What is to be done about a lack, as its sentence names it.
fn remedy(why: &str) -> Result<String, NotMade> {
    let program = std::env::current_exe().map_err(NotMade::of)?;
    Ok(if why.contains("CAP_BPF") {
        let program = program.display();
        format!("setcap cap_net_raw,cap_net_admin,cap_bpf+ep {program}")
    } else if why.contains("bpffs") || why.contains("BPF file system") {
        "mount -t bpf bpf /sys/fs/bpf".to_owned()
    } else {
        "uvs show hook".to_owned()
    })
}

fn port(d: &Director<'_>) -> Result<Seen, NotMade> {
    let mut seen = Seen::default();
    for name in &d.ports {
        let master = d.device(name).and_then(|device| device.master.as_deref());
        match master {
            None => seen.well(format!("{name} is a port of nothing")),
            Some(master) => seen.wrong(Finding::here(
                Check::HookPort,
                format!("{name} is a port of {master}"),
                run_on(d, &[master]),
            )),
        }
    }
    Ok(seen)
}

/// The hook of a daemon, where one runs with it.
fn of_daemon(d: &Director<'_>) -> Result<(), NotMade> {
    match d.wanted.daemon {
        None => Err(NotMade("the hook is a running daemon's".to_owned())),
        Some(_) => Ok(()),
    }
}

fn show(interface: &str) -> String {
    format!("bpftool net show dev {interface}")
}

fn detached(d: &Director<'_>) -> Result<Seen, NotMade> {
    of_daemon(d)?;
    let mut seen = Seen::default();
    if !d.is_hooked() {
        seen.well("there is no hook");
        return Ok(seen);
    }
    if let Some(wrong) = &d.wanted.hook.wrong {
        let first = d.ports.first().map_or("IF", String::as_str);
        seen.wrong(Finding::here(
            Check::HookDetached,
            wrong.clone(),
            show(first),
        ));
    }
    for name in &d.ports {
        let ports = &d.wanted.hook.ports;
        match ports.iter().find(|port| port.interface == *name) {
            Some(port) if !port.attach.is_empty() => {
                seen.well(format!("on {name} by {}", port.attach));
            }
            _ => seen.wrong(Finding::here(
                Check::HookDetached,
                format!("it is not on {name}"),
                show(name),
            )),
        }
    }
    Ok(seen)
}

fn others(d: &Director<'_>) -> Result<Seen, NotMade> {
    of_daemon(d)?;
    let mut seen = Seen::default();
    for port in &d.wanted.hook.ports {
        let name = &port.interface;
        if port.others == 0 {
            seen.well(format!("{name}: it is alone"));
        } else {
            let state = format!("{name}: {} programs of others", port.others);
            seen.wrong(Finding::here(Check::HookOthers, state, show(name)));
        }
    }
    if seen == Seen::default() {
        seen.well("there is no hook");
    }
    Ok(seen)
}

fn unpinned(d: &Director<'_>) -> Result<Seen, NotMade> {
    of_daemon(d)?;
    let mut seen = Seen::default();
    match &d.wanted.hook.program {
        None => seen.well("there is no hook"),
        Some(program) => match &program.pinned {
            Some(path) => seen.well(format!("pinned in {path}")),
            None => seen.wrong(Finding::here(
                Check::HookUnpinned,
                "it is pinned nowhere".to_owned(),
                "mount -t bpf bpf /sys/fs/bpf # then restart the daemon".to_owned(),
            )),
        },
    }
    Ok(seen)
}

fn leftover(d: &Director<'_>) -> Result<Seen, NotMade> {
    let mut seen = Seen::default();
    if d.wanted.daemon.is_some() {
        seen.well("what there is is the daemon's");
        return Ok(seen);
    }
    match d.host.hook_leftover(&d.wanted.pins)? {
        None => seen.well("there is none"),
        Some(what) => {
            let command = "uvs guard down".to_owned();
            seen.wrong(Finding::here(Check::HookLeftover, what, command));
        }
    }
    Ok(seen)
}

/// Super-frames come from senders of this host, over veth, tap or a bridge; a wire has none.
fn super_frames(d: &Director<'_>) -> Result<Seen, NotMade> {
    let release = d.host.read(kernel::OSRELEASE)?;
    let version = Version::parse(&release)
        .ok_or_else(|| NotMade(format!("the kernel's version is not known: {release:?}")))?;
    let loses = |protocol: Protocol| match protocol {
        Protocol::Udp => !version.describes_udp_segments(),
        Protocol::Sctp => true,
        _ => false,
    };
    let mut seen = Seen::default();
    for service in &d.wanted.services {
        let key = service.spec.key;
        let protocols = service.to.iter().flat_map(|to| to.protocols());
        let Some(lost) = protocols.into_iter().find(|p| loses(*p)) else {
            continue;
        };
        let (state, command) = loss(lost, version, key);
        let here = "each host or container behind a veth, tap or bridge that sends so".to_owned();
        let so_far = so_far(d);
        seen.wrong(Finding::elsewhere(
            Check::UdpSegmentation,
            format!("{state}{so_far}"),
            here,
            command.to_owned(),
        ));
    }
    if seen == Seen::default() {
        seen.well(format!(
            "Linux {version} can hand over those of every service"
        ));
    }
    Ok(seen)
}

fn loss(protocol: Protocol, version: Version, key: ServiceKey) -> (String, &'static str) {
    if protocol == Protocol::Sctp {
        let state = format!("{key}: no kernel can hand super-frames of SCTP to user space");
        return (state, "ethtool -K PEER tx-sctp-segmentation off");
    }
    let state = format!("{key}: Linux {version} cannot hand super-frames of UDP to user space");
    (state, "ethtool -K PEER tx-udp-segmentation off")
}

/// What the hook has counted of them.
fn so_far(d: &Director<'_>) -> String {
    let ports = d.wanted.hook.ports.iter();
    let dropped: u64 = ports.map(|port| port.gso_unsupported).sum();
    match dropped {
        0 => String::new(),
        dropped => format!("; {dropped} were dropped so far"),
    }
}
