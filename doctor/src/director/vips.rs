//! Who answers for the VIPs: the director, and nobody else; for those of a stand-by its partner.

use std::collections::BTreeSet;
use std::net::IpAddr;

use uvs_core::service::Forwarding;
use uvs_core::wire::ethernet::{Mac, mac_text};

use uvs_realserver::Family;

use super::words::alone;
use super::{Director, Made, Server};
use crate::catalog::Check;
use crate::finding::{Finding, NotMade, Seen};
use crate::neighbour::Answer;
use crate::owner::{host_with, take_away};

pub(super) const CHECKS: &[Made] = &[
    (Check::VipAbsent, |d| absent(d, Check::VipAbsent)),
    (Check::VipStandby, |d| absent(d, Check::VipStandby)),
    (Check::VipDuplicate, duplicate),
    (Check::VipAsSource, as_source),
    (Check::ServerAnswersArp, server_answers),
];

/// The VIPs that are neither here nor owned: those that nobody answers for, or those that another host does.
fn absent(d: &Director<'_>, check: Check) -> Result<Seen, NotMade> {
    let absent = d.absent();
    let mut seen = Seen::default();
    if absent.is_empty() {
        seen.well("every VIP is on this host, or owned");
        return Ok(seen);
    }
    let answers = d.answers()?;
    let standby = check == Check::VipStandby;
    for vip in absent {
        let other = answers
            .iter()
            .find(|a| a.to.target == vip && !d.has_mac(a.mac));
        let who = other.map_or_else(
            || "nobody".to_owned(),
            |a| format!("{} on {}", mac_text(a.mac), a.to.interface),
        );
        let asked = Family::of(vip).question();
        let what =
            format!("{vip} is neither on this host nor owned, and {who} answers {asked} for it");
        if other.is_some() != standby {
            seen.well(what);
            continue;
        }
        let interface = d
            .interface_of(vip)
            .or_else(|| d.ports.first().map(String::as_str));
        let when = if standby {
            "when the other host has it no more; "
        } else {
            ""
        };
        seen.wrong(Finding::here(
            check,
            what,
            format!(
                "ip address add {} dev {} # {when}or have UVS own it: uvs run --own-vip {vip}, own_vips in the configuration",
                alone(vip),
                interface.unwrap_or("IF"),
            ),
        ));
    }
    Ok(seen)
}

/// What the kernel would send from, asked of it: its choice depends on lifetimes that nothing else here knows.
fn as_source(d: &Director<'_>) -> Result<Seen, NotMade> {
    #[derive(serde::Deserialize)]
    struct Got {
        prefsrc: Option<IpAddr>,
    }
    let vips = d.vips();
    let has_vip = |s: &Server<'_>| {
        let forwarding = s.status.spec.forwarding;
        s.addr.is_ipv6() && matches!(forwarding, Forwarding::Dr | Forwarding::Tunnel)
    };
    let mut seen = Seen::default();
    for server in d.servers().filter(has_vip) {
        let Ok(hop) = server.hop else { continue };
        let addr = server.addr.to_string();
        let got: Vec<Got> = d.host.ip_json(&["route", "get", &addr])?;
        let source = got.first().and_then(|got| got.prefsrc);
        match source.filter(|source| vips.contains(source)) {
            None => seen.well(format!("{addr} is not reached from a VIP")),
            Some(vip) => seen.wrong(Finding::here(
                Check::VipAsSource,
                format!("the way to {addr} begins at the VIP {vip}"),
                format!(
                    "ip address change {} dev {} preferred_lft 0",
                    alone(vip),
                    d.interface_of(vip).unwrap_or_else(|| d.port_of(&hop))
                ),
            )),
        }
    }
    if seen == Seen::default() {
        seen.well("no IPv6 server that has the VIP gets connections");
    }
    Ok(seen)
}

fn duplicate(d: &Director<'_>) -> Result<Seen, NotMade> {
    strangers(d, "no other host", |answer| {
        let Answer { to, mac } = answer;
        if server_with(d, *mac).is_some() {
            return None;
        }
        let mac = mac_text(*mac);
        Some(Finding::elsewhere(
            Check::VipDuplicate,
            format!(
                "{mac} answers {} for {} on {}",
                Family::of(to.target).question(),
                to.target,
                to.interface
            ),
            host_with(&mac),
            take_away(to.target, None),
        ))
    })
}

fn server_answers(d: &Director<'_>) -> Result<Seen, NotMade> {
    strangers(d, "no DR server", |answer| {
        let Answer { to, mac } = answer;
        let server = server_with(d, *mac)?;
        Some(Finding::elsewhere(
            Check::ServerAnswersArp,
            format!(
                "the DR server {server} ({}) answers {} for {} on {}",
                mac_text(*mac),
                Family::of(to.target).question(),
                to.target,
                to.interface
            ),
            server.to_string(),
            // `up` takes nothing away that it did not bring, such as a VIP on the wrong device.
            format!(
                "uvs rs up --mode dr --vip {0}; {1}",
                to.target,
                take_away(to.target, Some("lo"))
            ),
        ))
    })
}

/// Every answer for a VIP that is not this host's own, but a single one for a VIP that is not here either:
/// that is the director which has it.
fn strangers(
    d: &Director<'_>,
    nobody: &str,
    judge: impl Fn(&Answer) -> Option<Finding>,
) -> Result<Seen, NotMade> {
    let answers = d.answers()?;
    let absent = d.absent();
    let mut seen = Seen::default();
    for vip in d.vips() {
        let of_vip = answers.iter().filter(|a| a.to.target == vip);
        let foreign: Vec<&Answer> = of_vip.filter(|a| !d.has_mac(a.mac)).collect();
        let hosts: BTreeSet<Mac> = foreign.iter().map(|a| a.mac).collect();
        if absent.contains(&vip) && hosts.len() == 1 {
            seen.well(format!("one host has {vip}, which is not here"));
            continue;
        }
        let found: Vec<Finding> = foreign.into_iter().filter_map(&judge).collect();
        if found.is_empty() {
            let asked = Family::of(vip).question();
            seen.well(format!("{nobody} answers {asked} for {vip}"));
        }
        found.into_iter().for_each(|f| seen.wrong(f));
    }
    Ok(seen)
}

/// The DR server with a MAC address, whatever its weight: a drained one answers as loudly.
fn server_with(d: &Director<'_>, mac: [u8; 6]) -> Option<IpAddr> {
    let all = d.services().flat_map(|(service, _)| &service.servers);
    let dr = all.filter(|s| s.spec.forwarding == Forwarding::Dr);
    dr.map(|s| IpAddr::from(s.spec.endpoint.addr))
        .find(|addr| d.mac_of(*addr) == Some(mac))
}
