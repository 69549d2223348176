//! Whose a frame is without a connection.

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::marks::Destination;
use uvs_core::offload::Orders;
use uvs_core::shared::Set;
use uvs_core::testing::packets::{icmp, other, tcp, udp};
use uvs_core::wire::protocol;
use uvs_core::wire::tcp::flag::{ACK, SYN};

use super::direct::{Direct, addr, end, end_of, nat};
use super::load::small;
use crate::hook::Setup;
use crate::rules::{FullNat, Rules, TunnelEnd};
use crate::testing::Outcome;
use crate::testing::net::inside;

fn host() -> Addr {
    addr("10.0.1.100")
}

impl Direct {
    fn is_ours(&self, frame: &[u8]) -> bool {
        match self.run(frame) {
            Outcome::Ours => true,
            Outcome::NotOurs(0) => false,
            other => panic!("{other:?}"),
        }
    }

    fn to(&self, protocol: Protocol, to: &str, port: u16) -> bool {
        let (from, to) = (end("192.0.2.7", 40_000), end(to, port));
        self.is_ours(&match protocol {
            Protocol::Udp => udp(from, to).frame(),
            Protocol::Tcp | Protocol::Sctp => tcp(from, to, SYN).frame(),
        })
    }

    fn from(&self, from: (&str, u16), to: (&str, u16)) -> bool {
        self.is_ours(&tcp(end(from.0, from.1), end(to.0, to.1), ACK).frame())
    }
}

#[test]
fn services_networks_and_owned_addresses_are_ours() {
    use Protocol::{Tcp, Udp};
    inside(|net| {
        let d = Direct::new(net);
        let wide = |text: &str| text.parse::<Destination>().unwrap();
        let rules = Rules {
            to: [[(Tcp, host(), 80), (Udp, host(), 0)].into(), Set::new()],
            wide: [
                [
                    wide("tcp 10.8.0.0/16:1000-1999"),
                    wide("udp 10.8.1.0/24"),
                    wide("tcp 10.0.1.101:7000-7009"),
                ]
                .into(),
                Set::new(),
            ],
            ftp: [addr("10.0.1.102")].into(),
            owned: [addr("10.0.1.103")].into(),
            local: [host(), addr("10.8.0.1"), addr("10.0.1.101")].into(),
            ..Rules::default()
        };
        d.hook.set_rules(&rules).unwrap();
        let judged = [
            (Tcp, "10.0.1.100", 80, true),
            (Tcp, "10.0.1.100", 81, false),
            (Udp, "10.0.1.100", 9, true),
            (Tcp, "10.8.7.7", 999, false),
            (Tcp, "10.8.7.7", 1000, true),
            (Tcp, "10.8.7.7", 1999, true),
            (Tcp, "10.8.7.7", 2000, false),
            (Udp, "10.8.7.7", 1000, false),
            // The longer prefix has the shorter one's ranges too.
            (Tcp, "10.8.1.7", 1500, true),
            (Udp, "10.8.1.7", 1, true),
            // Networks spare the host's own addresses, ranges of these do not.
            (Tcp, "10.8.0.1", 1500, false),
            (Tcp, "10.0.1.101", 7000, true),
            (Tcp, "10.0.1.101", 7010, false),
            (Tcp, "10.0.1.102", 20, true),
            (Tcp, "10.0.1.102", 21, false),
            (Tcp, "10.0.1.102", 1024, true),
            (Udp, "10.0.1.102", 1024, false),
            (Tcp, "10.0.1.103", 9, true),
        ];
        for (protocol, to, port, ours) in judged {
            assert_eq!(d.to(protocol, to, port), ours, "{protocol:?} {to}:{port}");
        }
        let from = addr("192.0.2.7");
        assert!(d.is_ours(&icmp(from, addr("10.0.1.103"), 8, 0, 0).frame()));
        assert!(d.is_ours(&other(from, addr("10.0.1.103"), 50).frame()));
        assert!(
            !d.is_ours(&icmp(from, host(), 8, 0, 0).frame()),
            "a ping is the host's"
        );

        d.hook.set_rules(&Rules::default()).unwrap();
        for (protocol, to, port, _) in judged {
            assert!(!d.to(protocol, to, port), "{protocol:?} {to}:{port}");
        }
    });
}

