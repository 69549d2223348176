//! The HTTP server and its worst clients: stalled, slow, greedy, too many, and garbage.

#[path = "common/sample.rs"]
mod sample;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sample::{backend, service, snapshot};
use uvs_core::random::Random;
use uvs_exporter::{Exporter, MetricSnapshot, serve};

/// Above every time-out of the server's, for a machine that is slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections the server serves at once.
const CONNECTIONS: usize = 32;

/// An exporter and whoever answers it.
struct Daemon {
    exporter: Arc<Exporter>,
    asked: Arc<Mutex<u32>>,
    end: Option<(Sender<bool>, JoinHandle<()>)>,
}

impl Daemon {
    /// `make` answers each asking; `None` = it does not answer.
    fn start(make: impl Fn(u32) -> Option<MetricSnapshot> + Send + 'static) -> Self {
        Self::start_with(make, Box::new(Vec::new))
    }

    /// `stuck` says what of it does not move.
    fn start_with(
        make: impl Fn(u32) -> Option<MetricSnapshot> + Send + 'static,
        stuck: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    ) -> Self {
        let (ask, asks) = channel();
        let end = ask.clone();
        let ask = Mutex::new(ask);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let on_ask = move || {
            let _ = ask.lock().expect("not poisoned").send(true);
        };
        let exporter = Arc::new(serve(listener, Box::new(on_ask), stuck).expect("it serves"));
        let asked = Arc::new(Mutex::new(0));
        let (publisher, count) = (Arc::clone(&exporter), Arc::clone(&asked));
        let thread = thread::spawn(move || {
            while asks.recv() == Ok(true) {
                let mut count = count.lock().expect("not poisoned");
                *count += 1;
                if let Some(snapshot) = make(*count) {
                    publisher.publish(snapshot);
                }
            }
        });
        Self {
            exporter,
            asked,
            end: Some((end, thread)),
        }
    }

    fn address(&self) -> SocketAddr {
        self.exporter.address()
    }

    fn get(&self, path: &str) -> (u16, String) {
        let (head, body) = self.request("GET", path);
        (code(&head), body)
    }

    fn request(&self, method: &str, path: &str) -> (String, String) {
        let mut stream = self.connect();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: uvs\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let answer = read_all(&mut stream);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        (head.to_owned(), body.to_owned())
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.end.take() {
            let _ = end.send(false);
            let _ = thread.join();
        }
    }
}

fn code(head: &str) -> u16 {
    head.split(' ')
        .nth(1)
        .and_then(|c| c.parse().ok())
        .unwrap_or_else(|| panic!("{head:?}"))
}

