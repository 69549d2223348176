//! Connections that the kernel forwards, as the engine's steps see them: what their legs are, and what becomes
//! of a frame that came up although its connection is taken.

use super::Engine;
use super::flows::{Adopted, Draft, Drafts, Tracking, Watch};
use super::pmtu::MIN_MTU;
use super::transit::Transit;
use super::transmit::{to_client, to_server};
use crate::conn::{Conn, ConnId, Side};
use crate::fib::{NextHop, Unreachable};
use crate::flow::{Family, Flow, Protocol};
use crate::offload::{Found, HandedOver, Hook, Reach, Room, ServerOrder, Untaken};
use crate::packet::Packet;
use crate::service::ServiceKey;
use crate::tcp::TcpState;
use crate::time::Instant;
use crate::trace::Recorder;
use crate::verdict::Verdict;

/// How often a packet is looked at again that the kernel has overtaken.
const TRIES: u32 = 8;

impl Engine {
    /// Hands connections over to the kernel from now on, as far as `reach` says.
    pub fn attach(&mut self, hook: Box<dyn Hook>, reach: Reach, room: Room) {
        let timeouts = *self.desired.timeouts();
        self.flows.attach(hook, (reach, room), timeouts);
    }

    /// How far the kernel's part goes; `None` without a hook.
    pub fn reach(&self) -> Option<Reach> {
        self.flows.has_hook().then(|| self.flows.reach())
    }

    /// Takes all connections back. What the kernel has counted is in the engine's numbers then.
    pub fn detach(&mut self) -> Option<Box<dyn Hook>> {
        self.flows.detach()
    }

    /// Takes in what the kernel has told. To be called before frames are handled and before anything is listed:
    /// where there is no news it costs next to nothing.
    pub fn catch_up(&mut self) {
        self.flows.catch_up();
    }

    /// Gives the hook its orders. To be called once a turn, before the frames of that turn leave: the entries of
    /// a connection are in the kernel before its first packet is on its way.
    pub fn give_orders(&mut self, now: Instant) {
        if !self.flows.has_hook() {
            return;
        }
        let strict = self.upkeep.is_strict(self.desired.sysctls());
        self.flows.set_strict(strict);
        self.flows.keep_numbers(now);
        while let Some(id) = self.flows.next_offer() {
            let drafts = self.drafts(now, id);
            self.flows.offer(id, &self.routes.fib, drafts);
        }
        self.flows.give_orders();
    }

    /// Goes on with the connections of an engine before this one, which the kernel has forwarded meanwhile, and
    /// with what was counted of their servers. To be called after the desired state and the routes were taken
    /// up, and before the first frame.
    pub fn adopt(&mut self, now: Instant, servers: &[ServerOrder], found: &[Found]) -> Adopted {
        let desired = &self.desired;
        let slot = |key: &ServiceKey| desired.slot(key);
        let modes = self.catalog.modes.len();
        let adopted = self.flows.adopt(now, (servers, found), slot, modes);
        self.look_for_strays();
        self.give_orders(now);
        adopted
    }

    /// Has frames of taken connections come up whose flow `wants` chooses, in either direction; `None` = no more.
    pub fn watch(&mut self, wants: Option<Watch>) {
        self.flows.watch(wants);
    }

    /// What is handed over.
    pub fn handed_over(&self) -> HandedOver {
        self.flows.handed_over()
    }
}

impl<R: Recorder> Engine<R> {
    /// A frame of a taken connection: the kernel could not forward it, or should not.
    #[cold]
    pub(super) fn come_up(
        &mut self,
        t: &mut Transit<'_, '_>,
        (id, side): (ConnId, Side),
    ) -> Verdict {
        let birth = self.flows.birth_of(id);
        self.flows.catch_up_with(id);
        let before = *self.flows.conn(id);
        let out_of_window = self.counters.out_of_window;
        let verdict = match side {
            Side::Client => self.continue_connection(t, id),
            Side::Server => self.reply(t, id),
        };
        let goes_on = birth.is_some() && self.flows.birth_of(id) == birth;
        if goes_on && self.counters.out_of_window == out_of_window {
            self.hand_back((t.now, t.packet), (id, side), before);
        }
        if goes_on {
            self.flows.offer_again(id);
        }
        // The hook has kept it from the host.
        match verdict {
            Verdict::Pass => Verdict::Local,
            verdict => verdict,
        }
    }