#[test]
fn servers_without_a_connection_are_ours_where_the_rules_say_so() {
    inside(|net| {
        let mut d = Direct::new(net);
        let rules = Rules {
            local: [host()].into(),
            fullnat: FullNat {
                servers: [(addr("10.0.2.11"), Protocol::Tcp, 80)].into(),
                local: [host()].into(),
                ports: (50_000, 50_009),
            },
            strays: [(addr("10.0.2.12"), Protocol::Tcp, 0)].into(),
            ..Rules::default()
        };
        d.hook.set_rules(&rules).unwrap();
        let (late, stray, client) = (("10.0.2.11", 80), ("10.0.2.12", 9), ("192.0.2.7", 40_000));
        assert!(d.from(late, ("10.0.1.100", 50_000)));
        assert!(!d.from(late, ("10.0.1.100", 50_010)), "no local port");
        assert!(!d.from(("10.0.2.11", 81), ("10.0.1.100", 50_000)));
        assert!(!d.from(late, client));
        assert!(d.from(stray, client));
        assert!(!d.from(stray, ("10.0.1.100", 22)), "to the host itself");

        let whole = |is| Orders {
            whole: vec![(Protocol::Tcp, end("10.0.2.13", 80), is)],
            ..Orders::default()
        };
        d.order(whole(true));
        assert!(d.from(("10.0.2.13", 80), client));
        assert!(!d.from(("10.0.2.13", 81), client));
        d.order(whole(false));
        assert!(!d.from(("10.0.2.13", 80), client));
        assert!(d.from(stray, client), "the rules are still in force");
    });
}

#[test]
fn fragments_follow_their_first() {
    inside(|net| {
        let mut d = Direct::new(net);
        let rules = Rules {
            to: [[(Protocol::Udp, host(), 53)].into(), Set::new()],
            local: [host()].into(),
            servers: [[(addr("10.0.2.11"), Protocol::Udp, 0)].into(), Set::new()],
            ..Rules::default()
        };
        d.hook.set_rules(&rules).unwrap();
        let from = end("192.0.2.7", 40_000);
        let pieces = |to: &str, port, id| {
            let whole = udp(from, end(to, port)).id(id).payload(&[7; 64]);
            fragments(&whole.may_fragment().frame())
        };
        let [first, later] = pieces("10.0.1.100", 53, 1);
        assert!(d.is_ours(&later), "it overtakes: the address decides");
        assert!(d.is_ours(&first) && d.is_ours(&later));
        let [first, later] = pieces("10.0.1.100", 54, 2);
        assert!(
            !d.is_ours(&first) && !d.is_ours(&later),
            "the host's own service"
        );
        let [first, later] = pieces("10.0.1.99", 53, 3);
        assert!(!d.is_ours(&first) && !d.is_ours(&later));

        let ping = icmp(from.addr, host(), 8, 0, 0).id(6).payload(&[7; 64]);
        let [first, later] = fragments(&ping.may_fragment().frame());
        assert!(!d.is_ours(&first) && !d.is_ours(&later), "a long ping");

        let client = end("192.0.2.8", 1);
        let ends = [client, end("10.0.1.100", 53), end("10.0.2.11", 53)];
        let taken = nat(3, 11, Protocol::Udp, ends);
        d.take(taken);
        let reply = |id| {
            let whole = udp(ends[2], client).id(id).payload(&[7; 64]);
            fragments(&whole.may_fragment().frame())
        };
        let [first, later] = reply(4);
        assert!(d.is_ours(&first) && d.is_ours(&later));
        d.order(end_of(&taken));
        let [first, later] = reply(5);
        assert!(!d.is_ours(&first) && !d.is_ours(&later), "its own traffic");
    });
}

/// A frame's datagram in two.
fn fragments(frame: &[u8]) -> [Vec<u8>; 2] {
    const CUT: usize = 14 + 20 + 32;
    let piece = |from: usize, to: usize, more: bool| {
        let mut piece = frame[..34].to_vec();
        piece.extend(&frame[from..to]);
        let len = u16::try_from(piece.len() - 14).unwrap();
        let offset = u16::try_from((from - 34) / 8).unwrap() | if more { 0x2000 } else { 0 };
        piece[16..18].copy_from_slice(&len.to_be_bytes());
        piece[20..22].copy_from_slice(&offset.to_be_bytes());
        piece[24..26].fill(0);
        let sum = uvs_core::wire::checksum::of(&piece[14..34]);
        piece[24..26].copy_from_slice(&sum.to_be_bytes());
        piece
    };
    [piece(34, CUT, true), piece(CUT, frame.len(), false)]
}

#[test]
fn icmp_errors_belong_to_whom_they_are_about() {
    inside(|net| {
        let mut d = Direct::new(net);
        let rules = Rules {
            to: [[(Protocol::Tcp, host(), 80)].into(), Set::new()],
            local: [host()].into(),
            tunnels: [TunnelEnd {
                addr: addr("10.0.2.14"),
                protocol: 4,
                port: 0,
            }]
            .into(),
            ..Rules::default()
        };
        d.hook.set_rules(&rules).unwrap();
        let (client, vip, server) = (
            end("192.0.2.7", 9),
            end("10.0.1.100", 80),
            end("10.0.2.11", 80),
        );
        let router = addr("198.51.100.1");
        let about = |to: Addr, packet: Vec<u8>| icmp(router, to, 3, 4, 0).payload(&packet).frame();
        // About what a server of a service sends its client itself, and about the host's own.
        assert!(d.is_ours(&about(host(), tcp(vip, client, ACK).packet())));
        assert!(!d.is_ours(&about(
            host(),
            tcp(end("10.0.1.100", 22), client, ACK).packet()
        )));
        // About a connection's packet to a NAT server: of the connection alone.
        let to_server = about(client.addr, tcp(client, server, ACK).packet());
        assert!(!d.is_ours(&to_server));
        let taken = nat(3, 11, Protocol::Tcp, [client, vip, server]);
        d.take(taken);
        assert!(d.is_ours(&to_server));
        // About a tunnel's packet.
        let inner = tcp(client, vip, ACK).packet();
        let outer = |to: &str| other(host(), addr(to), 4).payload(&inner).packet();
        assert!(d.is_ours(&about(host(), outer("10.0.2.14"))));
        assert!(!d.is_ours(&about(host(), outer("10.0.2.15"))));
        // A query is none.
        let echo = icmp(router, host(), 8, 0, 0).payload(&tcp(vip, client, ACK).packet());
        assert!(!d.is_ours(&echo.frame()));
    });
}

