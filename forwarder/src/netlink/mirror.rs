//! The mirror itself: reads the kernel's tables, follows their changes, asks for neighbours.
//!
//! Links, addresses, rules and routes are read again whenever a message says that one of them changed, since
//! the kernel does not tell of IPv4 routes that vanish with their interface; neighbours, which change
//! all the time, are followed message by message.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use uvs_core::fib::{Fib, Query};
use uvs_core::flow::{Addr, Family};
use uvs_core::shared::{Set, Tally, Way};
use uvs_core::time::Instant;
use uvs_core::verdict::PortId;

use super::event::Event;
use super::neighbours::{Entry, Key, Neighbours};
use super::rules::Unfollowed;
use super::socket::{Heard, Listener, Requests, decode, message_type, split};
use super::tables::{PerFamily, Tables, ports_by_index};
use super::{NetlinkError, messages, questions, rules, settings};

/// RTM_NEWNEIGH and RTM_DELNEIGH (linux/rtnetlink.h); every other type means that a table changed.
const NEIGHBOUR_TYPES: [u16; 2] = [28, 29];

/// The kernel's network state, as far as UVS needs it.
pub struct Mirror {
    ports: Vec<String>,
    requests: Requests,
    listener: Listener,
    tables: Tables,
    neighbours: Neighbours,
    /// The gateways of the routes.
    gateways: HashSet<Addr>,
    /// The ways to the real servers, whose next hops the kernel is to keep resolved.
    servers: Set<Query>,
    /// Those next hops,
    hops_of: HashMap<Query, Vec<Key>>,
    /// as a set,
    hops: Tally<Key>,
    /// of which some are not seen to be kept yet.
    is_unkept: bool,
    fib: Arc<Fib>,
    overruns: u64,
}

impl Mirror {
    /// Starts to mirror. The index of an interface in the list is its [`PortId`].
    ///
    /// # Errors
    /// An interface that does not exist, is not Ethernet or is given twice; a socket that fails.
    pub fn new(interfaces: &[String]) -> Result<Self, NetlinkError> {
        let open = NetlinkError::io("open a socket");
        // The listener comes first, so that nothing is missed between the reading and the listening.
        let listener = Listener::new().map_err(&open)?;
        let mut mirror = Self {
            ports: interfaces.to_vec(),
            requests: Requests::new().map_err(&open)?,
            listener,
            tables: Tables::default(),
            neighbours: Neighbours::default(),
            gateways: HashSet::new(),
            servers: Set::new(),
            hops_of: HashMap::new(),
            hops: Tally::default(),
            is_unkept: true,
            fib: Arc::default(),
            overruns: 0,
        };
        let tables = mirror.read_tables()?;
        mirror.take_tables(tables);
        mirror.check_ports()?;
        warn_of(mirror.tables.unfollowed().iter());
        mirror.read_neighbours()?;
        mirror.rebuild();
        Ok(mirror)
    }

    /// The descriptor that becomes readable when something changed.
    pub fn fd(&self) -> RawFd {
        self.listener.fd()
    }

    /// The forwarding information base as of the last [`read_events`](Self::read_events).
    pub fn fib(&self) -> Arc<Fib> {
        Arc::clone(&self.fib)
    }

    /// What takes an interface's frames before the host's stack has them, as a bridge does of its ports.
    pub(crate) fn port_of(&self, name: &str) -> Option<&str> {
        self.tables.by_name(name)?.port_of.as_deref()
    }

    /// The host's own addresses, in order.
    pub fn local_addresses(&self) -> Vec<Addr> {
        self.tables.local_addresses().into_iter().collect()
    }

    /// What of the host's rules and routes is not followed.
    pub fn unfollowed(&self) -> Vec<Unfollowed> {
        self.tables.unfollowed()
    }

    /// So many times in a process before this one.
    pub(crate) fn count_overruns(&mut self, before: u64) {
        self.overruns += before;
    }

    /// How often the kernel had more to tell than the socket could hold.
    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    /// Neighbour entries on UVS's interfaces: with a MAC address, and without.
    pub(crate) fn count_neighbours(&self) -> (u64, u64) {
        let interfaces: Vec<u32> = self.fib.interfaces().iter().map(|i| i.ifindex).collect();
        self.neighbours.count(&interfaces)
    }

