//! The synchronisation with other directors: what ipvsadm calls sync daemons.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
pub use uvs_core::numbers::SyncNumbers;

/// Which end of the synchronisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncRole {
    /// Tells other directors of connections.
    Master,
    /// Takes up what they tell.
    Backup,
}

impl SyncRole {
    /// As ipvsadm writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Backup => "backup",
        }
    }

    /// The one with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        let both = [Self::Master, Self::Backup];
        both.into_iter().find(|role| role.word() == word)
    }
}

impl fmt::Display for SyncRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A sync daemon that is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRequest {
    /// Which end.
    pub role: SyncRole,
    /// The interface that its datagrams leave and arrive by.
    pub interface: String,
    /// Directors with the same number belong together.
    pub syncid: u8,
    /// Bytes of a datagram's payload at most; `None` = as many as the link takes.
    #[serde(default)]
    pub maxlen: Option<u16>,
    /// The group that directors speak to; `None` = 224.0.0.81.
    #[serde(default)]
    pub group: Option<IpAddr>,
    /// The first UDP port, host byte order; `None` = 8848.
    #[serde(default)]
    pub port: Option<u16>,
    /// How many routers a datagram to a group may pass, plus one; `None` = 1.
    #[serde(default)]
    pub ttl: Option<u8>,
    /// The other directors, where they are not spoken to as a group; of one family. The configuration's own.
    #[serde(default)]
    pub peers: Vec<IpAddr>,
    /// The file with the secret by which they know each other. The configuration's own.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Whether a backup asks for all that others have, and a master tells all who asks: by TCP, at the first UDP port's
    /// number, with the key. The configuration's own.
    #[serde(default)]
    pub bulk: bool,
}

/// A running sync daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncDaemon {
    /// Which end.
    pub role: SyncRole,
    /// The interface that its datagrams leave and arrive by.
    pub interface: String,
    /// Directors with the same number belong together.
    pub syncid: u8,
    /// Bytes of a datagram's payload at most.
    pub maxlen: u16,
    /// The group that directors speak to.
    pub group: IpAddr,
    /// The first UDP port, host byte order.
    pub port: u16,
    /// How many routers a datagram to the group may pass, plus one.
    pub ttl: u8,
    /// The other directors, where they are spoken to one by one; the group is idle then.
    #[serde(default)]
    pub peers: Vec<IpAddr>,
    /// The file with the secret by which they know each other.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Whether a backup asks for all that others have, and a master tells all who asks.
    #[serde(default)]
    pub bulk: bool,
}

/// Where directors speak, unless something else is said.
const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81));
const PORT: u16 = 8848;
const TTL: u8 = 1;
/// Bytes of a link's packets, as far as it is not asked; a backup's is at least that.
const MTU: u32 = 1500;
/// The shortest message that a backup has room for.
const BACKUP_MIN: u32 = 1024;

impl SyncRequest {
    /// One with all else as it is unless something else is said.
    pub const fn new(role: SyncRole, interface: String, syncid: u8) -> Self {
        Self {
            role,
            interface,
            syncid,
            maxlen: None,
            group: None,
            port: None,
            ttl: None,
            peers: Vec::new(),
            key_file: None,
            bulk: false,
        }
    }

    /// The daemon that is to run on an interface of this MTU, with what was not said (`start_sync_thread`).
    pub fn on(&self, mtu: u32) -> SyncDaemon {
        let group = self.group.unwrap_or(GROUP);
        let speaks_to = self.peers.first().copied().unwrap_or(group);
        let headers = if speaks_to.is_ipv6() { 40 + 8 } else { 20 + 8 };
        let backup = self.role == SyncRole::Backup;
        let (mtu, least) = match backup {
            true => (mtu.clamp(MTU, u16::MAX.into()), BACKUP_MIN),
            false => (MTU, 1),
        };
        let maxlen = match self.maxlen {
            None | Some(0) => mtu - headers,
            Some(maxlen) => u32::from(maxlen).clamp(least, u32::from(u16::MAX) - headers),
        };
        SyncDaemon {
            role: self.role,
            interface: self.interface.clone(),
            syncid: self.syncid,
            maxlen: u16::try_from(maxlen).unwrap_or(u16::MAX),
            group,
            port: self.port.filter(|port| *port != 0).unwrap_or(PORT),
            ttl: self.ttl.filter(|ttl| *ttl != 0).unwrap_or(TTL),
            peers: self.peers.clone(),
            key_file: self.key_file.clone(),
            bulk: self.bulk,
        }
    }
}

/// A running sync daemon, and what it has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncStatus {
    /// What it is.
    pub daemon: SyncDaemon,
    /// What it has done since it was started.
    pub numbers: SyncNumbers,
}
