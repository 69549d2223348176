//! Hears when somebody else changes the guard: a firewall's reload starts with `flush ruleset`, which takes
//! it along. The kernel tells of a transaction in parts, the last of which names the process.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::clients::is_clients;
use super::nft::message::{Kind, Message, messages};
use super::nft::table::{NAME, TABLE as OF_TABLE};
use super::sets::TABLE;

/// NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h).
const GROUP: u32 = 7;
/// NFTA_GEN_PROC_PID, NFTA_GEN_PROC_NAME
const PROCESS: u16 = 2;
const PROCESS_NAME: u16 = 3;
/// What the kernel sends at once is at most a page or 8 KiB (NLMSG_GOODSIZE).
const DATAGRAM: usize = 16 << 10;
/// Room for the events of a large change; the kernel clamps it to net.core.rmem_max.
const ROOM: i32 = 1 << 20;

pub(super) struct Watch {
    socket: Socket,
    /// Whose transactions are our own.
    own_port: u32,
    buffer: Vec<u8>,
}

/// What was heard of others' changes to our table.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// It was deleted.
    pub(super) removed: bool,
    /// Clients were taken out. That shows in no comparison: packets put them there, and time takes them out, of
    /// which the kernel tells nobody.
    pub(super) forgotten: bool,
    /// The port of who changed it otherwise, and whether all of that was heard.
    touched: Option<u32>,
    is_whole: bool,
    /// Who it was.
    pub(super) by: Option<String>,
}

impl Heard {
    /// Whether to look at the table now: what is gone is urgent, other changes are waited out.
    pub(super) fn is_due(&self) -> bool {
        self.removed || self.is_whole
    }

    fn take(&mut self, message: &Message<'_>) {
        let is_ours = || message.is_netdev() && message.text(OF_TABLE) == Some(TABLE);
        match message.kind() {
            Some(Kind::NEW_GENERATION) if self.touched == Some(message.port()) => {
                self.is_whole = true;
                let process = message.number(PROCESS).zip(message.text(PROCESS_NAME));
                let process = process.map(|(pid, name)| format!("{name} (process {pid})"));
                self.by = self.by.take().or(process);
            }
            Some(kind) if kind != Kind::NEW_GENERATION && is_ours() => {
                self.touched = Some(message.port());
                self.is_whole = false;
                self.removed |= kind == Kind::DELETE_TABLE;
                self.forgotten |=
                    kind == Kind::DELETE_ELEMENTS && message.text(NAME).is_some_and(is_clients);
            }
            _ => {}
        }
    }
}

impl Watch {
    /// # Errors
    /// The kernel has no nfnetlink, or refuses.
    pub(super) fn new(own_port: u32) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        socket.set_rx_buf_sz(ROOM)?;
        socket.add_membership(GROUP)?;
        Ok(Self {
            socket,
            own_port,
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Empties the socket. Where the kernel had to drop events, anything may have happened.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn hear(&mut self, heard: &mut Heard) -> io::Result<()> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => messages(&self.buffer)
                    .filter(|m| m.port() != self.own_port)
                    .for_each(|m| heard.take(&m)),
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => heard.is_whole = true,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::nft::message::{Attributes, request};
    use super::*;

    /// An event about a table, or a generation's, of the port that a test's requests have: 0.
    fn event(kind: Kind, table: &str) -> Vec<u8> {
        let attributes = Attributes::of(|out| match kind {
            Kind::NEW_GENERATION => {
                out.number(PROCESS, 7).text(PROCESS_NAME, "nft");
            }
            _ => {
                out.text(OF_TABLE, table);
            }
        });
        request(kind, 0, &attributes)
    }

    fn heard(events: &[Vec<u8>]) -> Heard {
        let mut heard = Heard::default();
        let bytes = events.concat();
        messages(&bytes).for_each(|m| heard.take(&m));
        heard
    }

    #[test]
    fn what_is_gone_is_urgent_and_all_else_is_waited_out() {
        let end = || event(Kind::NEW_GENERATION, "");
        assert!(heard(&[event(Kind::DELETE_TABLE, "uvs")]).is_due());
        let begun = heard(&[event(Kind::NEW_RULE, "uvs")]);
        assert!(!begun.is_due() && !begun.removed);
        let whole = heard(&[event(Kind::NEW_RULE, "uvs"), end()]);
        assert!(whole.is_due() && !whole.removed);
        assert_eq!(whole.by.as_deref(), Some("nft (process 7)"));
        let other = heard(&[event(Kind::DELETE_TABLE, "other"), end()]);
        assert_eq!(other, Heard::default(), "another's table");
    }
}