#[test]
fn what_has_its_ports_behind_extension_headers_goes_by_its_addresses() {
    inside(|net| {
        let d = Direct::new(net);
        let rules = Rules {
            to: [
                [(Protocol::Tcp, addr("2001:db8::100"), 80)].into(),
                Set::new(),
            ],
            local: [addr("2001:db8::100"), addr("2001:db8::1")].into(),
            ..Rules::default()
        };
        d.hook.set_rules(&rules).unwrap();
        let client = end("2001:db8:1::7", 40_000);
        let [service, host] = ["2001:db8::100", "2001:db8::1"].map(|to| end(to, 80));
        let chains = [
            protocol::HOP_BY_HOP,
            protocol::ROUTING,
            protocol::AH,
            protocol::DESTINATION_OPTIONS,
        ];
        for kind in chains {
            let to = |to| tcp(client, to, SYN).extension(kind, &[0; 6]).frame();
            assert!(d.is_ours(&to(service)), "{kind}");
            assert!(!d.is_ours(&to(host)), "{kind}");
            // An error that quotes what a service's server sent its client.
            let about = |from: Endpoint| {
                let quote = tcp(from, client, ACK).extension(kind, &[0; 6]).packet();
                let router = addr("2001:db8:1::254");
                icmp(router, from.addr, 2, 0, 1280).payload(&quote).frame()
            };
            assert!(d.is_ours(&about(service)), "{kind}");
            assert!(!d.is_ours(&about(host)), "{kind}");
        }
    });
}

#[test]
fn a_first_fragment_whose_ports_cannot_be_read_goes_by_its_addresses_and_the_rest_with_it() {
    inside(|net| {
        let d = Direct::new(net);
        let rules = Rules {
            to: [
                [(Protocol::Udp, addr("2001:db8::100"), 53)].into(),
                Set::new(),
            ],
            local: [addr("2001:db8::100"), addr("2001:db8::1")].into(),
            ..Rules::default()
        };
        d.hook.set_rules(&rules).unwrap();
        // A fragment header (RFC 8200 4.5): its offset with "more", and its datagram's number.
        let fragment = |to: &str, next: u8, offset: u16, id: u8, payload: &[u8]| {
            let [high, low] = offset.to_be_bytes();
            let header = [next, 0, high, low, 0, 0, 0, id];
            let packet = other(addr("2001:db8:1::7"), addr(to), protocol::FRAGMENT);
            packet.payload(&[&header, payload].concat()).frame()
        };
        let options = protocol::DESTINATION_OPTIONS;
        for (to, ours) in [("2001:db8::100", true), ("2001:db8::1", false)] {
            assert_eq!(d.is_ours(&fragment(to, protocol::UDP, 1, 1, &[])), ours);
            assert_eq!(d.is_ours(&fragment(to, options, 1, 2, &[17; 16])), ours);
            assert_eq!(d.is_ours(&fragment(to, options, 16, 2, &[7; 16])), ours);
            // Its header is cut off.
            let mut cut = other(addr("2001:db8:1::7"), addr(to), protocol::FRAGMENT);
            cut = cut.payload(&[protocol::UDP, 0, 0, 1]);
            assert_eq!(d.is_ours(&cut.frame()), ours);
        }
        let encrypted = fragment("2001:db8::100", 50, 1, 3, &[7; 16]);
        assert!(!d.is_ours(&encrypted), "no service has it");
    });
}

#[test]
fn more_rules_than_there_is_room_for_change_nothing() {
    inside(|net| {
        let setup = Setup {
            limits: crate::Limits {
                rules: 4,
                ..small().limits
            },
            ..small()
        };
        let d = Direct::with(net, &setup);
        let of = |ports: std::ops::Range<u16>| Rules {
            to: [
                ports.map(|port| (Protocol::Tcp, host(), port)).collect(),
                Set::new(),
            ],
            ..Rules::default()
        };
        d.hook.set_rules(&of(80..84)).unwrap();
        let refused = d.hook.set_rules(&of(80..85)).unwrap_err().to_string();
        assert!(
            refused.contains("room for 4 rules, and 5 are needed"),
            "{refused}"
        );
        assert!(d.to(Protocol::Tcp, "10.0.1.100", 83));
        assert!(!d.to(Protocol::Tcp, "10.0.1.100", 84));
    });
}
