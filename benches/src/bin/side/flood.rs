//! Small packets as fast as one core sends them: connected UDP sockets, whole batches by sendmmsg.
//!
//! They are counted where they arrive, by the real server's IP layer.

use std::fs;
use std::io::IoSlice;
use std::net::{SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use uvs_lab::Host;

/// Sockets, and so flows.
const FLOWS: usize = 64;
/// Datagrams a call; fewer cost the sender more (32 a call: a fifth).
const BATCH: usize = 128;
/// Payload: with all headers the smallest Ethernet frame, 60 bytes.
const PAYLOAD: [u8; 18] = [0; 18];
/// How long what is on its way may take to arrive.
const SETTLE: Duration = Duration::from_millis(50);

/// What a flood did.
pub(crate) struct Flood {
    /// Datagrams sent.
    pub(crate) sent: u64,
    /// Packets that arrived at the real server.
    pub(crate) arrived: u64,
    /// How long it was sent.
    pub(crate) lasted: Duration,
}

/// Sends to `target` for `duration`, and counts what arrives at `server`.
pub(crate) fn run(
    client: &Host,
    server: &Host,
    target: SocketAddrV4,
    duration: Duration,
) -> Result<Flood> {
    let open = || -> std::io::Result<Vec<UdpSocket>> {
        (0..FLOWS)
            .map(|_| {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.connect(target)?;
                Ok(socket)
            })
            .collect()
    };
    let sockets = client.enter(open)?.context("open sockets for the flood")?;
    let before = received(server)?;
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < duration {
        for socket in &sockets {
            sent += send_batch(socket)?;
        }
    }
    let lasted = start.elapsed();
    std::thread::sleep(SETTLE);
    let arrived = received(server)? - before;
    Ok(Flood {
        sent,
        arrived,
        lasted,
    })
}

fn send_batch(socket: &UdpSocket) -> Result<u64> {
    let slices = [IoSlice::new(&PAYLOAD)];
    let mut controls = [(); BATCH].map(|()| SendAncillaryBuffer::default());
    let mut messages: Vec<_> = controls
        .iter_mut()
        .map(|control| MMsgHdr::new(&slices, control))
        .collect();
    match sendmmsg(socket, &mut messages, SendFlags::empty()) {
        Ok(sent) => Ok(sent as u64),
        // An ICMP message about an earlier datagram, or a full queue: the flood goes on.
        Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOBUFS) => Ok(0),
        Err(error) => Err(error).context("sendmmsg"),
    }
}

/// Packets that a host's IP layer got.
fn received(host: &Host) -> Result<u64> {
    // Not /proc/net, which is the namespace of the process's first thread.
    let read = || fs::read_to_string("/proc/thread-self/net/snmp");
    let text = host.enter(read)?.context("read net/snmp")?;
    in_receives(&text).with_context(|| format!("no InReceives in {text:?}"))
}

/// A line of names is followed by a line of numbers.
fn in_receives(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let place = names
        .split_whitespace()
        .position(|name| name == "InReceives")?;
    numbers.split_whitespace().nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_under_the_name_is_read() {
        let snmp = "Ip: Forwarding DefaultTTL InReceives InHdrErrors\nIp: 1 64 12345 6\nIcmp: x\n";
        assert_eq!(in_receives(snmp), Some(12345));
        assert_eq!(in_receives("Ip: InReceives\n"), None);
    }
}
