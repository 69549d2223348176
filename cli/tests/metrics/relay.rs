//! A relay between two hosts' loopback addresses, since Prometheus on one director is to reach the exporters of
//! others, which are in labs of their own.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope};
use std::time::Duration;

use uvs_lab::Host;

const EXPORTER: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 9650);
const TICK: Duration = Duration::from_millis(20);

/// A running relay; ends when dropped, so that its scope can.
pub(crate) struct Relay(Arc<AtomicBool>);

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Relays `port` on `here` to the exporter on `there`.
pub(crate) fn start<'s, 'e>(
    scope: &'s Scope<'s, 'e>,
    here: &'e Host,
    port: u16,
    there: &'e Host,
) -> Relay {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = here.enter(listen).expect("entered").expect("a port");
    listener.set_nonblocking(true).expect("set");
    let stopped = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stopped);
    scope.spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((client, _)) => drop(scope.spawn(move || relay(&client, there))),
                Err(e) if e.kind() == ErrorKind::WouldBlock => thread::sleep(TICK),
                Err(e) => panic!("accept: {e}"),
            }
        }
    });
    Relay(stopped)
}

/// One connection; where the exporter closes, so does the relay.
fn relay(client: &TcpStream, there: &Host) {
    let Ok(Ok(exporter)) = there.enter(|| TcpStream::connect(EXPORTER)) else {
        return;
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = io::copy(&mut &*client, &mut &exporter);
        });
        let _ = io::copy(&mut &exporter, &mut &*client);
        let _ = client.shutdown(Shutdown::Both);
        let _ = exporter.shutdown(Shutdown::Both);
    });
}
