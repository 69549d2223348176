//! Sync daemons, as netlink's attributes and as `struct ip_vs_daemon_user`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use uvs_control::protocol::{SyncDaemon, SyncRequest, SyncRole};

use crate::attribute::{Attributes, Received};
use crate::errno::Errno;
use crate::structure::{Reader, Writer};

/// IPVS_DAEMON_ATTR_*.
mod kind {
    pub(super) const STATE: u16 = 1;
    pub(super) const INTERFACE: u16 = 2;
    pub(super) const SYNC_ID: u16 = 3;
    pub(super) const MAXLEN: u16 = 4;
    pub(super) const GROUP: u16 = 5;
    pub(super) const GROUP6: u16 = 6;
    pub(super) const PORT: u16 = 7;
    pub(super) const TTL: u16 = 8;
}

/// Bytes of an interface's name with its NUL (IP_VS_IFNAME_MAXLEN).
const NAME: usize = 16;
/// Bytes of `struct ip_vs_daemon_user`.
pub(crate) const LEN: usize = 24;

/// IP_VS_STATE_*.
const fn state(role: SyncRole) -> u32 {
    match role {
        SyncRole::Master => 1,
        SyncRole::Backup => 2,
    }
}

fn role(number: u32) -> Result<SyncRole, Errno> {
    let both = [SyncRole::Master, SyncRole::Backup];
    let mut both = both.into_iter();
    both.find(|role| state(*role) == number)
        .ok_or(Errno::Invalid)
}

fn syncid(number: u32) -> Result<u8, Errno> {
    u8::try_from(number).map_err(|_| Errno::Invalid)
}

/// The daemon that is to be started (`ip_vs_genl_new_daemon`).
pub(crate) fn request(given: &Received<'_>) -> Result<SyncRequest, Errno> {
    let interface = given.text(kind::INTERFACE).ok_or(Errno::Invalid)?;
    let group = given.array(kind::GROUP).map(Ipv4Addr::from).map(IpAddr::V4);
    let group6 = given
        .array(kind::GROUP6)
        .map(Ipv6Addr::from)
        .map(IpAddr::V6);
    let group = group.or(group6);
    if group.is_some_and(|group| !group.is_multicast()) {
        return Err(Errno::Invalid);
    }
    let role = role_of(given)?;
    let syncid = syncid(given.u32(kind::SYNC_ID).ok_or(Errno::Invalid)?)?;
    Ok(SyncRequest {
        maxlen: given.u16(kind::MAXLEN),
        group,
        port: given.u16(kind::PORT),
        ttl: given.u8(kind::TTL),
        ..SyncRequest::new(role, interface.to_owned(), syncid)
    })
}

/// Which daemon is meant.
pub(crate) fn role_of(given: &Received<'_>) -> Result<SyncRole, Errno> {
    role(given.u32(kind::STATE).ok_or(Errno::Invalid)?)
}

/// A running daemon (`ip_vs_genl_fill_daemon`).
pub(crate) fn listed(daemon: &SyncDaemon) -> Attributes {
    let made = Attributes::new()
        .u32(kind::STATE, state(daemon.role))
        .text(kind::INTERFACE, &daemon.interface)
        .u32(kind::SYNC_ID, daemon.syncid.into())
        .u16(kind::MAXLEN, daemon.maxlen)
        .u16(kind::PORT, daemon.port)
        .u8(kind::TTL, daemon.ttl);
    match daemon.group {
        IpAddr::V4(group) => made.bytes(kind::GROUP, &group.octets()),
        IpAddr::V6(group) => made.bytes(kind::GROUP6, &group.octets()),
    }
}

/// The daemon of a structure, to be started or ended.
pub(crate) fn read(from: &mut Reader<'_>) -> Result<SyncRequest, Errno> {
    let number = from.u32();
    let name: [u8; NAME] = from.take();
    let until_nul = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let interface = String::from_utf8_lossy(until_nul).into_owned();
    let role = role(number)?;
    Ok(SyncRequest::new(role, interface, syncid(from.u32())?))
}

/// Both daemons, the master first; zeroes for one that does not run.
pub(crate) fn both(running: &[SyncDaemon]) -> Vec<u8> {
    let roles = [SyncRole::Master, SyncRole::Backup].into_iter();
    let made = roles.fold(Writer::new(), |made, role| {
        match running.iter().find(|daemon| daemon.role == role) {
            Some(daemon) => {
                let name = daemon.interface.as_bytes();
                let name = &name[..name.len().min(NAME - 1)];
                made.u32(state(role))
                    .bytes(name)
                    .zeros(NAME - name.len())
                    .u32(daemon.syncid.into())
            }
            None => made.zeros(LEN),
        }
    });
    made.done()
}
