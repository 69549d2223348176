//! A client's conversation with the exporter over memory instead of a socket, for tests and fuzzing. Time runs
//! only while nobody has anything to do, so that waiting for a silent client takes none.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::collect::Cell;
use crate::server::{CONNECTION_LIFE, Shared, converse};

/// Bytes on their way in each direction, less than a request may have.
const IN_FLIGHT: usize = 4096;
/// Longer than any answer of an exporter without numbers.
const LONGEST: usize = 4096;

/// An exporter whose daemon never answers, so that only requests decide what it says.
pub struct Listening {
    runtime: Runtime,
    shared: Arc<Shared>,
    _published: watch::Sender<()>,
}

impl Listening {
    /// Starts it.
    ///
    /// # Panics
    /// Without the means for a runtime.
    #[allow(clippy::new_without_default, reason = "it starts something")]
    pub fn new() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        let (_published, news) = watch::channel(());
        let nothing = Box::new(Vec::new);
        let shared = Shared::new(Cell::default(), Box::new(|| {}), news, nothing);
        Self {
            runtime: runtime.expect("a runtime"),
            shared: Arc::new(shared.expect("valid metrics")),
            _published,
        }
    }

    /// What is answered to a client that sends `bytes`, and then closes its side or says no more.
    pub fn answer(&self, bytes: &[u8], closes: bool) -> Vec<u8> {
        let (client, server) = tokio::io::duplex(IN_FLIGHT);
        let (mut reader, mut writer) = tokio::io::split(client);
        let shared = Arc::clone(&self.shared);
        // The server may be done before the client has sent everything.
        let serve = async { drop(timeout(CONNECTION_LIFE, converse(server, shared)).await) };
        let send = async {
            let sent = writer.write_all(bytes).await;
            if sent.is_ok() && closes {
                let _ = writer.shutdown().await;
            }
        };
        let read = async {
            let mut answer = Vec::new();
            let _ = reader.read_to_end(&mut answer).await;
            answer
        };
        let talk = async { tokio::join!(serve, send, read).2 };
        self.runtime.block_on(talk)
    }

    /// Lets a client send whatever `data` says: its first byte is whether it closes, the rest is sent.
    ///
    /// # Panics
    /// Where the answer is not HTTP, is too long, or grants what was not asked for.
    pub fn exercise(&self, data: &[u8]) {
        let (closes, bytes) = data
            .split_first()
            .map_or((true, data), |(b, rest)| (b & 1 == 0, rest));
        let answer = self.answer(bytes, closes);
        assert!(answer.len() <= LONGEST, "{} bytes", answer.len());
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."));
        // A parser may skip empty lines before a request.
        let request = bytes.trim_ascii_start();
        let asked = request.starts_with(b"GET ") || request.starts_with(b"HEAD ");
        let granted = answer.get(8..12) == Some(b" 200");
        assert!(asked || !granted, "{}", request.escape_ascii());
    }
}