    /// Tells the kernel what a packet has made of a connection that was `before`.
    fn hand_back(
        &mut self,
        (now, packet): (Instant, &Packet),
        (id, side): (ConnId, Side),
        mut before: Conn,
    ) {
        for _ in 0..TRIES {
            if self.flows.put(id, &before) {
                return;
            }
            // It has moved there meanwhile: this packet moves what it is now.
            self.flows.catch_up_with(id);
            before = *self.flows.conn(id);
            let by = Tracking {
                now,
                timeouts: self.desired.timeouts(),
                strict: self.upkeep.is_strict(self.desired.sysctls()),
            };
            self.flows.track(id, packet, side == Side::Server, &by);
        }
    }

    /// Both directions of a connection as the kernel would have to forward them.
    fn drafts(&mut self, now: Instant, id: ConnId) -> Result<Drafts, Untaken> {
        let c = *self.flows.conn(id);
        self.may_be_taken(&c)?;
        let (mode, tunnel) = self.mode_of(&c);
        let query = to_server(&c, mode.forwarding);
        let to_server = way(self.routes.lookup(&query))?;
        // The way to a link-local address depends on where its packets come in.
        if c.ends.client.addr.is_link_local() || c.ends.server.addr.is_link_local() {
            return Err(Untaken::Way);
        }
        let to_client = self.routes.lookup(&to_client(&c, 0));
        let mut path = self.path_of(&c, tunnel);
        path.tunnel_source = to_server.source;
        let change = |forward| mode.rewrite.change(&path, forward).ok_or(Untaken::Mode);
        let overhead = mode.overhead(&path);
        let mtu = self
            .routes
            .path_mtus
            .mtu(now, c.ends.server.addr, to_server.mtu);
        if overhead > 0 && (mtu as usize) < MIN_MTU + overhead {
            return Err(Untaken::Way);
        }
        let forward = Draft {
            flow: c.client_flow(),
            change: change(true)?,
            arrival: self.arrival(&c.client_flow(), to_client)?,
            hop: to_server,
            mtu,
        };
        if !c.is_replied_to() {
            return Ok((forward, None));
        }
        let flow = c.server_flow();
        let arrival = self.arrival(&flow, Ok(to_server))?;
        let arrival = match self.routes.fib.has_rules(flow.family()) {
            true => self.index_of(&to_server),
            false => arrival,
        };
        let hop = way(self.hop_to_client(&flow, arrival.unwrap_or_default(), id))?;
        // Of each such packet the server is told of a shorter way (`redirect`).
        if flow.family() == Family::V6 && hop.port == to_server.port {
            return Err(Untaken::Way);
        }
        let reply = Draft {
            flow,
            change: change(false)?,
            hop,
            mtu: hop.mtu,
            arrival,
        };
        Ok((forward, Some(reply)))
    }

    fn may_be_taken(&self, c: &Conn) -> Result<(), Untaken> {
        let reach = self.flows.reach();
        let established = c.state == TcpState::Established as u8;
        match c.protocol {
            _ if reach == Reach::Guard => return Err(Untaken::Guard),
            _ if self.flows.tells_peers() => return Err(Untaken::Peers),
            _ if c.is_introduced() => return Err(Untaken::Introduced),
            Protocol::Sctp => return Err(Untaken::Protocol),
            Protocol::Tcp if reach == Reach::Established && !established => {
                return Err(Untaken::State);
            }
            Protocol::Tcp | Protocol::Udp => {}
        }
        if self.flows.server_of(c).is_removed()
            || self.desired.is_absent(c.ends.vip.addr, &self.routes.fib)
        {
            return Err(Untaken::Server);
        }
        Ok(())
    }

    /// The interface that packets of a flow must come in by, where the kernel's rp_filter may refuse others:
    /// the one that its answers leave by.
    fn arrival(
        &self,
        flow: &Flow,
        back: Result<NextHop, Unreachable>,
    ) -> Result<Option<u32>, Untaken> {
        let fib = &self.routes.fib;
        if !fib.filters() {
            return Ok(None);
        }
        let index = back.ok().and_then(|hop| self.index_of(&hop));
        let index = index.ok_or(Untaken::Way)?;
        match fib.is_spoofed(flow.src, flow.dst, index) {
            true => Err(Untaken::Way),
            false => Ok(Some(index)),
        }
    }

    fn index_of(&self, hop: &NextHop) -> Option<u32> {
        let interface = self.routes.fib.interface(hop.port)?;
        Some(interface.ifindex)
    }
}

/// A way that the kernel can send by: out of a port.
fn way(hop: Result<NextHop, Unreachable>) -> Result<NextHop, Untaken> {
    hop.map_err(|_| Untaken::Way)
}
