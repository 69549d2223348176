//! The master: tells other directors of connections, and those that ask for it of all (`giver`).

use std::io;
use std::net::UdpSocket;
use std::time::{Duration, SystemTime};

use mio::{Registry, Token};
use uvs_control::protocol::SyncDaemon;
use uvs_core::narrow;
use uvs_core::peer::Told;
use uvs_core::time::Instant;
use uvs_sync::seal::{self, Clock, Key, Mark, SEAL};
use uvs_sync::{Message, Version, Writer};

use super::giver::Giver;
use super::{Count, Sockets, socket};

/// A running master.
pub(crate) struct Master {
    ways: Vec<Way>,
    key: Option<Key>,
    /// Where others may ask for all.
    pub(super) giver: Option<Giver>,
    pub(super) count: Count,
}

/// The sockets to one port of other directors, and the datagram that waits for them.
struct Way {
    sockets: Vec<UdpSocket>,
    port: u16,
    clock: Clock,
    writer: Writer,
    /// Messages in the datagram.
    messages: u64,
}

impl Master {
    pub(super) fn start(
        daemon: &SyncDaemon,
        sockets: Sockets,
        key: Option<Key>,
        events: (&Registry, Token),
    ) -> io::Result<Self> {
        let sealed = if key.is_some() { SEAL } else { 0 };
        let limit = usize::from(daemon.maxlen).saturating_sub(sealed);
        let ways = (0..sockets.count).map(|n| {
            Ok(Way {
                sockets: socket::senders(daemon, n, sockets.buffer)?,
                port: socket::port_of(daemon, n),
                clock: Clock::default(),
                writer: Writer::new(daemon.syncid, narrow::to_u16(limit)),
                messages: 0,
            })
        });
        let asked_with = key.clone().filter(|_| daemon.bulk);
        let giver = asked_with.map(|key| Giver::start(daemon, key, events));
        Ok(Self {
            ways: ways.collect::<io::Result<_>>()?,
            giver: giver.transpose()?,
            key,
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
                way.send(now, full, self.key.as_ref(), &mut self.count);
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
                way.flush(now, self.key.as_ref(), &mut self.count);
            }
        }
    }

    /// Sends what there is.
    pub(super) fn flush(&mut self, now: Instant) {
        for way in &mut self.ways {
            way.flush(now, self.key.as_ref(), &mut self.count);
        }
    }
}

impl Way {
    fn flush(&mut self, now: Instant, key: Option<&Key>, count: &mut Count) {
        if let Some(datagram) = self.writer.finish() {
            self.send(now, datagram, key, count);
        }
    }

    fn send(&mut self, now: Instant, datagram: Vec<u8>, key: Option<&Key>, count: &mut Count) {
        let messages = std::mem::take(&mut self.messages);
        let mark = self.clock.next(since_1970());
        for socket in &self.sockets {
            let sealed = key.map(|key| sealed(key, socket, self.port, mark, &datagram));
            let sent = match &sealed {
                Some(Ok(sealed)) => send(socket, sealed),
                Some(Err(e)) => Err(io::Error::from(e.kind())),
                None => send(socket, &datagram),
            };
            match sent {
                Ok(bytes) => count.datagram(now, bytes, messages),
                // A link that is down, or a full buffer: the connection is told of again.
                Err(e) => {
                    tracing::debug!("a sync message is lost: {e}");
                    count.numbers.lost += messages;
                }
            }
        }
    }
}

fn sealed(
    key: &Key,
    socket: &UdpSocket,
    port: u16,
    mark: Mark,
    datagram: &[u8],
) -> io::Result<Vec<u8>> {
    let from = socket.local_addr()?.ip();
    let mut sealed = datagram.to_vec();
    let way = seal::Way { from, port };
    key.seal(way, mark, &mut sealed);
    Ok(sealed)
}

/// The host's clock, by which seals are known to be new.
pub(super) fn since_1970() -> Duration {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default()
}

/// Once more where a socket has first to say that nobody heard the datagram before.
fn send(socket: &UdpSocket, datagram: &[u8]) -> io::Result<usize> {
    match socket.send(datagram) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => socket.send(datagram),
        sent => sent,
    }
}

/// All that is told of one connection goes one way, in order.
fn way_of(told: &Told, ways: usize) -> usize {
    let client = told.conn.ends.client;
    let bytes = client.addr.0.into_iter().chain(client.port.to_be_bytes());
    let mixed = |hash: usize, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte));
    bytes.fold(0, mixed) % ways
}
