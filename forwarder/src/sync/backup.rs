//! The backup: takes up what other directors tell, and may ask them for all (`asker`).

use std::io;
use std::net::{IpAddr, UdpSocket};

use mio::{Interest, Registry, Token};
use uvs_control::protocol::SyncDaemon;
use uvs_core::peer::TakenUp;
use uvs_core::time::Instant;
use uvs_sync::seal::{Before, Key, Marks, SEAL, Way};

use super::asker::Asker;
use super::master::since_1970;
use super::{Count, Sockets, socket};

/// Datagrams read at a time: the control thread has other things to do.
const DATAGRAMS: usize = 64;

/// A running backup.
pub(crate) struct Backup {
    sockets: Vec<(UdpSocket, u16)>,
    syncid: u8,
    gate: Gate,
    /// What one datagram is read into; a longer one is cut off, and refused.
    buffer: Vec<u8>,
    /// There may be datagrams.
    ready: bool,
    /// Asks for all.
    pub(super) asker: Option<Box<Asker>>,
    pub(super) count: Count,
}

/// Whose datagrams are believed.
struct Gate {
    /// Only theirs; empty for everybody's.
    peers: Vec<IpAddr>,
    /// Only what is sealed with it.
    key: Option<Key>,
    marks: Marks,
}

impl Backup {
    pub(super) fn start(
        daemon: &SyncDaemon,
        sockets: Sockets,
        key: Option<Key>,
        events: (&Registry, Token),
    ) -> io::Result<Self> {
        let open = |n| {
            let socket = socket::receiver(daemon, n, sockets.buffer)?;
            Ok((socket, socket::port_of(daemon, n)))
        };
        let all: Vec<_> = (0..sockets.count).map(open).collect::<io::Result<_>>()?;
        for (socket, _) in &all {
            socket::watch(events, socket, Interest::READABLE)?;
        }
        let sealed = if key.is_some() { SEAL } else { 0 };
        let asks_with = key.clone().filter(|_| daemon.bulk);
        Ok(Self {
            sockets: all,
            asker: asks_with.map(|key| Box::new(Asker::new(daemon, key))),
            syncid: daemon.syncid,
            gate: Gate {
                peers: daemon.peers.clone(),
                key,
                marks: Marks::default(),
            },
            buffer: vec![0; usize::from(daemon.maxlen) + sealed],
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
        for (socket, port) in &self.sockets {
            let mut left = DATAGRAMS;
            while left > 0
                && let Ok((len, from)) = socket.recv_from(&mut self.buffer)
            {
                left -= 1;
                let from = from.ip();
                let way = Way { from, port: *port };
                let gate = &mut self.gate;
                match gate.pass(way, &self.buffer[..len], &mut self.count) {
                    Ok((datagram, before)) => {
                        take_datagram(datagram, self.syncid, now, &mut self.count, &mut told);
                        if let Some(asker) = &mut self.asker {
                            asker.heard(now, from, before);
                        }
                    }
                    Err(why) => {
                        tracing::warn!("a sync datagram from {from} is refused: {why}");
                        self.count.numbers.refused += 1;
                    }
                }
            }
            self.ready |= left == 0;
        }
        told
    }
}

impl Gate {
    /// What a datagram says that is to be believed, and what that says of those before it; else why it is not.
    fn pass<'a>(
        &mut self,
        way: Way,
        datagram: &'a [u8],
        count: &mut Count,
    ) -> Result<(&'a [u8], Before), String> {
        if !self.peers.is_empty() && !self.peers.contains(&way.from) {
            return Err("it is none of `peers`".to_owned());
        }
        let Some(key) = &self.key else {
            return Ok((datagram, Before::default()));
        };
        let now = since_1970();
        let opened = key.open(way, datagram).and_then(|(datagram, mark)| {
            let before = self.marks.note(way, mark, now)?;
            count.mark(mark.stamp, now, before);
            Ok((datagram, before))
        });
        opened.map_err(|why| why.to_string())
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
