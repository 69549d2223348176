//! What is ours without a connection, and how the maps come to say so.
//!
//! What is added is added first and what is taken away goes last, so that at every moment everything is ours that is so
//! before and after. Each of it is counted: several rules may want one address or one key, and a change of one service among
//! thousands must not cost what they all cost.

mod elements;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::marks::Destination;
use uvs_core::shared::{Counted, Set, Way};

use crate::error::HookError;
use crate::hook::{Hook, lock};
use crate::layout::{RANGES, addr, address, bytes, control, rule, words};
use crate::maps::Maps;
use crate::sys::map::Map;
use elements::{Elements, read};

/// Servers with their ports, 0 = every one.
type Server = (Addr, Protocol, u16);

/// What is ours without a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Services' addresses and ports, 0 = every port; in two parts, which may have some in common.
    pub to: [Set<(Protocol, Addr, u16)>; 2],
    /// Services' networks and ranges of ports, in two parts as well. A network spares the host's own addresses.
    pub wide: [Set<Destination>; 2],
    /// Addresses whose FTP service has the data connections too: TCP ports 20 and from 1024 on.
    pub ftp: Set<Addr>,
    /// Addresses that UVS owns: all to them is ours.
    pub owned: Set<Addr>,
    /// The host's own addresses.
    pub local: Set<Addr>,
    /// What comes too late for a FULLNAT connection.
    pub fullnat: FullNat,
    /// Servers, with port (0 = every one), whose packets of no connection are ours where they go beyond the host.
    pub strays: Set<Server>,
    /// Servers whose replies pass the director: a fragment of theirs that overtakes its datagram's first is ours. In two
    /// parts as well.
    pub servers: [Set<Server>; 2],
    /// Where tunnels end: an ICMP error about a packet to one is ours.
    pub tunnels: Set<TunnelEnd>,
}

/// FULLNAT's servers and local addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FullNat {
    /// The servers with their ports, 0 = every one.
    pub servers: Set<Server>,
    /// The local addresses.
    pub local: Set<Addr>,
    /// First and last local port.
    pub ports: (u16, u16),
}

/// A tunnel's end: the far end, as what is sent there has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TunnelEnd {
    /// The real server.
    pub addr: Addr,
    /// The outer header's protocol: 4 or 41 (IPIP), 47 (GRE), 17 (GUE).
    pub protocol: u8,
    /// The port that it is sent to, 0 where the protocol has none.
    pub port: u16,
}

/// A rule's key: the address, and in the third word port, protocol and kind. Its value is always 1.
type RuleKey = [u64; 3];
/// An address, whose value is what is known of it (`address::*`).
type AddressKey = [u64; 2];

/// What is in the maps, and how often it is wanted.
#[derive(Default)]
pub(crate) struct InForce {
    /// From the daemon.
    wanted: Rules,
    /// From the engines, a bit each: ends of which everything is ours.
    whole: BTreeMap<(Protocol, Endpoint), u64>,
    /// What an earlier daemon left, until this one has said what it wants.
    left: Option<Edit>,
    rules: Counted<RuleKey>,
    /// Addresses, each as all that it is.
    addresses: Counted<(AddressKey, u64)>,
    known: Counted<AddressKey>,
    networks: Elements,
}

/// What comes and goes.
#[derive(Clone, Default)]
struct Edit {
    rules: Vec<(Way, RuleKey)>,
    addresses: Vec<(Way, AddressKey, u64)>,
}

/// What is to be written into the maps, and taken out of them.
#[derive(Default)]
struct Writes {
    rules: Vec<RuleKey>,
    gone: Vec<RuleKey>,
    /// Addresses with what they were and what they are.
    addresses: Vec<(AddressKey, u64, u64)>,
}

