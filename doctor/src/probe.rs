//! Asks real servers for a VIP the way the director sends to them: a ping and a SYN to the VIP, at the server's MAC address or
//! through its tunnel. A server that has the VIP answers one of the two, even where nobody listens; one without drops
//! both, or sends them back to the director.
//!
//! The answers come from the VIP, which is the director's own: its kernel drops them as it must, so they are heard on a
//! packet socket, whose filter lets nothing else in.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use libc::sock_filter;
use rustix::net::netdevice;
use socket2::{Domain, SockFilter, Socket, Type};
use uvs_core::wire::ethernet::{self, Mac, ethertype};
use uvs_core::wire::{icmp, ipv4, protocol, tcp};
use uvs_forwarder::sys;

use super::receive;

/// Times that each server is asked, since a frame can be lost, and how long answers are waited for after each.
const ROUNDS: u32 = 2;
const ROUND: Duration = Duration::from_millis(500);
/// Servers that are asked at most: as many fit one filter.
pub(super) const MOST: usize = 100;
/// Bytes of an answer at most; what is longer is cut.
const LONGEST: usize = 256;
/// The first port that SYNs come from: one for each server.
const FIRST_PORT: u16 = 61_000;
/// Frames of every EtherType, before anything else on this host has seen them (ETH_P_ALL).
const EVERYTHING: u16 = 3;
/// TTL of what is sent.
const TTL: u8 = 64;

/// A server to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    /// The interface by which the director sends to it.
    pub(super) interface: String,
    /// The next hop's MAC address: the server's own, but where it is behind a router.
    pub(super) mac: Mac,
    /// The director's address, to which the server is to answer.
    pub(super) source: Ipv4Addr,
    /// The server.
    pub(super) server: Ipv4Addr,
    /// The VIP.
    pub(super) vip: Ipv4Addr,
    /// The service's TCP port, where it is one of TCP.
    pub(super) port: Option<u16>,
    /// Whether it is asked through an IPIP tunnel.
    pub(super) tunnel: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The VIP has answered.
    Answered,
    /// The server says that it takes no such tunnel (ICMP protocol unreachable).
    NoTunnel,
    /// Nothing came.
    #[default]
    Silent,
}

/// Asks all at once; the outcomes in the order of the servers.
pub(super) fn ask(probes: &[Probe]) -> io::Result<Vec<Outcome>> {
    let mut asking = Asking {
        probes,
        identifier: (std::process::id() & 0xffff) as u16,
        outcomes: vec![Outcome::Silent; probes.len()],
    };
    let ears = ears(probes)?;
    for _ in 0..ROUNDS {
        for (n, probe) in (0..).zip(probes) {
            if asking.outcomes[usize::from(n)] == Outcome::Silent {
                asking.send(n, probe, tcp::flag::SYN)?;
            }
        }
        asking.listen(&ears)?;
    }
    // What a SYN has begun is not left to a server's time-out.
    for (n, probe) in (0..).zip(probes) {
        asking.send(n, probe, tcp::flag::RST)?;
    }
    Ok(asking.outcomes)
}

/// A socket that hears what the VIPs and the servers send, by whatever interface.
fn ears(probes: &[Probe]) -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    let vips = probes.iter().map(|p| p.vip);
    let senders: BTreeSet<Ipv4Addr> = vips.chain(probes.iter().map(|p| p.server)).collect();
    let code = only_from(&senders).into_iter();
    let code: Vec<SockFilter> = code
        .map(|step| SockFilter::new(step.code, step.jt, step.jf, step.k))
        .collect();
    socket.attach_filter(&code)?;
    sys::bind_packet(&socket, 0, EVERYTHING)?;
    Ok(socket)
}

/// Lets IPv4 packets from these addresses in.
#[expect(
    clippy::cast_possible_truncation,
    reason = "`sock_filter` has 16 bits for an instruction; offsets and lengths are small"
)]
fn only_from(senders: &BTreeSet<Ipv4Addr>) -> Vec<sock_filter> {
    const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    /// Where the EtherType is, and IPv4's source address behind it.
    const ETHERTYPE: u32 = 12;
    const SOURCE: u32 = ethernet::LEN as u32 + 12;
    let step = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let left = |n: usize| u8::try_from(senders.len() - n).unwrap_or(u8::MAX);
    let mut code = vec![
        step(LOAD_HALF, ETHERTYPE, 0, 0),
        step(EQUAL, ethertype::IPV4.into(), 0, left(0).saturating_add(1)),
        step(LOAD_WORD, SOURCE, 0, 0),
    ];
    for (n, sender) in senders.iter().enumerate() {
        code.push(step(EQUAL, (*sender).into(), left(n), 0));
    }
    code.push(step(RETURN, 0, 0, 0));
    code.push(step(RETURN, LONGEST as u32, 0, 0));
    code
}

struct Asking<'p> {
    probes: &'p [Probe],
    identifier: u16,
    outcomes: Vec<Outcome>,
}

