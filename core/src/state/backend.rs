//! A real server as a scheduler sees it: its identity, its weight and the load the core counted.

use serde::{Deserialize, Serialize};

use crate::flow::Addr;

/// A real server of one service, in the order the kernel keeps them: newest first.
///
/// The core counts, schedulers only read. `#[repr(C)]`, 48 bytes: plugins read it as it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// The server's address.
    pub addr: Addr,
    /// Identity: stays with the server over edits and re-additions, never reused while the process lives.
    pub id: u64,
    /// 0 to 2147483647; 0 = quiesced: it keeps its connections and gets no new ones.
    pub weight: u32,
    /// Connections in the states IPVS counts as active (SYN_RECV, ESTABLISHED, …).
    pub active: u32,
    /// All other connections; UDP is here for its whole life.
    pub inactive: u32,
    /// [`Backend::OVERLOADED`].
    pub flags: u32,
    /// The server's port, host byte order.
    pub port: u16,
    /// Zero.
    pub reserved: u16,
    /// Smoothed time from a SYN to the server's SYN-ACK in microseconds; 0 = not known. Known for TCP
    /// where replies pass the director (NAT, FULLNAT), from the last minute's connections.
    pub handshake: u32,
}

const _: () = assert!(size_of::<Backend>() == 48 && align_of::<Backend>() == 8);

impl Backend {
    /// Flag: at its upper threshold; gets no new connections until it falls under the lower one.
    pub const OVERLOADED: u32 = 1;

    /// Whether a scheduler may pick it: weight above 0 and not overloaded.
    pub const fn is_available(&self) -> bool {
        self.weight > 0 && self.flags & Self::OVERLOADED == 0
    }

    /// IPVS's load figure: `active * 256 + inactive` (`ip_vs_dest_conn_overhead`).
    pub const fn overhead(&self) -> u64 {
        ((self.active as u64) << 8) + self.inactive as u64
    }
}