    /// Neighbour entries on UVS's interfaces, with the real servers that each leads to.
    pub(crate) fn list_neighbours(&self) -> Vec<Entry> {
        let interfaces: Vec<u32> = self.fib.interfaces().iter().map(|i| i.ifindex).collect();
        let mut listed = self.neighbours.list(&interfaces);
        let ways = self.servers.iter();
        let ways: BTreeSet<_> = ways
            .flat_map(|server| self.next_hops(*server).map(|key| (key, server.dst)))
            .collect();
        for (key, server) in ways {
            if let Some(entry) = listed.iter_mut().find(|e| (e.ifindex, e.addr) == key) {
                entry.servers.push(server);
            }
        }
        listed
    }

    /// Whether packets to a server or by a gateway go to this neighbour.
    pub(crate) fn is_next_hop(&self, port: PortId, addr: Addr) -> bool {
        let Some(interface) = self.fib.interface(port) else {
            return false;
        };
        self.gateways.contains(&addr) || self.neighbours.is_kept((interface.ifindex, addr))
    }

    /// Drains the socket and brings everything up to date; empty where nothing of interest changed.
    ///
    /// # Errors
    /// A socket that fails; what was known stays.
    pub fn read_events(&mut self) -> Result<Vec<Event>, NetlinkError> {
        let mut heard = self.drain()?;
        let mut events = Vec::new();
        if heard.overrun {
            self.overruns += 1;
            events.push(Event::Overrun);
        }
        if heard.tables || heard.overrun {
            let tables = self.read_tables()?;
            events.extend(tables.changes_since(&self.tables, &self.ports));
            let known = self.tables.unfollowed();
            let all = tables.unfollowed();
            warn_of(all.iter().filter(|u| !known.contains(u)));
            self.take_tables(tables);
        }
        let ports = ports_by_index(&self.tables, &self.ports);
        if heard.overrun {
            events.extend(self.read_neighbours()?);
            heard.neighbours.clear();
        }
        for message in heard.neighbours {
            events.extend(match message {
                RouteNetlinkMessage::NewNeighbour(m) => {
                    messages::neighbour(&m).and_then(|(k, n)| self.neighbours.set(k, n, &ports))
                }
                RouteNetlinkMessage::DelNeighbour(m) => {
                    messages::neighbour(&m).and_then(|(k, _)| self.neighbours.remove(k, &ports))
                }
                _ => None,
            });
        }
        let tables_changed = heard.tables || heard.overrun;
        if tables_changed || !events.is_empty() {
            self.rebuild();
        }
        // Not on a neighbour's change: on kernels before 5.16 each asking would cause the next one.
        if tables_changed && let Err(error) = self.keep_wanted() {
            tracing::warn!(%error, "a real server's next hop is not kept resolved");
        }
        for (ifindex, addr) in self.neighbours.unanswered() {
            let rest = questions::rest(ifindex, addr);
            // Where it is gone, there is nothing to end.
            let _ = self.requests.change(&rest, NLM_F_REPLACE);
        }
        Ok(events)
    }

    /// Has the kernel resolve the next hops of these ways to real servers and keep them resolved, in place of
    /// those of the last call, and beside them the gateways of all multipath routes, of which only those that
    /// answer are to be used. A next hop that does not answer is asked again by the next packet to it. Entries that
    /// an administrator or a routing daemon set are left alone.
    ///
    /// # Errors
    /// The first neighbour that the kernel refuses; the others are still asked for.
    pub fn keep(&mut self, servers: &Set<Query>) -> Result<(), NetlinkError> {
        let before = std::mem::replace(&mut self.servers, servers.clone());
        let changes = self.servers.since(&before);
        let mut others = self.is_unkept;
        for server in changes.gone {
            for hop in self.hops_of.remove(server).unwrap_or_default() {
                others |= self.hops.count(Way::Out, hop);
            }
        }
        for server in changes.new {
            let hops: Vec<Key> = self.next_hops(*server).collect();
            for hop in &hops {
                others |= self.hops.count(Way::In, *hop);
            }
            self.hops_of.insert(*server, hops);
        }
        if !others {
            return Ok(());
        }
        self.keep_hops()?;
        let left = self.neighbours.leftovers();
        left.into_iter().try_for_each(|key| self.release(key))
    }

    /// Asks again for kept neighbours that the kernel does not keep: to be called every few seconds,
    /// which is what keeps them on kernels before 5.16; on later ones there is nothing to do.
    ///
    /// # Errors
    /// The first neighbour that the kernel refuses; the others are still asked for.
    pub fn renew(&mut self) -> Result<(), NetlinkError> {
        self.ask(self.neighbours.unkept())
    }