fn metric(text: &str, name: &str) -> f64 {
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|v| v.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// Everything until the server closes; a reset is an end like any other.
fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {}
        Err(e) => panic!("the server neither answers nor closes: {e}"),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn healthy() -> Daemon {
    Daemon::start(|_| Some(snapshot()))
}

#[test]
fn pages_methods_and_codes() {
    let daemon = healthy();
    assert_eq!(daemon.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(daemon.get("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(daemon.get("/metrics?x=1").0, 200);
    assert_eq!(daemon.get("/").0, 200);
    assert_eq!(daemon.get("/metrics/").0, 404);
    let (head, _) = daemon.request("POST", "/metrics");
    assert_eq!(code(&head), 405);
    assert!(head.to_lowercase().contains("allow: get, head"), "{head}");
    let (head, body) = daemon.request("HEAD", "/healthz");
    assert_eq!((code(&head), body.as_str()), (200, ""));
    let (head, body) = daemon.request("GET", "/metrics");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("\nuvs_ready 1\n"), "{body}");
}

#[test]
fn readiness_names_what_is_missing() {
    let daemon = Daemon::start(|_| {
        Some(MetricSnapshot {
            problems: vec!["interface eth1 is down or gone".to_owned()],
            ..snapshot()
        })
    });
    let expected = (503, "interface eth1 is down or gone\n".to_owned());
    assert_eq!(daemon.get("/readyz"), expected);
    assert_eq!(daemon.get("/healthz").0, 200);
    assert!(daemon.get("/metrics").1.contains("\nuvs_ready 0\n"));
}

#[test]
fn before_the_first_numbers_there_are_none() {
    let daemon = Daemon::start(|_| None);
    assert_eq!(
        daemon.get("/metrics"),
        (503, "the daemon is starting\n".to_owned())
    );
    assert_eq!(daemon.get("/readyz").0, 503);
    assert_eq!(daemon.get("/healthz").0, 200);
}

#[test]
fn a_stuck_daemon_leaves_the_last_numbers_and_their_age() {
    let old = Instant::now()
        .checked_sub(Duration::from_secs(30))
        .expect("an hour since boot");
    let daemon = Daemon::start(move |n| {
        (n == 1).then(|| MetricSnapshot {
            taken: old,
            ..snapshot()
        })
    });
    for _ in 0..2 {
        let (code, text) = daemon.get("/metrics");
        assert_eq!(code, 200);
        assert!(metric(&text, "uvs_snapshot_age_seconds") >= 30.0);
        assert_eq!(metric(&text, "uvs_ready"), 0.0);
    }
    let (code, text) = daemon.get("/readyz");
    assert_eq!(code, 503);
    assert!(
        text.starts_with("the daemon has published no new numbers for 3"),
        "{text}"
    );
}

#[test]
fn a_thread_that_is_stuck_is_neither_healthy_nor_ready() {
    let says = Arc::new(Mutex::new(vec!["the control thread is stuck".to_owned()]));
    let stuck = Arc::clone(&says);
    let daemon = Daemon::start_with(
        |_| Some(snapshot()),
        Box::new(move || stuck.lock().expect("not poisoned").clone()),
    );
    for page in ["/healthz", "/readyz"] {
        let told = daemon.get(page);
        assert_eq!(told, (503, "the control thread is stuck\n".to_owned()));
    }
    says.lock().expect("not poisoned").clear();
    assert_eq!(daemon.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(daemon.get("/readyz").0, 200);
}

#[test]
fn many_scrapes_ask_no_more_than_one() {
    let daemon = Daemon::start(|_| {
        Some(MetricSnapshot {
            // Not old before the last of the scrapes, however slow the machine is.
            taken: Instant::now() + PATIENCE,
            ..snapshot()
        })
    });
    for _ in 0..50 {
        assert_eq!(daemon.get("/metrics").0, 200);
    }
    assert_eq!(*daemon.asked.lock().expect("not poisoned"), 1);
}

#[test]
fn one_connection_too_many_is_closed_and_room_comes_back() {
    let daemon = healthy();
    let mut idle: Vec<TcpStream> = (0..CONNECTIONS).map(|_| daemon.connect()).collect();
    let mut more = daemon.connect();
    assert_eq!(read_all(&mut more), "");
    // All leave; the server needs a moment to see it.
    idle.clear();
    let served = (0..600).any(|_| {
        thread::sleep(Duration::from_millis(10));
        let mut stream = daemon.connect();
        let sent = stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n");
        let answer = sent.map(|()| read_all(&mut stream)).unwrap_or_default();
        let (head, text) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let refused = || metric(text, "uvs_http_connections_refused_total");
        head.contains(" 200 ") && refused() >= 1.0
    });
    assert!(served);
}

#[test]
fn a_request_that_never_ends_is_given_up_while_others_are_served() {
    let daemon = healthy();
    let mut silent = daemon.connect();
    let mut slow = daemon.connect();
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHost: u")
        .expect("sent");
    let mut endless = daemon.connect();
    endless
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: uvs\r\n")
        .expect("sent");
    let mut drip = endless.try_clone().expect("cloned");
    let dripping = thread::spawn(move || {
        // A header line now and then: the head as a whole has a deadline.
        (0..600).any(|i| {
            thread::sleep(Duration::from_millis(100));
            drip.write_all(format!("X-{i}: y\r\n").as_bytes()).is_err()
        })
    });
    for _ in 0..20 {
        assert_eq!(daemon.get("/metrics").0, 200);
    }
    for stream in [&mut silent, &mut slow, &mut endless] {
        assert!(!read_all(stream).contains("200 OK"));
    }
    assert!(
        dripping.join().expect("no panic"),
        "the slow sender was cut off"
    );
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up() {
    let backends: Vec<_> = (0..4000u32)
        .map(|i| {
            let mut b = backend(18);
            b.spec.endpoint.port = u16::try_from(i).expect("small");
            b
        })
        .collect();
    let daemon = Daemon::start(move |_| {
        Some(MetricSnapshot {
            services: vec![service(backends.clone())],
            max_backends: 5000,
            ..snapshot()
        })
    });
    let greedy: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = daemon.connect();
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nHost: uvs\r\n\r\n")
                .expect("sent");
            stream
        })
        .collect();
    assert_eq!(daemon.get("/healthz").0, 200);
    let (code, text) = daemon.get("/metrics");
    assert_eq!(code, 200);
    assert_eq!(text.matches("\nuvs_backend_up{").count(), 4000);
    drop(greedy);
}

#[test]
fn garbage_is_refused_and_changes_nothing() {
    let daemon = healthy();
    let mut random = Random::new(5);
    let starts: [&[u8]; 6] = [
        b"",
        b"GET /metrics HTTP/1.1\r\n",
        b"GET ",
        b"\x16\x03\x01\x02\x00\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nHost: uvs\r\nTransfer-Encoding: chunked\r\n\r\n",
    ];
    for round in 0..300 {
        let mut bytes = starts[round % starts.len()].to_vec();
        let length = random.below(2000) + 1;
        bytes.extend((0..length).map(|_| random.next_u64().to_le_bytes()[0]));
        bytes.extend_from_slice(b"\r\n\r\n");
        let mut stream = daemon.connect();
        // The server may close before it has read everything.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let answer = read_all(&mut stream);
        assert!(!answer.contains(" 200 "), "{bytes:?} was answered {answer}");
    }
    assert_eq!(daemon.get("/healthz").0, 200);
}

#[test]
fn a_client_that_has_closed_its_side_is_answered() {
    let daemon = healthy();
    for path in ["/metrics", "/readyz", "/healthz"] {
        let mut stream = daemon.connect();
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("half closed");
        assert_eq!(code(&read_all(&mut stream)), 200, "{path}");
    }
}

#[test]
fn a_head_without_bounds_is_refused() {
    let daemon = healthy();
    let long = format!("GET /{} HTTP/1.1\r\nHost: uvs\r\n\r\n", "x".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(500));
    for request in [long, many] {
        let mut stream = daemon.connect();
        let _ = stream.write_all(request.as_bytes());
        assert!(!read_all(&mut stream).contains(" 200 "));
    }
    assert_eq!(daemon.get("/metrics").0, 200);
}

#[test]
fn a_dropped_exporter_frees_its_port() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let nothing = Box::new(Vec::new);
    let exporter = serve(listener, Box::new(|| {}), nothing).expect("it serves");
    let address = exporter.address();
    let _stalled = TcpStream::connect(address).expect("connected");
    drop(exporter);
    assert!(TcpStream::connect(address).is_err());
}
