//! The clients: page views at a rate that swells and ebbs, downloads that last, and questions by UDP.

use std::f64::consts::TAU;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use uvs_lab::{Lab, Mode, udp};

/// The UDP service's port, and that of the service with persistence; both are NAT's.
pub(crate) const UDP_PORT: u16 = 53;
pub(crate) const PERSISTENT_PORT: u16 = 8080;

/// Threads that view pages, and how often each does so in a second, on average.
const VIEWERS: u32 = 6;
const VIEWS: f64 = 5.0;
/// A swell and an ebb.
const PERIOD: f64 = 150.0;
/// Threads that download, one after the other, about three seconds long.
const DOWNLOADERS: u32 = 4;
const DOWNLOAD: &str = "/download?rate=500k";
const DOWNLOAD_BYTES: u64 = 1500 << 10;
/// A client gives up by then; short, so that a dead server does not silence all clients.
const PATIENCE: Duration = Duration::from_millis(400);

/// Starts a lab's clients; they go on until `ended`.
pub(crate) fn start<'s, 'e>(scope: &'s Scope<'s, 'e>, lab: &'e Lab, ended: &'e AtomicBool) {
    lab.content("download", DOWNLOAD_BYTES).expect("content");
    let started = Instant::now();
    let run = move |work: &(dyn Fn() + Sync)| {
        let all = || {
            while !ended.load(Ordering::Relaxed) {
                work();
            }
        };
        lab.client.enter(all).expect("entered");
    };
    let vip = lab.plan.vip;
    for viewer in 0..VIEWERS {
        scope.spawn(move || {
            run(&|| {
                // A client that gets no answer asks again, as people do.
                let _ = get(vip, "/", PATIENCE);
                thread::sleep(pause(started, f64::from(viewer)));
            });
        });
    }
    for _ in 0..DOWNLOADERS {
        scope.spawn(move || {
            run(&|| {
                let _ = get(vip, DOWNLOAD, PATIENCE * 20);
                thread::sleep(PATIENCE);
            });
        });
    }
    if lab.plan.mode == Mode::Nat {
        let at = move |port| SocketAddrV4::new(*vip.ip(), port);
        scope.spawn(move || {
            run(&|| {
                let _ = get(at(PERSISTENT_PORT), "/", PATIENCE);
                thread::sleep(pause(started, 0.5) / 2);
            });
        });
        scope.spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let _ = udp::ask(&lab.client, at(UDP_PORT), &[0; 200]);
                thread::sleep(pause(started, 1.5) / 2);
            }
        });
    }
}

/// Between two views: the rate swells and ebbs by half, each viewer's a little later than the last's.
fn pause(started: Instant, phase: f64) -> Duration {
    let turn = started.elapsed().as_secs_f64() / PERIOD + phase / 20.0;
    let rate = VIEWS * (1.0 + 0.5 * (turn * TAU).sin());
    Duration::from_secs_f64(1.0 / rate)
}

/// A page on a connection of its own, which the client closes first, so that no port is used again too soon.
fn get(service: SocketAddrV4, path: &str, patience: Duration) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::V4(service), PATIENCE)?;
    stream.set_read_timeout(Some(patience))?;
    let host: Ipv4Addr = *service.ip();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut buffer = [0; 64 << 10];
    while !whole(&answer) {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => answer.extend_from_slice(&buffer[..length]),
        }
    }
    Ok(())
}

/// Whether the head, and as much as its Content-Length says, has come.
fn whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    answer.len() >= end + 4 + length.unwrap_or(0)
}
