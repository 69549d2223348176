//! What is desired, in the form in which packets ask for it.
//!
//! It follows from a snapshot alone, and changes only by taking up the next one, of which what differs is looked at;
//! what has a life of its own (connections, servers' load, schedulers) is elsewhere.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::access::{Access, AccessList, Rule};
use crate::crew::Steering;
use crate::fib::Fib;
use crate::flow::{Addr, Endpoint, Family, Flow, Protocol};
use crate::marks::{Destination, MarkRule, Marks, destinations};
use crate::narrow;
use crate::peer::Policy;
use crate::service::{Forwarding, Replies, ServerSpec, ServiceKey, ServiceSpec, TunnelKind};
use crate::services::{Difference, Services};
use crate::shared::{Counted, Way};
use crate::snapshot::{Snapshot, Sysctls, Timeouts};

/// FTP's control port: its templates stand for all ports.
pub(super) const FTP: u16 = 21;
/// FTP's data port: a server of active FTP opens from it, and that is never scheduled.
pub(super) const FTP_DATA: u16 = 20;
/// The first port that needs no privilege (net.ipv4.ip_unprivileged_port_start): passive FTP uses them.
const UNPRIVILEGED: u16 = 1024;

/// Endpoints by protocol; port 0 = any.
type Ends = Counted<(Protocol, Endpoint)>;

/// The desired state.
#[derive(Clone, Default)]
pub(super) struct Desired {
    snapshot: Arc<Snapshot>,
    /// Where each service is; it keeps its slot for as long as it is there, unless one before it is removed and
    /// it is the last: then it takes that one's.
    slots: HashMap<ServiceKey, u32>,
    /// By slot.
    services: Vec<Arc<ServiceSpec>>,
    /// Rules whose mark has a service.
    marks: Option<Marks>,
    /// Addresses whose malformed packets are ours to drop: VIPs, and what is owned.
    vips: Counted<Addr>,
    /// VIPs that UVS has instead of the host,
    owned: HashSet<Addr>,
    /// those of them that another host claims,
    yielded: HashSet<Addr>,
    /// and VIPs that the director does not have: all to them is the host's.
    absent: HashSet<Addr>,
    /// A backup that serves nobody.
    stands_back: bool,
    /// Servers whose packets reach clients only through us,
    repliers: Ends,
    /// those among them that are NAT's,
    nat_servers: Ends,
    /// those of them that may begin a connection, with the services as which they do,
    callers: HashMap<Endpoint, BTreeSet<ServiceKey>>,
    /// and the addresses of all of them.
    replier_addrs: Counted<Addr>,
    /// Services whose connections are logged.
    logged: Counted<ServiceKey>,
    /// FULLNAT's local addresses.
    locals: Counted<Addr>,
    /// Tunnels' ends: address, port where the kind has one or 0, kind;
    tunnels: Counted<(Addr, u16, TunnelKind)>,
    /// and their addresses.
    tunnel_addrs: Counted<Addr>,
}

/// What taking up a snapshot does to the slots, in the order in which it does it.
#[derive(Debug, Default)]
pub(super) struct SlotChanges {
    /// Slots whose service goes, each at its turn: the service in the last slot takes its place.
    pub(super) removed: Vec<u32>,
    /// Slots whose service is new or another than before, in the order of [`Difference::new`]; new ones are added
    /// behind the last.
    pub(super) set: Vec<u32>,
}

impl Desired {
    /// What a snapshot asks for; the services' slots are in their order.
    pub(super) fn of(snapshot: Arc<Snapshot>) -> Self {
        let mut desired = Self::default();
        desired.take_up(snapshot);
        desired
    }