impl Asking<'_> {
    /// Sends a ping and a SYN, or the RST that takes the SYN back.
    fn send(&self, n: u16, probe: &Probe, flags: u8) -> io::Result<()> {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        let index = netdevice::name_to_index(socket.as_fd(), &probe.interface)?;
        sys::bind_packet(&socket, index, 0)?;
        let [a, b, c, d, e, f, ..] = sys::packet_address(&socket)?.sll_addr;
        let own = [a, b, c, d, e, f];
        let opens = flags == tcp::flag::SYN;
        if opens {
            let ping = packet(probe, protocol::ICMP, &echo(self.identifier, n));
            socket.send(&frame(probe, own, &ping))?;
        }
        if let Some(port) = probe.port {
            // The SYN has taken the number 0.
            let seq = u32::from(!opens);
            let segment = segment(probe, (FIRST_PORT + n, port), seq, flags);
            socket.send(&frame(probe, own, &segment))?;
        }
        Ok(())
    }

    /// Takes answers for a round's time, or until all have answered.
    fn listen(&mut self, ears: &Socket) -> io::Result<()> {
        let end = Instant::now() + ROUND;
        let mut buffer = [0; LONGEST];
        while self.outcomes.contains(&Outcome::Silent) {
            let Some(length) = receive::before(end, ears, &mut buffer)? else {
                break;
            };
            let Some((n, outcome)) = self.understand(&buffer[..length]) else {
                continue;
            };
            // A tunnel that is refused for one of two packets is refused.
            if self.outcomes[n] == Outcome::Silent {
                self.outcomes[n] = outcome;
            }
        }
        Ok(())
    }

    /// Whose answer a frame is, and what it says.
    fn understand(&self, frame: &[u8]) -> Option<(usize, Outcome)> {
        let packet = ipv4::Header::new_checked(frame.get(ethernet::LEN..)?).ok()?;
        let (src, dst) = (Ipv4Addr::from(packet.src()), Ipv4Addr::from(packet.dst()));
        let payload = frame.get(ethernet::LEN + packet.header_len()..)?;
        let of = |n: usize| {
            let probe = self.probes.get(n)?;
            (probe.vip == src && probe.source == dst).then_some((n, Outcome::Answered))
        };
        match packet.protocol() {
            protocol::TCP => {
                let port = tcp::Header::new_checked(payload).ok()?.dst_port();
                of(usize::from(port.checked_sub(FIRST_PORT)?))
            }
            protocol::ICMP => {
                let message = icmp::Header::new_checked(payload).ok()?;
                let kind = (message.kind(), message.code());
                if kind == (icmp::UNREACHABLE, icmp::PROTOCOL_UNREACHABLE) {
                    let quote = ipv4::Header::new_checked(payload.get(icmp::LEN..)?).ok()?;
                    let refused = |p: &Probe| p.tunnel && p.server == Ipv4Addr::from(quote.dst());
                    let n = self.probes.iter().position(refused)?;
                    return (quote.protocol() == protocol::IPIP).then_some((n, Outcome::NoTunnel));
                }
                let ours =
                    message.kind() == icmp::ECHO_REPLY && message.identifier() == self.identifier;
                ours.then(|| of(message.sequence().into()))?
            }
            _ => None,
        }
    }
}

fn echo(identifier: u16, sequence: u16) -> Vec<u8> {
    let mut message = vec![0; icmp::LEN];
    let mut echo = icmp::Header::new_mut(&mut message);
    echo.set_kind(icmp::ECHO);
    echo.set_identifier(identifier);
    echo.set_sequence(sequence);
    icmp::seal(&mut message);
    message
}

/// A TCP segment without data, with its IP header.
fn segment(probe: &Probe, (src_port, dst_port): (u16, u16), seq: u32, flags: u8) -> Vec<u8> {
    let mut segment = vec![0; tcp::MIN_LEN];
    tcp::Repr {
        src_port,
        dst_port,
        seq,
        ack: 0,
        flags,
        window: 1024,
    }
    .emit(&mut segment);
    let header = header(probe.source, probe.vip, protocol::TCP, segment.len());
    tcp::seal(&mut segment, header.pseudo_header());
    packet(probe, protocol::TCP, &segment)
}

fn header(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, data: usize) -> ipv4::Repr {
    ipv4::Repr {
        tos: 0,
        total_len: u16::try_from(ipv4::MIN_LEN + data).unwrap_or(u16::MAX),
        id: 0,
        dont_fragment: true,
        ttl: TTL,
        protocol,
        src: src.octets(),
        dst: dst.octets(),
    }
}

/// From the director to the VIP.
fn packet(probe: &Probe, protocol: u8, data: &[u8]) -> Vec<u8> {
    with_header(&header(probe.source, probe.vip, protocol, data.len()), data)
}

fn with_header(header: &ipv4::Repr, data: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; ipv4::MIN_LEN];
    header.emit(&mut packet);
    packet.extend(data);
    packet
}

