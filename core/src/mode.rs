//! The mode's contract: how a packet travels between the director and a real server. What modes are called and
//! promise is in the rows of [`Forwarding`] and [`TunnelKind`].
//!
//! Modes are stateless; what must be remembered lives in the connection. A mode is bound once per
//! connection, so per-packet code asks no questions. Before a mode is called the engine has parsed and
//! checked the packet, decremented its TTL and made sure that it fits the MTU; afterwards it sets the
//! MAC addresses. A mode only changes addresses and ports, or wraps.

use crate::flow::{Addr, Endpoint, Endpoints, Family, Flow};
use crate::frame::Frame;
use crate::offload::Change;
use crate::packet::Packet;
use crate::service::{Forwarding, Tunnel, TunnelChecksum, TunnelKind};
use crate::verdict::DropReason;

/// The addresses of one connection, and what its tunnel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Between whom it is.
    pub ends: Endpoints,
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
            ends: Endpoints {
                client: flow.source(),
                vip: flow.destination(),
                server: flow.destination(),
                local: Endpoint::NONE,
            },
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

/// Where in a tunnel's packet the packet within begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inside {
    /// Bytes after the outer IP header.
    pub offset: usize,
    /// Which IP the packet within is of.
    pub family: Family,
    /// The port of the server's that the tunnel goes to, host byte order; 0 where it has none.
    pub port: u16,
}

/// What a mode does to packets.
pub trait Mode: Sync {
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

    /// Real server → client; only called where replies pass the director.
    ///
    /// # Errors
    /// The reason, where the frame cannot take this way; the frame is then dropped.
    fn reverse(
        &self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        path: &Path,
    ) -> Result<(), DropReason> {
        let _ = (frame, packet, path);
        Ok(())
    }

    /// What the kernel's program does instead of [`Mode::forward`] (`forward`) or [`Mode::reverse`] with all
    /// packets of a connection; `None` where it cannot, so that they come up.
    fn change(&self, path: &Path, forward: bool) -> Option<Change> {
        let _ = (path, forward);
        None
    }

    /// The packet within one that [`Mode::forward`] has wrapped, by the outer header's protocol and the bytes
    /// after that header, which may be cut off anywhere: ICMP errors quote such packets. `None` where it is
    /// not of this mode.
    fn inside(&self, protocol: u8, payload: &[u8]) -> Option<Inside> {
        let _ = (protocol, payload);
        None
    }
}

/// A mode's row in a table such as `uvs_modes::BUILTIN`. Its words and what it promises are in the rows of
/// its method and its encapsulation ([`Forwarding::def`], [`TunnelKind::def`]).
#[derive(Clone, Copy)]
pub struct ModeDef {
    /// The method it implements.
    pub forwarding: Forwarding,
    /// The encapsulation it implements, where the method is [`Forwarding::Tunnel`].
    pub encapsulation: Option<TunnelKind>,
    /// What it does to packets.
    pub rewrite: &'static dyn Mode,
}

impl ModeDef {
    /// The row of a tunnel.
    pub const fn tunnel(kind: TunnelKind, rewrite: &'static dyn Mode) -> Self {
        Self {
            forwarding: Forwarding::Tunnel,
            encapsulation: Some(kind),
            rewrite,
        }
    }

    /// The row of a method that wraps nothing.
    pub const fn plain(forwarding: Forwarding, rewrite: &'static dyn Mode) -> Self {
        Self {
            forwarding,
            encapsulation: None,
            rewrite,
        }
    }

    /// Whether it is the one that reaches a server with this method and this tunnel.
    pub fn reaches(&self, forwarding: Forwarding, tunnel: TunnelKind) -> bool {
        self.forwarding == forwarding && self.encapsulation.is_none_or(|kind| kind == tunnel)
    }

    /// Bytes that [`Mode::forward`] adds in front of the IP header.
    pub fn overhead(&self, path: &Path) -> usize {
        let server = path.ends.server.addr.family();
        self.encapsulation
            .map_or(0, |_| path.tunnel.overhead(server))
    }
}
