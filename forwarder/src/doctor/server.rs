//! The real server's checks: what `uvs rs check` finds, by the catalog's ids, and what only doctor asks.

use std::net::Ipv4Addr;

use super::catalog::Check;
use super::finding::{Finding, NotMade, Seen};
use super::host::{Host, Question};
use super::owner::{mac_text, take_away};
use super::report::Report;
use super::{DoctorError, is_asked};
use crate::rs::host::Device;
use crate::rs::{self, plan, tunnel};

/// How the director forwards to this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// Direct routing
    Dr,
    /// A tunnel
    Ipip,
    /// NAT; `--gateway` is the director
    Nat,
    /// Full NAT; `--laddr` are the director's local addresses, `--gateway` the way to them
    Fullnat,
}

/// What is to be looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// The VIPs with their modes.
    pub(crate) vips: Vec<(Mode, Ipv4Addr)>,
    /// The director, as this server reaches it.
    pub(crate) gateway: Option<Ipv4Addr>,
    /// FULLNAT's local addresses.
    pub(crate) local: Vec<Ipv4Addr>,
}

/// The checks of a mode, in their order.
const fn checks_of(mode: Mode) -> &'static [Check] {
    match mode {
        Mode::Dr => &[
            Check::RsArpIgnore,
            Check::RsArpAnnounce,
            Check::RsVipAbsent,
            Check::RsVipAnswers,
            Check::RsVipNetwork,
            Check::VipDuplicate,
        ],
        Mode::Ipip => &[
            Check::RsTunnel,
            Check::RsArpIgnore,
            Check::RsArpAnnounce,
            Check::RsRpFilter,
            Check::RsVipAbsent,
            Check::RsLinkDown,
            Check::RsVipAnswers,
            Check::RsVipNetwork,
            Check::RsTunnelMss,
        ],
        Mode::Nat => &[Check::RsNatVip, Check::RsDefaultRoute],
        Mode::Fullnat => &[Check::RsNatVip, Check::RsLocalRoute],
    }
}

/// Finds what this host serves: by what `uvs rs up` noted, else by where it has addresses. `vips` narrows
/// it; `mode` says how, where the host does not show it.
///
/// # Errors
/// Nothing says which VIP, or how it is forwarded.
pub(crate) fn find(
    mode: Option<Mode>,
    vips: &[Ipv4Addr],
) -> Result<Vec<(Mode, Ipv4Addr)>, DoctorError> {
    if let Some(mode) = mode.filter(|_| !vips.is_empty()) {
        return Ok(vips.iter().map(|vip| (mode, *vip)).collect());
    }
    let mut shown: Vec<(Mode, Ipv4Addr)> = Vec::new();
    for (mode, vip) in rs::held()? {
        let mode = match mode {
            plan::Mode::Dr => Mode::Dr,
            plan::Mode::Ipip => Mode::Ipip,
            plan::Mode::Nat => Mode::Nat,
        };
        shown.push((mode, vip));
    }
    for device in rs::host::devices()? {
        let found = device.host_addresses().map(|vip| (mode_by(&device), vip));
        let new = found.filter(|(_, vip)| !shown.iter().any(|(_, known)| known == vip));
        let new: Vec<_> = new.filter_map(|(mode, vip)| Some((mode?, vip))).collect();
        shown.extend(new);
    }
    shown.retain(|(m, vip)| {
        mode.is_none_or(|mode| mode == *m) && (vips.is_empty() || vips.contains(vip))
    });
    let unknown = vips
        .iter()
        .find(|vip| !shown.iter().any(|(_, v)| v == *vip));
    match unknown {
        Some(vip) => Err(DoctorError::Untold(format!(
            "{vip} is neither on lo nor on a tunnel of this host: say how it is forwarded here with --mode dr|ipip|nat|fullnat"
        ))),
        None if shown.is_empty() => Err(DoctorError::Untold(
            "this host has no VIP on lo or on a tunnel: name the VIPs with --vip, and --mode dr|ipip|nat|fullnat"
                .to_owned(),
        )),
        None => Ok(shown),
    }
}

/// By the device a VIP is on.
fn mode_by(device: &Device) -> Option<Mode> {
    if device.ifname == "lo" {
        Some(Mode::Dr)
    } else if tunnel::NAMES.contains(&device.ifname.as_str()) {
        Some(Mode::Ipip)
    } else {
        None
    }
}

/// Makes the checks of every mode that is asked for.
pub(super) fn examine(
    request: &Request,
    host: &dyn Host,
    only: &[Check],
) -> Result<Report, DoctorError> {
    let vips = request.vips.iter().map(|(_, vip)| vip.to_string());
    let about = format!("VIPs {}", vips.collect::<Vec<_>>().join(", "));
    let mut report = Report::new("real server", about);
    for mode in [Mode::Dr, Mode::Ipip, Mode::Nat, Mode::Fullnat] {
        let of_mode = request.vips.iter().filter(|(m, _)| *m == mode);
        let vips: Vec<Ipv4Addr> = of_mode.map(|(_, vip)| *vip).collect();
        if vips.is_empty() {
            continue;
        }
        let found = found(request, mode, &vips)?;
        for check in checks_of(mode)
            .iter()
            .copied()
            .filter(|c| is_asked(*c, only))
        {
            let outcome = match check {
                Check::VipDuplicate => duplicate(host, &vips),
                Check::RsTunnelMss => segments(host),
                Check::RsLocalRoute => local_routes(host, request),
                _ => Ok(of_check(check, &found, &vips)),
            };
            report.add(check, outcome);
        }
    }
    Ok(report)
}

