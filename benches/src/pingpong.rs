//! TCP ping-pong: 64 bytes there and back over one connection, one at a time.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use uvs_lab::Host;

const MESSAGE: usize = 64;
/// An answer that takes longer is an error, not a latency.
const PATIENCE: Duration = Duration::from_secs(5);

/// Starts a server on `port` of a host that sends back what it gets, for as long as this program lives.
///
/// # Errors
/// The port is taken.
pub fn serve(host: &Host, port: u16) -> Result<()> {
    let listener = host
        .enter(|| TcpListener::bind(("0.0.0.0", port)))?
        .with_context(|| format!("listen on {port} of {}", host.role()))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || echo(stream));
        }
    });
    Ok(())
}

/// Sends back until the client is gone, whose matter that is.
fn echo(mut stream: TcpStream) {
    let mut buffer = [0; MESSAGE];
    let _ = stream.set_nodelay(true);
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// Round trips for `duration`, in nanoseconds.
///
/// # Errors
/// There is no connection, or one round trip takes too long.
pub fn run(client: &Host, target: SocketAddrV4, duration: Duration) -> Result<Histogram<u64>> {
    let mut stream = connect(client, target)?;
    let mut histogram = Histogram::new_with_bounds(1, nanoseconds(PATIENCE), 3)?;
    let end = Instant::now() + duration;
    let mut buffer = [0; MESSAGE];
    while Instant::now() < end {
        let start = Instant::now();
        stream.write_all(&buffer)?;
        stream
            .read_exact(&mut buffer)
            .context("wait for a round trip")?;
        histogram.saturating_record(nanoseconds(start.elapsed()));
    }
    Ok(histogram)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// One round trip on a new connection: whether the way is open.
///
/// # Errors
/// It is not.
pub fn once(client: &Host, target: SocketAddrV4) -> Result<()> {
    let mut stream = connect(client, target)?;
    let mut buffer = [0; MESSAGE];
    stream.write_all(&buffer)?;
    stream.read_exact(&mut buffer)?;
    Ok(())
}

fn connect(client: &Host, target: SocketAddrV4) -> Result<TcpStream> {
    let open = || -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&target.into(), PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    };
    client
        .enter(open)?
        .with_context(|| format!("connect to {target}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_comes_back_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = thread::spawn(move || echo(listener.accept().expect("a client").0));
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(&[7; MESSAGE]).expect("sent");
        let mut back = [0; MESSAGE];
        stream.read_exact(&mut back).expect("echoed");
        assert_eq!(back, [7; MESSAGE]);
        drop(stream);
        server.join().expect("it ends with its client");
    }
}