/// A packet as the director sends it to the server.
fn frame(probe: &Probe, own: Mac, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ethernet::LEN];
    ethernet::Repr {
        dst: probe.mac,
        src: own,
        ethertype: ethertype::IPV4,
    }
    .emit(&mut frame);
    if probe.tunnel {
        let outer = header(probe.source, probe.server, protocol::IPIP, packet.len());
        frame.extend(with_header(&outer, packet));
    } else {
        frame.extend(packet);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);
    const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn probe(tunnel: bool) -> Probe {
        Probe {
            interface: "eth0".to_owned(),
            mac: [2, 0, 0, 0, 0, 11],
            source: DIRECTOR,
            server: SERVER,
            vip: VIP,
            port: Some(80),
            tunnel,
        }
    }

    fn asking(probes: &[Probe]) -> Asking<'_> {
        Asking {
            probes,
            identifier: 7,
            outcomes: vec![Outcome::Silent; probes.len()],
        }
    }

    /// A frame to the director.
    fn from(src: Ipv4Addr, protocol: u8, data: &[u8]) -> Vec<u8> {
        let packet = with_header(&header(src, DIRECTOR, protocol, data.len()), data);
        frame(&probe(false), [2, 0, 0, 0, 0, 1], &packet)
    }

    #[test]
    fn what_is_sent_is_what_the_director_would_send() {
        let ping = packet(&probe(false), protocol::ICMP, &echo(7, 3));
        let sent = frame(&probe(true), [2, 0, 0, 0, 0, 1], &ping);
        let outer = ipv4::Packet::new_checked(&sent[ethernet::LEN..]).unwrap();
        assert!(outer.is_sound());
        let inner = ipv4::Packet::new_checked(outer.payload).unwrap();
        assert!(inner.is_sound());
        let syn = segment(&probe(false), (61_003, 80), 0, tcp::flag::SYN);
        let syn = ipv4::Packet::new_checked(&syn).unwrap();
        let header = header(DIRECTOR, VIP, protocol::TCP, tcp::MIN_LEN);
        let mut sealed = syn.payload.to_vec();
        tcp::seal(&mut sealed, header.pseudo_header());
        assert_eq!(sealed, syn.payload);
    }

    #[test]
    fn an_answer_is_whose_it_says_and_only_from_its_vip() {
        let probes = [probe(false), probe(false)];
        let asking = asking(&probes);
        let mut reply = echo(7, 1);
        reply[0] = icmp::ECHO_REPLY;
        let heard = |src, protocol, data: &[u8]| asking.understand(&from(src, protocol, data));
        let answered = |n| Some((n, Outcome::Answered));
        assert_eq!(heard(VIP, protocol::ICMP, &reply), answered(1));
        assert_eq!(heard(SERVER, protocol::ICMP, &reply), None, "not the VIP");
        assert_eq!(heard(VIP, protocol::ICMP, &echo(7, 1)), None, "a request");
        reply[4] = 9;
        assert_eq!(heard(VIP, protocol::ICMP, &reply), None, "another's");
        let mut reset = vec![0; tcp::MIN_LEN];
        let mut segment = tcp::Header::new_mut(&mut reset);
        segment.set_dst_port(FIRST_PORT);
        assert_eq!(heard(VIP, protocol::TCP, &reset), answered(0));
        tcp::Header::new_mut(&mut reset).set_dst_port(80);
        assert_eq!(heard(VIP, protocol::TCP, &reset), None);
    }

    #[test]
    fn a_tunnel_that_is_refused_is_the_servers_word() {
        let probes = [probe(false), probe(true)];
        let asking = asking(&probes);
        let mut error = vec![0; icmp::LEN];
        let mut message = icmp::Header::new_mut(&mut error);
        message.set_kind(icmp::UNREACHABLE);
        message.set_code(icmp::PROTOCOL_UNREACHABLE);
        error.extend(with_header(
            &header(DIRECTOR, SERVER, protocol::IPIP, 0),
            &[],
        ));
        let heard = asking.understand(&from(SERVER, protocol::ICMP, &error));
        assert_eq!(heard, Some((1, Outcome::NoTunnel)));
    }

    #[test]
    fn the_filter_accepts_these_senders_alone() {
        let senders = BTreeSet::from([VIP, SERVER]);
        let code = only_from(&senders);
        let accepts = |frame: &[u8]| {
            let mut at = 0;
            let mut held: u32 = 0;
            loop {
                let step = &code[at];
                let place = step.k as usize;
                at += 1;
                match step.code {
                    0x28 => held = u16::from_be_bytes([frame[place], frame[place + 1]]).into(),
                    0x20 => held = u32::from_be_bytes(frame[place..place + 4].try_into().unwrap()),
                    0x15 if held == step.k => at += usize::from(step.jt),
                    0x15 => at += usize::from(step.jf),
                    _ => return step.k > 0,
                }
            }
        };
        assert!(accepts(&from(VIP, protocol::ICMP, &[0; 8])));
        assert!(accepts(&from(SERVER, protocol::TCP, &[0; 8])));
        assert!(!accepts(&from(DIRECTOR, protocol::ICMP, &[0; 8])));
        let mut other = from(VIP, protocol::ICMP, &[0; 8]);
        other[12..14].copy_from_slice(&ethertype::ARP.to_be_bytes());
        assert!(!accepts(&other));
    }
}
