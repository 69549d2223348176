//! Asks other directors for all that they have (`uvs_sync::bulk`): each when the backup starts, or when it is first heard,
//! and again when it has begun anew or datagrams of its did not come.
//!
//! One after the other, and of each one datagram in a turn: 255 messages at most, which a worker takes up between two
//! batches, in about 0.3 ms.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use mio::{Interest, Registry, Token};
use uvs_control::protocol::SyncDaemon;
use uvs_core::counters::BulkResult;
use uvs_core::peer::TakenUp;
use uvs_core::time::Instant;
use uvs_sync::bulk::{Asking, Ends, Heard};
use uvs_sync::seal::{Before, Key};

use super::ended::Ended;
use super::{Count, socket};
use crate::random;

/// How long another director may say nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after a failure it is asked again, and after the first one, which may be that of a director that just begins.
const RETRY: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// How soon it is asked again after all was told, however much was missed since.
const AGAIN: Duration = Duration::from_secs(60);
/// Directors that are asked at most, where they were not named: as many as may be named.
const OTHERS: usize = 16;
/// Bytes read at once.
const CHUNK: usize = 16 << 10;

/// Asks, and hears what it is told.
pub(super) struct Asker {
    interface: String,
    key: Key,
    syncid: u8,
    port: u16,
    others: Vec<Other>,
    talk: Option<Talk>,
}

/// Another director.
struct Other {
    address: IpAddr,
    /// When it is to be asked, `None` while there is no need.
    due: Option<Instant>,
    /// When it was asked last.
    asked: Instant,
    /// What the log says of its last failure.
    failure: Option<Ended>,
}

/// A conversation with one of them.
struct Talk {
    with: IpAddr,
    stream: TcpStream,
    /// Once there is a connection.
    asking: Option<Asking>,
    /// What is said and has not left.
    out: Vec<u8>,
    until: Instant,
    /// There may be more to read than was read.
    more: bool,
    told: u64,
}

impl Asker {
    pub(super) fn new(daemon: &SyncDaemon, key: Key) -> Self {
        Self {
            interface: daemon.interface.clone(),
            key,
            syncid: daemon.syncid,
            port: daemon.port,
            others: daemon.peers.iter().copied().map(Other::new).collect(),
            talk: None,
        }
    }

    /// A datagram of another director has come, which says this of those before it.
    pub(super) fn heard(&mut self, now: Instant, from: IpAddr, before: Before) {
        let others = self.others.len();
        let known = self.others.iter_mut().find(|o| o.address == from);
        match known {
            Some(other) if before != Before::default() => {
                let again = now.max(other.asked + AGAIN);
                other.due = other.due.or(Some(again));
            }
            Some(_) => {}
            None if others < OTHERS => self.others.push(Other::new(from)),
            None => {}
        }
    }

    /// How long until [`Asker::turn`] has work, if nothing comes.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        match &self.talk {
            Some(talk) if talk.more => Some(Duration::ZERO),
            Some(talk) => Some(talk.until.since(now)),
            None => {
                let due = self.others.iter().filter_map(|other| other.due);
                due.min().map(|due| due.since(now))
            }
        }
    }

    /// Goes on with who is asked, or asks the next; what was told since, a bounded part of it.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        events: (&Registry, Token),
        count: &mut Count,
    ) -> Vec<TakenUp> {
        let mut told = Vec::new();
        if self.talk.is_none() {
            self.begin(now, events, count);
        }
        let Some(mut talk) = self.talk.take() else {
            return told;
        };
        let ends = (self.port, self.syncid);
        let outcome = talk.turn(now, &self.key, ends, &mut told);
        count.numbers.bulk_messages += told.len() as u64;
        talk.told += told.len() as u64;
        match outcome {
            Ok(false) => self.talk = Some(talk),
            Ok(true) => {
                tracing::info!("{} was asked for all, and told of {}", talk.with, talk.told);
                self.end(now, talk.with, None, count);
            }
            Err(ended) => self.end(now, talk.with, Some(ended), count),
        }
        told
    }

    /// Begins to speak with one whose turn it is.
    fn begin(&mut self, now: Instant, events: (&Registry, Token), count: &mut Count) {
        let is_due = |other: &&mut Other| other.due.is_some_and(|due| due <= now);
        let Some(other) = self.others.iter_mut().find(is_due) else {
            return;
        };
        (other.due, other.asked) = (None, now);
        let with = other.address;
        let to = SocketAddr::new(with, self.port);
        let begun = socket::connect(&self.interface, to).and_then(|stream| {
            let both = Interest::READABLE | Interest::WRITABLE;
            socket::watch(events, &stream, both)?;
            Ok(stream)
        });
        match begun {
            Ok(stream) => {
                self.talk = Some(Talk {
                    with,
                    stream,
                    asking: None,
                    out: Vec::new(),
                    until: now + PATIENCE,
                    more: true,
                    told: 0,
                });
            }
            Err(e) => {
                let ended = Ended::new(BulkResult::Unreachable, e.to_string());
                self.end(now, with, Some(ended), count);
            }
        }
    }

    fn end(&mut self, now: Instant, with: IpAddr, failure: Option<Ended>, count: &mut Count) {
        let result = failure.as_ref().map(|ended| ended.result);
        count.bulk(result.unwrap_or(BulkResult::Complete));
        let Some(other) = self.others.iter_mut().find(|o| o.address == with) else {
            return;
        };
        if let Some(ended) = &failure {
            let is_first = other.failure.is_none();
            other.due = Some(now + if is_first { FIRST_RETRY } else { RETRY });
            // Once for each reason, however long it lasts.
            if other.failure != failure {
                tracing::warn!(
                    "{with} is asked for all it has, and does not tell: {ended}; it is asked again soon, and then every {} s",
                    RETRY.as_secs()
                );
            }
        }
        other.failure = failure;
    }
}