    /// Becomes what a snapshot asks for.
    pub(super) fn take_up(&mut self, snapshot: Arc<Snapshot>) -> SlotChanges {
        let before = std::mem::replace(&mut self.snapshot, Arc::clone(&snapshot));
        let difference = snapshot.services.since(&before.services);
        for spec in &difference.gone {
            self.count(spec, &before.marks, Way::Out);
        }
        let changes = self.move_slots(&difference);
        for spec in &difference.new {
            self.count(spec, &snapshot.marks, Way::In);
        }
        let has_other_marks = before.marks != snapshot.marks;
        if has_other_marks {
            self.count_marked(&before, &snapshot, &difference);
        }
        let of_marks = |spec: &&Arc<ServiceSpec>| matches!(spec.key, ServiceKey::Mark { .. });
        if has_other_marks || difference.gone.iter().chain(&difference.new).any(of_marks) {
            self.marks = served_marks(&snapshot, &self.slots);
        }
        if before.owned_vips != snapshot.owned_vips {
            let all = [
                (Way::Out, &before.owned_vips),
                (Way::In, &snapshot.owned_vips),
            ];
            for (way, owned) in all {
                for vip in owned {
                    self.vips.count(way, *vip);
                }
            }
            self.owned = snapshot.owned_vips.iter().copied().collect();
        }
        if before.yielded_vips != snapshot.yielded_vips {
            self.yielded = snapshot.yielded_vips.iter().copied().collect();
        }
        if before.absent_vips != snapshot.absent_vips {
            self.absent = snapshot.absent_vips.iter().copied().collect();
        }
        self.stands_back = snapshot.peers.backup && snapshot.sysctls.backup_only != 0;
        changes
    }

    /// Gives up the slots of what is gone and takes some for what is new.
    fn move_slots(&mut self, difference: &Difference<'_>) -> SlotChanges {
        let mut changes = SlotChanges::default();
        let stay: HashSet<ServiceKey> = difference.new.iter().map(|spec| spec.key).collect();
        for spec in difference.gone.iter().filter(|s| !stay.contains(&s.key)) {
            let Some(slot) = self.slots.remove(&spec.key) else {
                continue;
            };
            self.services.swap_remove(slot as usize);
            if let Some(moved) = self.services.get(slot as usize) {
                self.slots.insert(moved.key, slot);
            }
            changes.removed.push(slot);
        }
        for spec in &difference.new {
            let fresh = narrow::to_u32(self.services.len());
            let slot = *self.slots.entry(spec.key).or_insert(fresh);
            match self.services.get_mut(slot as usize) {
                Some(known) => *known = Arc::clone(spec),
                None => self.services.push(Arc::clone(spec)),
            }
            changes.set.push(slot);
        }
        changes
    }

    /// Other rules mark packets: services that stayed as they are and are marks' have other addresses.
    fn count_marked(&mut self, before: &Snapshot, now: &Snapshot, difference: &Difference<'_>) {
        let new: HashSet<ServiceKey> = difference.new.iter().map(|spec| spec.key).collect();
        let marked = now
            .services
            .iter()
            .filter(|spec| matches!(spec.key, ServiceKey::Mark { .. }) && !new.contains(&spec.key));
        for spec in marked {
            self.count(spec, &before.marks, Way::Out);
            self.count(spec, &now.marks, Way::In);
        }
    }

    /// Counts a service's addresses in, or out.
    fn count(&mut self, spec: &ServiceSpec, marks: &[MarkRule], way: Way) {
        let to: Vec<Destination> = destinations(spec.key, marks).collect();
        for host in to.iter().filter(|to| to.is_host()) {
            self.vips.count(way, host.addr);
        }
        for local in &spec.local {
            self.locals.count(way, *local);
        }
        if spec.connection_log.is_on() {
            self.logged.count(way, spec.key);
        }
        let protocols: BTreeSet<Protocol> = to.iter().flat_map(Destination::protocols).collect();
        let passing = |s: &&ServerSpec| s.forwarding.passes_replies();
        for server in spec.servers.iter().filter(passing) {
            let from = Endpoint::new(server.endpoint.addr, spec.reply_port(server));
            for protocol in &protocols {
                self.repliers.count(way, (*protocol, from));
                if server.forwarding.replies() == Replies::Gateway {
                    self.nat_servers.count(way, (*protocol, from));
                }
            }
            if spec.has_callers() && server.forwarding.replies() == Replies::Gateway {
                self.count_caller(way, from, spec.key);
            }
            self.replier_addrs.count(way, from.addr);
        }
        for end in spec.servers.iter().filter_map(tunnel_end) {
            self.tunnel_addrs.count(way, end.0);
            self.tunnels.count(way, end);
        }
    }

