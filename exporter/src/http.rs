//! What is answered: paths, methods, codes, and the text of `/metrics`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry, TextEncoder};

use crate::MetricSnapshot;
use crate::catalog::{HTTP_REFUSED, HTTP_REQUESTS};
use crate::collect::{Cell, SnapshotCollector, services};
use crate::process::ProcessCollector;

/// A snapshot, and its text, younger than this is served as it is: many scrapes cost as much as one a second.
pub(crate) const REUSE: Duration = Duration::from_secs(1);
/// The codes that are ever answered: their series are there from the start.
const CODES: [StatusCode; 5] = [
    StatusCode::OK,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::INTERNAL_SERVER_ERROR,
];
const STARTING: &str = "the daemon is starting";
const INDEX: &[u8] =
    b"uvs: /metrics for Prometheus, /healthz (is the daemon alive?), /readyz (can it serve?)\n";

/// Says what of the daemon is stuck, each a sentence; empty = nothing.
pub(crate) type Stuck = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// A path that the exporter knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    Index,
    Metrics,
    Health,
    Ready,
}

impl Page {
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path {
            "/" => Some(Self::Index),
            "/metrics" => Some(Self::Metrics),
            "/healthz" => Some(Self::Health),
            "/readyz" => Some(Self::Ready),
            _ => None,
        }
    }

    /// Whether it shows the snapshot.
    pub(crate) const fn needs_snapshot(self) -> bool {
        matches!(self, Self::Metrics | Self::Ready)
    }
}

/// A text, what it shows and when it was made.
struct Rendered {
    of: Arc<MetricSnapshot>,
    at: Instant,
    text: Bytes,
}

/// The registry and the exporter's own counters.
pub(crate) struct Pages {
    registry: Registry,
    cell: Cell,
    stuck: Stuck,
    rendered: Mutex<Option<Rendered>>,
    answered: IntCounterVec,
    pub(crate) refused: IntCounter,
}

impl Pages {
    pub(crate) fn new(cell: Cell, stuck: Stuck) -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(SnapshotCollector::new(cell.clone())?))?;
        registry.register(Box::new(ProcessCollector::new()?))?;
        let answered = IntCounterVec::new(
            Opts::new(HTTP_REQUESTS.name, HTTP_REQUESTS.help),
            HTTP_REQUESTS.labels,
        )?;
        for code in CODES {
            answered.with_label_values(&[code.as_str()]);
        }
        registry.register(Box::new(answered.clone()))?;
        let refused = IntCounter::new(HTTP_REFUSED.name, HTTP_REFUSED.help)?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self {
            registry,
            cell,
            stuck,
            rendered: Mutex::default(),
            answered,
            refused,
        })
    }

    /// The answer to a request; hyper leaves the body out where it was a HEAD.
    pub(crate) fn answer(&self, method: &Method, page: Option<Page>) -> Response<Full<Bytes>> {
        let (code, text) = match page {
            _ if !matches!(*method, Method::GET | Method::HEAD) => (
                StatusCode::METHOD_NOT_ALLOWED,
                Bytes::from_static(b"only GET and HEAD\n"),
            ),
            None => (StatusCode::NOT_FOUND, Bytes::from_static(INDEX)),
            Some(Page::Index) => (StatusCode::OK, Bytes::from_static(INDEX)),
            Some(Page::Health) => verdict((self.stuck)(), "ok"),
            Some(Page::Ready) => self.readiness(),
            Some(Page::Metrics) => self.metrics(),
        };
        self.answered.with_label_values(&[code.as_str()]).inc();
        let mut response = Response::new(Full::new(text));
        *response.status_mut() = code;
        let kind = match page {
            Some(Page::Metrics) => prometheus::TEXT_FORMAT,
            _ => "text/plain; charset=utf-8",
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if code == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }

    fn readiness(&self) -> (StatusCode, Bytes) {
        let mut problems = (self.stuck)();
        match self.cell.get() {
            Some(snapshot) => problems.extend(snapshot.all_problems()),
            // Nobody has asked before, or nobody answers: what is stuck says more.
            None if problems.is_empty() => problems.push(STARTING.to_owned()),
            None => {}
        }
        verdict(problems, "ready")
    }

    /// The text of `/metrics`.
    fn text(&self, snapshot: &MetricSnapshot) -> prometheus::Result<String> {
        let mut text = services(snapshot);
        TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    fn metrics(&self) -> (StatusCode, Bytes) {
        let Some(of) = self.cell.get() else {
            return verdict(vec![STARTING.to_owned()], "");
        };
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        let young = |r: &&Rendered| Arc::ptr_eq(&r.of, &of) && r.at.elapsed() < REUSE;
        if let Some(r) = rendered.as_ref().filter(young) {
            return (StatusCode::OK, r.text.clone());
        }
        match self.text(&of) {
            Ok(text) => {
                let (text, at) = (Bytes::from(text), Instant::now());
                *rendered = Some(Rendered {
                    of,
                    at,
                    text: text.clone(),
                });
                (StatusCode::OK, text)
            }
            Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n").into()),
        }
    }
}

fn verdict(problems: Vec<String>, good: &'static str) -> (StatusCode, Bytes) {
    if problems.is_empty() {
        return (StatusCode::OK, format!("{good}\n").into());
    }
    let text = problems.join("\n") + "\n";
    (StatusCode::SERVICE_UNAVAILABLE, text.into())
}

/// The text of `/metrics` for a snapshot.
///
/// # Errors
/// What the `prometheus` crate refuses; the tests would have met it.
pub fn render(snapshot: Arc<MetricSnapshot>) -> prometheus::Result<String> {
    let cell = Cell::default();
    cell.set(Arc::clone(&snapshot));
    let pages = Pages::new(cell, Box::new(Vec::new))?;
    pages.text(&snapshot)
}
