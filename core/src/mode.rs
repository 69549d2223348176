//! The mode's contract: how a packet travels between the director and a real server.
//!
//! Modes are stateless; what must be remembered lives in the connection. A mode is bound once per
//! connection, so per-packet code asks no questions. Before a mode is called the engine has parsed and
//! checked the packet, decremented its TTL and made sure that it fits the MTU; afterwards it sets the
//! MAC addresses. A mode only changes addresses and ports, or wraps.

use crate::flow::{Addr, Endpoint, Flow};
use crate::frame::Frame;
use crate::packet::Packet;
use crate::service::{Forwarding, Tunnel, TunnelChecksum, TunnelKind};
use crate::verdict::DropReason;

/// The addresses of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The client.
    pub client: Endpoint,
    /// The service's address as the client used it.
    pub vip: Endpoint,
    /// The real server.
    pub server: Endpoint,
    /// FULLNAT's local address and port; [`Endpoint::NONE`] in other modes.
    pub local: Endpoint,
    /// Outer source address of a tunnel: the director's own on the way to the server.
    pub tunnel_source: Addr,
    /// The server's tunnel parameters.
    pub tunnel: Tunnel,
    /// Identification of an outer IPv4 header that does not carry DF.
    pub ip_id: u16,
    /// Whether an outer header copies the inner DF (`pmtu_disc`).
    pub copy_df: bool,
}

impl Path {
    /// The path of a packet that is only routed.
    pub const fn plain(flow: &Flow) -> Self {
        Self {
            client: flow.source(),
            vip: flow.destination(),
            server: flow.destination(),
            local: Endpoint::NONE,
            tunnel_source: Addr::UNSPECIFIED,
            tunnel: Tunnel {
                kind: TunnelKind::Ipip,
                port: 0,
                checksum: TunnelChecksum::None,
            },
            ip_id: 0,
            copy_df: true,
        }
    }
}

/// Forwards packets of one connection.
pub trait Mode: Sync {
    /// The method it implements.
    fn forwarding(&self) -> Forwarding;

    /// The encapsulation it implements, where the method is [`Forwarding::Tunnel`].
    fn encapsulation(&self) -> Option<TunnelKind> {
        None
    }

    /// The word `ipvsadm -L` shows, at most 7 bytes.
    fn name(&self) -> &'static str;

    /// The flow that the server's replies will carry when they reach the director, or `None` where they
    /// go straight to the client.
    fn reply_flow(&self, flow: &Flow, path: &Path) -> Option<Flow>;

    /// Bytes that [`Mode::forward`] adds in front of the IP header.
    fn overhead(&self, path: &Path) -> usize {
        let _ = path;
        0
    }

    /// Client → real server.
    ///
    /// # Errors
    /// The reason, where the frame cannot take this way; the frame is then dropped.
    fn forward(
        &self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        path: &Path,
    ) -> Result<(), DropReason>;

    /// Real server → client; only called in modes with a [`Mode::reply_flow`].
    ///
    /// # Errors
    /// The reason, where the frame cannot take this way; the frame is then dropped.
    fn reverse(
        &self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        path: &Path,
    ) -> Result<(), DropReason>;
}
