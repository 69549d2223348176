//! Services that share a NAT server: a client that uses one port towards two of them sends the server the
//! same tuple twice, and the server's answers name no VIP.
//!
//! An entry that is over gives way to the new connection. Where both live, another server is asked for; where
//! there is none, the newer one wins, as the kernel finds the newer entry first (`ip_vs_conn_out_get` on a
//! chain that grows at its head). FULLNAT has a port of its own for each, so this is NAT's alone.

use std::time::Duration;

use super::Engine;
use super::farewell::is_told;
use super::report::state_name;
use super::schedule::{Opening, Refused};
use super::transit::Transit;
use crate::backend::Backend;
use crate::conn::{Conn, ConnId, NONE};
use crate::flow::{Endpoint, Flow, Protocol};
use crate::outbox::Outbox;
use crate::sctp::SctpState;
use crate::service::Replies;
use crate::tcp::TcpState;
use crate::time::Instant;
use crate::trace::{Recorder, Step};
use crate::verdict::Verdict;

/// A UDP exchange without a packet for this long is over (net.netfilter.nf_conntrack_udp_timeout).
const UDP_IDLE: Duration = Duration::from_secs(30);

impl<R: Recorder> Engine<R> {
    /// Has the scheduler choose a server, one whose answers to this client can be told apart where there is
    /// one.
    pub(super) fn choose(&mut self, now: Instant, new: &Opening<'_>) -> Result<u32, Refused> {
        let first = self.pick(now, new, &[])?;
        if !self.is_shared(now, new, first) {
            return Ok(first);
        }
        Ok(self.choose_another(now, new, first).unwrap_or(first))
    }

    /// Asks again without the servers that would not do, each shown to the scheduler as overloaded.
    #[cold]
    fn choose_another(&mut self, now: Instant, new: &Opening<'_>, first: u32) -> Option<u32> {
        let mut avoid = vec![first];
        loop {
            let other = self.pick(now, new, &avoid).ok()?;
            if avoid.contains(&other) {
                return None;
            }
            if !self.is_shared(now, new, other) {
                return Some(other);
            }
            avoid.push(other);
        }
    }

    /// Whether a server has a connection of this client and port by another service that is not over.
    fn is_shared(&self, now: Instant, new: &Opening<'_>, server: u32) -> bool {
        let spec = self.servers.get(server).spec;
        let Some(protocol) = Protocol::from_number(new.flow.protocol) else {
            return false;
        };
        if spec.forwarding.replies() != Replies::Gateway {
            return false;
        }
        let end = Endpoint::new(spec.endpoint.addr, self.server_port(new, &spec));
        let replies = Flow::new(protocol, end, new.flow.source());
        let known = self.conns.find(&replies);
        known.is_some_and(|(id, _)| !has_ended(now, self.conns.get(id)))
    }

    /// A connection ends for a new one whose key it has.
    pub(super) fn give_way(&mut self, now: Instant, id: ConnId) {
        let c = *self.conns.get(id);
        let over = has_ended(now, &c);
        if over {
            self.counters.replaced_over += 1;
        } else {
            self.counters.replaced_live += 1;
        }
        // A removed server is nobody's to tell, and may be forgotten with its last connection.
        let removed = self.servers.get(c.backend).service == NONE;
        let reset = TcpState::from_number(c.state) == TcpState::Close;
        let told = c.protocol == Protocol::Tcp && !reset && !removed;
        self.replaced = told.then_some(c);
        self.record(|_| Step::GaveWay {
            vip: c.vip,
            state: state_name(c.protocol, c.state).to_owned(),
            over,
        });
        self.expire(now, id);
    }

    /// Tells the ends of a TCP connection that has just given way; whether a RST is in `out`. The server must
    /// know before it gets the SYN, which it would else take for one of the old connection, be that in
    /// TIME_WAIT. The client needs to know only of a connection that it takes for open.
    pub(super) fn tell_replaced(&mut self, now: Instant, out: &mut Outbox) -> bool {
        let Some(old) = self.replaced.take() else {
            return false;
        };
        if !self.voice.teardown_limit.allows(now) {
            return false;
        }
        if is_told(&old) {
            self.tell(now, &old, out);
        } else {
            let server = self.reset_server(now, &old, out);
            self.counters.told_servers += u64::from(server);
        }
        !out.is_empty()
    }
}

/// The frame leaves behind what is in `out`.
pub(super) fn behind(t: &mut Transit<'_, '_>, verdict: Verdict) -> Verdict {
    let Verdict::Send(egress) = verdict else {
        return verdict;
    };
    t.out.push_copy(t.frame.bytes(), t.frame.offload, egress);
    Verdict::SendOutbox
}

/// Marks the servers at the places `avoid` as overloaded for the pick at hand, or takes the marks away.
pub(super) fn mark(backends: &mut [Backend], servers: &[u32], avoid: &[u32], overloaded: bool) {
    if avoid.is_empty() {
        return;
    }
    for (backend, place) in backends.iter_mut().zip(servers) {
        if avoid.contains(place) {
            backend.flags = if overloaded {
                backend.flags | Backend::OVERLOADED
            } else {
                backend.flags & !Backend::OVERLOADED
            };
        }
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
        Protocol::Udp => {
            c.deadline.since(now) + UDP_IDLE <= Duration::from_secs(u64::from(c.timeout))
        }
    }
}
