//! FULLNAT's local ports: which (local address, port) a connection to a server may use.
//!
//! The key that must be unique is (protocol, local address, local port, server), so one port serves
//! every server at once. A bitmap per local address and server; ports are taken in turn, so that one
//! just given back is not used again while the server's TIME_WAIT may last.

use std::collections::HashMap;

use crate::flow::{Addr, Endpoint, Protocol};

/// The local ports.
#[derive(Clone, Debug)]
pub struct LocalPorts {
    first: u16,
    count: u32,
    maps: HashMap<(Addr, Endpoint, Protocol), Bitmap>,
}

#[derive(Clone, Debug)]
struct Bitmap {
    words: Vec<u64>,
    next: u32,
    used: u32,
}

impl LocalPorts {
    /// Ports `first` to `last`, both included.
    pub fn new(first: u16, last: u16) -> Self {
        Self {
            first,
            count: u32::from(last.saturating_sub(first)) + 1,
            maps: HashMap::new(),
        }
    }

    /// How many ports each local address has for each server.
    pub const fn capacity(&self) -> u32 {
        self.count
    }

    /// Whether `port` is one of them.
    pub fn contains(&self, port: u16) -> bool {
        port >= self.first && u32::from(port - self.first) < self.count
    }

    /// Ports of a local address in use towards a server.
    pub fn in_use(&self, local: Addr, server: Endpoint, protocol: Protocol) -> u32 {
        self.maps
            .get(&(local, server, protocol))
            .map_or(0, |m| m.used)
    }

    /// Takes a free port, `None` where all are in use.
    pub fn take(&mut self, local: Addr, server: Endpoint, protocol: Protocol) -> Option<u16> {
        let count = self.count;
        let map = self
            .maps
            .entry((local, server, protocol))
            .or_insert_with(|| Bitmap::new(count));
        map.take(count).map(|n| self.first + n as u16)
    }

    /// Gives a port back.
    pub fn give_back(&mut self, local: Endpoint, server: Endpoint, protocol: Protocol) {
        let key = (local.addr, server, protocol);
        let Some(map) = self.maps.get_mut(&key) else {
            return;
        };
        map.give_back(u32::from(local.port.wrapping_sub(self.first)));
    }
}

impl Bitmap {
    fn new(count: u32) -> Self {
        Self {
            words: vec![0; count.div_ceil(64) as usize],
            next: 0,
            used: 0,
        }
    }

    fn take(&mut self, count: u32) -> Option<u32> {
        if self.used >= count {
            return None;
        }
        let words = self.words.len();
        let start = self.next as usize / 64;
        // The first word is looked at twice: from `next` on, and at last from its beginning.
        for i in 0..=words {
            let w = (start + i) % words;
            let mut free = !self.words[w];
            if i == 0 {
                free &= u64::MAX << (self.next % 64);
            }
            let n = w as u32 * 64 + free.trailing_zeros();
            if free != 0 && n < count {
                self.words[w] |= 1 << (n % 64);
                self.used += 1;
                self.next = (n + 1) % count;
                return Some(n);
            }
        }
        None
    }

    fn give_back(&mut self, n: u32) {
        let Some(word) = self.words.get_mut(n as usize / 64) else {
            return;
        };
        if *word & 1 << (n % 64) != 0 {
            *word &= !(1 << (n % 64));
            self.used -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Addr = Addr::v4([10, 0, 0, 1]);
    const SERVER: Endpoint = Endpoint::new(Addr::v4([10, 0, 0, 2]), 80);

    #[test]
    fn every_port_is_given_once_and_then_none() {
        let mut p = LocalPorts::new(1000, 1099);
        let mut got: Vec<u16> = (0..100)
            .filter_map(|_| p.take(LOCAL, SERVER, Protocol::Tcp))
            .collect();
        assert_eq!(p.take(LOCAL, SERVER, Protocol::Tcp), None);
        assert_eq!(p.in_use(LOCAL, SERVER, Protocol::Tcp), 100);
        got.sort_unstable();
        got.dedup();
        assert_eq!((got.len(), got[0], got[99]), (100, 1000, 1099));
        p.give_back(Endpoint::new(LOCAL, 1042), SERVER, Protocol::Tcp);
        assert_eq!(p.take(LOCAL, SERVER, Protocol::Tcp), Some(1042));
    }

    #[test]
    fn a_port_given_back_comes_last() {
        let mut p = LocalPorts::new(1000, 1003);
        assert_eq!(p.take(LOCAL, SERVER, Protocol::Tcp), Some(1000));
        p.give_back(Endpoint::new(LOCAL, 1000), SERVER, Protocol::Tcp);
        let next: Vec<_> = (0..4)
            .filter_map(|_| p.take(LOCAL, SERVER, Protocol::Tcp))
            .collect();
        assert_eq!(next, [1001, 1002, 1003, 1000]);
    }

    #[test]
    fn servers_do_not_share() {
        let mut p = LocalPorts::new(1000, 1000);
        let other = Endpoint::new(SERVER.addr, 81);
        assert_eq!(p.take(LOCAL, SERVER, Protocol::Tcp), Some(1000));
        assert_eq!(p.take(LOCAL, other, Protocol::Tcp), Some(1000));
        assert_eq!(p.take(LOCAL, SERVER, Protocol::Udp), Some(1000));
        assert_eq!(p.take(LOCAL, SERVER, Protocol::Tcp), None);
    }
}