impl InForce {
    /// What an earlier daemon left.
    pub(crate) fn read(maps: &Maps) -> Result<Self, HookError> {
        let unread = HookError::io("the rules of an earlier daemon");
        let read = || -> std::io::Result<Self> {
            let mut left = Edit::default();
            for (key, _) in read::<3, 1>(&maps.rules)? {
                left.rules.push((Way::In, key));
            }
            for (key, [bits]) in read::<2, 1>(&maps.addresses)? {
                let those = address::ALL.into_iter().filter(|what| bits & what != 0);
                let those = those.map(|what| (Way::In, key, what));
                left.addresses.extend(those);
            }
            let mut in_force = Self {
                networks: Elements::read(&maps.networks)?,
                ..Self::default()
            };
            in_force.count(&left);
            in_force.left = Some(left.reversed());
            Ok(in_force)
        };
        read().map_err(unread)
    }

    /// What a daemon has in force that hands its maps over. What it wants besides is to be [set](Hook::set_rules) again.
    pub(crate) fn going_on(maps: &Maps) -> Result<Self, HookError> {
        let mut in_force = Self::read(maps)?;
        let left = in_force.left.iter().flat_map(|left| &left.rules);
        let ends: Vec<_> = left.filter_map(|(_, key)| whole(key)).collect();
        // Whose it was nobody knows any more: it stays until the first engine says otherwise.
        let mut stays = Edit::default();
        for (protocol, end) in &ends {
            stays.whole(Way::In, *protocol, *end);
        }
        in_force.count(&stays);
        in_force.whole = ends.into_iter().map(|end| (end, 1)).collect();
        Ok(in_force)
    }

    /// Counts what comes in and what goes out; what of the maps changes by that.
    fn count(&mut self, edit: &Edit) -> Writes {
        let mut writes = Writes::default();
        let mut before = BTreeMap::new();
        for (_, key, _) in &edit.addresses {
            before.entry(*key).or_insert_with(|| self.bits(key));
        }
        // What somebody else wants from now on does not go in between.
        for wanted in [Way::In, Way::Out] {
            let rules = edit.rules.iter().filter(|(way, _)| *way == wanted);
            for (way, key) in rules {
                if self.rules.count(*way, *key) {
                    match way {
                        Way::In => writes.rules.push(*key),
                        Way::Out => writes.gone.push(*key),
                    }
                }
            }
            let addresses = edit.addresses.iter().filter(|(way, ..)| *way == wanted);
            for (way, key, what) in addresses {
                if self.addresses.count(*way, (*key, *what)) {
                    self.known.count(*way, *key);
                }
            }
        }
        let addresses = before.into_iter();
        let addresses = addresses.map(|(key, bits)| (key, bits, self.bits(&key)));
        writes.addresses = addresses.filter(|(_, old, new)| old != new).collect();
        writes
    }

    fn bits(&self, key: &AddressKey) -> u64 {
        let is = |what: &u64| self.addresses.contains(&(*key, *what));
        address::ALL.into_iter().filter(is).sum()
    }

    /// Makes the maps say what is counted once this is, and `networks` beside it; or counts nothing.
    fn put_in_force(
        &mut self,
        hook: &Hook,
        edit: &Edit,
        networks: Option<Elements>,
    ) -> Result<(), HookError> {
        let writes = self.count(edit);
        let new = networks.as_ref().unwrap_or(&self.networks);
        let done = self
            .check(hook, new.len())
            .and_then(|()| self.write(hook, &writes, new));
        match done {
            Ok(()) => {
                self.networks = networks.unwrap_or_else(|| std::mem::take(&mut self.networks))
            }
            Err(_) => drop(self.count(&edit.reversed())),
        }
        done
    }

