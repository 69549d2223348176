//! The end that asks.

use std::time::Duration;

use uvs_core::time::Instant;

use super::frame::{Frame, Hearing, Kind, Speaker, Speaking};
use super::{Ends, LATE, LONGEST, Nonce, Refused, greeting, take_greeting};
use crate::seal::Key;

/// A director that asks for all.
pub struct Asking {
    key: Key,
    ends: Ends,
    syncid: u8,
    nonce: Nonce,
    /// What has come and is not taken yet.
    bytes: Vec<u8>,
    /// When it has greeted: not later than the other end, whose frames count their age from its own greeting on.
    since: Instant,
    /// Since the other end's greeting.
    hearing: Option<Hearing>,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Say this.
    Say(Vec<u8>),
    /// Take up what this datagram says, which was on its way for so long.
    Datagram(Vec<u8>, Duration),
    /// End: all was told.
    End,
}

impl Asking {
    /// One end of a conversation that begins now, and what it says first. `nonce` must be random; directors with `syncid` are asked, 0
    /// for all.
    pub fn new(
        now: Instant,
        key: Key,
        ends: Ends,
        (syncid, nonce): (u8, Nonce),
    ) -> (Self, Vec<u8>) {
        let asking = Self {
            key,
            ends,
            syncid,
            nonce,
            bytes: Vec::new(),
            since: now,
            hearing: None,
        };
        (asking, greeting(nonce))
    }

    /// Takes what has come, some of a stream: to be followed by [`Asking::next`] until there is nothing more in it.
    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// What there is in what has come.
    ///
    /// # Errors
    /// The conversation is over, and nothing more of it is to be believed.
    pub fn next(&mut self, now: Instant) -> Result<Option<Heard>, Refused> {
        let Some(hearing) = &mut self.hearing else {
            return self.greeted();
        };
        let Some(frame) = hearing.take(&mut self.bytes)? else {
            return Ok(None);
        };
        let age = Duration::from_millis(frame.age_ms.into());
        let late = now.since(self.since).saturating_sub(age);
        if late > LATE {
            return Err(Refused::Late(late));
        }
        match frame {
            Frame {
                kind: Kind::Datagram,
                body,
                ..
            } => Ok(Some(Heard::Datagram(body, late))),
            Frame {
                kind: Kind::End,
                body,
                ..
            } if body.is_empty() => Ok(Some(Heard::End)),
            Frame { .. } => Err(Refused::Unexpected),
        }
    }

    fn greeted(&mut self) -> Result<Option<Heard>, Refused> {
        let Some(theirs) = take_greeting(&mut self.bytes)? else {
            return Ok(None);
        };
        let nonces = [self.nonce, theirs];
        let told = (Speaker::Asked, LONGEST);
        self.hearing = Some(Hearing::new(&self.key, self.ends, nonces, told));
        let mut speaking = Speaking::new(&self.key, self.ends, nonces, Speaker::Asking);
        let ask = speaking.say(Kind::Ask, 0, &[self.syncid]);
        Ok(Some(Heard::Say(ask)))
    }
}
