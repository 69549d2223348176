//! What this crate and the program share, as `bpf/layout.h` has it: a test holds the two together.
//!
//! Ports and IPv4 addresses lie there as in a packet, all else in host byte order, which is little endian: on other
//! machines there is no hook ([`ability()`](crate::ability())).

use std::sync::atomic::{AtomicU32, AtomicU64};

use uvs_core::flow::{Addr, Flow};

use crate::sys::memory::Shared;

/// The bit of a frame's mark that says that it is UVS's. Together with [`HIDDEN`] it is what the rings ask for.
pub const OURS_MARK: u32 = 0x0800_0000;

/// The EtherType that hides a frame of UVS's from the host's stack (ETH_P_8021AD): that of a tag of four bytes, behind
/// which its own follows.
pub const HIDDEN: u16 = 0x88a8;

/// Bits of [`Control::flags`].
pub(crate) mod control {
    pub(crate) const STRICT: u32 = 1;
    pub(crate) const NETWORKS: u32 = 2;
    pub(crate) const NO_UDP_GSO: u32 = 4;
}

/// Bits of [`Conn::word`], above the state.
pub(crate) mod flag {
    pub(crate) const NO_OUTPUT: u64 = 0x01 << 8;
    pub(crate) const PROVEN: u64 = 0x02 << 8;
    pub(crate) const UP: u64 = 0x04 << 8;
    pub(crate) const TELLS: u64 = 0x08 << 8;
    pub(crate) const OPENING: u64 = 0x10 << 8;
    pub(crate) const COUNTS: u64 = 0x20 << 8;
}

/// What [`Leg::kind`] says.
pub(crate) mod leg {
    pub(crate) const NONE: u32 = 0;
    pub(crate) const PLAIN: u32 = 1;
    pub(crate) const TRANSLATE: u32 = 2;
    pub(crate) const WRAP4: u32 = 3;
    pub(crate) const WRAP6: u32 = 4;
    pub(crate) const COPY_DF: u32 = 0x100;
}

/// What a move of TCP's states says beside the next one.
pub(crate) mod step {
    pub(crate) const SYNCHRONIZED: u64 = 0x100;
    pub(crate) const TOLD: u64 = 0x200;
    pub(crate) const PROVEN: u64 = 0x400;
}

/// Kinds of rules.
pub(crate) mod rule {
    pub(crate) const TO: u64 = 1;
    pub(crate) const FULLNAT: u64 = 2;
    pub(crate) const STRAY: u64 = 3;
    pub(crate) const TUNNEL: u64 = 4;
    pub(crate) const WHOLE: u64 = 5;
}

/// What an address is.
pub(crate) mod address {
    pub(crate) const TO: u64 = 0x01;
    pub(crate) const OWNED: u64 = 0x02;
    pub(crate) const FTP: u64 = 0x04;
    pub(crate) const RANGES: u64 = 0x08;
    pub(crate) const LOCAL: u64 = 0x10;
    pub(crate) const FULLNAT: u64 = 0x20;
    pub(crate) const FROM: u64 = 0x40;
    pub(crate) const SERVER: u64 = 0x80;
    pub(crate) const ALL: [u64; 8] = [TO, OWNED, FTP, RANGES, LOCAL, FULLNAT, FROM, SERVER];
}

/// Cells of each port's numbers.
pub(crate) const CELLS: u32 = 32;
/// Port's cells that are no reason of [`Up`](uvs_core::offload::Up).
pub(crate) mod cell {
    pub(crate) const FORWARDED: u32 = 0;
    pub(crate) const LOST: u32 = 1;
    pub(crate) const GSO: u32 = 2;
    /// The first of the reasons.
    pub(crate) const UP: u32 = 3;
}

/// TCP's states and events.
pub(crate) const STATES: usize = 11;
pub(crate) const EVENTS: usize = 5;
/// Most ranges of one network.
pub(crate) const RANGES: usize = 16;
/// Flows that one call takes out.
pub(crate) const REMOVALS: usize = 32;
/// Words of what is kept of a server's cell for the next daemon.
pub(crate) const NAMES: usize = 15;
/// Words of what is kept of a connection for the next daemon.
pub(crate) const KEPT: usize = 18;