    fn write(&self, hook: &Hook, writes: &Writes, networks: &Elements) -> Result<(), HookError> {
        let maps = &hook.maps;
        let flags = &hook.memory.control().flags;
        for key in &writes.rules {
            put(&maps.rules, key, 1, "rules")?;
        }
        self.networks.add(networks, &maps.networks, "networks")?;
        if !networks.is_empty() {
            flags.fetch_or(control::NETWORKS, Relaxed);
        }
        // An address is at first all that it was and all that it is to be.
        for (key, old, new) in &writes.addresses {
            if old | new != *old {
                put(&maps.addresses, key, old | new, "addresses")?;
            }
        }
        for (key, old, new) in &writes.addresses {
            match *new {
                0 => take(&maps.addresses, key)?,
                new if new != old | new => put(&maps.addresses, key, new, "addresses")?,
                _ => {}
            }
        }
        for key in &writes.gone {
            take(&maps.rules, key)?;
        }
        self.networks.take(networks, &maps.networks)?;
        if networks.is_empty() {
            flags.fetch_and(!control::NETWORKS, Relaxed);
        }
        Ok(())
    }

    fn check(&self, hook: &Hook, networks: usize) -> Result<(), HookError> {
        let room = hook.setup.limits.rules;
        let counted = [
            ("rules", self.rules.len()),
            ("addresses in rules", self.known.len()),
            ("networks in rules", networks),
        ];
        let full = counted.iter().find(|(_, wanted)| *wanted > room as usize);
        match full {
            Some(&(what, wanted)) => Err(HookError::Full { what, room, wanted }),
            None => Ok(()),
        }
    }
}

impl Hook {
    /// Makes the maps say what `rules` says. It costs what has changed since the last, where these are made from a copy of
    /// those.
    ///
    /// # Errors
    /// There are more than there is room for, and then nothing is changed; or the kernel refuses, and then at least what
    /// was ours before is so still.
    pub fn set_rules(&self, rules: &Rules) -> Result<(), HookError> {
        let mut in_force = lock(&self.rules);
        if in_force.wanted == *rules && in_force.left.is_none() {
            return Ok(());
        }
        let before = &in_force.wanted;
        let mut edit = Edit::between(before, rules);
        if let Some(left) = &in_force.left {
            edit.extend(left);
        }
        let is_other = (&before.wide, &before.local) != (&rules.wide, &rules.local);
        let networks = (is_other || in_force.left.is_some()).then(|| networks(rules));
        let shared = self.memory.control();
        let (first, last) = rules.fullnat.ports;
        shared.first_port.store(u32::from(first), Relaxed);
        shared.last_port.store(u32::from(last), Relaxed);
        in_force.put_in_force(self, &edit, networks)?;
        in_force.wanted = rules.clone();
        in_force.left = None;
        Ok(())
    }

    /// All of an end's packets are ours, or no longer, as one of the engines says: where it has no cells for the end's
    /// connections.
    ///
    /// The lock is held elsewhere only while the control thread changes rules; and cells run out rarely.
    pub(crate) fn set_whole(&self, engine: usize, protocol: Protocol, end: Endpoint, whole: bool) {
        let mut in_force = lock(&self.rules);
        let before = in_force.whole.get(&(protocol, end)).copied().unwrap_or(0);
        let now = before & !(1 << engine) | u64::from(whole) << engine;
        let mut edit = Edit::default();
        match (before, now) {
            (0, 0) => return,
            (0, _) => edit.whole(Way::In, protocol, end),
            (_, 0) => edit.whole(Way::Out, protocol, end),
            _ => {}
        }
        // Where there is no room, its connections' replies reach the host: no worse than without the rule.
        if in_force.put_in_force(self, &edit, None).is_ok() {
            in_force.whole.insert((protocol, end), now);
            in_force.whole.retain(|_, says| *says != 0);
        }
    }
}