    fn count_caller(&mut self, way: Way, caller: Endpoint, service: ServiceKey) {
        let services = self.callers.entry(caller).or_default();
        match way {
            Way::In => services.insert(service),
            Way::Out => services.remove(&service),
        };
        if services.is_empty() {
            self.callers.remove(&caller);
        }
    }

    /// The services of UDP as which this endpoint, a NAT server, may begin connections; the guard leaves what it sends to us.
    pub(super) fn services_of_caller(&self, end: Endpoint) -> impl Iterator<Item = ServiceKey> {
        self.callers.get(&end).into_iter().flatten().copied()
    }

    /// The services, oldest first.
    pub(super) fn services(&self) -> &Services {
        &self.snapshot.services
    }

    /// What was taken up last.
    pub(super) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The service at a slot that [`Desired::service_for`] gave.
    pub(super) fn service(&self, slot: u32) -> &Arc<ServiceSpec> {
        &self.services[slot as usize]
    }

    pub(super) fn slot(&self, key: &ServiceKey) -> Option<u32> {
        self.slots.get(key).copied()
    }

    /// Which worker a connection belongs to.
    pub(super) fn steering(&self) -> &Steering {
        &self.snapshot.steering
    }

    #[inline]
    pub(super) fn sysctls(&self) -> &Sysctls {
        &self.snapshot.sysctls
    }

    /// By which rule other directors are told of connections, where they are.
    pub(super) fn telling(&self) -> Option<Policy> {
        let sysctls = self.sysctls();
        let number = |n: i32| u32::try_from(n).unwrap_or_default();
        let small = |n: i32| u8::try_from(n).unwrap_or_default();
        self.snapshot.peers.master.then(|| Policy {
            version: small(sysctls.sync_version),
            threshold: number(sysctls.sync_threshold.0),
            period: number(sysctls.sync_threshold.1),
            refresh: number(sysctls.sync_refresh_period),
            retries: small(sysctls.sync_retries),
            templates_only: sysctls.sync_persist_mode != 0,
        })
    }

    #[inline]
    pub(super) fn timeouts(&self) -> &Timeouts {
        &self.snapshot.timeouts
    }

    /// The slot of the service for a packet of this mark to `flow`'s destination: its mark's, its own or a
    /// rule's, else its port's own, else persistent FTP's for its data connections, else the one for all
    /// ports (`ip_vs_service_find`).
    pub(super) fn service_for(&self, flow: &Flow, mark: u32, fib: &Fib) -> Option<u32> {
        let ipv6 = flow.family() == Family::V6;
        let mark = match &self.marks {
            Some(marks) if mark == 0 => marks.of(flow, |a| fib.is_local(a)),
            _ => mark,
        };
        let marked = (mark != 0).then(|| self.slot(&ServiceKey::Mark { mark, ipv6 }));
        if let Some(slot) = marked.flatten() {
            return Some(slot);
        }
        let protocol = Protocol::from_number(flow.protocol)?;
        let with_port = |port| {
            let vip = Endpoint::new(flow.dst, port);
            self.slot(&ServiceKey::address(protocol, vip))
        };
        let is_data = protocol == Protocol::Tcp
            && (flow.dst_port == FTP_DATA || flow.dst_port >= UNPRIVILEGED);
        with_port(flow.dst_port)
            .or_else(|| {
                let ftp = is_data.then(|| with_port(FTP)).flatten();
                ftp.filter(|slot| self.service(*slot).persistence.is_some())
            })
            .or_else(|| with_port(0))
    }

    /// Whether packets to an address may be of a service.
    pub(super) fn is_vip(&self, addr: Addr) -> bool {
        let in_network = |marks: &Marks| marks.has_network_of(addr);
        self.vips.contains(&addr) || self.marks.as_ref().is_some_and(in_network)
    }

    /// Whether a packet may be one of a service's or of a server's.
    pub(super) fn is_ours(&self, flow: &Flow) -> bool {
        self.is_vip(flow.dst) || self.replier_addrs.contains(&flow.src) || self.is_local(flow.dst)
    }

    /// Whether an address is a VIP that UVS has instead of the host.
    pub(super) fn owns(&self, addr: Addr) -> bool {
        self.owned.contains(&addr)
    }

    /// Whether UVS answers for an address in ARP.
    pub(super) fn announces(&self, addr: Addr) -> bool {
        self.owns(addr) && !self.yielded.contains(&addr)
    }

