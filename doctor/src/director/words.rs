//! The commands that fix a finding, with this director's names and addresses in them.

use std::net::IpAddr;

use uvs_core::service::Forwarding;
use uvs_ipvsadm::server_words;
use uvs_realserver::Family;

use super::Server;

/// An address with the prefix length that leaves its neighbours out.
pub(super) fn alone(addr: IpAddr) -> String {
    format!("{addr}/{}", Family::of(addr).host_bits())
}

/// Changes a server's weight and leaves all else as it is.
pub(super) fn set_weight(server: &Server<'_>, weight: u32) -> String {
    edit(server, server.status.spec.forwarding, weight)
}

/// Reaches a server by a tunnel instead.
pub(super) fn by_tunnel(server: &Server<'_>) -> String {
    edit(server, Forwarding::Tunnel, server.status.spec.weight)
}

fn edit(server: &Server<'_>, forwarding: Forwarding, weight: u32) -> String {
    let mut spec = server.status.spec;
    (spec.forwarding, spec.weight) = (forwarding, weight);
    let mut line = format!("uvs ipvsadm -e {}", server_words(&server.service, &spec));
    // `-e` sets the thresholds as well, to none where it names none.
    for (option, threshold) in [("-x", spec.upper), ("-y", spec.lower)] {
        if threshold > 0 {
            line += &format!(" {option} {threshold}");
        }
    }
    line
}

/// Echoes a value into a sysctl of `net.FAMILY.conf`.
pub(super) fn set_conf(family: Family, device: &str, key: &str, value: &str) -> String {
    let path = uvs_realserver::host::sysctl_path(family, device, key);
    format!("echo {value} > {}", path.display())
}
