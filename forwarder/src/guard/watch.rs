//! Notices that somebody changed nft's rules: a firewall's reload starts with `flush ruleset`, which
//! takes the guard along.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::GuardError;

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

    /// Empties the socket; says whether there was anything.
    pub(super) fn drain(&self) -> Result<bool, GuardError> {
        // What changed is asked of nft afterwards, so a cut or lost message does no harm.
        let mut buffer = Vec::with_capacity(4096);
        let mut changed = false;
        loop {
            buffer.clear();
            match self.0.recv(&mut buffer, 0) {
                Ok(_) => changed = true,
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