    /// Whether an address is a VIP that the director does not have, or leaves to the host while it is a backup
    /// (backup_only). One that has come since is there from when `fib` knows it, whatever the snapshot says.
    #[inline(always)]
    pub(super) fn is_absent(&self, addr: Addr, fib: &Fib) -> bool {
        let lacks = || self.absent.contains(&addr) && !fib.is_local(addr);
        self.stands_back || !self.absent.is_empty() && lacks()
    }

    /// Whether some services' connections are logged.
    pub(super) fn logs(&self) -> bool {
        !self.logged.is_empty()
    }

    /// Whether an address is one of FULLNAT's local ones.
    pub(super) fn is_local(&self, addr: Addr) -> bool {
        self.locals.contains(&addr)
    }

    /// Whether packets from this endpoint, of this IP protocol, reach clients only through the director.
    pub(super) fn is_replier(&self, protocol: u8, from: Endpoint) -> bool {
        is_one_of(&self.repliers, protocol, from)
    }

    /// Whether this endpoint, of this IP protocol, is a NAT server.
    pub(super) fn is_nat_server(&self, protocol: u8, end: Endpoint) -> bool {
        is_one_of(&self.nat_servers, protocol, end)
    }

    pub(super) fn has_tunnels(&self) -> bool {
        !self.tunnels.is_empty()
    }

    /// Whether a tunnel of this kind ends at an address; `port` is 0 where the kind has none.
    pub(super) fn ends_tunnel(&self, addr: Addr, port: u16, kind: TunnelKind) -> bool {
        self.tunnels.contains(&(addr, port, kind))
    }

    /// Whether a tunnel of any kind ends at an address.
    pub(super) fn ends_a_tunnel(&self, addr: Addr) -> bool {
        self.tunnel_addrs.contains(&addr)
    }

    /// Whether a client is kept out of every service, and gets no answer of UVS's own either.
    pub(super) fn denies_everywhere(&self, client: Addr) -> bool {
        self.access().everywhere.denies(client)
    }

    /// Whether a client is kept out of a service. A list outlives its service, as a connection does.
    pub(super) fn denies(&self, service: &ServiceKey, client: Addr) -> bool {
        let own = self.list_of(service);
        self.denies_everywhere(client) || own.is_some_and(|list| list.denies(client))
    }

    /// The rules that decide about a client: that of the lists for all services, and that of this one's.
    pub(super) fn rules(&self, service: &ServiceKey, client: Addr) -> [Option<Rule>; 2] {
        let own = self.list_of(service);
        [
            self.access().everywhere.decides(client),
            own.and_then(|list| list.decides(client)),
        ]
    }

    fn access(&self) -> &Arc<Access> {
        &self.snapshot.access
    }

    fn list_of(&self, service: &ServiceKey) -> Option<&AccessList> {
        let services = &self.access().services;
        if services.is_empty() {
            return None;
        }
        services.get(service).map(Arc::as_ref)
    }
}

/// The rules whose mark has a service; `None` where there are none.
fn served_marks(snapshot: &Snapshot, slots: &HashMap<ServiceKey, u32>) -> Option<Marks> {
    let is_served = |rule: &&MarkRule| slots.contains_key(&rule.service());
    let rules = snapshot.marks.iter().filter(is_served);
    let mut rules = rules.copied().peekable();
    rules.peek()?;
    Some(Marks::new(rules))
}

/// Whether an endpoint is one of these servers, or of one that has every port.
fn is_one_of(servers: &Ends, protocol: u8, end: Endpoint) -> bool {
    Protocol::from_number(protocol).is_some_and(|p| {
        servers.contains(&(p, end)) || servers.contains(&(p, Endpoint::new(end.addr, 0)))
    })
}

/// What tells a tunnel's packets: the server's address, its port where the kind has one, and the kind.
fn tunnel_end(server: &ServerSpec) -> Option<(Addr, u16, TunnelKind)> {
    let kind = server.tunnel.kind;
    let port = if kind.def().has_port {
        server.tunnel.port
    } else {
        0
    };
    (server.forwarding == Forwarding::Tunnel).then_some((server.endpoint.addr, port, kind))
}
