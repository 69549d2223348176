//! The connection table: two keys a connection, expiry without per-packet timer work, a hard limit.
//!
//! An index of 32-bit references over a slab: a connection is found by the client's flow and, where
//! replies pass the director, by the server's. The hash is SipHash-1-3 with a secret key (`hash`), since clients
//! choose the tuples. A packet only writes its connection's deadline; the timer wheel looks at it when
//! the connection's slot has its turn, and puts it back where the deadline has moved.

use std::borrow::Cow;
use std::hash::Hasher;
use std::time::Duration;

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::fib::Ways;
use crate::flow::{Addr, Endpoint, Endpoints, Flow, Protocol};
use crate::narrow;
use crate::ranks::{Link, Rank, Ranked, Ranks};
use crate::time::Instant;
use crate::wheel::Wheel;

pub use crate::wheel::NONE;

mod hash;
mod hint;

use hash::hash;
pub use hint::Hint;

/// A connection's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConnId(pub u32);

/// Which of a connection's two keys a packet matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Client → VIP.
    Client,
    /// Server → client or local address.
    Server,
}

/// Flag: replies have not been seen (IP_VS_CONN_F_NOOUTPUT).
pub const NO_OUTPUT: u8 = 1;
/// Flag: counts as inactive at its server (IP_VS_CONN_F_INACTIVE).
pub const INACTIVE: u8 = 2;
/// Flag: a persistence template, not a connection (IP_VS_CONN_F_TEMPLATE).
pub const TEMPLATE: u8 = 4;
/// Flag: one packet only; leaves the table at once (IP_VS_CONN_F_ONE_PACKET).
pub const ONE_PACKET: u8 = 8;
/// Flag: its handshake has been measured, or never can be.
pub const MEASURED: u8 = 64;
/// Flag: a template of a firewall mark, which stands for all protocols.
pub const MARKED: u8 = 128;
/// Flag: has a key for the server's side.
const REPLIES: u8 = 16;
/// Flag: has no key of its flow alone: it has one elsewhere, or none any more and waits for its end.
const UNHASHED: u8 = 32;
/// Beside the mode's place, for flags are used up: the kernel forwards it, and has the truth about it.
const TAKEN: u8 = 128;
/// Beside the mode's place too: another director has told of it.
const TOLD: u8 = 64;
/// Beside the mode's place too: its server is told of its client, so that its packets change on the way.
const INTRODUCED: u8 = 32;
/// All that is kept beside the mode's place.
const BESIDE_MODE: u8 = TAKEN | TOLD | INTRODUCED;

/// State of a template of which a connection was established (IP_VS_CTPL_S_ASSURED).
pub const ASSURED: u8 = 1;

/// A connection. Two cache lines, and the pair of them that the processor fetches together; see the test.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[repr(align(128))]
pub struct Conn {
    /// Between whom it is; a template's client has port 0.
    pub ends: Endpoints,
    /// When it expires.
    pub deadline: Instant,
    /// Seconds that each packet adds.
    pub timeout: u32,
    /// The server's place in the engine's list.
    pub backend: u32,
    /// The template that controls it, or [`NONE`].
    pub control: u32,
    /// Connections that this template controls.
    pub controlled: u32,
    /// The TCP sequence number that the client expects next, 0 = unknown.
    pub client_expects: u32,
    /// The TCP sequence number that the server expects next, 0 = unknown.
    pub server_expects: u32,
    /// Its place among those that may be given up.
    pub(crate) link: Link,
    /// Neighbours in the wheel's list.
    next: u32,
    prev: u32,
    slot: u16,
    /// Packets from the client, saturating; in a template those of one-packet scheduling.
    pub in_packets: u8,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Its TCP or SCTP state; 0 for UDP; a template's is 0 or [`ASSURED`].
    pub state: u8,
    /// Its mode's place, and [`BESIDE_MODE`].
    mode: u8,
    /// [`NO_OUTPUT`] and so on.
    pub flags: u8,
}

