//! The master: tells other directors of connections.

use std::io;

use socket2::Socket;
use uvs_control::protocol::SyncDaemon;
use uvs_core::peer::Told;
use uvs_core::time::Instant;
use uvs_sync::{Message, Version, Writer};

use super::{Count, Sockets, socket};

/// A running master.
pub(crate) struct Master {
    ways: Vec<Way>,
    pub(super) count: Count,
}

/// A socket, and the datagram that waits for it.
struct Way {
    socket: Socket,
    writer: Writer,
    /// Messages in the datagram.
    messages: u64,
}

impl Master {
    pub(super) fn start(daemon: &SyncDaemon, sockets: Sockets) -> io::Result<Self> {
        let ways = (0..sockets.count).map(|n| {
            Ok(Way {
                socket: socket::sender(daemon, n, sockets.buffer)?,
                writer: Writer::new(daemon.syncid, daemon.maxlen),
                messages: 0,
            })
        });
        Ok(Self {
            ways: ways.collect::<io::Result<_>>()?,
            count: Count::default(),
        })
    }

    pub(super) fn tell(&mut self, now: Instant, version: Version, told: &[Told], lost: u64) {
        self.count.numbers.lost += lost;
        for told in told {
            let Some(message) = Message::of(told) else {
                self.count.numbers.lost += 1;
                continue;
            };
            let way = way_of(told, self.ways.len());
            let way = &mut self.ways[way];
            if let Some(full) = way.writer.add(now, version, &message) {
                way.send(now, &full, &mut self.count);
            }
            way.messages += 1;
        }
    }

    /// When a datagram has waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.ways.iter().filter_map(|way| way.writer.due()).min()
    }

    pub(super) fn turn(&mut self, now: Instant) {
        for way in &mut self.ways {
            if way.writer.due().is_some_and(|due| due <= now) {
                way.flush(now, &mut self.count);
            }
        }
    }

    /// Sends what there is.
    pub(super) fn flush(&mut self, now: Instant) {
        for way in &mut self.ways {
            way.flush(now, &mut self.count);
        }
    }
}

impl Way {
    fn flush(&mut self, now: Instant, count: &mut Count) {
        if let Some(datagram) = self.writer.finish() {
            self.send(now, &datagram, count);
        }
    }

    fn send(&mut self, now: Instant, datagram: &[u8], count: &mut Count) {
        let messages = std::mem::take(&mut self.messages);
        match self.socket.send(datagram) {
            Ok(_) => count.datagram(now, datagram.len(), messages),
            // A link that is down, or a full buffer: the connection is told of again.
            Err(e) => {
                tracing::debug!("a sync message is lost: {e}");
                count.numbers.lost += messages;
            }
        }
    }
}

/// All that is told of one connection goes one way, in order.
fn way_of(told: &Told, ways: usize) -> usize {
    let client = told.conn.client;
    let bytes = client.addr.0.into_iter().chain(client.port.to_be_bytes());
    let mixed = |hash: usize, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte));
    bytes.fold(0, mixed) % ways
}