/// What `uvs rs check` finds, or what there is of it for FULLNAT, which it does not know.
fn found(request: &Request, mode: Mode, vips: &[Ipv4Addr]) -> Result<Vec<Finding>, DoctorError> {
    let mode = match mode {
        Mode::Dr => plan::Mode::Dr,
        Mode::Ipip => plan::Mode::Ipip,
        Mode::Nat => plan::Mode::Nat,
        Mode::Fullnat => {
            let devices = rs::host::devices()?;
            return Ok(vips
                .iter()
                .flat_map(|vip| rs::has_vip(*vip, &devices))
                .collect());
        }
    };
    let gateway = request.gateway.filter(|_| mode == plan::Mode::Nat);
    Ok(rs::check(&rs::Request {
        mode,
        vips: vips.to_vec(),
        gateway,
        interfaces: Vec::new(),
    })?)
}

fn of_check(check: Check, found: &[Finding], vips: &[Ipv4Addr]) -> Seen {
    let mut seen = Seen::default();
    found
        .iter()
        .filter(|f| f.check == check)
        .for_each(|f| seen.wrong(f.clone()));
    for vip in vips {
        seen.well(format!("{vip}: {}", check.looks()));
    }
    seen
}

/// From here the director is one of those who answer, and must be the only one.
fn duplicate(host: &dyn Host, vips: &[Ipv4Addr]) -> Result<Seen, NotMade> {
    let mut questions = Vec::new();
    for &target in vips {
        let facing = rs::host::devices_towards(target).map_err(NotMade::of)?;
        let facing = facing.into_iter().filter(|name| name != "lo");
        questions.extend(facing.map(|interface| Question { interface, target }));
    }
    let answers = host.who_has(&questions)?;
    let mut seen = Seen::default();
    for question in &questions {
        let Question { interface, target } = question;
        let of_this = answers.iter().filter(|a| a.to == *question);
        let macs: Vec<String> = of_this.map(|a| mac_text(a.mac)).collect();
        match macs.as_slice() {
            [] => seen.well(format!("nobody answers ARP for {target} on {interface}")),
            [mac] => seen.well(format!(
                "{mac} alone answers ARP for {target} on {interface}"
            )),
            several => seen.wrong(Finding::elsewhere(
                Check::VipDuplicate,
                format!(
                    "{} answer ARP for {target} on {interface}",
                    several.join(" and ")
                ),
                "that of these hosts which is not the director".to_owned(),
                take_away(*target, None),
            )),
        }
    }
    Ok(seen)
}

/// What this host asks its clients to send: `advmss` of its default route, else its device's MTU.
fn segments(host: &dyn Host) -> Result<Seen, NotMade> {
    /// An Ethernet packet less IPIP's header and those of IP and TCP (RFC 2003, RFC 9293 §3.7.1).
    const FITS: u32 = 1500 - 20 - 40;
    const HEADERS: u32 = 40;
    let devices = host.devices()?;
    let mut seen = Seen::default();
    for line in host.ip(&["-o", "-4", "route", "show", "default"])?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |word: &str| {
            let at = words.iter().position(|w| *w == word)?;
            words.get(at + 1).copied()
        };
        let mtu = after("dev")
            .and_then(|dev| devices.iter().find(|d| d.ifname == dev))
            .map(|d| d.mtu);
        let announced = after("advmss").and_then(|mss| mss.parse().ok());
        let announced = announced.or(mtu.map(|mtu| mtu.saturating_sub(HEADERS)));
        match announced {
            Some(mss) if mss <= FITS => {
                seen.well(format!("clients are asked for segments of {mss}"))
            }
            Some(mss) => seen.wrong(Finding::here(
                Check::RsTunnelMss,
                format!("clients are asked for segments of {mss} bytes, {FITS} fit"),
                format!("ip route replace {} advmss {FITS}", without_mss(&words)),
            )),
            None => {}
        }
    }
    if seen == Seen::default() {
        seen.well("there is no default route");
    }
    Ok(seen)
}

/// A route's words, but for `advmss` and what `ip` shows and does not take.
fn without_mss(words: &[&str]) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "advmss" => {
                words.next();
            }
            "linkdown" | "dead" | "onlink" => {}
            word => kept.push(word),
        }
    }
    kept.join(" ")
}

fn local_routes(host: &dyn Host, request: &Request) -> Result<Seen, NotMade> {
    if request.local.is_empty() {
        return Err(NotMade(
            "name the director's local addresses with --laddr".to_owned(),
        ));
    }
    let gateway = request.gateway.ok_or_else(|| {
        NotMade("name the director, as this host reaches it, with --gateway".to_owned())
    })?;
    let mut seen = Seen::default();
    for local in &request.local {
        match host.ip(&["-o", "route", "get", &local.to_string()]) {
            Ok(way) => seen.well(way.trim().to_owned()),
            Err(NotMade(said)) => seen.wrong(Finding::here(
                Check::RsLocalRoute,
                format!("there is no route to {local} ({said})"),
                format!("ip route replace {local}/32 via {gateway}"),
            )),
        }
    }
    Ok(seen)
}