impl Other {
    const fn new(address: IpAddr) -> Self {
        Self {
            address,
            due: Some(Instant::ZERO),
            asked: Instant::ZERO,
            failure: None,
        }
    }
}

impl Talk {
    /// Whether all was told. What was told is believed, whatever comes behind it.
    fn turn(
        &mut self,
        now: Instant,
        key: &Key,
        (port, syncid): (u16, u8),
        told: &mut Vec<TakenUp>,
    ) -> Result<bool, Ended> {
        if self.asking.is_none() {
            self.greet(now, key, (port, syncid))?;
        }
        socket::flush(&mut self.stream, &mut self.out)?;
        let all = self.hear(now, syncid, told)?;
        socket::flush(&mut self.stream, &mut self.out)?;
        if !all && now > self.until {
            let why = format!("it has said nothing for {} s", PATIENCE.as_secs());
            return Err(Ended::new(BulkResult::Slow, why));
        }
        Ok(all)
    }

    /// Says the first word, once the connection is there.
    fn greet(&mut self, now: Instant, key: &Key, (port, syncid): (u16, u8)) -> Result<(), Ended> {
        let unreachable = |e: std::io::Error| Ended::new(BulkResult::Unreachable, e.to_string());
        if let Some(e) = self.stream.take_error()? {
            return Err(unreachable(e));
        }
        let asked = match self.stream.peer_addr() {
            Err(e) if e.kind() == ErrorKind::NotConnected => return Ok(()),
            address => address.map_err(unreachable)?.ip(),
        };
        let asking = self.stream.local_addr()?.ip();
        let ends = Ends {
            asking,
            asked,
            port,
        };
        let (asking, greeting) = Asking::new(now, key.clone(), ends, (syncid, random::bytes()?));
        self.asking = Some(asking);
        self.out = greeting;
        Ok(())
    }

    /// Reads a part, and says whether that was the last.
    fn hear(&mut self, now: Instant, syncid: u8, told: &mut Vec<TakenUp>) -> Result<bool, Ended> {
        self.more = false;
        let Some(asking) = &mut self.asking else {
            return Ok(false);
        };
        let mut bytes = [0; CHUNK];
        loop {
            while let Some(heard) = asking.next(now)? {
                self.until = now + PATIENCE;
                match heard {
                    Heard::Say(bytes) => self.out.extend(bytes),
                    Heard::Datagram(datagram, late) => {
                        self.more = true;
                        *told = taken_up(&datagram, syncid, late)?;
                        return Ok(false);
                    }
                    Heard::End => return Ok(true),
                }
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(len) => asking.put(&bytes[..len]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// What a datagram says that was on its way for so long: its connections are as much older.
fn taken_up(datagram: &[u8], syncid: u8, late: Duration) -> Result<Vec<TakenUp>, Ended> {
    let senseless = |why: uvs_sync::Refused| Ended::new(BulkResult::Frame, why.to_string());
    let messages = uvs_sync::read(datagram, syncid).map_err(senseless)?;
    let older = messages.map(|message| {
        let taken_up = message.map_err(senseless)?.taken_up();
        Ok(TakenUp {
            idle: Some(taken_up.idle.unwrap_or_default() + late),
            ..taken_up
        })
    });
    older.collect()
}
