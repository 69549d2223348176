//! A seal under each datagram, by which directors that share a key know each other: kernels have none, so that it is
//! for UVS's among themselves.
//!
//! ```text
//! datagram | stamp, 8 bytes | number, 4 bytes | HMAC-SHA256 of all that is below, 32 bytes
//! ```
//!
//! Sealed are a word for this use of the key, the sender's address, the port that it speaks to, the datagram, the
//! stamp and the number. The stamp is the sender's clock, and greater than all before on its way: what is old or was
//! taken already is refused, also by a director that has just begun. The number counts a way's datagrams from 0, by
//! which a receiver knows of those that did not come.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// What else is made with the same key is no seal.
const USE: &[u8] = b"uvs-sync seal 1";
const STAMP: usize = 8;
const NUMBER: usize = 4;
pub(crate) const MAC: usize = 32;
/// Bytes that a seal adds to a datagram.
pub const SEAL: usize = STAMP + NUMBER + MAC;
/// The shortest secret, bytes: what `openssl rand -hex 16` writes has 32.
pub const MIN_SECRET: usize = 16;
/// How far the clocks of two directors may be apart, a datagram's way included.
pub const TOLERANCE: Duration = Duration::from_secs(30);

/// A way that datagrams go: who sends them, and to which of a daemon's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The sender's address, as the receiver sees it.
    pub from: IpAddr,
    /// UDP port, host byte order.
    pub port: u16,
}

/// What directors share.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

/// What a seal says of its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The sender's clock, the time since 1970.
    pub stamp: Duration,
    /// Which of the way's datagrams it is, modulo 2^32.
    pub number: u32,
}

/// What a datagram's mark says of those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// So many did not come, or not in their turn.
    pub missed: u32,
    /// The sender has begun anew since the last that came.
    pub restarted: bool,
}

/// Why a datagram is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsealed {
    /// It is too short to have a seal.
    #[error("it has no seal: does the other director have the key?")]
    None,
    /// The seal is another key's, or of something else.
    #[error("its seal is not of this key")]
    Key,
    /// Its stamp is too far from the clock here, or in the past of its way.
    #[error("it is old, or was sent twice: are both directors' clocks right?")]
    Stamp,
}

impl Key {
    /// The key of a secret; `None` where that has less than [`MIN_SECRET`] bytes.
    pub fn new(secret: &[u8]) -> Option<Self> {
        let keyed = Hmac::new_from_slice(secret).ok();
        keyed.filter(|_| secret.len() >= MIN_SECRET).map(Self)
    }

    /// Puts a seal under a datagram.
    pub fn seal(&self, way: Way, mark: Mark, datagram: &mut Vec<u8>) {
        datagram.extend(micros(mark.stamp).to_be_bytes());
        datagram.extend(mark.number.to_be_bytes());
        let mac = self.over_datagram(way, datagram).finalize().into_bytes();
        datagram.extend(mac);
    }

    /// The datagram above a seal, and what that says of it.
    ///
    /// # Errors
    /// There is no seal, or another's.
    pub fn open<'a>(&self, way: Way, sealed: &'a [u8]) -> Result<(&'a [u8], Mark), Unsealed> {
        let (marked, mac) = sealed.split_last_chunk::<MAC>().ok_or(Unsealed::None)?;
        let (stamped, number) = marked.split_last_chunk::<NUMBER>().ok_or(Unsealed::None)?;
        let (datagram, stamp) = stamped.split_last_chunk::<STAMP>().ok_or(Unsealed::None)?;
        let over = self.over_datagram(way, marked);
        over.verify_slice(mac).map_err(|_| Unsealed::Key)?;
        let mark = Mark {
            stamp: Duration::from_micros(u64::from_be_bytes(*stamp)),
            number: u32::from_be_bytes(*number),
        };
        Ok((datagram, mark))
    }

    fn over_datagram(&self, way: Way, marked: &[u8]) -> Hmac<Sha256> {
        self.over(&[USE, &octets(way.from), &way.port.to_be_bytes(), marked])
    }

    /// The code, still open, over these parts one behind the other.
    pub(crate) fn over(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac
    }
}

/// An address of either family as it is sealed.
pub(crate) const fn octets(addr: IpAddr) -> [u8; 16] {
    let addr: Ipv6Addr = match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    };
    addr.octets()
}

impl std::fmt::Debug for Key {
    /// Says nothing of the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// The last mark of each way: of as many as there are other directors, a handful.
#[derive(Debug, Default)]
pub struct Marks(Vec<(Way, Mark)>);

impl Marks {
    /// Takes note of a mark whose seal was right, and says what is known of the datagrams before. `now` is the time
    /// since 1970.
    ///
    /// # Errors
    /// [`Unsealed::Stamp`]; nothing is noted.
    pub fn note(&mut self, way: Way, mark: Mark, now: Duration) -> Result<Before, Unsealed> {
        if mark.stamp.abs_diff(now) > TOLERANCE {
            return Err(Unsealed::Stamp);
        }
        let Some((_, last)) = self.0.iter_mut().find(|(known, _)| *known == way) else {
            self.0.push((way, mark));
            return Ok(Before::default());
        };
        if last.stamp >= mark.stamp {
            return Err(Unsealed::Stamp);
        }
        let restarted = mark.number <= last.number;
        let before = if restarted { 0 } else { last.number + 1 };
        *last = mark;
        Ok(Before {
            missed: mark.number - before,
            restarted,
        })
    }
}

/// A sender's clock, which never says the same twice nor goes back, and its count of datagrams.
#[derive(Debug, Default)]
pub struct Clock {
    last: Duration,
    number: u32,
}

impl Clock {
    /// The mark of the next datagram, at or after `now`, the time since 1970.
    pub fn next(&mut self, now: Duration) -> Mark {
        self.last = now.max(self.last + Duration::from_micros(1));
        let number = self.number;
        self.number = number.wrapping_add(1);
        Mark {
            stamp: self.last,
            number,
        }
    }
}

fn micros(stamp: Duration) -> u64 {
    u64::try_from(stamp.as_micros()).unwrap_or(u64::MAX)
}
