//! Why a port could not be opened, each with what to do about it.

use std::io;

/// A port could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    /// The name is not an interface's.
    #[error("no interface is named `{name}`; `ip link` lists those there are")]
    NoSuchInterface {
        /// The name asked for.
        name: String,
    },
    /// Packet sockets are not allowed.
    #[error(
        "no permission for a packet socket on `{name}`: CAP_NET_RAW is missing; run as root, grant it with \
         `setcap cap_net_raw,cap_net_admin+ep`, or run in a user namespace (`unshare --map-root-user --net`)"
    )]
    NotPermitted {
        /// The interface.
        name: String,
    },
    /// An interface without Ethernet headers.
    #[error(
        "`{name}` is not an Ethernet interface (ARPHRD type {kind}); UVS needs one with MAC addresses: \
         name a physical, veth, bridge, bond or VLAN interface instead"
    )]
    NotEthernet {
        /// The interface.
        name: String,
        /// Its ARPHRD type; 772 is loopback, 65534 none.
        kind: u16,
    },
    /// The kernel did not give the memory of the ring.
    #[error(
        "the kernel refused {mib} MiB for the receive ring of `{name}` ({source}): free memory, or lower \
         the number of slots"
    )]
    RingMemory {
        /// The interface.
        name: String,
        /// What was asked for.
        mib: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel does not divide an interface's frames among several workers.
    #[error(
        "the kernel does not divide the frames of `{name}` among {workers} workers ({source}): run with --workers 1; \
         with Linux 5.12 or later several can be had, and before 6.13 the interface must be up then"
    )]
    NoFanOut {
        /// The interface.
        name: String,
        /// How many were wanted.
        workers: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A socket option or call failed that works on every supported kernel.
    #[error("{step} failed on `{name}`{}", needed(source))]
    Kernel {
        /// The interface.
        name: String,
        /// What was tried.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What the kernel lacks, where its answer means that it knows no such thing.
fn needed(answer: &io::Error) -> &'static str {
    const UNKNOWN: [i32; 5] = [
        libc::EAFNOSUPPORT,
        libc::EINVAL,
        libc::ENOPROTOOPT,
        libc::EOPNOTSUPP,
        libc::EPROTONOSUPPORT,
    ];
    match answer.raw_os_error() {
        Some(errno) if UNKNOWN.contains(&errno) => {
            "; UVS needs Linux 5.4 or later with CONFIG_PACKET"
        }
        _ => "",
    }
}