    /// Has the kernel resolve a neighbour once, now; at most once a second for each.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn solicit(&mut self, port: PortId, via: Addr, now: Instant) -> Result<(), NetlinkError> {
        let Some(ifindex) = self.fib.interface(port).map(|i| i.ifindex) else {
            return Ok(());
        };
        let key = (ifindex, via);
        if self.neighbours.is_maintained(key) || !self.neighbours.may_solicit(key, now) {
            return Ok(());
        }
        self.ask(vec![key])
    }

    fn read_tables(&mut self) -> Result<Tables, NetlinkError> {
        let mut tables = Tables::default();
        for m in self.dump("read the interfaces", &questions::get_links())? {
            if let RouteNetlinkMessage::NewLink(m) = m {
                tables.links.extend(messages::link(&m));
            }
        }
        for family in settings::families() {
            self.read_family(family, &mut tables)?;
        }
        tables.reverse_paths = self
            .ports
            .iter()
            .map(|p| settings::reverse_path(p))
            .collect();
        Ok(tables)
    }

    fn read_family(&mut self, family: Family, tables: &mut Tables) -> Result<(), NetlinkError> {
        let addresses = questions::get_addresses(family);
        for m in self.dump("read the addresses", &addresses)? {
            if let RouteNetlinkMessage::NewAddress(m) = m {
                tables.addresses.extend(messages::address(&m));
            }
        }
        for m in self.dump("read the routes", &questions::get_routes(family))? {
            if let RouteNetlinkMessage::NewRoute(m) = m {
                tables.by_tos |= messages::is_for_one_tos(&m);
                tables.by_source |= messages::is_for_one_source(&m);
                tables.broadcasts.extend(messages::broadcast(&m));
                tables.routes.extend(messages::route(&m));
            }
        }
        let mut own = PerFamily::default();
        for m in self.dump("read the routing rules", &questions::get_rules(family))? {
            if let RouteNetlinkMessage::NewRule(m) = m {
                own.rules.push(rules::rule(&m));
            }
        }
        let forwarding = settings::forwards(family);
        own.forwarding = forwarding.map_err(NetlinkError::io("read whether the host forwards"))?;
        tables.per_family.insert(family, own);
        Ok(())
    }

    fn take_tables(&mut self, tables: Tables) {
        let hops = tables.routes.iter().flat_map(|r| r.route.hops());
        self.gateways = hops.filter_map(|hop| hop.gateway).collect();
        self.tables = tables;
    }

    fn read_neighbours(&mut self) -> Result<Vec<Event>, NetlinkError> {
        let mut entries = HashMap::new();
        for family in settings::families() {
            for m in self.dump("read the neighbours", &questions::get_neighbours(family))? {
                if let RouteNetlinkMessage::NewNeighbour(m) = m {
                    entries.extend(messages::neighbour(&m));
                }
            }
        }
        let ports = ports_by_index(&self.tables, &self.ports);
        Ok(self.neighbours.replace(entries, &ports))
    }

    fn dump(
        &mut self,
        doing: &'static str,
        what: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.requests.dump(what).map_err(NetlinkError::io(doing))
    }

    fn check_ports(&self) -> Result<(), NetlinkError> {
        for (i, name) in self.ports.iter().enumerate() {
            let name = name.clone();
            if self.ports[..i].contains(&name) {
                return Err(NetlinkError::Twice { name });
            }
            match self.tables.by_name(&name) {
                Some(link) if link.mac.is_some() => {}
                Some(_) => return Err(NetlinkError::NotEthernet { name }),
                None => {
                    return Err(NetlinkError::NoInterface {
                        name,
                        existing: self.candidates(),
                    });
                }
            }
        }
        Ok(())
    }

    /// The names of all Ethernet interfaces, for an error message.
    fn candidates(&self) -> String {
        let ethernet = self.tables.links.iter().filter(|l| l.mac.is_some());
        let names: Vec<_> = ethernet.map(|l| l.name.as_str()).collect();
        if names.is_empty() {
            "no Ethernet interface at all".into()
        } else {
            names.join(", ")
        }
    }

    fn drain(&mut self) -> Result<Changes, NetlinkError> {
        let mut changes = Changes::default();
        loop {
            match self
                .listener
                .hear()
                .map_err(NetlinkError::io("read the changes"))?
            {
                Heard::Messages(datagram) => split(datagram).for_each(|m| changes.note(m)),
                Heard::Overrun => changes.overrun = true,
                Heard::Nothing => return Ok(changes),
            }
        }
    }

    fn rebuild(&mut self) {
        let mut fib = self.tables.fib(&self.ports);
        self.neighbours.fill(&mut fib);
        self.fib = Arc::new(fib);
    }

    /// Brings what the kernel keeps in line with the servers and the routes as they are now.
    /// Looks anew where the servers' next hops are.
    fn keep_wanted(&mut self) -> Result<(), NetlinkError> {
        let hops_of = self
            .servers
            .iter()
            .map(|s| (*s, self.next_hops(*s).collect()));
        self.hops_of = hops_of.collect();
        self.hops = Tally::default();
        for hop in self.hops_of.values().flatten() {
            self.hops.count(Way::In, *hop);
        }
        self.keep_hops()
    }

    fn keep_hops(&mut self) -> Result<(), NetlinkError> {
        self.is_unkept = true;
        let mut wanted: BTreeSet<_> = self.hops.members().iter().copied().collect();
        let mut tried = BTreeSet::new();
        if !self.servers.is_empty() {
            tried.extend(self.tables.alternatives().filter(|key| self.is_up(*key)));
        }
        wanted.extend(&tried);
        let released = self.neighbours.want(wanted, tried);
        released.into_iter().try_for_each(|key| self.release(key))?;
        self.renew()?;
        self.is_unkept = false;
        Ok(())
    }

    /// The neighbours that packets to a server may be sent to, while their interfaces are up.
    fn next_hops(&self, server: Query) -> impl Iterator<Item = Key> {
        let hops = self.fib.neighbours_of(server).into_iter();
        hops.filter(|key| self.is_up(*key))
    }

    /// Whether a neighbour is behind one of UVS's interfaces, and that is up.
    fn is_up(&self, (ifindex, _): Key) -> bool {
        let mut interfaces = self.fib.interfaces().iter();
        interfaces.any(|i| i.ifindex == ifindex && i.up)
    }

    /// Asks for all of them and returns the first refusal.
    fn ask(&mut self, keys: Vec<Key>) -> Result<(), NetlinkError> {
        let mut outcome = Ok(());
        for (ifindex, addr) in keys {
            // An update without the flag would end the keeping, so a kept one always carries it.
            let keep = self.neighbours.is_to_be_kept((ifindex, addr));
            let message = questions::resolve(ifindex, addr, keep);
            let asked = self.requests.change(&message, NLM_F_CREATE | NLM_F_REPLACE);
            outcome = outcome.and_then(|()| asked.map_err(|e| refusal(addr, e)));
        }
        outcome
    }

    /// Ends the keeping of a neighbour: a known one stays as an ordinary entry, which the kernel ages.
    fn release(&mut self, (ifindex, addr): Key) -> Result<(), NetlinkError> {
        let key = (ifindex, addr);
        if self.neighbours.is_maintained(key) {
            return Ok(());
        }
        let known = self.neighbours.is_known(key);
        let outcome = if known {
            self.requests
                .change(&questions::resolve(ifindex, addr, false), NLM_F_REPLACE)
        } else {
            self.requests.change(&questions::forget(ifindex, addr), 0)
        };
        match outcome.as_ref().map_err(io::Error::raw_os_error) {
            // Gone already, or its interface is.
            Err(Some(libc::ENOENT | libc::ENODEV | libc::EINVAL)) => Ok(()),
            _ => outcome.map_err(|e| refusal(addr, e)),
        }
    }
}

fn warn_of<'u>(unfollowed: impl Iterator<Item = &'u Unfollowed>) {
    for Unfollowed { what, means } in unfollowed {
        tracing::warn!("the host's routing has a {what}: {means}");
    }
}

/// What one drain of the socket heard.
#[derive(Default)]
struct Changes {
    tables: bool,
    overrun: bool,
    neighbours: Vec<RouteNetlinkMessage>,
}

impl Changes {
    fn note(&mut self, message: &[u8]) {
        match message_type(message) {
            Some(kind) if NEIGHBOUR_TYPES.contains(&kind) => {
                if let Some(NetlinkPayload::InnerMessage(m)) = decode(message).map(|m| m.payload) {
                    self.neighbours.push(m);
                }
            }
            _ => self.tables = true,
        }
    }
}

fn refusal(address: Addr, error: io::Error) -> NetlinkError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => NetlinkError::Permission { address },
        Some(libc::ENOBUFS) => NetlinkError::NeighboursFull { address },
        _ => NetlinkError::Io {
            doing: "ask for a neighbour",
            source: error,
        },
    }
}