impl Edit {
    /// What leads from rules to others.
    fn between(before: &Rules, now: &Rules) -> Self {
        let mut edit = Self::default();
        for (before, now) in before.to.iter().zip(&now.to) {
            for (way, (protocol, addr, port)) in now.since(before).ways() {
                edit.rule(way, *addr, *protocol as u8, *port, rule::TO);
                edit.flag(way, *addr, address::TO);
            }
        }
        let servers = [
            (&before.fullnat.servers, &now.fullnat.servers, rule::FULLNAT),
            (&before.strays, &now.strays, rule::STRAY),
        ];
        for (before, now, kind) in servers {
            for (way, (addr, protocol, port)) in now.since(before).ways() {
                edit.from(way, *addr, *protocol, *port, kind);
            }
        }
        for (way, end) in now.tunnels.since(&before.tunnels).ways() {
            edit.rule(way, end.addr, end.protocol, end.port, rule::TUNNEL);
        }
        let flagged = [
            (&before.ftp, &now.ftp, address::FTP),
            (&before.owned, &now.owned, address::OWNED),
            (&before.local, &now.local, address::LOCAL),
            (&before.fullnat.local, &now.fullnat.local, address::FULLNAT),
        ];
        for (before, now, what) in flagged {
            for (way, addr) in now.since(before).ways() {
                edit.flag(way, *addr, what);
            }
        }
        for (before, now) in before.servers.iter().zip(&now.servers) {
            for (way, (addr, ..)) in now.since(before).ways() {
                edit.flag(way, *addr, address::SERVER);
            }
        }
        for (before, now) in before.wide.iter().zip(&now.wide) {
            for (way, to) in now.since(before).ways().filter(|(_, to)| to.is_host()) {
                edit.flag(way, to.addr, address::RANGES);
            }
        }
        edit
    }

    /// Both.
    fn extend(&mut self, other: &Self) {
        self.rules.extend(&other.rules);
        self.addresses.extend(&other.addresses);
    }

    /// What undoes it.
    fn reversed(&self) -> Self {
        let back = |way: Way| match way {
            Way::In => Way::Out,
            Way::Out => Way::In,
        };
        let rules = self.rules.iter().map(|(way, key)| (back(*way), *key));
        let addresses = self.addresses.iter();
        let addresses = addresses.map(|(way, key, what)| (back(*way), *key, *what));
        Self {
            rules: rules.collect(),
            addresses: addresses.collect(),
        }
    }

    fn whole(&mut self, way: Way, protocol: Protocol, end: Endpoint) {
        self.from(way, end.addr, protocol, end.port, rule::WHOLE);
    }

    fn from(&mut self, way: Way, addr: Addr, protocol: Protocol, port: u16, kind: u64) {
        self.rule(way, addr, protocol as u8, port, kind);
        self.flag(way, addr, address::FROM);
    }

    fn rule(&mut self, way: Way, addr: Addr, protocol: u8, port: u16, kind: u64) {
        let [a, b] = words(addr);
        let rest = u64::from(port.to_be()) | u64::from(protocol) << 16 | kind << 24;
        self.rules.push((way, [a, b, rest]));
    }

    fn flag(&mut self, way: Way, addr: Addr, what: u64) {
        self.addresses.push((way, words(addr), what));
    }
}

/// The prefixes of all that is wide, with their ranges.
fn networks(rules: &Rules) -> Elements {
    let all: Vec<Destination> = rules.wide.iter().flat_map(Set::iter).copied().collect();
    let mut networks = Elements::default();
    for to in &all {
        let spared = to.is_host() && rules.local.contains(&to.addr);
        let (key, ranges) = network(to, &all, spared);
        networks.enter(key, ranges);
    }
    networks
}

/// A prefix's ranges are its own and those of all around it, for only the longest that matches is looked at;
/// those of the host's own address (`spared`) are of no network.
fn network(to: &Destination, all: &[Destination], spared: bool) -> (Vec<u8>, Vec<u8>) {
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
    (key, bytes(&ranges))
}

fn put<const N: usize>(map: &Map, key: &[u64; N], value: u64, what: &str) -> Result<(), HookError> {
    let done = map.update(&bytes(key), &bytes(&[value]));
    done.map_err(|e| HookError::refused(format!("add {what}"), e))
}

fn take<const N: usize>(map: &Map, key: &[u64; N]) -> Result<(), HookError> {
    let done = map.delete(&bytes(key)).map(drop);
    done.map_err(|e| HookError::refused("take a rule out", e))
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
