//! What is ours without a connection, and how the maps come to say so.
//!
//! What is added is added first and what is taken away goes last, so that at every moment everything is ours that is so
//! before and after.

mod elements;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::marks::Destination;

use crate::error::HookError;
use crate::hook::{Hook, lock};
use crate::layout::{RANGES, addr, address, bytes, control, rule, words};
use crate::maps::Maps;
use elements::Elements;

/// What is ours without a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Services' addresses and ports, 0 = every port.
    pub to: Vec<(Protocol, Addr, u16)>,
    /// Services' networks and ranges of ports. A network spares the host's own addresses.
    pub wide: Vec<Destination>,
    /// Addresses whose FTP service has the data connections too: TCP ports 20 and from 1024 on.
    pub ftp: Vec<Addr>,
    /// Addresses that UVS owns: all to them is ours.
    pub owned: Vec<Addr>,
    /// The host's own addresses.
    pub local: Vec<Addr>,
    /// What comes too late for a FULLNAT connection.
    pub fullnat: FullNat,
    /// Servers, with port (0 = every one), whose packets of no connection are ours where they go beyond the host.
    pub strays: Vec<(Addr, Protocol, u16)>,
    /// Servers whose replies pass the director: a fragment of theirs that overtakes its datagram's first is ours.
    pub servers: Vec<Addr>,
    /// Where tunnels end: an ICMP error about a packet to one is ours.
    pub tunnels: Vec<TunnelEnd>,
}

/// FULLNAT's servers and local addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FullNat {
    /// The servers with their ports, 0 = every one.
    pub servers: Vec<(Addr, Protocol, u16)>,
    /// The local addresses.
    pub local: Vec<Addr>,
    /// First and last local port.
    pub ports: (u16, u16),
}

/// A tunnel's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TunnelEnd {
    /// The real server.
    pub addr: Addr,
    /// The outer header's protocol: 4 or 41 (IPIP), 47 (GRE), 17 (GUE).
    pub protocol: u8,
    /// GUE's port, else 0.
    pub port: u16,
}

/// A rule's key: the address, and in the third word port, protocol and kind. Its value is always 1.
type RuleKey = [u64; 3];
/// An address, whose value is what is known of it (`address::*`).
type AddressKey = [u64; 2];

/// What is in the maps.
#[derive(Default)]
pub(crate) struct InForce {
    /// From the daemon.
    wanted: Rules,
    /// From the engines, a bit each: ends of which everything is ours.
    whole: BTreeMap<(Protocol, Endpoint), u64>,
    rules: Elements<RuleKey, u64>,
    addresses: Elements<AddressKey, u64>,
    networks: Elements<Vec<u8>, Vec<u8>>,
}

impl InForce {
    /// What an earlier daemon left.
    pub(crate) fn read(maps: &Maps) -> Result<Self, HookError> {
        let unread = HookError::io("the rules of an earlier daemon");
        let read = || -> std::io::Result<Self> {
            Ok(Self {
                rules: Elements::read(&maps.rules)?,
                addresses: Elements::read(&maps.addresses)?,
                networks: Elements::read(&maps.networks)?,
                ..Self::default()
            })
        };
        read().map_err(unread)
    }

    /// What a daemon has in force that hands its maps over. What it wants besides is to be [set](Hook::set_rules) again.
    pub(crate) fn going_on(maps: &Maps) -> Result<Self, HookError> {
        let mut in_force = Self::read(maps)?;
        // Whose it was nobody knows any more: it stays until the first engine says otherwise.
        let ends = in_force.rules.keys().filter_map(whole);
        in_force.whole = ends.map(|end| (end, 1)).collect();
        Ok(in_force)
    }

    fn put_in_force(&mut self, hook: &Hook) -> Result<(), HookError> {
        let mut new = Wanted::default();
        let whole: Vec<_> = self.whole.keys().copied().collect();
        new.enter(&self.wanted, &whole);
        new.put_in_order();
        new.check(hook)?;
        let maps = &hook.maps;
        let shared = hook.memory.control();
        let (first, last) = self.wanted.fullnat.ports;
        shared.first_port.store(u32::from(first), Relaxed);
        shared.last_port.store(u32::from(last), Relaxed);
        self.rules.add(&new.rules, &maps.rules, "rules")?;
        let networks = &maps.networks;
        self.networks.add(&new.networks, networks, "networks")?;
        if !new.networks.is_empty() {
            shared.flags.fetch_or(control::NETWORKS, Relaxed);
        }
        // An address is at first all that it was and all that it is to be.
        let both = self.addresses.union(&new.addresses);
        self.addresses.add(&both, &maps.addresses, "addresses")?;
        both.add(&new.addresses, &maps.addresses, "addresses")?;
        self.addresses.take(&new.addresses, &maps.addresses)?;
        self.rules.take(&new.rules, &maps.rules)?;
        self.networks.take(&new.networks, &maps.networks)?;
        if new.networks.is_empty() {
            shared.flags.fetch_and(!control::NETWORKS, Relaxed);
        }
        (self.rules, self.addresses, self.networks) = (new.rules, new.addresses, new.networks);
        Ok(())
    }
}

impl Hook {
    /// Makes the maps say what `rules` says.
    ///
    /// # Errors
    /// There are more than there is room for, and then nothing is changed; or the kernel refuses, and then at least what
    /// was ours before is so still.
    pub fn set_rules(&self, rules: &Rules) -> Result<(), HookError> {
        let mut in_force = lock(&self.rules);
        if in_force.wanted == *rules && !in_force.rules.is_empty() {
            return Ok(());
        }
        let before = std::mem::replace(&mut in_force.wanted, rules.clone());
        let done = in_force.put_in_force(self);
        if done.is_err() {
            in_force.wanted = before;
        }
        done
    }

