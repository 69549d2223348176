//! What the host's sysctls say of routing. The kernel tells of their changes over rtnetlink (RTM_NEWNETCONF).

use std::fs::read_to_string;
use std::io;
use std::path::Path;

use uvs_core::fib::ReversePath;
use uvs_core::flow::Family;

const IPV4: &str = "/proc/sys/net/ipv4";
const IPV6: &str = "/proc/sys/net/ipv6";

/// The families that the kernel speaks: it may have been started without IPv6.
pub(super) fn families() -> impl Iterator<Item = Family> {
    let has = |family: &Family| *family == Family::V4 || Path::new(IPV6).exists();
    Family::ALL.into_iter().filter(has)
}

/// Whether the host forwards a family's packets (`net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`).
pub(super) fn forwards(family: Family) -> io::Result<bool> {
    let sysctl = match family {
        Family::V4 => format!("{IPV4}/ip_forward"),
        Family::V6 => format!("{IPV6}/conf/all/forwarding"),
    };
    Ok(read_to_string(sysctl)?.trim() != "0")
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