impl Ranked for Conn {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl Conn {
    /// A connection that is not in a table yet; it expires after `timeout` seconds.
    pub const fn new(
        protocol: Protocol,
        client: Endpoint,
        vip: Endpoint,
        server: Endpoint,
    ) -> Self {
        Self {
            ends: Endpoints {
                client,
                vip,
                server,
                local: Endpoint::NONE,
            },
            deadline: Instant::ZERO,
            timeout: UNTRACKED,
            backend: NONE,
            control: NONE,
            controlled: 0,
            client_expects: 0,
            server_expects: 0,
            in_packets: 0,
            link: Link::NONE,
            next: NONE,
            prev: NONE,
            slot: UNLINKED,
            protocol,
            state: 0,
            mode: 0,
            flags: 0,
        }
    }

    /// The mode's place in the engine's list, bound when the connection is made.
    #[inline]
    pub const fn mode(&self) -> u8 {
        self.mode & !BESIDE_MODE
    }

    /// Binds the mode at a place below 32.
    pub(crate) const fn bind(&mut self, mode: u8) {
        debug_assert!(mode & BESIDE_MODE == 0, "there are fewer modes");
        self.mode = self.mode & (TOLD | INTRODUCED) | mode & !BESIDE_MODE;
    }

    /// Whether another director has told of it, before it was anything here.
    pub const fn is_told(&self) -> bool {
        self.mode & TOLD != 0
    }

    /// Whether a packet, or another connection, finds it by its flow.
    pub(crate) const fn is_found(&self) -> bool {
        !self.has(UNHASHED)
    }

    /// Whether the kernel forwards it, and has the truth about it.
    #[inline]
    pub const fn is_taken(&self) -> bool {
        self.mode & TAKEN != 0
    }

    /// Notes that it does, or does no longer.
    pub(crate) const fn set_taken(&mut self, taken: bool) {
        self.mode = self.mode & !TAKEN | if taken { TAKEN } else { 0 };
    }

    /// Whether its packets change on the way beside their addresses.
    #[inline]
    pub(crate) const fn is_introduced(&self) -> bool {
        self.mode & INTRODUCED != 0
    }

    /// Notes that they do, or do no longer.
    pub(crate) const fn set_introduced(&mut self, introduced: bool) {
        self.mode = self.mode & !INTRODUCED | if introduced { INTRODUCED } else { 0 };
    }

    /// Whether a flag is set.
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether its server's replies pass the director: it has a key for them.
    pub(crate) const fn is_replied_to(&self) -> bool {
        self.has(REPLIES)
    }

    /// Whether its server replies to the client, by way of the director.
    pub(crate) const fn is_replied_to_itself(&self) -> bool {
        self.has(REPLIES) && self.ends.local.port == 0
    }

    /// Whether both sides have closed, or one has reset: it only waits for its end.
    pub(crate) fn is_over(&self) -> bool {
        self.link.rank() == Rank::Over
    }

    /// Whether it is a template that goes first: no connection of its was established, and none is left.
    pub(crate) fn is_unproven(&self) -> bool {
        self.link.rank() == Rank::Unproven
    }

    /// How long it lives after a packet.
    #[inline]
    pub const fn lifetime(&self) -> Duration {
        Duration::from_secs(self.timeout as u64)
    }

    /// How long ago its last packet was seen.
    pub fn idle(&self, now: Instant) -> Duration {
        (now + self.lifetime()).since(self.deadline)
    }

    /// When its last packet was seen.
    pub(crate) fn last_packet(&self) -> Instant {
        self.deadline - self.lifetime()
    }

    /// The flow of the client's packets, or what a template is found by.
    pub const fn client_flow(&self) -> Flow {
        let mut f = Flow::new(self.protocol, self.ends.client, self.ends.vip);
        (f.protocol, f.reserved[0]) = self.kind(Side::Client);
        f
    }

    /// The flow of the server's packets as they reach the director.
    pub const fn server_flow(&self) -> Flow {
        Flow::new(self.protocol, self.ends.server, *self.ends.facing_server())
    }

    /// Whether a packet with this flow is of this side: [`Conn::client_flow`] or [`Conn::server_flow`] equals it.
    #[inline(always)]
    fn is_flow(&self, side: Side, flow: &Flow) -> bool {
        let is = |end: &Endpoint, addr: &Addr, port| end.port == port && end.addr == *addr;
        let (from, to) = match side {
            Side::Client => (&self.ends.client, &self.ends.vip),
            Side::Server => (&self.ends.server, self.ends.facing_server()),
        };
        is(from, &flow.src, flow.src_port)
            && is(to, &flow.dst, flow.dst_port)
            && self.kind(side) == (flow.protocol, flow.reserved[0])
    }

