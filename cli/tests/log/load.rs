//! Clients that come at a steady rate, each on a connection of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use uvs_lab::Lab;

use crate::stand::PATIENCE;

/// Clients beside each other, and the pause between two connections of one: 300 a second in all.
const CLIENTS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(20);

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Load {
    answered: AtomicU32,
    /// Why, of each that failed.
    failed: Mutex<Vec<String>>,
}

impl Load {
    /// Lets clients come while `work` runs and until a hundred more were answered; none may fail.
    pub(crate) fn beside(lab: &Lab, work: impl FnOnce()) {
        let (load, over) = (Self::default(), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| lab.client.enter(|| load.ask(lab, &over)).expect("inside"));
            }
            // Also where the work panics, or the clients would never end.
            let over = Over(&over);
            work();
            let (enough, end) = (load.answered() + 100, Instant::now() + PATIENCE);
            while load.answered() < enough && Instant::now() < end {
                thread::sleep(PAUSE);
            }
            assert!(load.answered() >= enough, "it serves on: {load:?}");
            drop(over);
        });
        let failed = load.failed.into_inner().expect("no panic");
        assert!(failed.is_empty(), "requests that failed: {failed:?}");
    }

    fn answered(&self) -> u32 {
        self.answered.load(Ordering::Relaxed)
    }

    fn ask(&self, lab: &Lab, over: &AtomicBool) {
        let vip = SocketAddr::V4(lab.plan.vip);
        let mut next = Instant::now();
        while !over.load(Ordering::Relaxed) {
            match request(vip) {
                Ok(()) => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    let mut failed = self.failed.lock().expect("no panic");
                    failed.push(format!("after {} answers: {error}", self.answered()));
                }
            }
            next += PAUSE;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The client closes first, as a browser does.
fn request(vip: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&vip, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while !String::from_utf8_lossy(&answer).contains("\r\n\r\nrs") {
        match stream.read(&mut chunk)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => answer.extend_from_slice(&chunk[..count]),
        }
    }
    Ok(())
}
