//! Small questions to an address: does a port take a connection, does a service say its line, does a host
//! answer a ping; and frames that no stack would send.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::process::{SOON, output};
use crate::{Error, Host, Result, tools};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(20);

/// What became of a connection that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// It was taken.
    Taken,
    /// It was refused: a reset.
    Refused,
    /// Nothing came back.
    Silence,
}

/// Tries a connection, for `patience` at most.
pub fn connect(host: &Host, to: impl Into<SocketAddr>, patience: Duration) -> Result<Connect> {
    let to = to.into();
    let tried = host.enter(|| TcpStream::connect_timeout(&to, patience))?;
    match tried {
        Ok(_) => Ok(Connect::Taken),
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => Ok(Connect::Refused),
        Err(e) if e.kind() == ErrorKind::TimedOut => Ok(Connect::Silence),
        Err(e) => Err(Error::io(format!("connect to {to}"))(e)),
    }
}

/// A TCP server that says its line to everyone who connects.
#[derive(Debug)]
pub struct BannerServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BannerServer {
    /// Starts it.
    pub fn start(host: &Host, address: impl Into<SocketAddr>, line: &'static str) -> Result<Self> {
        let address = address.into();
        let listen = || -> io::Result<TcpListener> {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let doing = || format!("listen on tcp {address} on {}", host.role());
        let listener = host.enter(listen)?.map_err(Error::io(doing()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let serve = move || {
            while !seen.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A client that is gone already is its own matter.
                    Ok((mut stream, _)) => _ = stream.write_all(line.as_bytes()),
                    Err(_) => thread::sleep(TICK),
                }
            }
        };
        let thread = Some(thread::spawn(serve));
        Ok(Self { stop, thread })
    }
}

impl Drop for BannerServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It cannot fail otherwise than by missing answers.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What a [`BannerServer`] says.
pub fn hear(host: &Host, from: impl Into<SocketAddr>) -> Result<String> {
    let from = from.into();
    let exchange = || -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&from, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut line = String::new();
        stream.read_to_string(&mut line)?;
        Ok(line)
    };
    host.enter(exchange)?
        .map_err(Error::io(format!("hear {from}")))
}

/// Whether an address answers one ping.
pub fn echoes(host: &Host, address: Ipv4Addr) -> Result<bool> {
    const SCRIPT: &str = "
import socket, struct, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.settimeout(5)
words = (0x0800, 0, 0x7576, 1)
total = sum(words)
total = (total & 0xffff) + (total >> 16)
s.sendto(struct.pack('!4H', 0x0800, ~total & 0xffff, 0x7576, 1), (sys.argv[1], 0))
end = time.monotonic() + 5
try:
    while time.monotonic() < end:
        packet, (source, _) = s.recvfrom(2048)
        if source == sys.argv[1] and packet[20:22] == b'\\0\\0' and packet[24:28] == b'uv\\0\\1':
            print('yes')
            break
except TimeoutError:
    pass
";
    let command = tools::command("python3", ["-c", SCRIPT, &address.to_string()])?;
    Ok(host.output(command, SOON)?.stdout == "yes\n")
}

/// Sends frames as they are, from the destination MAC on.
pub fn send_frames(host: &Host, interface: &str, frames: &[Vec<u8>]) -> Result<()> {
    const SCRIPT: &str = "
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((sys.argv[1], 0))
for line in sys.stdin:
    s.send(bytes.fromhex(line))
";
    let hex = |frame: &Vec<u8>| -> String {
        let digits = frame.iter().map(|byte| format!("{byte:02x}"));
        digits.chain(["\n".to_owned()]).collect()
    };
    let lines: String = frames.iter().map(hex).collect();
    let command = tools::command("python3", ["-c", SCRIPT, interface])?;
    host.enter(|| output(command, &lines, SOON))?.map(drop)
}
