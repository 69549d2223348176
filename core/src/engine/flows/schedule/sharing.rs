//! Services that share a NAT server: a client that uses one port towards two of them sends the server the
//! same tuple twice, and the server's answers name no VIP.
//!
//! An entry that is over gives way to the new connection. Where both live, another server is asked for; where
//! there is none, the newer one wins, as the kernel finds the newer entry first (`ip_vs_conn_out_get` on a
//! chain that grows at its head). FULLNAT has a port of its own for each, so this is NAT's alone.

use std::time::Duration;

use super::{Refused, Scheduling};
use crate::conn::{Conn, ConnId};
use crate::engine::flows::event::Cause;
use crate::engine::flows::report::state_name;
use crate::flow::{Endpoint, Flow, Protocol};
use crate::sctp::SctpState;
use crate::service::Replies;
use crate::tcp::TcpState;
use crate::time::Instant;
use crate::trace::{Recorder, Step};

/// A UDP exchange without a packet for this long is over (net.netfilter.nf_conntrack_udp_timeout).
const UDP_IDLE: Duration = Duration::from_secs(30);

impl<R: Recorder> Scheduling<'_, R> {
    /// Has the scheduler choose a server, one whose answers to this client can be told apart where there is
    /// one.
    pub(super) fn choose(&mut self) -> Result<u32, Refused> {
        let first = self.pick(&[])?;
        if !self.is_shared(first) {
            return Ok(first);
        }
        Ok(self.choose_another(first).unwrap_or(first))
    }

    /// Asks again without the servers that would not do, each shown to the scheduler as overloaded.
    #[cold]
    fn choose_another(&mut self, first: u32) -> Option<u32> {
        let mut avoid = vec![first];
        loop {
            let other = self.pick(&avoid).ok()?;
            if avoid.contains(&other) {
                return None;
            }
            if !self.is_shared(other) {
                return Some(other);
            }
            avoid.push(other);
        }
    }

    /// Whether a server has a connection of this client and port by another service that is not over.
    fn is_shared(&self, server: u32) -> bool {
        let spec = self.flows.pool.servers.get(server).spec;
        let Some(protocol) = Protocol::from_number(self.flow.protocol) else {
            return false;
        };
        if spec.forwarding.replies() != Replies::Gateway {
            return false;
        }
        let end = Endpoint::new(spec.endpoint.addr, self.server_port(&spec));
        let replies = Flow::new(protocol, end, self.flow.source());
        let known = self.flows.find(&replies);
        known.is_some_and(|(id, _)| !has_ended(self.now, &self.flows.current(id)))
    }

    /// A connection ends for a new one whose key it has.
    pub(super) fn give_way(&mut self, id: ConnId) {
        self.flows.catch_up_with(id);
        let c = *self.flows.conn(id);
        let over = has_ended(self.now, &c);
        // A removed server is nobody's to tell, and may be forgotten with its last connection.
        let removed = self.flows.server_of(&c).is_removed();
        let reset = TcpState::from_number(c.state) == TcpState::Close;
        let told = c.protocol == Protocol::Tcp && !reset && !removed;
        let edits = self.flows.edits_of(id);
        self.flows.replaced = told.then_some((c, edits));
        self.record(|_| Step::GaveWay {
            vip: c.ends.vip,
            state: state_name(c.protocol, c.state).to_owned(),
            over,
        });
        let cause = match over {
            true => Cause::ReplacedOver,
            false => Cause::ReplacedLive,
        };
        self.flows.end(self.now, id, cause);
    }
}

/// Whether nothing more is to come of a connection but late packets: both ends have closed it, one has reset
/// it, or it has been idle for long. One that only one end has closed may still carry data.
fn has_ended(now: Instant, c: &Conn) -> bool {
    match c.protocol {
        Protocol::Tcp => matches!(
            TcpState::from_number(c.state),
            TcpState::TimeWait | TcpState::Close | TcpState::LastAck
        ),
        Protocol::Sctp => matches!(
            SctpState::from_number(c.state),
            SctpState::Closed | SctpState::Rejected
        ),
        Protocol::Udp => c.deadline.since(now) + UDP_IDLE <= c.lifetime(),
    }
}
