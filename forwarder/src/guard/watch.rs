//! Notices that somebody deleted one of nft's tables: a firewall's reload starts with `flush ruleset`,
//! which takes the guard along. Our own changes of elements are heard too, and are no reason to look.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::GuardError;
use super::netlink::messages;

/// NFT_MSG_DELTABLE of the nf_tables subsystem (linux/netfilter/nf_tables.h).
const TABLE_DELETED: u16 = 10 << 8 | 2;
/// NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h).
const GROUP: u32 = 7;

pub(super) struct Watch(Socket);

impl Watch {
    pub(super) fn new() -> Result<Self, GuardError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.set_non_blocking(true)?;
            socket.add_membership(GROUP)?;
            Ok(socket)
        };
        open()
            .map(Self)
            .map_err(|source| match source.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => GuardError::Permission,
                Some(libc::EPROTONOSUPPORT) => GuardError::NoKernelSupport,
                _ => GuardError::Io {
                    doing: "watch nft's rules",
                    source,
                },
            })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Empties the socket; says whether a table may have been deleted.
    pub(super) fn drain(&self) -> Result<bool, GuardError> {
        // What the kernel sends at once is at most a page or 8 KiB (NLMSG_GOODSIZE).
        let mut buffer = Vec::with_capacity(16 << 10);
        let mut changed = false;
        loop {
            buffer.clear();
            match self.0.recv(&mut buffer, 0) {
                Ok(_) => changed |= messages(&buffer).any(|(kind, _)| kind == TABLE_DELETED),
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(changed),
                Err(source) => {
                    return Err(GuardError::Io {
                        doing: "watch nft's rules",
                        source,
                    });
                }
            }
        }
    }
}
