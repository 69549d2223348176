//! Measures what packet size reaches an address: pings of several sizes that may not be fragmented, all at
//! once. Where the large ones vanish without a word, the path has a black hole (RFC 2923 §2.1).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use uvs_core::wire::{icmp, icmpv6, ipv4, ipv6};
use uvs_forwarder::sys;
use uvs_realserver::Family;

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
pub(super) fn largest(paths: &[(IpAddr, u32)]) -> io::Result<HashMap<IpAddr, u32>> {
    let mut best = HashMap::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        let of_family = paths.iter().filter(|(to, _)| Family::of(*to) == family);
        let of_family: Vec<_> = of_family.copied().collect();
        if !of_family.is_empty() {
            best.extend(Pinger::open(family)?.largest(&of_family)?);
        }
    }
    Ok(best)
}

/// A socket that pings in one family, and gets all ICMP messages of it.
struct Pinger {
    family: Family,
    socket: Socket,
    identifier: u16,
}

impl Pinger {
    fn open(family: Family) -> io::Result<Self> {
        let (domain, protocol) = match family {
            Family::Ipv4 => (Domain::IPV4, Protocol::ICMPV4),
            Family::Ipv6 => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        let set = |level, name, value| sys::set_option(socket.as_fd(), level, name, value);
        match family {
            Family::Ipv4 => {
                let probe = libc::IP_PMTUDISC_PROBE;
                set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, probe)?;
            }
            Family::Ipv6 => {
                let probe = libc::IPV6_PMTUDISC_PROBE;
                set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, probe)?;
                set(libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1)?;
            }
        }
        Ok(Self {
            family,
            socket,
            identifier: (std::process::id() & 0xffff) as u16,
        })
    }

    fn largest(&self, paths: &[(IpAddr, u32)]) -> io::Result<HashMap<IpAddr, u32>> {
        for (to, mtu) in paths {
            let mtu = u16::try_from(*mtu).unwrap_or(u16::MAX);
            let smaller = SIZES
                .into_iter()
                .chain([ETHERNET])
                .filter(|size| *size < mtu);
            for size in smaller.chain([mtu]) {
                let request = request(self.family, self.identifier, size);
                let sent = self
                    .socket
                    .send_to(&request, &SocketAddr::new(*to, 0).into());
                match sent.map_err(|e| (e.raw_os_error(), e)) {
                    // Larger than a device takes, or no way: it does not come back, which is an answer too.
                    Err((Some(libc::EMSGSIZE | libc::EHOSTUNREACH | libc::ENETUNREACH), _)) => {}
                    Err((_, error)) => return Err(error),
                    Ok(_) => {}
                }
            }
        }
        self.listen(paths)
    }

    /// Notes the largest of each until all that could come has come, or nobody has patience any more.
    fn listen(&self, paths: &[(IpAddr, u32)]) -> io::Result<HashMap<IpAddr, u32>> {
        let end = Instant::now() + PATIENCE;
        let mut best = HashMap::new();
        let mut buffer = vec![0; BUFFER];
        let all_here = |best: &HashMap<IpAddr, u32>| {
            paths
                .iter()
                .all(|(to, mtu)| best.get(to).is_some_and(|size| size >= mtu))
        };
        while !all_here(&best) {
            let received = receive::from_before(end, &self.socket, &mut buffer)?;
            let Some((length, from)) = received else {
                break;
            };
            if let Some(size) = reply(self.family, &buffer[..length], self.identifier) {
                let known: &mut u32 = best.entry(from).or_default();
                *known = size.max(*known);
            }
        }
        Ok(best)
    }
}

/// An echo request that makes an IP packet of `size`; its sequence number is the size. ICMPv6's checksum is the
/// kernel's (RFC 3542 §3.1).
fn request(family: Family, identifier: u16, size: u16) -> Vec<u8> {
    let (header, kind) = match family {
        Family::Ipv4 => (ipv4::MIN_LEN, icmp::ECHO),
        Family::Ipv6 => (ipv6::LEN, icmpv6::ECHO),
    };
    let mut message = vec![0; usize::from(size).max(header + icmp::LEN) - header];
    let mut echo = icmp::Header::new_mut(&mut message);
    echo.set_kind(kind);
    echo.set_identifier(identifier);
    echo.set_sequence(size);
    if family == Family::Ipv4 {
        icmp::seal(&mut message);
    }
    message
}

/// The size of the request of ours that was answered. Of IPv4 a raw socket gets the header too.
fn reply(family: Family, received: &[u8], identifier: u16) -> Option<u32> {
    let (message, kind) = match family {
        Family::Ipv4 => {
            let packet = ipv4::Packet::new_checked(received).ok()?;
            (packet.payload, icmp::ECHO_REPLY)
        }
        Family::Ipv6 => (received, icmpv6::ECHO_REPLY),
    };
    let echo = icmp::Header::new_checked(message).ok()?;
    let ours = echo.kind() == kind && echo.identifier() == identifier;
    ours.then(|| echo.sequence().into())
}

#[cfg(test)]
mod tests {
    use uvs_core::wire::{checksum, protocol};

    use super::*;

    #[test]
    fn a_request_has_its_size_and_a_right_checksum() {
        let sent = request(Family::Ipv4, 7, 1500);
        assert_eq!(sent.len() + ipv4::MIN_LEN, 1500);
        assert_eq!(checksum::of(&sent), 0);
        let sent = request(Family::Ipv6, 7, 1280);
        assert_eq!(sent.len() + ipv6::LEN, 1280);
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
        packet.extend(request(Family::Ipv4, 7, 576));
        let heard = |packet: &[u8], identifier| reply(Family::Ipv4, packet, identifier);
        assert_eq!(heard(&packet, 7), None, "a request");
        packet[ipv4::MIN_LEN] = icmp::ECHO_REPLY;
        assert_eq!(heard(&packet, 7), Some(576));
        assert_eq!(heard(&packet, 8), None, "another's");
        assert_eq!(heard(&packet[..ipv4::MIN_LEN + 4], 7), None, "cut short");
        let mut message = request(Family::Ipv6, 7, 1280);
        assert_eq!(reply(Family::Ipv6, &message, 7), None, "a request");
        message[0] = icmpv6::ECHO_REPLY;
        assert_eq!(reply(Family::Ipv6, &message, 7), Some(1280));
    }
}
