//! What the preload library and the daemon say to each other: netlink's messages as they are, and questions for
//! what is no message. Nothing else is here, so that the library brings nothing else into a program.
#![forbid(unsafe_code)]

mod addressee;
mod question;

pub use addressee::{CONTROLLER, FAMILY, NAME, is_answered, is_for_ipvs};
pub use question::{FILES, MAGIC, Part, Question};

/// Where the daemon listens unless `$UVS_IPVS_SOCKET` says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/uvs/ipvs.sock";
/// The environment variable that says otherwise, to the daemon and to the library.
pub const SOCKET_VARIABLE: &str = "UVS_IPVS_SOCKET";
/// The most bytes of a datagram in either direction.
pub const MAX_DATAGRAM: usize = 64 << 10;
