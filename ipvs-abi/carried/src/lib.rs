//! What the preload library, or `uvs ipvs-run --trace` in its place, and the daemon say to each other: netlink's
//! messages as they are, and questions for what is no message. Nothing else is here, so that the library brings
//! nothing else into a program.
#![forbid(unsafe_code)]

mod addressee;
mod question;

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use addressee::{CONTROLLER, FAMILY, NAME, is_answered, is_for_ipvs};
pub use question::{FILES, MAGIC, OPTIONS, Part, Question, answer};

/// Where the daemon listens unless `$UVS_IPVS_SOCKET` says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/uvs/ipvs.sock";
/// The environment variable that says otherwise, to the daemon and to the library.
pub const SOCKET_VARIABLE: &str = "UVS_IPVS_SOCKET";
/// The daemon answers from memory; one that takes longer is stuck.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How often something is asked over a new connection, where the one before has ended without an answer: a daemon that
/// takes over from another (`uvs upgrade`) has none of its connections, and what that had not answered it has not done.
pub const TRIES: u32 = 3;
/// The most bytes of a datagram in either direction.
pub const MAX_DATAGRAM: usize = 64 << 10;

/// Where a daemon with this control socket listens: `control.sock` has `ipvs.sock` beside it, a socket of another
/// name one with `.ipvs` behind that.
pub fn socket_beside(control: &Path) -> PathBuf {
    if control
        .file_name()
        .is_some_and(|name| name == "control.sock")
    {
        return control.with_file_name("ipvs.sock");
    }
    let mut name: OsString = control.as_os_str().to_owned();
    name.push(".ipvs");
    name.into()
}

/// Whether sending has failed with this errno because the connection has ended, or because there was none.
pub fn is_gone(errno: i32) -> bool {
    let kind = io::Error::from_raw_os_error(errno).kind();
    has_broken(errno) || matches!(kind, ErrorKind::NotConnected | ErrorKind::ConnectionRefused)
}

fn has_broken(errno: i32) -> bool {
    let kind = io::Error::from_raw_os_error(errno).kind();
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// Asks over a connection of its own, and over another where that ends without an answer.
///
/// # Errors
/// Those of the last connection.
pub fn ask_again(mut ask: impl FnMut() -> Result<Vec<u8>, i32>) -> Result<Vec<u8>, i32> {
    let mut tries = TRIES;
    loop {
        tries -= 1;
        match ask() {
            Err(errno) if has_broken(errno) && tries > 0 => {}
            answered => return answered,
        }
    }
}

/// Why what follows will fail: a program without IPVS in the kernel says that only.
pub fn unreachable(socket: &Path, reason: &io::Error) -> String {
    format!(
        "uvs: {}: {reason}: no daemon takes IPVS commands here; start `uvs run`, or name its socket in ${SOCKET_VARIABLE}",
        socket.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_control_socket_has_its_own_beside_it() {
        for (control, ipvs) in [
            ("/run/uvs/control.sock", DEFAULT_SOCKET),
            ("/run/uvs/a.sock", "/run/uvs/a.sock.ipvs"),
            ("/run/uvs/b.sock", "/run/uvs/b.sock.ipvs"),
        ] {
            assert_eq!(socket_beside(Path::new(control)), Path::new(ipvs));
        }
    }
}
