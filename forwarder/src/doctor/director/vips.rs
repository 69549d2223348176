//! Who answers ARP for the VIPs: the director, and nobody else.

use std::net::Ipv4Addr;

use uvs_core::service::Forwarding;

use super::{Director, Made};
use crate::doctor::catalog::Check;
use crate::doctor::finding::{Finding, NotMade, Seen};
use crate::doctor::host::Answer;
use crate::doctor::owner::{host_with, mac_text, take_away};

pub(super) const CHECKS: &[Made] = &[
    (Check::VipDuplicate, duplicate),
    (Check::ServerAnswersArp, server_answers),
];

fn duplicate(d: &Director<'_>) -> Result<Seen, NotMade> {
    strangers(d, "no other host", |answer| {
        let Answer { to, mac } = answer;
        if server_with(d, *mac).is_some() {
            return None;
        }
        let mac = mac_text(*mac);
        Some(Finding::elsewhere(
            Check::VipDuplicate,
            format!("{mac} answers ARP for {} on {}", to.target, to.interface),
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
                "the DR server {server} ({}) answers ARP for {} on {}",
                mac_text(*mac),
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

/// Every answer for a VIP that is not this host's own.
fn strangers(
    d: &Director<'_>,
    nobody: &str,
    judge: impl Fn(&Answer) -> Option<Finding>,
) -> Result<Seen, NotMade> {
    let answers = d.answers()?;
    let mut seen = Seen::default();
    for vip in d.vips() {
        let of_vip = answers.iter().filter(|a| a.to.target == vip);
        let foreign =
            of_vip.filter(|a| !d.devices.iter().any(|own| own.address == mac_text(a.mac)));
        let found: Vec<Finding> = foreign.filter_map(&judge).collect();
        if found.is_empty() {
            seen.well(format!("{nobody} answers ARP for {vip}"));
        }
        found.into_iter().for_each(|f| seen.wrong(f));
    }
    Ok(seen)
}

/// The DR server with a MAC address, whatever its weight: a drained one answers as loudly.
fn server_with(d: &Director<'_>, mac: [u8; 6]) -> Option<Ipv4Addr> {
    let all = d.services().flat_map(|(service, _)| &service.servers);
    let dr = all.filter(|s| s.spec.forwarding == Forwarding::Dr);
    dr.filter_map(|s| s.spec.endpoint.addr.as_v4().map(Ipv4Addr::from))
        .find(|addr| d.mac_of(*addr) == Some(mac))
}
