//! Predicts which of the guard's rules would drop a frame: the chain `ours` of [`super::rules`] as a function.

use uvs_core::flow::{Addr, Endpoint, Flow, Protocol};
use uvs_core::wire::ethernet::{self, ethertype};
use uvs_core::wire::ports::Ports;
use uvs_core::wire::{icmp, ipv4, protocol};

use super::spec::{GuardSpec, Server};

/// What the rules look at.
struct Headers {
    src: Addr,
    dst: Addr,
    protocol: u8,
    src_port: u16,
    dst_port: u16,
}

impl GuardSpec {
    /// The counter of the rule that drops the kernel's copy of this frame; `None` = the kernel gets it. A NAT
    /// server's is dropped where it is `ours`: to a client that the guard remembers.
    pub(crate) fn dropped_by(&self, frame: &[u8], ours: bool) -> Option<&'static str> {
        let ethernet = ethernet::Header::new_checked(frame).ok()?;
        if ethernet.ethertype() != ethertype::IPV4 {
            return None;
        }
        let packet = &frame[ethernet::LEN..];
        let h = Headers::read(packet)?;
        let Some(protocol) = Protocol::from_number(h.protocol) else {
            let error = h.protocol == protocol::ICMP
                && !self.owned.contains(&h.dst)
                && !self.local.contains(&h.dst);
            return if self.owned.contains(&h.dst) {
                Some("owned")
            } else {
                (error && self.quotes_ours(packet)).then_some("icmp_error")
            };
        };
        let to_service = |&(p, vip, port): &(Protocol, Addr, u16)| {
            (p, vip) == (protocol, h.dst) && (port == 0 || port == h.dst_port)
        };
        let is_service = |of: &[(Protocol, Addr, u16)]| of.iter().any(to_service);
        let is_wide = |of_host: bool| {
            let flow = Flow::new(
                protocol,
                Endpoint::new(h.src, h.src_port),
                Endpoint::new(h.dst, h.dst_port),
            );
            let all = self.nat.wide.iter().chain(&self.wide);
            let mut wide = all.filter(|to| to.is_host() == of_host);
            wide.any(|to| to.has(&flow))
        };
        let is_from = |&(addr, p, port): &Server| {
            (p, addr) == (protocol, h.src) && (port == 0 || port == h.src_port)
        };
        let (low, high) = self.fullnat.ports;
        let to_fullnat = self.fullnat.local.contains(&h.dst) && (low..=high).contains(&h.dst_port);
        if is_service(&self.nat.services) {
            Some("service")
        } else if self.owned.contains(&h.dst) {
            Some("owned")
        } else if is_service(&self.services) || is_wide(true) {
            Some("service")
        } else if to_fullnat && self.fullnat.servers.iter().any(is_from) {
            Some("fullnat_reply")
        } else if ours && self.nat_servers.iter().any(is_from) {
            Some("nat_reply")
        } else {
            (!self.local.contains(&h.dst) && is_wide(false)).then_some("service")
        }
    }

    /// Whether an ICMP error is about a packet to a NAT server.
    fn quotes_ours(&self, packet: &[u8]) -> bool {
        let Some(h) = quoted(packet).and_then(Headers::read) else {
            return false;
        };
        self.nat_servers.iter().any(|&(addr, protocol, port)| {
            (addr, protocol as u8) == (h.dst, h.protocol) && (port == 0 || port == h.dst_port)
        })
    }
}

impl Headers {
    /// Reads an IPv4 packet's; ports are 0 where there are none.
    fn read(packet: &[u8]) -> Option<Self> {
        let header = ipv4::Header::new_checked(packet).ok()?;
        let l4 = packet.get(header.header_len()..).unwrap_or_default();
        let ports = Ports::new_checked(l4).map_or((0, 0), |p| (p.src(), p.dst()));
        Some(Self {
            src: Addr::v4(header.src()),
            dst: Addr::v4(header.dst()),
            protocol: header.protocol(),
            src_port: ports.0,
            dst_port: ports.1,
        })
    }
}