    /// What tells its flow from a template's: the protocol, and the first reserved byte.
    #[inline(always)]
    const fn kind(&self, side: Side) -> (u8, u8) {
        let protocol = self.protocol as u8;
        match side {
            Side::Server => (protocol, 0),
            Side::Client if self.has(MARKED) => (IPPROTO_IP, self.has(TEMPLATE) as u8),
            Side::Client => (protocol, self.has(TEMPLATE) as u8),
        }
    }

    fn flow(&self, side: Side) -> Flow {
        match side {
            Side::Client => self.client_flow(),
            Side::Server => self.server_flow(),
        }
    }
}

/// Why a connection was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// The table is at its limit.
    Full,
    /// One of its keys is this one's.
    Taken(ConnId),
}

/// The table.
pub struct ConnTable {
    slab: Vec<Conn>,
    /// Where each one's packets went last, beside it: it has no room left.
    ways: Vec<Ways>,
    /// Head of the list of free places, linked through `next`.
    free: u32,
    len: u32,
    /// How many of them other directors have told of.
    told: u32,
    limit: u32,
    index: HashTable<u32>,
    keys: (u64, u64),
    wheel: Wheel,
    ranks: Ranks,
}

/// A table as its successor in another process takes it over: everything but the index, which is made again.
#[derive(Serialize, Deserialize)]
pub(crate) struct Estate<'a> {
    slab: Cow<'a, [Conn]>,
    free: u32,
    len: u32,
    wheel: Wheel,
    ranks: Ranks,
}

impl ConnTable {
    /// A table of at most `limit` connections; `keys` must be random and secret.
    ///
    /// Memory for the index is taken now (so that no packet pays for growth), for connections as they come.
    pub fn new(limit: u32, keys: (u64, u64)) -> Self {
        Self {
            slab: Vec::with_capacity(limit as usize),
            ways: Vec::with_capacity(limit as usize),
            free: NONE,
            len: 0,
            told: 0,
            limit,
            index: HashTable::with_capacity(limit as usize * 2),
            keys,
            wheel: Wheel::new(),
            ranks: Ranks::new(),
        }
    }

