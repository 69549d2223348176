//! A seal under each datagram, by which directors that share a key know each other: kernels have none, so that it is
//! for UVS's among themselves.
//!
//! ```text
//! datagram | stamp, 8 bytes | HMAC-SHA256 of all that is below, 32 bytes
//! ```
//!
//! Sealed are a word for this use of the key, the sender's address, the port that it speaks to, the datagram and the
//! stamp. The stamp is the sender's clock, and greater than all before on its way: what is old or was taken already is
//! refused, also by a director that has just begun.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// What else is made with the same key is no seal.
const USE: &[u8] = b"uvs-sync seal 1";
const STAMP: usize = 8;
const MAC: usize = 32;
/// Bytes that a seal adds to a datagram.
pub const SEAL: usize = STAMP + MAC;
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

    /// Puts a seal under a datagram; `stamp` is the time since 1970.
    pub fn seal(&self, way: Way, stamp: Duration, datagram: &mut Vec<u8>) {
        datagram.extend(micros(stamp).to_be_bytes());
        let mac = self.over(way, datagram).finalize().into_bytes();
        datagram.extend(mac);
    }

    /// The datagram above a seal, and its stamp.
    ///
    /// # Errors
    /// There is no seal, or another's.
    pub fn open<'a>(&self, way: Way, sealed: &'a [u8]) -> Result<(&'a [u8], Duration), Unsealed> {
        let (stamped, mac) = sealed.split_last_chunk::<MAC>().ok_or(Unsealed::None)?;
        let (datagram, stamp) = stamped.split_last_chunk::<STAMP>().ok_or(Unsealed::None)?;
        let over = self.over(way, stamped);
        over.verify_slice(mac).map_err(|_| Unsealed::Key)?;
        Ok((datagram, Duration::from_micros(u64::from_be_bytes(*stamp))))
    }

    fn over(&self, way: Way, stamped: &[u8]) -> Hmac<Sha256> {
        let from: Ipv6Addr = match way.from {
            IpAddr::V4(addr) => addr.to_ipv6_mapped(),
            IpAddr::V6(addr) => addr,
        };
        let mut mac = self.0.clone();
        for part in [USE, &from.octets(), &way.port.to_be_bytes(), stamped] {
            mac.update(part);
        }
        mac
    }
}

impl std::fmt::Debug for Key {
    /// Says nothing of the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// The last stamp of each way: of as many as there are other directors, a handful.
#[derive(Debug, Default)]
pub struct Stamps(Vec<(Way, Duration)>);

impl Stamps {
    /// Takes note of a stamp whose seal was right. `now` is the time since 1970.
    ///
    /// # Errors
    /// [`Unsealed::Stamp`]; nothing is noted.
    pub fn note(&mut self, way: Way, stamp: Duration, now: Duration) -> Result<(), Unsealed> {
        if stamp.abs_diff(now) > TOLERANCE {
            return Err(Unsealed::Stamp);
        }
        match self.0.iter_mut().find(|(known, _)| *known == way) {
            Some((_, last)) if *last < stamp => *last = stamp,
            Some(_) => return Err(Unsealed::Stamp),
            None => self.0.push((way, stamp)),
        }
        Ok(())
    }
}

/// A sender's clock, which never says the same twice nor goes back.
#[derive(Debug, Default)]
pub struct Clock(Duration);

impl Clock {
    /// The next stamp, at or after `now`, the time since 1970.
    pub fn next(&mut self, now: Duration) -> Duration {
        self.0 = now.max(self.0 + Duration::from_micros(1));
        self.0
    }
}

fn micros(stamp: Duration) -> u64 {
    u64::try_from(stamp.as_micros()).unwrap_or(u64::MAX)
}