/// The packet without options that an ICMP error quotes.
fn quoted(packet: &[u8]) -> Option<&[u8]> {
    let message = ipv4::Packet::new_checked(packet).ok()?.payload;
    let header = icmp::Header::new_checked(message).ok()?;
    let quoted = &message[icmp::LEN..];
    let about = ipv4::Packet::new_checked(quoted).ok()?;
    (icmp::ERRORS.contains(&header.kind()) && about.options.is_empty()).then_some(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::FullNat;
    use uvs_core::testing::packets::{icmp, tcp, udp};

    const VIP: Addr = Addr::v4([10, 0, 1, 100]);
    const OWNED: Addr = Addr::v4([10, 0, 1, 200]);
    const SERVER: Addr = Addr::v4([10, 0, 2, 11]);
    const LOCAL: Addr = Addr::v4([10, 0, 2, 1]);

    fn spec() -> GuardSpec {
        let server = (SERVER, Protocol::Tcp, 8080);
        GuardSpec {
            services: vec![(Protocol::Tcp, VIP, 80), (Protocol::Udp, VIP, 0)],
            owned: vec![OWNED],
            nat_servers: vec![server],
            fullnat: FullNat {
                local: vec![LOCAL],
                ports: (1024, 2048),
                servers: vec![server],
            },
            local: vec![LOCAL, VIP],
            ..GuardSpec::default()
        }
    }

    fn end(text: &str) -> Endpoint {
        let socket: std::net::SocketAddrV4 = text.parse().expect("an endpoint");
        Endpoint::new(Addr::from(*socket.ip()), socket.port())
    }

    #[test]
    fn each_rule_keeps_its_own() {
        let kept = |from, to| spec().dropped_by(&tcp(end(from), end(to), 2).frame(), true);
        assert_eq!(kept("192.0.2.7:9", "10.0.1.100:80"), Some("service"));
        assert_eq!(kept("192.0.2.7:9", "10.0.1.100:22"), None);
        let datagram = udp(end("192.0.2.7:9"), end("10.0.1.100:22")).frame();
        assert_eq!(spec().dropped_by(&datagram, true), Some("service"));
        assert_eq!(kept("192.0.2.7:9", "10.0.1.200:22"), Some("owned"));
        assert_eq!(kept("10.0.2.11:8080", "192.0.2.7:9"), Some("nat_reply"));
        assert_eq!(kept("10.0.2.11:8081", "192.0.2.7:9"), None);
        let mut marked = spec();
        let wide = ["tcp 10.0.1.100:20-22", "tcp 10.0.0.0/16:22"].map(|t| t.parse().expect(t));
        marked.wide = wide.to_vec();
        for (to, by) in [("10.0.1.100:22", Some("service")), ("10.0.2.1:22", None)] {
            let frame = tcp(end("192.0.2.7:9"), end(to), 2).frame();
            assert_eq!(
                marked.dropped_by(&frame, true),
                by,
                "the network spares what is local"
            );
        }
        let elsewhere = tcp(end("192.0.2.7:9"), end("10.0.7.7:22"), 2).frame();
        assert_eq!(marked.dropped_by(&elsewhere, true), Some("service"));
        let fullnat = Some("fullnat_reply");
        assert_eq!(kept("10.0.2.11:8080", "10.0.2.1:1500"), fullnat);
        let not_ours = |from, to| spec().dropped_by(&tcp(end(from), end(to), 2).frame(), false);
        for to in ["10.0.2.1:5000", "192.0.2.7:9"] {
            assert_eq!(
                not_ours("10.0.2.11:8080", to),
                None,
                "a health check, or any other"
            );
        }
    }

    #[test]
    fn an_error_about_a_server_is_kept() {
        let (client, router) = (end("192.0.2.7:9"), Addr::v4([10, 0, 2, 254]));
        let sent = tcp(client, end("10.0.2.11:8080"), 2).frame();
        let about = |kind| {
            let error = icmp(router, client.addr, kind, 1, 0);
            error.payload(&sent[ethernet::LEN..]).frame()
        };
        assert_eq!(spec().dropped_by(&about(3), true), Some("icmp_error"));
        assert_eq!(spec().dropped_by(&about(0), true), None);
    }
}
