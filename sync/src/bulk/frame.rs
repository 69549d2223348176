//! What is said behind the greetings, in either direction:
//!
//! ```text
//! bytes that follow, 2 | kind, 1 | age in milliseconds, 4 | body | HMAC-SHA256, 32
//! ```
//!
//! The code is over the direction, the frame's number in it, and all that is before the code.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use uvs_core::narrow;

use super::{Ends, Nonce, Refused};
use crate::bytes::Bytes;
use crate::seal::{Key, MAC, octets};

/// What the shared key is used for here.
const USE: &[u8] = b"uvs-sync bulk 1";
const SIZE: usize = 2;
const HEAD: usize = 1 + 4;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// All is asked for. The body is a syncid.
    Ask = 1,
    /// The body is a datagram of the synchronisation, version 1.
    Datagram = 2,
    /// All was told. No body.
    End = 3,
}

impl Kind {
    fn of(number: u8) -> Option<Self> {
        let all = [Self::Ask, Self::Datagram, Self::End];
        all.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Who has said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    Asking = 1,
    Asked = 2,
}

/// One direction: what makes the codes of its frames, in their turn.
struct Direction {
    key: Hmac<Sha256>,
    number: u64,
}

impl Direction {
    /// Of a conversation with these ends and nonces, of who asks and of who is asked.
    fn new(key: &Key, ends: Ends, nonces: [Nonce; 2], speaker: Speaker) -> Self {
        let (asking, asked) = (octets(ends.asking), octets(ends.asked));
        let port = ends.port.to_be_bytes();
        let of_conversation = key.over(&[
            USE,
            &asking,
            &asked,
            &port,
            &nonces[0],
            &nonces[1],
            &[speaker as u8],
        ]);
        let secret: [u8; MAC] = of_conversation.finalize().into_bytes().into();
        let mut padded = hmac::digest::Key::<Hmac<Sha256>>::default();
        padded[..MAC].copy_from_slice(&secret);
        Self {
            key: hmac::digest::KeyInit::new(&padded),
            number: 0,
        }
    }

    fn code_over(&mut self, said: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        mac.update(&self.number.to_be_bytes());
        mac.update(said);
        self.number += 1;
        mac
    }
}

/// Makes the frames of one end.
pub(super) struct Speaking(Direction);

impl Speaking {
    pub(super) fn new(key: &Key, ends: Ends, nonces: [Nonce; 2], speaker: Speaker) -> Self {
        Self(Direction::new(key, ends, nonces, speaker))
    }

    /// The next frame.
    pub(super) fn say(&mut self, kind: Kind, age_ms: u32, body: &[u8]) -> Vec<u8> {
        let size = narrow::to_u16(HEAD + body.len() + MAC);
        let mut frame = size.to_be_bytes().to_vec();
        frame.push(kind as u8);
        frame.extend(age_ms.to_be_bytes());
        frame.extend(body);
        let code = self.0.code_over(&frame).finalize().into_bytes();
        frame.extend(code);
        frame
    }
}

/// A frame whose code was right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) age_ms: u32,
    pub(super) body: Vec<u8>,
}

/// Takes the other end's frames from its bytes.
pub(super) struct Hearing {
    direction: Direction,
    /// The longest body that there is, bytes.
    longest: u16,
}

impl Hearing {
    pub(super) fn new(
        key: &Key,
        ends: Ends,
        nonces: [Nonce; 2],
        (speaker, longest): (Speaker, u16),
    ) -> Self {
        Self {
            direction: Direction::new(key, ends, nonces, speaker),
            longest,
        }
    }

    /// The next frame, once the bytes begin with a whole one, which is then taken from them.
    pub(super) fn take(&mut self, bytes: &mut Vec<u8>) -> Result<Option<Frame>, Refused> {
        let Some(size) = Bytes(bytes).u16().map(usize::from) else {
            return Ok(None);
        };
        if size > HEAD + usize::from(self.longest) + MAC {
            return Err(Refused::Oversized);
        }
        if size < HEAD + MAC {
            return Err(Refused::Unexpected);
        }
        let Some(frame) = bytes.get(..SIZE + size) else {
            return Ok(None);
        };
        let (said, code) = frame.split_at(SIZE + size - MAC);
        let over = self.direction.code_over(said);
        over.verify_slice(code).map_err(|_| Refused::Key)?;
        let mut b = Bytes(&said[SIZE..]);
        let mut head = || Some((Kind::of(b.u8()?)?, b.u32()?));
        let (kind, age_ms) = head().ok_or(Refused::Unexpected)?;
        let body = b.0.to_vec();
        bytes.drain(..SIZE + size);
        Ok(Some(Frame { kind, age_ms, body }))
    }
}
