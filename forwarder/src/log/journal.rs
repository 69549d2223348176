//! systemd's journal, with an event's fields as its own: the native protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>), one datagram an entry. Only the log's thread sends.

use std::fmt::Debug;
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::limit::line;
use super::queue::Queue;

/// Where the journal listens.
pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";
/// Whose lines these are: `journalctl -t uvs`.
pub(super) const IDENTIFIER: &str = "uvs";
/// Bytes of a value; the rest is cut off. A datagram must fit into the socket's buffer, 208 KiB by default.
const LONGEST: usize = 32 << 10;
/// Bytes of a field's name, the journal's own limit.
const LONGEST_NAME: usize = 64;

/// The journal's socket, where standard error is the journal's: `$JOURNAL_STREAM` (systemd.exec(5)) names it.
pub(super) fn connected() -> Option<Socket> {
    let stream = std::env::var("JOURNAL_STREAM").ok()?;
    let stderr = rustix::fs::fstat(rustix::stdio::stderr()).ok()?;
    if stream != format!("{}:{}", stderr.st_dev, stderr.st_ino) {
        return None;
    }
    let socket = UnixDatagram::unbound().ok()?;
    // A sandbox may have the stream and not the socket.
    socket.connect(SOCKET).ok()?;
    UnixDatagram::unbound().ok().map(Socket)
}

/// A socket of ours. It stays unconnected, so that it finds a journal that was restarted.
pub(super) struct Socket(UnixDatagram);

impl Socket {
    /// Sends an entry; whether the journal has it.
    pub(super) fn send(&self, entry: &[u8]) -> bool {
        self.0.send_to(entry, SOCKET).is_ok()
    }
}

/// Makes entries of events.
pub(super) struct Journal(pub(super) Queue);

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.push(entry(event));
    }
}

fn entry(event: &Event<'_>) -> Vec<u8> {
    let about = event.metadata();
    let mut entry = plain(IDENTIFIER, *about.level(), &line(event));
    put(&mut entry, "TARGET", about.target());
    if let (Some(file), Some(line)) = (about.file(), about.line()) {
        put(&mut entry, "CODE_FILE", file);
        put(&mut entry, "CODE_LINE", &line.to_string());
    }
    event.record(&mut Fields(&mut entry));
    entry
}

/// An entry that is only a message, so far.
pub(crate) fn plain(identifier: &str, level: Level, message: &str) -> Vec<u8> {
    let mut entry = Vec::new();
    let priority = match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    };
    put(&mut entry, "PRIORITY", priority);
    put(&mut entry, "SYSLOG_IDENTIFIER", identifier);
    put(&mut entry, "MESSAGE", message);
    entry
}

/// `NAME=value`, or with its length where the value has more than one line.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    let value = &value[..value.floor_char_boundary(LONGEST)];
    entry.extend(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend((value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend(value.as_bytes());
    entry.push(b'\n');
}

/// An event's own fields: `interface` becomes `UVS_INTERFACE`.
struct Fields<'a>(&'a mut Vec<u8>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            return;
        }
        let letter = |c: char| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        };
        let name = "UVS_".chars().chain(field.name().chars().map(letter));
        let name: String = name.take(LONGEST_NAME).collect();
        put(self.0, &name, value);
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn an_entry_has_the_message_the_place_and_the_fields() {
        let made = Arc::new(Mutex::new(Vec::new()));
        let subscriber = tracing_subscriber::registry().with(Keep(Arc::clone(&made)));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(interface = "eth0", so_far = 3, "ring is\nfull");
        });
        let made = made.lock().expect("an entry").clone();
        let text = String::from_utf8_lossy(&made);
        let message = "ring is\nfull interface=\"eth0\" so_far=3";
        let length = String::from_utf8((message.len() as u64).to_le_bytes().to_vec());
        let length = length.expect("small");
        let begin = format!("PRIORITY=4\nSYSLOG_IDENTIFIER=uvs\nMESSAGE\n{length}{message}\n");
        assert!(text.starts_with(&begin), "{text:?}");
        assert!(text.contains("\nCODE_FILE=forwarder/src/log/journal.rs\nCODE_LINE="));
        assert!(
            text.ends_with("\nUVS_INTERFACE=eth0\nUVS_SO_FAR=3\n"),
            "{text:?}"
        );
    }

    #[test]
    fn a_long_value_is_cut_between_two_characters() {
        let long = plain(IDENTIFIER, Level::ERROR, &"ä".repeat(LONGEST));
        assert!(long.len() < LONGEST + 100);
        assert!(String::from_utf8(long).is_ok());
    }

    struct Keep(Arc<Mutex<Vec<u8>>>);

    impl<S: Subscriber> Layer<S> for Keep {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().expect("a place").extend(entry(event));
        }
    }
}
