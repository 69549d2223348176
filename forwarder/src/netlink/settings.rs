//! What the host's sysctls say of routing. The kernel tells of their changes over rtnetlink (RTM_NEWNETCONF).

use std::fs::read_to_string;
use std::io;

use uvs_core::fib::ReversePath;

const IPV4: &str = "/proc/sys/net/ipv4";

/// Whether the host forwards (`net.ipv4.ip_forward`).
pub(super) fn forwards() -> io::Result<bool> {
    Ok(read_to_string(format!("{IPV4}/ip_forward"))?.trim() != "0")
}

/// The effective rp_filter of an interface (IN_DEV_RPFILTER in linux/inetdevice.h): the larger of `all` and its
/// own. One that is gone filters nothing.
pub(super) fn reverse_path(interface: &str) -> ReversePath {
    let read = |name| {
        let value = read_to_string(format!("{IPV4}/conf/{name}/rp_filter")).ok()?;
        value.trim().parse::<u32>().ok()
    };
    match read("all").max(read(interface)) {
        None | Some(0) => ReversePath::Off,
        Some(1) => ReversePath::Strict,
        Some(_) => ReversePath::Loose,
    }
}
