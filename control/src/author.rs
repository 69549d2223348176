//! Who asks for a change, as the log names them: user, process, and the command that the process was started with.
//!
//! The process may be gone when it is looked up, or be another one of the same number; and what it was started with is its
//! own to choose. So the words are bounded, and nothing in them can end a line or steer a terminal.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use crate::peer::Peer;

/// Characters of a command that are shown.
const SHOWN: usize = 160;
/// Bytes of it that are read: each character may take four, and most take one.
const READ: u64 = 1024;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// User and process.
    pub peer: Peer,
    /// What the process was started with; empty where nobody knows.
    pub command: Arc<str>,
}

impl Author {
    /// The process at the other end of a socket. `trusted` says that it may change anything: of others no more is read than
    /// their name, for the kernel reads a command from the process's own memory, which may be made to take long.
    pub fn of(peer: Peer, trusted: bool) -> Self {
        let file = if trusted { "cmdline" } else { "comm" };
        let known = (peer.pid > 0).then(|| read(&format!("/proc/{}/{file}", peer.pid)));
        let command = known.flatten().unwrap_or_default();
        Self {
            peer,
            command: command.into(),
        }
    }
}

/// `uid 0 pid 4711 (ipvsadm -e …)`
impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {} pid {}", self.peer.uid, self.peer.pid)?;
        match &*self.command {
            "" => Ok(()),
            command => write!(f, " ({command})"),
        }
    }
}

fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(READ).read_to_end(&mut bytes).ok()?;
    let text = words(&bytes);
    (!text.is_empty()).then_some(text)
}

/// Words that each end with a NUL, or a name that ends with its line.
fn words(bytes: &[u8]) -> String {
    let end = bytes.iter().rposition(|b| !matches!(b, 0 | b'\n'));
    let bytes = &bytes[..end.map_or(0, |last| last + 1)];
    let spaced: Vec<u8> = bytes
        .iter()
        .map(|b| if *b == 0 { b' ' } else { *b })
        .collect();
    printable(&String::from_utf8_lossy(&spaced), SHOWN)
}

/// A text as one line of at most so many characters, in which nothing steers a terminal.
pub fn printable(text: &str, most: usize) -> String {
    let mut line = String::new();
    for (place, c) in text.chars().enumerate() {
        if place == most {
            line.push('…');
            break;
        }
        if c.is_control() || is_invisible(c) {
            // Writing to a string does not fail.
            let _ = write!(line, "{}", c.escape_unicode());
        } else {
            line.push(c);
        }
    }
    line
}

/// Characters that end a line, have no width, or turn the direction of what follows.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_line_that_steers_nothing() {
        let said = |bytes: &[u8]| words(bytes);
        assert_eq!(
            said(b"ipvsadm\0-e\0-t\x0010.0.0.1:80\0"),
            "ipvsadm -e -t 10.0.0.1:80"
        );
        assert_eq!(said(b"sh\n"), "sh");
        assert_eq!(said(b"sh\0-c\0a\nb\x1b[2J\0"), "sh -c a\\u{a}b\\u{1b}[2J");
        assert_eq!(said("a\u{202e}b\u{85}".as_bytes()), "a\\u{202e}b\\u{85}");
        assert_eq!(said(b"\xff\xfe\0"), "\u{fffd}\u{fffd}");
        assert_eq!(said(b"\0\0"), "");
        let long = said(&[b'x'; 1024]);
        assert_eq!(long.chars().count(), SHOWN + 1);
        assert!(long.ends_with("x…"), "{long}");
    }

    #[test]
    fn a_process_is_found_by_its_number_and_one_that_is_gone_is_a_number() {
        let own = Peer {
            pid: i32::try_from(std::process::id()).expect("a pid"),
            uid: 7,
        };
        let me = Author::of(own, true);
        assert!(me.command.contains("uvs_control"), "{me}");
        let name = Author::of(own, false);
        assert!(
            !name.command.is_empty() && name.command.len() < 64,
            "{name}"
        );
        for pid in [0, i32::MAX] {
            let gone = Author::of(Peer { pid, uid: 7 }, true);
            assert_eq!(gone.to_string(), format!("uid 7 pid {pid}"));
        }
    }
}
