//! UVS's interfaces: are they there, up, and with offloads that it copes with?

use super::{Director, Made};
use crate::catalog::Check;
use crate::finding::{Finding, NotMade, Seen};
use crate::host::Offload;

pub(super) const CHECKS: &[Made] = &[
    (Check::InterfaceAbsent, absent),
    (Check::InterfaceDown, down),
    (Check::Workers, workers),
    (Check::LargeReceive, |d| {
        offload(d, Offload::Lro, Check::LargeReceive, "lro", false)
    }),
    (Check::GenericReceive, |d| {
        offload(d, Offload::Gro, Check::GenericReceive, "gro", true)
    }),
];

fn absent(d: &Director<'_>) -> Result<Seen, NotMade> {
    let mut seen = Seen::default();
    for name in &d.wanted.interfaces {
        match d.device(name) {
            Some(device) if device.link_type == "ether" => seen.well(name),
            Some(_) => seen.wrong(without(d, format!("{name} is not Ethernet"))),
            None => seen.wrong(without(d, format!("there is no interface {name}"))),
        }
    }
    Ok(seen)
}

/// Run on those that are there, or else on those that could have been meant.
fn without(d: &Director<'_>, seen: String) -> Finding {
    let usable = d
        .devices
        .iter()
        .filter(|device| device.link_type == "ether" && device.is_up());
    let names = if d.ports.is_empty() {
        usable.map(|device| device.ifname.as_str()).collect()
    } else {
        d.ports.iter().map(String::as_str).collect::<Vec<_>>()
    };
    Finding::here(Check::InterfaceAbsent, seen, run_on(d, &names))
}

/// `uvs run` as it was, on these interfaces.
pub(super) fn run_on(d: &Director<'_>, interfaces: &[&str]) -> String {
    let mut line = format!("uvs run{}", d.wanted.run);
    for name in interfaces {
        line += &format!(" --interface {name}");
    }
    line
}

fn down(d: &Director<'_>) -> Result<Seen, NotMade> {
    let mut seen = Seen::default();
    for device in d.ports.iter().filter_map(|name| d.device(name)) {
        let name = &device.ifname;
        if !device.is_up() {
            seen.wrong(Finding::here(
                Check::InterfaceDown,
                format!("{name} is down"),
                format!("ip link set dev {name} up"),
            ));
        } else if !device.has_carrier() {
            seen.wrong(Finding::elsewhere(
                Check::InterfaceDown,
                format!("{name} has no carrier"),
                "the other end of the wire".to_owned(),
                "ip link set dev PEER up".to_owned(),
            ));
        } else {
            seen.well(format!("{name} is up"));
        }
    }
    Ok(seen)
}

/// How frames are divided: by the interface's queues among CPUs, and then by client among workers.
fn workers(d: &Director<'_>) -> Result<Seen, NotMade> {
    let mut seen = Seen::default();
    let (workers, cpus) = (d.wanted.workers, d.wanted.cpus);
    if workers <= 1 {
        seen.well("one worker");
        return Ok(seen);
    }
    if workers > cpus {
        let command = format!("uvs run{} --workers {cpus}", d.wanted.run);
        let is = format!("{workers} workers share {cpus} CPUs");
        seen.wrong(Finding::here(Check::Workers, is, command));
    } else {
        seen.well(format!("{workers} workers, {cpus} CPUs"));
    }
    for device in d.ports.iter().filter_map(|name| d.device(name)) {
        let (name, queues) = (&device.ifname, device.num_rx_queues);
        if queues == 1 {
            let command = format!("ethtool -L {name} combined {workers}");
            let is = format!("{name} has one receive queue for {workers} workers");
            seen.wrong(Finding::here(Check::Workers, is, command));
        } else {
            seen.well(format!("{name}: {queues} receive queues"));
        }
    }
    Ok(seen)
}

fn offload(
    d: &Director<'_>,
    which: Offload,
    check: Check,
    word: &str,
    wanted: bool,
) -> Result<Seen, NotMade> {
    let in_words = |on| if on { "on" } else { "off" };
    let mut seen = Seen::default();
    for name in &d.ports {
        let is_on = d.host.offload(name, which)?;
        let state = format!("{name}: {word} is {}", in_words(is_on));
        if is_on == wanted {
            seen.well(state);
        } else {
            let command = format!("ethtool -K {name} {word} {}", in_words(wanted));
            seen.wrong(Finding::here(check, state, command));
        }
    }
    Ok(seen)
}
