//! Tells directors that ask for it all that the engines have (`uvs_sync::bulk`).
//!
//! The control thread carries it, and nothing waits for a socket. A part of the table is copied when the part before it
//! has left, one in a turn for all who ask: so the workers pause for one part at a time, and no more than a part of each
//! is kept in memory. Who takes nothing for too long is told no more.

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

use mio::{Interest, Registry, Token};
use uvs_control::protocol::SyncDaemon;
use uvs_core::counters::BulkResult;
use uvs_core::peer::Told;
use uvs_core::time::Instant;
use uvs_sync::bulk::{Asked, Ends, Giving, LONGEST};
use uvs_sync::seal::Key;
use uvs_sync::{Message, Version, Writer};

use super::ended::Ended;
use super::{Count, socket};
use crate::random;
use crate::workers::Cursor;

/// How many are told at once.
const CLIENTS: usize = 4;
/// Connections accepted in a turn.
const ACCEPTED: usize = 16;
/// How long one may take to ask, and to take a part.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes read at once: more than there are to be asked with.
const QUESTION: usize = 128;

/// Part of what there is to tell, and where to go on.
type Part = (Vec<Told>, Option<Cursor>);

/// Waits for who asks, and tells.
pub(super) struct Giver {
    listener: TcpListener,
    key: Key,
    /// Only they may ask; empty for everybody.
    peers: Vec<IpAddr>,
    syncid: u8,
    port: u16,
    /// In the order in which they get their next part.
    clients: Vec<Client>,
}

/// Another director that asks.
struct Client {
    from: IpAddr,
    stream: TcpStream,
    giving: Giving,
    stage: Stage,
    /// What is said and has not left.
    out: Vec<u8>,
    until: Instant,
    told: u64,
}

#[derive(Clone, Copy)]
enum Stage {
    /// It has not asked yet.
    Greeting,
    /// It is told, from here on.
    Telling(Cursor),
    /// It was told all.
    Told,
}

impl Giver {
    pub(super) fn start(
        daemon: &SyncDaemon,
        key: Key,
        events: (&Registry, Token),
    ) -> io::Result<Self> {
        let listener = socket::listener(daemon)?;
        socket::watch(events, &listener, Interest::READABLE)?;
        Ok(Self {
            listener,
            key,
            peers: daemon.peers.clone(),
            syncid: daemon.syncid,
            port: daemon.port,
            clients: Vec::new(),
        })
    }

    /// How long until [`Giver::turn`] has work, if nothing comes.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let clients = self.clients.iter();
        let left = clients.map(|client| match client.wants_part() {
            true => Duration::ZERO,
            false => client.until.since(now),
        });
        left.min()
    }

    /// Goes on with all who ask; `part` copies what there is to tell from a place on, for one of them.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        events: (&Registry, Token),
        part: impl FnOnce(Cursor) -> Option<Part>,
        count: &mut Count,
    ) {
        self.accept(now, events, count);
        let mut part = Some(part);
        let (mut kept, mut served) = (0, None);
        let mut clients = std::mem::take(&mut self.clients);
        clients.retain_mut(|client| {
            let was_left = part.is_some();
            let outcome = client.turn(now, self.syncid, &mut part, count);
            let is_kept = client.is_kept(outcome, count);
            if is_kept && was_left && part.is_none() {
                served = Some(kept);
            }
            kept += usize::from(is_kept);
            is_kept
        });
        // Whoever had its part waits for the others'.
        if let Some(served) = served {
            clients[served..].rotate_left(1);
        }
        self.clients = clients;
    }

    fn accept(&mut self, now: Instant, events: (&Registry, Token), count: &mut Count) {
        for _ in 0..ACCEPTED {
            let Ok((stream, from)) = self.listener.accept() else {
                return;
            };
            let from = from.ip();
            let begun = self.begin(now, stream, from).and_then(|client| {
                let both = Interest::READABLE | Interest::WRITABLE;
                socket::watch(events, &client.stream, both)?;
                Ok(client)
            });
            match begun {
                Ok(client) => self.clients.push(client),
                Err(ended) => refuse(from, &ended, count),
            }
        }
    }

    fn begin(&self, now: Instant, stream: TcpStream, from: IpAddr) -> Result<Client, Ended> {
        if !self.peers.is_empty() && !self.peers.contains(&from) {
            let why = "it is none of `peers`".to_owned();
            return Err(Ended::new(BulkResult::Stranger, why));
        }
        if self.clients.len() >= CLIENTS {
            let why = format!("{CLIENTS} others are being told");
            return Err(Ended::new(BulkResult::Busy, why));
        }
        stream.set_nonblocking(true)?;
        let ends = Ends {
            asking: from,
            asked: stream.local_addr()?.ip(),
            port: self.port,
        };
        Ok(Client {
            from,
            stream,
            giving: Giving::new(self.key.clone(), ends, self.syncid, random::bytes()?),
            stage: Stage::Greeting,
            out: Vec::new(),
            until: now + PATIENCE,
            told: 0,
        })
    }
}

