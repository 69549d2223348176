//! Measures what packet size reaches an address: pings of several sizes that may not be fragmented, all at
//! once. Where the large ones vanish without a word, the path has a black hole (RFC 2923 §2.1).

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use uvs_core::wire::{icmp, ipv4};
use uvs_forwarder::sys;

use super::receive;

/// How long answers are waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// IP packet sizes that are tried below the route's own: what tunnels, PPPoE and IPv6's minimum leave.
const SIZES: [u16; 8] = [576, 1280, 1400, 1420, 1440, 1460, 1480, 1492];
const ETHERNET: u16 = 1500;
/// Large enough for a jumbo frame's answer.
const BUFFER: usize = 64 << 10;

/// The largest packet that came back from each address, of those up to `mtu`; none from those that answer
/// no ping at all.
pub(super) fn largest(paths: &[(Ipv4Addr, u32)]) -> io::Result<HashMap<Ipv4Addr, u32>> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    let probe = libc::IP_PMTUDISC_PROBE;
    sys::set_option(
        socket.as_fd(),
        libc::IPPROTO_IP,
        libc::IP_MTU_DISCOVER,
        probe,
    )?;
    let identifier = (std::process::id() & 0xffff) as u16;
    for (to, mtu) in paths {
        let mtu = u16::try_from(*mtu).unwrap_or(u16::MAX);
        let smaller = SIZES
            .into_iter()
            .chain([ETHERNET])
            .filter(|size| *size < mtu);
        for size in smaller.chain([mtu]) {
            let request = request(identifier, size);
            let sent = socket.send_to(&request, &SocketAddrV4::new(*to, 0).into());
            match sent.map_err(|e| (e.raw_os_error(), e)) {
                // Larger than a device takes, or no way: it does not come back, which is an answer too.
                Err((Some(libc::EMSGSIZE | libc::EHOSTUNREACH | libc::ENETUNREACH), _)) => {}
                Err((_, error)) => return Err(error),
                Ok(_) => {}
            }
        }
    }
    listen(&socket, identifier, paths)
}

/// An echo request that makes an IP packet of `size`; its sequence number is the size.
fn request(identifier: u16, size: u16) -> Vec<u8> {
    let mut message = vec![0; usize::from(size).max(ipv4::MIN_LEN + icmp::LEN) - ipv4::MIN_LEN];
    let mut echo = icmp::Header::new_mut(&mut message);
    echo.set_kind(icmp::ECHO);
    echo.set_identifier(identifier);
    echo.set_sequence(size);
    icmp::seal(&mut message);
    message
}

/// Notes the largest of each until all that could come has come, or nobody has patience any more.
fn listen(
    socket: &Socket,
    identifier: u16,
    paths: &[(Ipv4Addr, u32)],
) -> io::Result<HashMap<Ipv4Addr, u32>> {
    let end = Instant::now() + PATIENCE;
    let mut best = HashMap::new();
    let mut buffer = vec![0; BUFFER];
    let all_here = |best: &HashMap<Ipv4Addr, u32>| {
        paths
            .iter()
            .all(|(to, mtu)| best.get(to).is_some_and(|size| size >= mtu))
    };
    while !all_here(&best) {
        let Some(length) = receive::before(end, socket, &mut buffer)? else {
            break;
        };
        if let Some((from, size)) = reply(&buffer[..length], identifier) {
            let known: &mut u32 = best.entry(from).or_default();
            *known = size.max(*known);
        }
    }
    Ok(best)
}

/// Who answered a request of ours, and its size.
fn reply(packet: &[u8], identifier: u16) -> Option<(Ipv4Addr, u32)> {
    let packet = ipv4::Packet::new_checked(packet).ok()?;
    let echo = icmp::Header::new_checked(packet.payload).ok()?;
    let ours = echo.kind() == icmp::ECHO_REPLY && echo.identifier() == identifier;
    ours.then(|| (packet.header.src().into(), echo.sequence().into()))
}

#[cfg(test)]
mod tests {
    use uvs_core::wire::{checksum, protocol};

    use super::*;

    #[test]
    fn a_request_has_its_size_and_a_right_checksum() {
        let request = request(7, 1500);
        assert_eq!(request.len() + ipv4::MIN_LEN, 1500);
        assert_eq!(checksum::of(&request), 0);
    }

    #[test]
    fn only_replies_to_ours_are_understood() {
        let mut packet = vec![0u8; ipv4::MIN_LEN];
        let header = ipv4::Repr {
            tos: 0,
            total_len: 576,
            id: 0,
            dont_fragment: true,
            ttl: 64,
            protocol: protocol::ICMP,
            src: [10, 0, 0, 2],
            dst: [10, 0, 0, 1],
        };
        header.emit(&mut packet);
        packet.extend(request(7, 576));
        assert_eq!(reply(&packet, 7), None, "a request");
        packet[ipv4::MIN_LEN] = icmp::ECHO_REPLY;
        assert_eq!(reply(&packet, 7), Some(([10, 0, 0, 2].into(), 576)));
        assert_eq!(reply(&packet, 8), None, "another's");
        assert_eq!(reply(&packet[..ipv4::MIN_LEN + 4], 7), None, "cut short");
    }
}
