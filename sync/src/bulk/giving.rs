//! The end that is asked.

use uvs_core::time::Instant;

use super::frame::{Frame, Hearing, Kind, Speaker, Speaking};
use super::{Ends, Nonce, Refused, greeting, take_greeting};
use crate::seal::Key;

/// The longest body of what is asked, bytes: a syncid.
const QUESTION: u16 = 1;

/// A director that is asked for all.
pub struct Giving {
    key: Key,
    ends: Ends,
    syncid: u8,
    nonce: Nonce,
    /// What has come and is not taken yet.
    bytes: Vec<u8>,
    /// Since both have greeted.
    begun: Option<Begun>,
    asked: bool,
}

struct Begun {
    hearing: Hearing,
    speaking: Speaking,
    since: Instant,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Say this.
    Say(Vec<u8>),
    /// Tell all: by [`Giving::datagram`], and [`Giving::end`] at last.
    All,
}

impl Giving {
    /// One end of a conversation, of a director with this syncid. `nonce` must be random.
    pub const fn new(key: Key, ends: Ends, syncid: u8, nonce: Nonce) -> Self {
        Self {
            key,
            ends,
            syncid,
            nonce,
            bytes: Vec::new(),
            begun: None,
            asked: false,
        }
    }

    /// Takes what has come, some of a stream: to be followed by [`Giving::next`] until there is nothing more in it.
    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// What there is in what has come.
    ///
    /// # Errors
    /// The conversation is over, and the other end is to be told nothing.
    pub fn next(&mut self, now: Instant) -> Result<Option<Asked>, Refused> {
        let Some(begun) = &mut self.begun else {
            return self.greeted(now);
        };
        if self.asked && !self.bytes.is_empty() {
            return Err(Refused::Unexpected);
        }
        match begun.hearing.take(&mut self.bytes)? {
            None => Ok(None),
            Some(Frame {
                kind: Kind::Ask,
                body,
                ..
            }) if body.len() == 1 => {
                if body[0] != 0 && body[0] != self.syncid {
                    return Err(Refused::SyncId(body[0]));
                }
                self.asked = true;
                Ok(Some(Asked::All))
            }
            Some(_) => Err(Refused::Unexpected),
        }
    }

    fn greeted(&mut self, now: Instant) -> Result<Option<Asked>, Refused> {
        let Some(theirs) = take_greeting(&mut self.bytes)? else {
            return Ok(None);
        };
        let nonces = [theirs, self.nonce];
        let asked = (Speaker::Asking, QUESTION);
        self.begun = Some(Begun {
            hearing: Hearing::new(&self.key, self.ends, nonces, asked),
            speaking: Speaking::new(&self.key, self.ends, nonces, Speaker::Asked),
            since: now,
        });
        Ok(Some(Asked::Say(greeting(self.nonce))))
    }

    /// What is said to tell of a datagram's connections, as they are now. It has at most [`LONGEST`](super::LONGEST)
    /// bytes.
    pub fn datagram(&mut self, now: Instant, datagram: &[u8]) -> Vec<u8> {
        self.say(now, Kind::Datagram, datagram)
    }

    /// What is said when all was told.
    pub fn end(&mut self, now: Instant) -> Vec<u8> {
        self.say(now, Kind::End, &[])
    }

    /// Nothing to who has not asked.
    fn say(&mut self, now: Instant, kind: Kind, body: &[u8]) -> Vec<u8> {
        let begun = self.begun.as_mut().filter(|_| self.asked);
        begun.map_or_else(Vec::new, |begun| {
            let age = now.since(begun.since).as_millis();
            let age = u32::try_from(age).unwrap_or(u32::MAX);
            begun.speaking.say(kind, age, body)
        })
    }
}