impl Client {
    fn wants_part(&self) -> bool {
        matches!(self.stage, Stage::Telling(_)) && self.out.is_empty()
    }

    /// Whether it is over, and all well.
    fn turn(
        &mut self,
        now: Instant,
        syncid: u8,
        part: &mut Option<impl FnOnce(Cursor) -> Option<Part>>,
        count: &mut Count,
    ) -> Result<bool, Ended> {
        self.read(now)?;
        if self.wants_part()
            && let Stage::Telling(from) = self.stage
            && let Some(part) = part.take()
        {
            let part = part(from)
                .ok_or_else(|| Ended::new(BulkResult::Closed, "a worker is stuck".to_owned()))?;
            self.say_part(now, syncid, part, count);
        }
        self.write(now)?;
        if matches!(self.stage, Stage::Told) && self.out.is_empty() {
            return Ok(true);
        }
        if now > self.until {
            let why = format!(
                "it took nothing, or said nothing, for {} s",
                PATIENCE.as_secs()
            );
            return Err(Ended::new(BulkResult::Slow, why));
        }
        Ok(false)
    }

    fn read(&mut self, now: Instant) -> Result<(), Ended> {
        let mut bytes = [0; QUESTION];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(len) => self.giving.put(&bytes[..len]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e.into()),
            }
            while let Some(asked) = self.giving.next(now)? {
                match asked {
                    Asked::Say(bytes) => self.out.extend(bytes),
                    Asked::All => {
                        self.stage = Stage::Telling(Cursor::default());
                        self.until = now + PATIENCE;
                    }
                }
            }
        }
    }

    fn say_part(&mut self, now: Instant, syncid: u8, (told, rest): Part, count: &mut Count) {
        let mut writer = Writer::new(syncid, LONGEST);
        for told in &told {
            let Some(message) = Message::of(told) else {
                count.numbers.lost += 1;
                continue;
            };
            if let Some(full) = writer.add(now, Version::V1, &message) {
                self.out.extend(self.giving.datagram(now, &full));
            }
            self.told += 1;
            count.numbers.bulk_messages += 1;
        }
        if let Some(last) = writer.finish() {
            self.out.extend(self.giving.datagram(now, &last));
        }
        self.until = now + PATIENCE;
        self.stage = match rest {
            Some(next) => Stage::Telling(next),
            None => Stage::Told,
        };
        if rest.is_none() {
            self.out.extend(self.giving.end(now));
        }
    }

    fn write(&mut self, now: Instant) -> Result<(), Ended> {
        socket::flush(&mut self.stream, &mut self.out)?;
        if self.out.is_empty() && matches!(self.stage, Stage::Telling(_)) {
            self.until = now + PATIENCE;
        }
        Ok(())
    }

    fn is_kept(&self, outcome: Result<bool, Ended>, count: &mut Count) -> bool {
        match outcome {
            Ok(false) => return true,
            Ok(true) => {
                tracing::info!("{} asked for all, and was told of {}", self.from, self.told);
                count.bulk(BulkResult::Complete);
            }
            Err(ended) => refuse(self.from, &ended, count),
        }
        false
    }
}

fn refuse(from: IpAddr, ended: &Ended, count: &mut Count) {
    tracing::warn!("{from} asks for all, and is not told: {ended}");
    count.bulk(ended.result);
}