    /// What another table goes on from.
    pub(crate) fn hand_down(&self) -> Estate<'_> {
        Estate {
            slab: Cow::Borrowed(&self.slab),
            free: self.free,
            len: self.len,
            wheel: self.wheel.clone(),
            ranks: self.ranks.clone(),
        }
    }

    /// A table that goes on from what one with the same keys has handed down. Where it has more than `limit`, that
    /// many are its limit.
    pub(crate) fn succeed(estate: Estate<'_>, limit: u32, keys: (u64, u64)) -> Self {
        let mut table = Self::new(limit.max(estate.len), keys);
        table.slab.extend_from_slice(&estate.slab);
        table.ways.resize(estate.slab.len(), Ways::NONE);
        (table.free, table.len) = (estate.free, estate.len);
        (table.wheel, table.ranks) = (estate.wheel, estate.ranks);
        for id in 0..table.places() {
            let (hashed, replies, told) = match table.at(id) {
                Some(conn) => (conn.is_found(), conn.has(REPLIES), conn.is_told()),
                None => continue,
            };
            table.told += u32::from(told);
            if hashed {
                table.add_key(id, Side::Client);
            }
            if replies {
                table.add_key(id, Side::Server);
            }
        }
        table
    }

    /// Binds each connection to the mode that is at another place now.
    pub(crate) fn rebind(&mut self, mode: impl Fn(u8) -> u8) {
        for conn in &mut self.slab {
            let taken = conn.is_taken();
            conn.bind(mode(conn.mode()));
            conn.set_taken(taken);
        }
    }

    /// An empty table with as many free places as this one has, and so many `more`; [`ConnTable::adopt`] fills it.
    pub fn excerpt(&self, more: u32) -> Self {
        Self {
            slab: Vec::new(),
            ways: Vec::new(),
            free: NONE,
            len: 0,
            told: 0,
            limit: self.limit - self.len + more,
            index: HashTable::new(),
            keys: self.keys,
            wheel: Wheel::new(),
            ranks: Ranks::new(),
        }
    }

    /// Takes a copy of another table's connection in, beyond the free places. Its template, where it has
    /// one, is at `control` here; `rank` says how willingly it is given up.
    pub fn adopt(&mut self, now: Instant, mut conn: Conn, control: u32, rank: Rank) -> ConnId {
        (conn.link, conn.control) = (Link::NONE, control);
        self.limit += 1;
        self.told += u32::from(conn.is_told());
        let id = self.enter(now, conn);
        self.set_rank(id, rank);
        id
    }

    /// Connections and templates in it.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// How many of them other directors have told of.
    pub const fn told(&self) -> u32 {
        self.told
    }

    /// Notes that another director has told of a connection that was just inserted.
    pub(crate) fn note_told(&mut self, id: ConnId) {
        let conn = self.get_mut(id);
        let new = !conn.is_told();
        conn.mode |= TOLD;
        self.told += u32::from(new);
    }

    /// Whether it is empty.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets another limit; connections beyond it stay.
    pub(crate) const fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Its limit.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// The secret hash of a flow.
    pub(crate) fn hash_of(&self, flow: &Flow) -> u64 {
        hash(self.keys, flow)
    }

    /// The secret hash of a flow and of what else a template is found by.
    pub(crate) fn hash_of_named(&self, flow: &Flow, name: &str) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.keys.0, self.keys.1);
        hasher.write_u64(self.hash_of(flow));
        hasher.write(name.as_bytes());
        hasher.finish()
    }

    /// The connection that a packet with this flow belongs to, and in which direction it goes.
    pub fn find(&self, flow: &Flow) -> Option<(ConnId, Side)> {
        let hash = hash(self.keys, flow);
        let is_it = |r: &u32| self.slab[(r >> 1) as usize].is_flow(side_of(*r), flow);
        let found = self.index.find(hash, is_it);
        found.map(|r| (ConnId(r >> 1), side_of(*r)))
    }

    /// The connection at `id`.
    ///
    /// # Panics
    /// Where `id` did not come from this table.
    pub fn get(&self, id: ConnId) -> &Conn {
        &self.slab[id.0 as usize]
    }

    /// The connection at `id`. Its endpoints are its keys: they must not be changed.
    ///
    /// # Panics
    /// Where `id` did not come from this table.
    pub fn get_mut(&mut self, id: ConnId) -> &mut Conn {
        &mut self.slab[id.0 as usize]
    }

    /// Where a connection's packets went last.
    ///
    /// # Panics
    /// Where `id` did not come from this table.
    #[inline]
    pub(crate) fn ways(&self, id: ConnId) -> Ways {
        self.ways[id.0 as usize]
    }

    /// Where a connection's packets went last, to be noted.
    ///
    /// # Panics
    /// Where `id` did not come from this table.
    pub(crate) fn ways_mut(&mut self, id: ConnId) -> &mut Ways {
        &mut self.ways[id.0 as usize]
    }

    /// Inserts a connection; with `replies`, it is found by the server's flow as well.
    ///
    /// # Errors
    /// The table is full, or a key is taken; nothing is changed.
    pub fn insert(
        &mut self,
        now: Instant,
        mut conn: Conn,
        replies: bool,
    ) -> Result<ConnId, InsertError> {
        if self.len >= self.limit {
            return Err(InsertError::Full);
        }
        let taken = self
            .find(&conn.client_flow())
            .or_else(|| replies.then(|| self.find(&conn.server_flow())).flatten());
        if let Some((id, _)) = taken {
            return Err(InsertError::Taken(id));
        }
        if replies {
            conn.flags |= REPLIES;
        }
        conn.deadline = now + conn.lifetime();
        Ok(self.enter(now, conn))
    }

    /// Inserts a template that is found by more than its flow, and not by [`ConnTable::find`]: by who keeps that.
    ///
    /// # Errors
    /// The table is full; nothing is changed.
    pub(crate) fn insert_apart(
        &mut self,
        now: Instant,
        mut conn: Conn,
    ) -> Result<ConnId, InsertError> {
        if self.len >= self.limit {
            return Err(InsertError::Full);
        }
        conn.flags |= UNHASHED;
        conn.deadline = now + conn.lifetime();
        Ok(self.enter(now, conn))
    }

    /// Removes a connection.
    pub fn remove(&mut self, id: ConnId) -> Conn {
        let conn = self.slab[id.0 as usize];
        if conn.is_found() {
            self.remove_key(id.0, Side::Client);
        }
        if conn.has(REPLIES) {
            self.remove_key(id.0, Side::Server);
        }
        self.unlink(id.0);
        self.ranks.set(&mut self.slab, id.0, Rank::Protected);
        self.slab[id.0 as usize].next = self.free;
        self.slab[id.0 as usize].slot = FREE;
        self.free = id.0;
        self.len -= 1;
        self.told -= u32::from(conn.is_told());
        conn
    }

    /// A template is to be found no more, but lives until its time is over; its ports show as `port`.
    pub fn invalidate(&mut self, id: ConnId, port: u16) {
        self.remove_key(id.0, Side::Client);
        let conn = &mut self.slab[id.0 as usize];
        conn.flags |= UNHASHED;
        (conn.ends.vip.port, conn.ends.server.port) = (port, port);
    }

    /// Says how willingly a connection is given up; within its rank the one that has it longest goes
    /// first.
    pub fn set_rank(&mut self, id: ConnId, rank: Rank) {
        self.ranks.set(&mut self.slab, id.0, rank);
    }

    /// The connection to be given up first, `None` where all are kept.
    pub fn eviction_candidate(&self) -> Option<ConnId> {
        self.eviction_order().next()
    }

    /// All that may be given up, in their order.
    pub fn eviction_order(&self) -> impl Iterator<Item = ConnId> {
        let firsts = Rank::EVICTABLE
            .into_iter()
            .filter_map(|rank| self.ranks.first(rank));
        let lists = firsts.map(|first| {
            std::iter::successors(Some(first), |id| self.slab[*id as usize].link.after())
        });
        lists.flatten().map(ConnId)
    }

    /// A packet came: the connection lives for its time-out from now.
    pub fn touch(&mut self, now: Instant, id: ConnId) {
        let conn = &mut self.slab[id.0 as usize];
        let deadline = now + conn.lifetime();
        let earlier = deadline < conn.deadline;
        conn.deadline = deadline;
        // A later deadline is found when the slot's turn comes; an earlier one must not wait for it.
        if earlier {
            self.unlink(id.0);
            self.link(now, id.0);
        }
    }

    /// A connection is to be looked at no later than `at`, whatever its deadline was.
    pub(crate) fn hasten(&mut self, now: Instant, id: ConnId, at: Instant) {
        let conn = &mut self.slab[id.0 as usize];
        if at < conn.deadline {
            conn.deadline = at;
            self.unlink(id.0);
            self.link(now, id.0);
        }
    }

    /// Moves the wheel to `now` by at most `budget` connections and returns the next expired one, if any: in the order of
    /// their deadlines, as far as ticks tell them apart, also after a long sleep.
    /// Call until it returns `None`; the caller removes what is returned, touches it or puts it off.
    pub fn expired(&mut self, now: Instant, budget: &mut u32) -> Option<ConnId> {
        while *budget > 0 {
            let Some(id) = self.wheel.due(now) else {
                self.wheel.advance(now)?;
                continue;
            };
            *budget -= 1;
            self.unlink(id);
            let deadline = self.slab[id as usize].deadline;
            if self.wheel.has_come(deadline) {
                self.link(now, id);
                return Some(ConnId(id));
            }
            self.link(deadline, id);
        }
        None
    }

    /// What [`ConnTable::expired`] returned lives until `deadline`, if the turn of that has not come yet; whether it does.
    pub(crate) fn put_off(&mut self, id: ConnId, deadline: Instant) -> bool {
        if self.wheel.has_come(deadline) {
            return false;
        }
        self.slab[id.0 as usize].deadline = deadline;
        self.unlink(id.0);
        self.link(deadline, id.0);
        true
    }

    /// When [`ConnTable::expired`] has work again, `None` for an empty table.
    pub fn next_expiry(&self) -> Option<Instant> {
        (self.len > 0).then(|| self.wheel.next_turn())
    }

    /// How many places there are, used or not.
    pub fn places(&self) -> u32 {
        narrow::to_u32(self.slab.len())
    }

    /// The connection at a place, where there is one.
    pub fn at(&self, place: u32) -> Option<&Conn> {
        self.slab.get(place as usize).filter(|c| c.slot != FREE)
    }

    /// Connections from place `from` on, at most `max` places looked at; with the place to go on from.
    pub fn page(&self, from: u32, max: u32) -> (impl Iterator<Item = &Conn>, Option<u32>) {
        let from = from as usize;
        let to = (from + max as usize).min(self.slab.len());
        let rest = (to < self.slab.len()).then_some(narrow::to_u32(to));
        (
            self.slab[from.min(to)..to]
                .iter()
                .filter(|c| c.slot != FREE),
            rest,
        )
    }

    /// Puts a connection in: to its place, under its keys, and into the slot of its deadline.
    fn enter(&mut self, now: Instant, conn: Conn) -> ConnId {
        let id = self.place(conn);
        if self.len == 1 {
            self.wheel.start(now);
        }
        if conn.is_found() {
            self.add_key(id, Side::Client);
        }
        if conn.has(REPLIES) {
            self.add_key(id, Side::Server);
        }
        self.link(now, id);
        ConnId(id)
    }

    fn place(&mut self, conn: Conn) -> u32 {
        self.len += 1;
        if self.free == NONE {
            self.slab.push(conn);
            self.ways.push(Ways::NONE);
            return narrow::to_u32(self.slab.len()) - 1;
        }
        let id = self.free;
        self.free = self.slab[id as usize].next;
        self.slab[id as usize] = conn;
        self.ways[id as usize] = Ways::NONE;
        id
    }

    fn add_key(&mut self, id: u32, side: Side) {
        let (keys, slab) = (self.keys, &self.slab);
        let hash = hash(keys, &slab[id as usize].flow(side));
        self.index.insert_unique(hash, reference(id, side), |r| {
            self::hash(keys, &slab[(r >> 1) as usize].flow(side_of(*r)))
        });
    }

    fn remove_key(&mut self, id: u32, side: Side) {
        let hash = hash(self.keys, &self.slab[id as usize].flow(side));
        if let Ok(entry) = self.index.find_entry(hash, |r| *r == reference(id, side)) {
            entry.remove();
        }
    }

    /// Puts a connection into the slot of its deadline.
    fn link(&mut self, now: Instant, id: u32) {
        let slot = self.wheel.slot_of(now, self.slab[id as usize].deadline);
        let head = self.wheel.heads[usize::from(slot)];
        let conn = &mut self.slab[id as usize];
        (conn.slot, conn.prev, conn.next) = (slot, NONE, head);
        if head != NONE {
            self.slab[head as usize].prev = id;
        }
        self.wheel.heads[usize::from(slot)] = id;
    }

    fn unlink(&mut self, id: u32) {
        let Conn {
            slot, prev, next, ..
        } = self.slab[id as usize];
        if next != NONE {
            self.slab[next as usize].prev = prev;
        }
        if prev != NONE {
            self.slab[prev as usize].next = next;
        } else {
            self.wheel.heads[usize::from(slot)] = next;
        }
        self.slab[id as usize].slot = UNLINKED;
    }
}

/// Seconds until a connection goes whose state was never looked at (`ip_vs_conn_new`).
const UNTRACKED: u32 = 3;
/// The protocol of templates for all protocols.
const IPPROTO_IP: u8 = 0;
/// Marks a connection outside the wheel.
const UNLINKED: u16 = u16::MAX;
/// Marks a free place of the slab.
const FREE: u16 = u16::MAX - 1;

const fn reference(id: u32, side: Side) -> u32 {
    id << 1 | side as u32
}

const fn side_of(reference: u32) -> Side {
    if reference & 1 == 0 {
        Side::Client
    } else {
        Side::Server
    }
}

#[cfg(test)]
mod tests;
