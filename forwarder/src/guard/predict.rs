//! Predicts which of the guard's rules would drop a frame: the chain `ours` of [`super::rules`] as a function.

use uvs_core::flow::{Endpoint, Family, Flow, Protocol};
use uvs_core::glance::Glance;
use uvs_core::shared::Set;
use uvs_core::wire::{ethernet, icmp, icmpv6, protocol};

use super::spec::{Destined, GuardSpec, Server};

impl GuardSpec {
    /// The counter of the rule that drops the kernel's copy of this frame; `None` = the kernel gets it. A NAT
    /// server's is dropped where it is `ours`: to a client that the guard remembers.
    pub(crate) fn dropped_by(&self, frame: &[u8], ours: bool) -> Option<&'static str> {
        let h = Glance::of_frame(frame)?;
        let packet = &frame[ethernet::LEN..];
        // 0 where there are none, as in a fragment that is not the first.
        let (src_port, dst_port) = h.ports.unwrap_or_default();
        let Some(protocol) = Protocol::from_number(h.protocol) else {
            return if self.owned.contains(&h.dst) {
                Some("owned")
            } else {
                let passes = !self.local.contains(&h.dst);
                (passes && self.quotes_ours(&h, packet)).then_some("icmp_error")
            };
        };
        let to_service = |&(p, vip, port): &Destined| {
            (p, vip) == (protocol, h.dst) && (port == 0 || port == dst_port)
        };
        let is_service = |of: &Set<Destined>| of.iter().any(to_service);
        let is_wide = |of_host: bool| {
            let flow = Flow::new(
                protocol,
                Endpoint::new(h.src, src_port),
                Endpoint::new(h.dst, dst_port),
            );
            let all = self.nat.wide.iter().chain(self.wide.iter());
            let mut wide = all.filter(|to| to.is_host() == of_host);
            wide.any(|to| to.has(&flow))
        };
        let is_from = |&(addr, p, port): &Server| {
            (p, addr) == (protocol, h.src) && (port == 0 || port == src_port)
        };
        let (low, high) = self.fullnat.ports;
        let to_fullnat = self.fullnat.local.contains(&h.dst) && (low..=high).contains(&dst_port);
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
        } else if self.local.contains(&h.dst) {
            None
        } else if is_wide(false) {
            Some("service")
        } else {
            self.nat.callers.iter().any(is_from).then_some("nat_reply")
        }
    }

    /// Whether an ICMP error is about a packet to a NAT server.
    fn quotes_ours(&self, error: &Glance, packet: &[u8]) -> bool {
        let Some(h) = quoted(error, packet).and_then(Glance::of_packet) else {
            return false;
        };
        let (_, to) = h.ports.unwrap_or_default();
        self.nat_servers.iter().any(|&(addr, protocol, port)| {
            (addr, protocol as u8) == (h.dst, h.protocol) && (port == 0 || port == to)
        })
    }
}

/// The packet that an ICMP error quotes, where the guard can read it: without options or extension headers.
fn quoted<'a>(error: &Glance, packet: &'a [u8]) -> Option<&'a [u8]> {
    let family = error.src.family();
    let kinds = match family {
        Family::V4 => icmp::ERRORS,
        Family::V6 => icmpv6::ERRORS,
    };
    let message = packet.get(error.l4?..)?;
    let kind = icmp::Header::new_checked(message).ok()?.kind();
    let quoted = &message[icmp::LEN..];
    let is_plain = match family {
        Family::V4 => quoted.first() == Some(&0x45),
        Family::V6 => quoted.first().is_some_and(|first| first >> 4 == 6),
    };
    let is_icmp = error.protocol == protocol_of_icmp(family);
    (is_icmp && is_plain && kinds.contains(&kind)).then_some(quoted)
}

const fn protocol_of_icmp(family: Family) -> u8 {
    match family {
        Family::V4 => protocol::ICMP,
        Family::V6 => protocol::ICMPV6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::FullNat;
    use uvs_core::flow::Addr;
    use uvs_core::testing::packets::{icmp, tcp, udp};

    const VIP: Addr = Addr::v4([10, 0, 1, 100]);
    const OWNED: Addr = Addr::v4([10, 0, 1, 200]);
    const SERVER: Addr = Addr::v4([10, 0, 2, 11]);
    const LOCAL: Addr = Addr::v4([10, 0, 2, 1]);

    fn spec() -> GuardSpec {
        let server = (SERVER, Protocol::Tcp, 8080);
        GuardSpec {
            services: [(Protocol::Tcp, VIP, 80), (Protocol::Udp, VIP, 0)].into(),
            owned: [OWNED].into(),
            nat_servers: [server].into(),
            fullnat: FullNat {
                local: [LOCAL].into(),
                ports: (1024, 2048),
                servers: [server].into(),
            },
            local: [LOCAL, VIP].into(),
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
        marked.wide = wide.into();
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
    fn each_rule_keeps_its_own_in_ipv6_too() {
        let [vip, owned, server, client] = ["100", "200", "2:11", "10"]
            .map(|end| format!("2001:db8::{end}").parse::<std::net::Ipv6Addr>())
            .map(|a| Addr::from(a.expect("an address")));
        let spec = GuardSpec {
            services: [(Protocol::Tcp, vip, 80)].into(),
            owned: [owned].into(),
            nat_servers: [(server, Protocol::Tcp, 8080)].into(),
            wide: ["tcp [2001:db8:8::/48]:80".parse().expect("a destination")].into(),
            ..spec()
        };
        let at = Endpoint::new;
        let kept = |from, to| spec.dropped_by(&tcp(from, to, 2).frame(), true);
        assert_eq!(kept(at(client, 9), at(vip, 80)), Some("service"));
        assert_eq!(kept(at(client, 9), at(vip, 22)), None);
        assert_eq!(kept(at(client, 9), at(owned, 22)), Some("owned"));
        assert_eq!(kept(at(server, 8080), at(client, 9)), Some("nat_reply"));
        assert_eq!(kept(at(server, 8081), at(client, 9)), None);
        let far = "2001:db8:8::7".parse::<std::net::Ipv6Addr>();
        let far = Addr::from(far.expect("an address"));
        assert_eq!(kept(at(client, 9), at(far, 80)), Some("service"));
        let long = tcp(at(client, 9), at(vip, 80), 2).extension(60, &[0; 6]);
        assert_eq!(spec.dropped_by(&long.frame(), true), Some("service"));
        let sent = tcp(at(client, 9), at(server, 8080), 2).frame();
        let about = icmp(vip, client, icmpv6::TOO_BIG, 0, 1280);
        let about = about.payload(&sent[ethernet::LEN..]).frame();
        assert_eq!(spec.dropped_by(&about, true), Some("icmp_error"));
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
