//! What the host's kernel does beside UVS: its filter of sources, its redirects, its routing rules, its IPv6.

use uvs_core::service::Forwarding;
use uvs_forwarder::netlink::Unfollowed;
use uvs_realserver::Family;

use super::words::set_conf;
use super::{Director, Made};
use crate::catalog::Check;
use crate::finding::{Finding, NotMade, Seen};

pub(super) const CHECKS: &[Made] = &[
    (Check::RpFilter, rp_filter),
    (Check::SendRedirects, send_redirects),
    (Check::PolicyRules, policy_rules),
    (Check::Ipv6Off, ipv6_off),
    (Check::AcceptRa, accept_ra),
];

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// rp_filter's values (ip-sysctl.rst): the source must be reached by the same interface, or by any.
const STRICT: u32 = 1;
const LOOSE: &str = "2";

fn rp_filter(d: &Director<'_>) -> Result<Seen, NotMade> {
    let all = d.host.conf(Family::Ipv4, "all", "rp_filter")?;
    let mut seen = Seen::default();
    for name in &d.ports {
        let own = d.host.conf(Family::Ipv4, name, "rp_filter")?;
        let state = format!(
            "{name}: rp_filter {own}, all {all}, in effect {}",
            own.max(all)
        );
        if own.max(all) == STRICT {
            let command = set_conf(Family::Ipv4, name, "rp_filter", LOOSE);
            seen.wrong(Finding::here(Check::RpFilter, state, command));
        } else {
            seen.well(state);
        }
    }
    Ok(seen)
}

/// Only a kernel that forwards sends redirects, and of what belongs to a service it sees nothing.
fn send_redirects(d: &Director<'_>) -> Result<Seen, NotMade> {
    let mut seen = Seen::default();
    if d.host.read(IP_FORWARD)?.trim() == "0" {
        seen.well("ip_forward is 0: the kernel forwards nothing");
        return Ok(seen);
    }
    let all = d.host.conf(Family::Ipv4, "all", "send_redirects")?;
    for server in d
        .servers()
        .filter(|s| s.status.spec.forwarding == Forwarding::Nat && s.addr.is_ipv4())
    {
        let Ok(hop) = server.hop else { continue };
        let name = d.port_of(&hop);
        if d.interface_of(server.vip) != Some(name) {
            continue;
        }
        let own = d.host.conf(Family::Ipv4, name, "send_redirects")?;
        let state = format!("{name}: send_redirects {own}, all {all}");
        // Either one suffices (IN_DEV_TX_REDIRECTS in linux/inetdevice.h).
        if own + all > 0 {
            let seen_at = format!(
                "{state}, ip_forward 1, and the NAT server {} is on the clients' interface",
                server.addr
            );
            let command = ["all", name].map(|on| set_conf(Family::Ipv4, on, "send_redirects", "0"));
            seen.wrong(Finding::here(
                Check::SendRedirects,
                seen_at,
                command.join("; "),
            ));
        } else {
            seen.well(state);
        }
    }
    if seen == Seen::default() {
        seen.well("no NAT server is on the clients' own interface");
    }
    Ok(seen)
}

/// Which rules matter to the host's own traffic only, nobody but their author knows: so they are shown.
fn policy_rules(d: &Director<'_>) -> Result<Seen, NotMade> {
    let mut seen = Seen::default();
    if d.unfollowed.is_empty() {
        seen.well("all rules and routes are followed");
    }
    for Unfollowed { what, means } in &d.unfollowed {
        seen.wrong(Finding::here(
            Check::PolicyRules,
            format!("{what}: {means}"),
            "ip -4 rule show; ip -6 rule show".to_owned(),
        ));
    }
    Ok(seen)
}

/// Without IPv6 an interface has no route, no address and no neighbours, so nothing of a service leaves by it.
fn ipv6_off(d: &Director<'_>) -> Result<Seen, NotMade> {
    let mut seen = Seen::default();
    if !d.has_ipv6() {
        seen.well("no service and no server is IPv6");
        return Ok(seen);
    }
    for name in &d.ports {
        if d.host.conf(Family::Ipv6, name, "disable_ipv6")? == 0 {
            seen.well(format!("{name} has IPv6"));
        } else {
            seen.wrong(Finding::here(
                Check::Ipv6Off,
                format!("{name}: disable_ipv6 is 1"),
                set_conf(Family::Ipv6, name, "disable_ipv6", "0"),
            ));
        }
    }
    Ok(seen)
}

/// A host that forwards heeds router advertisements only where accept_ra is 2 (ip-sysctl.rst).
fn accept_ra(d: &Director<'_>) -> Result<Seen, NotMade> {
    const IF_NOT_FORWARDING: u32 = 1;
    let mut seen = Seen::default();
    if !d.has_ipv6() {
        seen.well("no service and no server is IPv6");
        return Ok(seen);
    }
    let routes = d.host.ip(&["-6", "route", "show", "default"])?;
    if !routes.trim().is_empty() {
        seen.well("there is an IPv6 default route");
        return Ok(seen);
    }
    for name in &d.ports {
        let forwards = d.host.conf(Family::Ipv6, name, "forwarding")?;
        let accepts = d.host.conf(Family::Ipv6, name, "accept_ra")?;
        let state = format!("{name}: forwarding {forwards}, accept_ra {accepts}");
        if forwards > 0 && accepts == IF_NOT_FORWARDING {
            seen.wrong(Finding::here(
                Check::AcceptRa,
                format!("{state}, and there is no IPv6 default route"),
                set_conf(Family::Ipv6, name, "accept_ra", "2"),
            ));
        } else {
            seen.well(state);
        }
    }
    Ok(seen)
}
