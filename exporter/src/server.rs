//! The HTTP server: a thread of its own with a small tokio runtime. Everything a client can do is limited,
//! so that the worst of them costs some memory for some seconds and no packet waits for it.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::MetricSnapshot;
use crate::collect::Cell;
use crate::http::{Page, Pages, REUSE, Stuck};

/// Connections at once; one more is closed unanswered.
const CONNECTIONS: usize = 32;
/// A request's head must be here by then.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// Life of a connection, the reading of the answer included: Prometheus's own default time-out.
pub(crate) const CONNECTION_LIFE: Duration = Duration::from_secs(10);
/// Bytes of a request's head, hyper's least.
const HEAD_BYTES: usize = 8192;
/// Headers of a request.
const HEADERS: usize = 64;
/// How long a scrape waits for a new one, before it is served the last.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(2);
/// Pause after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running exporter; ends when dropped.
pub struct Exporter {
    address: SocketAddr,
    cell: Cell,
    /// Told of each publication; its end ends the server.
    published: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Serves on `listener`. `ask` is called, on the server's thread, when a snapshot is wanted; it must not
/// block, and [`Exporter::publish`] answers it from wherever the numbers are. `stuck`, which must not block either,
/// says what of the daemon does not move any more, each a sentence; `/healthz` asks it.
///
/// # Errors
/// The host's: no thread, no runtime.
pub fn serve(
    listener: TcpListener,
    ask: Box<dyn Fn() + Send + Sync>,
    stuck: Stuck,
) -> io::Result<Exporter> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let cell = Cell::default();
    let (published, news) = watch::channel(());
    let shared = Shared::new(cell.clone(), ask, news.clone(), stuck).map_err(io::Error::other)?;
    let shared = Arc::new(shared);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let thread = std::thread::Builder::new()
        .name("uvs-metrics".to_owned())
        .spawn(move || {
            if let Err(e) = runtime.block_on(accept(listener, shared, news)) {
                tracing::error!("the metrics exporter ended: {e}");
            }
        })?;
    Ok(Exporter {
        address,
        cell,
        published: Some(published),
        thread: Some(thread),
    })
}

impl Exporter {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes this the snapshot that is served.
    pub fn publish(&self, snapshot: MetricSnapshot) {
        self.cell.set(Arc::new(snapshot));
        if let Some(published) = &self.published {
            published.send_replace(());
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.published = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the connections share.
pub(crate) struct Shared {
    pages: Pages,
    cell: Cell,
    ask: Box<dyn Fn() + Send + Sync>,
    news: watch::Receiver<()>,
}

/// Accepts until the exporter is dropped.
async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut news: watch::Receiver<()>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            gone = closed(&mut news) => return Ok(gone),
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            shared.pages.refused.inc();
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // Errors are the client's: it is told by hyper, or gone.
            let _ = timeout(CONNECTION_LIFE, converse(stream, shared)).await;
            drop(place);
        });
    }
}

/// Waits for the publisher's end.
async fn closed(news: &mut watch::Receiver<()>) {
    while news.changed().await.is_ok() {}
}

/// One request and its answer.
pub(crate) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    shared: Arc<Shared>,
) -> hyper::Result<()> {
    let service = service_fn(|request| respond(Arc::clone(&shared), request));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .keep_alive(false)
        // A client may close its side once it has asked, as `nc -N` does.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn respond(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let page = Page::of(request.uri().path());
    if page.is_some_and(Page::needs_snapshot) {
        shared.refresh().await;
    }
    Ok(shared.pages.answer(request.method(), page))
}

impl Shared {
    pub(crate) fn new(
        cell: Cell,
        ask: Box<dyn Fn() + Send + Sync>,
        news: watch::Receiver<()>,
        stuck: Stuck,
    ) -> prometheus::Result<Self> {
        Ok(Self {
            pages: Pages::new(cell.clone(), stuck)?,
            cell,
            ask,
            news,
        })
    }

    /// Has a new snapshot made, unless the last is young, and waits for it, but not long.
    async fn refresh(&self) {
        let young = |s: Arc<MetricSnapshot>| s.taken.elapsed() < REUSE;
        if self.cell.get().is_some_and(young) {
            return;
        }
        let mut news = self.news.clone();
        news.mark_unchanged();
        (self.ask)();
        let _ = timeout(SNAPSHOT_PATIENCE, news.changed()).await;
    }
}
