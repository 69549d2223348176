//! Which addresses are this host's, asked of the routing table and remembered for a moment: a router must
//! not open the tunnels that only pass through it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

/// Destinations remembered as this host's or not, and for how long.
const KNOWN_LIMIT: usize = 256;
const KNOWN_FOR: Duration = Duration::from_secs(5);

/// The answers so far.
#[derive(Default)]
pub(super) struct OwnAddresses(HashMap<IpAddr, (bool, Instant)>);

impl OwnAddresses {
    /// Whether `addr` is one.
    pub(super) fn contains(&mut self, addr: IpAddr, now: Instant) -> bool {
        if let Some(&(own, until)) = self.0.get(&addr)
            && now < until
        {
            return own;
        }
        if self.0.len() >= KNOWN_LIMIT {
            self.0.clear();
        }
        let own = is_own(addr).unwrap_or(false);
        self.0.insert(addr, (own, now + KNOWN_FOR));
        own
    }
}

/// Connecting a datagram socket sends nothing and chooses a source: to an own address, that address itself.
fn is_own(addr: IpAddr) -> io::Result<bool> {
    const ANY_PORT: u16 = 9;
    let any: IpAddr = match addr {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((addr, ANY_PORT))?;
    Ok(socket.local_addr()?.ip() == addr)
}