    /// All of an end's packets are ours, or no longer, as one of the engines says: where it has no cells for the end's
    /// connections.
    ///
    /// The lock is held elsewhere only while the control thread changes rules; and cells run out rarely.
    pub(crate) fn set_whole(&self, engine: usize, protocol: Protocol, end: Endpoint, whole: bool) {
        let mut in_force = lock(&self.rules);
        let says = in_force.whole.entry((protocol, end)).or_default();
        *says = *says & !(1 << engine) | u64::from(whole) << engine;
        in_force.whole.retain(|_, says| *says != 0);
        // Where there is no room, its connections' replies reach the host: no worse than without the rule.
        drop(in_force.put_in_force(self));
    }
}

/// What is to be in the maps.
#[derive(Default)]
struct Wanted {
    rules: Elements<RuleKey, u64>,
    addresses: Elements<AddressKey, u64>,
    networks: Elements<Vec<u8>, Vec<u8>>,
}

impl Wanted {
    fn enter(&mut self, rules: &Rules, whole: &[(Protocol, Endpoint)]) {
        for (protocol, addr, port) in &rules.to {
            self.rule(*addr, *protocol as u8, *port, rule::TO);
            self.flag(*addr, address::TO);
        }
        for server in &rules.fullnat.servers {
            self.from(server, rule::FULLNAT);
        }
        for server in &rules.strays {
            self.from(server, rule::STRAY);
        }
        for (protocol, end) in whole {
            self.from(&(end.addr, *protocol, end.port), rule::WHOLE);
        }
        for end in &rules.tunnels {
            self.rule(end.addr, end.protocol, end.port, rule::TUNNEL);
        }
        let flagged = [
            (&rules.ftp, address::FTP),
            (&rules.owned, address::OWNED),
            (&rules.local, address::LOCAL),
            (&rules.fullnat.local, address::FULLNAT),
            (&rules.servers, address::SERVER),
        ];
        for (addresses, what) in flagged {
            addresses.iter().for_each(|a| self.flag(*a, what));
        }
        for to in &rules.wide {
            if to.is_host() {
                self.flag(to.addr, address::RANGES);
            }
            let spared = to.is_host() && rules.local.contains(&to.addr);
            self.network(to, &rules.wide, spared);
        }
    }

    fn from(&mut self, (addr, protocol, port): &(Addr, Protocol, u16), kind: u64) {
        self.rule(*addr, *protocol as u8, *port, kind);
        self.flag(*addr, address::FROM);
    }

    fn rule(&mut self, addr: Addr, protocol: u8, port: u16, kind: u64) {
        let [a, b] = words(addr);
        let rest = u64::from(port.to_be()) | u64::from(protocol) << 16 | kind << 24;
        self.rules.enter([a, b, rest], 1);
    }

    fn flag(&mut self, addr: Addr, what: u64) {
        self.addresses.enter(words(addr), what);
    }

    /// A prefix's ranges are its own and those of all around it, for only the longest that matches is looked at;
    /// those of the host's own address (`spared`) are of no network.
    fn network(&mut self, to: &Destination, all: &[Destination], spared: bool) {
        let around = all.iter().filter(|other| {
            let same = other.addr == to.addr && other.prefix == to.prefix;
            let wider = other.prefix < to.prefix && other.has_address(to.addr);
            same || wider && !spared
        });
        let mut ranges: Vec<u64> = around.flat_map(ranges_of).collect();
        ranges.sort_unstable();
        ranges.dedup();
        if ranges.len() > RANGES {
            ranges = every_port(&ranges);
        }
        ranges.resize(RANGES, 0);
        let length = if to.addr.is_v4() { 96 } else { 0 } + u32::from(to.prefix);
        let key = [&length.to_le_bytes()[..], &bytes(&words(to.addr))].concat();
        self.networks.enter(key, bytes(&ranges));
    }

    /// What was entered several times is there once.
    fn put_in_order(&mut self) {
        self.rules.put_in_order(|value, _| value);
        self.addresses.put_in_order(|value, more| value | more);
        self.networks.put_in_order(|_, last| last);
    }

    fn check(&self, hook: &Hook) -> Result<(), HookError> {
        let room = hook.setup.limits.rules;
        let counted = [
            ("rules", self.rules.len()),
            ("addresses in rules", self.addresses.len()),
            ("networks in rules", self.networks.len()),
        ];
        let full = counted.iter().find(|(_, wanted)| *wanted > room as usize);
        match full {
            Some(&(what, wanted)) => Err(HookError::Full { what, room, wanted }),
            None => Ok(()),
        }
    }
}

/// The end that a rule makes ours as a whole; `None` where it is another rule.
fn whole(&[a, b, rest]: &RuleKey) -> Option<(Protocol, Endpoint)> {
    let port = u16::try_from(rest & 0xffff).ok()?;
    let protocol = Protocol::from_number((rest >> 16).to_le_bytes()[0])?;
    (rest >> 24 == rule::WHOLE).then(|| (protocol, Endpoint::new(addr([a, b]), u16::from_be(port))))
}

fn ranges_of(to: &Destination) -> impl Iterator<Item = u64> + use<> {
    let (first, last) = to.ports;
    to.protocols()
        .map(move |p| u64::from(first) | u64::from(last) << 16 | u64::from(p as u8) << 32)
}

/// As few as can be: each port of each protocol that is there. What is too much is given back to the host.
fn every_port(ranges: &[u64]) -> Vec<u64> {
    let mut protocols: Vec<u64> = ranges.iter().map(|range| range >> 32).collect();
    protocols.dedup();
    protocols.iter().map(|p| p << 32 | 0xffff_0000).collect()
}
