//! What can go wrong with the guard, in words that name what is missing.

use std::io;

use super::nft::link::Fault;

/// Why the guard could not be put up, taken down or read.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// Another daemon has the guard of this network namespace.
    #[error(
        "another uvs{} already runs in this network namespace (it holds the socket @uvs-guard); two would replace each other's guard: stop it, or run this one in a namespace of its own",
        .pid.map(|p| format!(" (process {p})")).unwrap_or_default()
    )]
    Busy {
        /// The other's process id, where the kernel tells it.
        pid: Option<i32>,
    },
    /// There is no `nft`.
    #[error("cannot run `nft`: {0}; install it (Debian: apt install nftables)")]
    NoNft(io::Error),
    /// The kernel cannot do it.
    #[error(
        "this kernel has no nf_tables for the netdev family: it needs CONFIG_NF_TABLES and CONFIG_NF_TABLES_NETDEV (module nf_tables), and for a NAT server that is the director itself CONFIG_NETFILTER_EGRESS (Linux 5.16)"
    )]
    NoKernelSupport,
    /// No right to change the rules.
    #[error("changing nft's rules needs CAP_NET_ADMIN: run as root, or grant the capability")]
    Permission,
    /// Another program has made the table its own (NFT_TABLE_F_OWNER).
    #[error(
        "another program owns nft's table `netdev uvs`; `nft list table netdev uvs` says which (progname): end it"
    )]
    Owned,
    /// The kernel, or `nft`, refused.
    #[error("nft refused: {0}")]
    Refused(String),
    /// A system call failed.
    #[error("guard: cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl GuardError {
    /// Names what is missing.
    pub(super) fn of(doing: &'static str, fault: impl Into<Fault>) -> Self {
        let fault = fault.into();
        match (fault.errno(), fault) {
            (Some(libc::EPERM), Fault::Refused { .. }) => Self::Owned,
            (Some(libc::EPERM | libc::EACCES), Fault::Io(_)) => Self::Permission,
            // The last is nfnetlink's answer where it knows of no nf_tables.
            (Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP | libc::EINVAL), Fault::Io(_))
            | (Some(libc::EOPNOTSUPP), Fault::Refused { .. }) => Self::NoKernelSupport,
            (_, refused @ Fault::Refused { .. }) => Self::Refused(refused.to_string()),
            (_, Fault::Io(source)) => Self::Io { doing, source },
        }
    }
}
