//! What the host's kernel does beside UVS: its filter of sources, its redirects, its routing rules.

use uvs_core::service::Forwarding;
use uvs_forwarder::netlink::Unfollowed;

use super::words::set_conf;
use super::{Director, Made};
use crate::catalog::Check;
use crate::finding::{Finding, NotMade, Seen};

pub(super) const CHECKS: &[Made] = &[
    (Check::RpFilter, rp_filter),
    (Check::SendRedirects, send_redirects),
    (Check::PolicyRules, policy_rules),
];

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// rp_filter's values (ip-sysctl.rst): the source must be reached by the same interface, or by any.
const STRICT: u32 = 1;
const LOOSE: &str = "2";

fn rp_filter(d: &Director<'_>) -> Result<Seen, NotMade> {
    let all = d.host.conf("all", "rp_filter")?;
    let mut seen = Seen::default();
    for name in &d.ports {
        let own = d.host.conf(name, "rp_filter")?;
        let state = format!(
            "{name}: rp_filter {own}, all {all}, in effect {}",
            own.max(all)
        );
        if own.max(all) == STRICT {
            let command = set_conf(name, "rp_filter", LOOSE);
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
    let all = d.host.conf("all", "send_redirects")?;
    for server in d
        .servers()
        .filter(|s| s.status.spec.forwarding == Forwarding::Nat)
    {
        let Ok(hop) = server.hop else { continue };
        let name = d.port_of(&hop);
        if d.interface_of(server.vip) != Some(name) {
            continue;
        }
        let own = d.host.conf(name, "send_redirects")?;
        let state = format!("{name}: send_redirects {own}, all {all}");
        // Either one suffices (IN_DEV_TX_REDIRECTS in linux/inetdevice.h).
        if own + all > 0 {
            let seen_at = format!(
                "{state}, ip_forward 1, and the NAT server {} is on the clients' interface",
                server.addr
            );
            let command = ["all", name].map(|on| set_conf(on, "send_redirects", "0"));
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
            "ip -4 rule show".to_owned(),
        ));
    }
    Ok(seen)
}