macro_rules! shared {
    ($($(#[$doc:meta])* struct $name:ident ($size:literal) { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            pub(crate) struct $name { $($(#[$field_doc])* pub(crate) $field: $type,)* }

            const _: () = assert!(size_of::<$name>() == $size && $size % 8 == 0);
            // SAFETY: all fields are atomics or arrays of these, and the size is a multiple of 8.
            unsafe impl Shared for $name {}
        )*
    };
}

shared! {
    /// `struct control`.
    struct Control (72) {
        heartbeat: AtomicU64,
        stale_after: AtomicU64,
        ours_mark: AtomicU32,
        host_mark: AtomicU32,
        flags: AtomicU32,
        ways: AtomicU32,
        first_port: AtomicU32,
        last_port: AtomicU32,
        ip_id: AtomicU64,
        events_lost: AtomicU64,
        removals: AtomicU64,
        version: AtomicU64,
    }

    /// `struct conn`.
    struct Conn (64) {
        /// State, [`flag`]s, low half of the birth; 0 in the half = nobody's.
        word: AtomicU64,
        birth: AtomicU64,
        last_seen: AtomicU64,
        answered: AtomicU64,
        server: AtomicU32,
        generation: AtomicU32,
        ways: AtomicU32,
        client_packets: AtomicU32,
        /// Which keys are in the maps; the daemon's.
        keys: AtomicU64,
        server_expects: AtomicU32,
        client_expects: AtomicU32,
    }

    /// `struct leg`.
    struct Leg (64) {
        src: [AtomicU64; 2],
        dst: [AtomicU64; 2],
        ports: AtomicU32,
        addresses: AtomicU32,
        port_sum: AtomicU32,
        hop: AtomicU32,
        arrival: AtomicU32,
        kind: AtomicU32,
        /// The program's.
        port: AtomicU64,
    }

    /// `struct total`, of a connection.
    struct Total (16) {
        packets: AtomicU64,
        bytes: AtomicU64,
    }

    /// `struct hop`.
    struct Hop (24) {
        macs: [AtomicU32; 3],
        ifindex: AtomicU32,
        mtu: AtomicU32,
        unused: AtomicU32,
    }

    /// `struct server`.
    struct Server (128) {
        generation: AtomicU64,
        /// Whose it is, and what was counted of it: the daemon's.
        names: [AtomicU64; NAMES],
    }

    /// `struct removal`.
    struct Removal (48) {
        src: [AtomicU64; 2],
        dst: [AtomicU64; 2],
        rest: AtomicU64,
        target: AtomicU64,
    }

    /// What is kept of a connection for the next daemon; the program does not look at it.
    struct Kept (144) {
        words: [AtomicU64; KEPT],
    }
}

/// An address as words.
pub(crate) fn words(addr: Addr) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = addr.0;
    [[a, b, c, d, e, f, g, h], rest].map(u64::from_le_bytes)
}

/// An address from words.
pub(crate) fn addr(words: [u64; 2]) -> Addr {
    let n = u128::from(words[0]) | u128::from(words[1]) << 64;
    Addr(n.to_le_bytes())
}

/// The ports of a flow as they lie in a header: the source's in the lower half.
pub(crate) fn ports(src: u16, dst: u16) -> u32 {
    u32::from(src.to_be()) | u32::from(dst.to_be()) << 16
}

/// A flow's key.
pub(crate) enum Key {
    /// Of `flows4`.
    V4([u64; 2]),
    /// Of `flows6`.
    V6([u64; 5]),
}

impl Key {
    /// The key of a flow, whose addresses are both of one family.
    pub(crate) fn of(flow: &Flow) -> Self {
        let rest = u64::from(ports(flow.src_port, flow.dst_port)) | u64::from(flow.protocol) << 32;
        match (flow.src.as_v4(), flow.dst.as_v4()) {
            (Some(src), Some(dst)) => {
                let (src, dst) = (u32::from_le_bytes(src), u32::from_le_bytes(dst));
                Self::V4([u64::from(src) | u64::from(dst) << 32, rest])
            }
            _ => {
                let ([a, b], [c, d]) = (words(flow.src), words(flow.dst));
                Self::V6([a, b, c, d, rest])
            }
        }
    }
}

/// Words as bytes.
pub(crate) fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
