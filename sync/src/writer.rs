//! Messages become datagrams: each waits for company, for two seconds or until the datagram is full.

use uvs_core::narrow;
use uvs_core::peer::WAIT;
use uvs_core::time::Instant;

use crate::message::Message;
use crate::{Version, v0, v1};

/// A datagram in the making.
#[derive(Debug)]
pub struct Writer {
    syncid: u8,
    limit: usize,
    version: Version,
    count: u8,
    entries: Vec<u8>,
    since: Instant,
}

impl Writer {
    /// Datagrams of at most `limit` bytes, for directors with this syncid.
    pub const fn new(syncid: u8, limit: u16) -> Self {
        Self {
            syncid,
            limit: limit as usize,
            version: Version::V1,
            count: 0,
            entries: Vec::new(),
            since: Instant::ZERO,
        }
    }

    /// Adds a message. A datagram that is to be sent now: the one before, where there is no room for this message
    /// in it, or where it is of the other version. What `version` has no form for is left out: of version 0, IPv6.
    pub fn add(&mut self, now: Instant, version: Version, message: &Message) -> Option<Vec<u8>> {
        if version == Version::V0 && message.is_v6() {
            return None;
        }
        let other = version != self.version;
        let mut full = if other { self.finish() } else { None };
        self.version = version;
        let before = self.entries.len();
        self.put(message);
        if self.count > 0 && (self.len() > self.limit || self.count == u8::MAX) {
            self.entries.truncate(before);
            full = self.finish();
            self.put(message);
        }
        if self.count == 0 {
            self.since = now;
        }
        self.count += 1;
        full
    }

    fn put(&mut self, message: &Message) {
        match self.version {
            Version::V0 => v0::put(&mut self.entries, message),
            Version::V1 => {
                let padded = self.entries.len().next_multiple_of(4);
                self.entries.resize(padded, 0);
                v1::put(&mut self.entries, message);
            }
        }
    }

    fn len(&self) -> usize {
        let header = match self.version {
            Version::V0 => v0::HEADER,
            Version::V1 => v1::HEADER,
        };
        header + self.entries.len()
    }

    /// When the datagram is to be sent, full or not; `None` where there is none.
    pub fn due(&self) -> Option<Instant> {
        (self.count > 0).then(|| self.since + WAIT)
    }

    /// The datagram, full or not; `None` where there is none.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        if self.count == 0 {
            return None;
        }
        let size = narrow::to_u16(self.len());
        let mut datagram = match self.version {
            Version::V0 => v0::header(self.count, self.syncid, size).to_vec(),
            Version::V1 => v1::header(self.count, self.syncid, size).to_vec(),
        };
        datagram.append(&mut self.entries);
        self.count = 0;
        Some(datagram)
    }
}
