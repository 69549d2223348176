//! The backup: takes up what other directors tell.

use std::io::{self, Read};
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::Socket;
use uvs_control::protocol::SyncDaemon;
use uvs_core::peer::TakenUp;
use uvs_core::time::Instant;

use super::{Count, Sockets, socket};

/// Datagrams read at a time: the control thread has other things to do.
const DATAGRAMS: usize = 64;

/// A running backup.
pub(crate) struct Backup {
    sockets: Vec<Socket>,
    syncid: u8,
    /// What one datagram is read into; a longer one is cut off, and refused.
    buffer: Vec<u8>,
    /// There may be datagrams.
    ready: bool,
    pub(super) count: Count,
}

impl Backup {
    pub(super) fn start(
        daemon: &SyncDaemon,
        sockets: Sockets,
        (registry, token): (&Registry, Token),
    ) -> io::Result<Self> {
        let open = |n| socket::receiver(daemon, n, sockets.buffer);
        let all: Vec<Socket> = (0..sockets.count).map(open).collect::<io::Result<_>>()?;
        for socket in &all {
            let fd = socket.as_raw_fd();
            registry.register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        }
        Ok(Self {
            sockets: all,
            syncid: daemon.syncid,
            buffer: vec![0; usize::from(daemon.maxlen)],
            ready: true,
            count: Count::default(),
        })
    }

    pub(super) fn note_ready(&mut self) {
        self.ready = true;
    }

    /// Whether there may be more than was read.
    pub(super) const fn has_more(&self) -> bool {
        self.ready
    }

    /// Reads some datagrams, and says what is in them.
    pub(super) fn read(&mut self, now: Instant) -> Vec<TakenUp> {
        let mut told = Vec::new();
        if !self.ready {
            return told;
        }
        self.ready = false;
        for socket in &self.sockets {
            let mut left = DATAGRAMS;
            while left > 0
                && let Ok(len) = (&*socket).read(&mut self.buffer)
            {
                take_datagram(
                    &self.buffer[..len],
                    self.syncid,
                    now,
                    &mut self.count,
                    &mut told,
                );
                left -= 1;
            }
            self.ready |= left == 0;
        }
        told
    }
}

fn take_datagram(
    datagram: &[u8],
    syncid: u8,
    now: Instant,
    count: &mut Count,
    told: &mut Vec<TakenUp>,
) {
    let messages = match uvs_sync::read(datagram, syncid) {
        Ok(messages) => messages,
        Err(why) => {
            tracing::debug!("a sync datagram is refused: {why}");
            count.numbers.refused += 1;
            return;
        }
    };
    let before = told.len();
    for message in messages {
        match message {
            Ok(message) => told.push(message.taken_up()),
            Err(why) => {
                tracing::debug!("a sync message is refused: {why}");
                count.numbers.refused += 1;
            }
        }
    }
    count.datagram(now, datagram.len(), (told.len() - before) as u64);
}
