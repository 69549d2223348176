//! UDP request and response: servers that echo, a client that asks, and one that sends by UDP GSO.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::io::Errno;

use crate::{Error, Host, Result, tools};

/// How long an answer may take, and how often a server looks whether it should end.
const PATIENCE: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(50);
const LARGEST: usize = 65_535;

/// A server that answers each datagram with its host's role, a space, and the datagram.
#[derive(Debug)]
pub struct UdpServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl UdpServer {
    /// Starts it. Bind it to the VIP where the real server has it, since a datagram's answer from a wildcard
    /// socket would leave from the host's first address.
    pub fn start(host: &Host, address: impl Into<SocketAddr>) -> Result<Self> {
        let address = address.into();
        let listen = || -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind(address)?;
            socket.set_read_timeout(Some(TICK))?;
            Ok(socket)
        };
        let socket = host.enter(listen)?.map_err(Error::io(format!(
            "listen on udp {address} on {}",
            host.role()
        )))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, role) = (Arc::clone(&stop), host.role().to_owned());
        let thread = Some(thread::spawn(move || serve(&socket, &role, &seen)));
        Ok(Self { stop, thread })
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Its error shows as missing answers.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(socket: &UdpSocket, role: &str, stop: &AtomicBool) -> io::Result<()> {
    let mut buffer = vec![0; LARGEST];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((length, client)) => {
                let answer = [role.as_bytes(), b" ", &buffer[..length]].concat();
                // The client may be gone: that is its matter.
                let _ = socket.send_to(&answer, client);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // ICMP about an earlier answer.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sends one datagram from a new socket and returns the answer.
///
/// One that is too big for the path is sent again, once the sender has been told so: an IPv6 datagram is cut by
/// nobody but its sender (RFC 8201 §4).
pub fn ask(client: &Host, service: impl Into<SocketAddr>, datagram: &[u8]) -> Result<Vec<u8>> {
    let service = service.into();
    let any: IpAddr = match service {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let exchange = || -> io::Result<Vec<u8>> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(service)?;
        let mut buffer = vec![0; LARGEST];
        let mut sent_and_answered = || {
            socket.send(datagram)?;
            socket.recv(&mut buffer)
        };
        let too_big = |e: &io::Error| e.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error());
        let length = match sent_and_answered() {
            Err(error) if service.is_ipv6() && too_big(&error) => sent_and_answered()?,
            ended => ended?,
        };
        buffer.truncate(length);
        Ok(buffer)
    };
    client
        .enter(exchange)?
        .map_err(Error::io(format!("get an answer from udp {service}")))
}

/// Sends `segments` datagrams of `size` bytes in one call by UDP GSO (UDP_SEGMENT), datagram N being the
/// byte N repeated, and returns how many were answered with exactly what was sent.
pub fn ask_by_gso(
    client: &Host,
    service: impl Into<SocketAddr>,
    segments: u8,
    size: u16,
) -> Result<u32> {
    const SCRIPT: &str = "
import socket, sys
address, port, segments, size = sys.argv[1], *map(int, sys.argv[2:])
family = socket.AF_INET6 if ':' in address else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_UDP if hasattr(socket, 'SOL_UDP') else 17, 103, size)  # UDP_SEGMENT
s.connect((address, port))
s.settimeout(2)
sent = {bytes([n]) * size for n in range(segments)}
s.send(b''.join(sorted(sent)))
try:
    while sent:
        sent.discard(s.recv(65535).split(b' ', 1)[1])
except TimeoutError:
    pass
print(segments - len(sent))
";
    let service = service.into();
    let numbers = [
        service.ip().to_string(),
        service.port().to_string(),
        segments.to_string(),
        size.to_string(),
    ];
    let mut command = tools::command("python3", ["-c", SCRIPT])?;
    command.args(numbers);
    let printed = client.output(command, PATIENCE * 10)?.stdout;
    printed
        .trim()
        .parse()
        .map_err(|_| Error::Wrong(format!("the GSO sender printed {printed:?}")))
}
