//! The real server's checks: what `uvs rs check` finds, by the catalog's ids, and what only doctor asks.

mod find;
mod routes;
mod udp;

use std::net::IpAddr;

use uvs_core::wire::ethernet::mac_text;
use uvs_realserver as rs;

use super::catalog::Check;
use super::finding::{Finding, NotMade, Seen};
use super::host::Host;
use super::neighbour::Question;
use super::owner::take_away;
use super::report::Report;
use super::{DoctorError, is_asked};

pub use find::find;

/// How the director forwards to this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
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
pub struct Request {
    /// The VIPs with their modes.
    pub vips: Vec<(Mode, IpAddr)>,
    /// The director, as this server reaches it; one address of each family at most.
    pub gateways: Vec<IpAddr>,
    /// FULLNAT's local addresses.
    pub local: Vec<IpAddr>,
}

/// The checks of a mode, in their order.
const fn checks_of(mode: Mode) -> &'static [Check] {
    match mode {
        Mode::Dr => &[
            Check::RsArpIgnore,
            Check::RsArpAnnounce,
            Check::RsIpv6Off,
            Check::RsVipAbsent,
            Check::RsVipAnswers,
            Check::RsVipProxied,
            Check::RsVipNetwork,
            Check::RsNoWayBack,
            Check::RsUdpAnswers,
            Check::VipDuplicate,
        ],
        Mode::Ipip => &[
            Check::RsTunnel,
            Check::RsArpIgnore,
            Check::RsArpAnnounce,
            Check::RsRpFilter,
            Check::RsIpv6Off,
            Check::RsVipAbsent,
            Check::RsLinkDown,
            Check::RsVipAnswers,
            Check::RsVipProxied,
            Check::RsVipNetwork,
            Check::RsNoWayBack,
            Check::RsUdpAnswers,
            Check::RsTunnelMss,
        ],
        Mode::Nat => &[Check::RsNatVip, Check::RsDefaultRoute],
        Mode::Fullnat => &[Check::RsNatVip, Check::RsLocalRoute],
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
        let vips: Vec<IpAddr> = of_mode.map(|(_, vip)| *vip).collect();
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
                Check::RsTunnelMss => routes::segments(host, &vips),
                Check::RsNoWayBack => routes::back(host, &vips),
                Check::RsUdpAnswers => udp::answers(host, &vips),
                Check::RsLocalRoute => routes::local(host, request),
                _ => Ok(of_check(check, &found, &vips)),
            };
            report.add(check, outcome);
        }
    }
    Ok(report)
}

/// What `uvs rs check` finds, or what there is of it for FULLNAT, which it does not know.
fn found(request: &Request, mode: Mode, vips: &[IpAddr]) -> Result<Vec<Finding>, DoctorError> {
    let mode = match mode {
        Mode::Dr => rs::Mode::Dr,
        Mode::Ipip => rs::Mode::Ipip,
        Mode::Nat => rs::Mode::Nat,
        Mode::Fullnat => {
            let devices = rs::host::devices()?;
            return Ok(vips
                .iter()
                .flat_map(|vip| rs::has_vip(*vip, &devices))
                .map(Finding::from)
                .collect());
        }
    };
    let gateways = if mode == rs::Mode::Nat {
        request.gateways.clone()
    } else {
        Vec::new()
    };
    let found = rs::check(&rs::Request {
        mode,
        vips: vips.to_vec(),
        outer: Vec::new(),
        gateways,
        interfaces: Vec::new(),
    })?;
    Ok(found.into_iter().map(Finding::from).collect())
}

fn of_check(check: Check, found: &[Finding], vips: &[IpAddr]) -> Seen {
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
fn duplicate(host: &dyn Host, vips: &[IpAddr]) -> Result<Seen, NotMade> {
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
        let asked = rs::Family::of(*target).question();
        let of_this = answers.iter().filter(|a| a.to == *question);
        let macs: Vec<String> = of_this.map(|a| mac_text(a.mac)).collect();
        match macs.as_slice() {
            [] => seen.well(format!(
                "nobody answers {asked} for {target} on {interface}"
            )),
            [mac] => seen.well(format!(
                "{mac} alone answers {asked} for {target} on {interface}"
            )),
            several => seen.wrong(Finding::elsewhere(
                Check::VipDuplicate,
                format!(
                    "{} answer {asked} for {target} on {interface}",
                    several.join(" and ")
                ),
                "that of these hosts which is not the director".to_owned(),
                take_away(*target, None),
            )),
        }
    }
    Ok(seen)
}
