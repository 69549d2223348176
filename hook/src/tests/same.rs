//! The program forwards as the engine does: bytes, states, times, numbers.

use std::time::Duration;

use uvs_core::flow::{Endpoint, Protocol};
use uvs_core::offload::Reach;
use uvs_core::service::{Forwarding, Tunnel};
use uvs_core::testing::bed::{CLIENT, SERVERS_MAC, VIP};
use uvs_core::testing::packets::{PacketBuilder, TestFrame, tcp, udp};
use uvs_core::wire::tcp::flag::{ACK, FIN, PSH, RST, SYN};

use super::pair::{Pair, Where};
use crate::testing::net::inside;

/// RFC 9293 §3.1; no state depends on it.
const URG: u8 = 0x20;
/// Every method that the kernel takes.
const METHODS: [Forwarding; 4] = [
    Forwarding::Nat,
    Forwarding::FullNat,
    Forwarding::Dr,
    Forwarding::Tunnel,
];

fn pair(net: &crate::testing::net::Net, protocol: Protocol, forwarding: Forwarding) -> Pair {
    pair_with(net, protocol, forwarding, Reach::Everything)
}

fn pair_with(
    net: &crate::testing::net::Net,
    protocol: Protocol,
    forwarding: Forwarding,
    reach: Reach,
) -> Pair {
    let mut pair = Pair::with(net, reach);
    pair.both(|bed| bed.add_service(protocol, forwarding, Tunnel::default()));
    pair.serve();
    pair
}

impl Pair {
    /// The server's end of the one connection, and whom it replies to.
    fn ends(&self) -> (Endpoint, Endpoint) {
        let (list, _) = self.alone.engine.report_connections(self.alone.now, 0, 10);
        let c = list.first().expect("a connection");
        (c.server, c.local.unwrap_or(c.client))
    }

    fn server_says(&mut self, flags: u8, numbers: (u32, u32), data: &[u8]) -> Where {
        let (server, to) = self.ends();
        let segment = tcp(server, to, flags)
            .seq(numbers.0, numbers.1)
            .payload(data);
        self.server_sends(&TestFrame::finished(&segment.to_mac(SERVERS_MAC).frame()))
    }

    fn client_says(&mut self, flags: u8, numbers: (u32, u32), data: &[u8]) -> Where {
        let segment = tcp(CLIENT, VIP, flags)
            .seq(numbers.0, numbers.1)
            .payload(data);
        self.client_sends(&whole(&segment))
    }
}

fn whole(packet: &PacketBuilder) -> TestFrame {
    TestFrame::finished(&packet.frame())
}

#[test]
fn only_a_connections_syn_goes_up() {
    for method in METHODS {
        inside(|net| {
            let mut pair = pair(net, Protocol::Tcp, method);
            assert_eq!(pair.client_says(SYN, (99, 0), b""), Where::Engine);
            let replies = matches!(method, Forwarding::Nat | Forwarding::FullNat);
            if replies {
                let up = pair.server_says(SYN | ACK, (4999, 100), b"");
                assert_eq!(up, Where::Kernel, "{method:?}");
            }
            for (flags, seq) in [(ACK, 100), (ACK | PSH, 100), (ACK | URG, 104)] {
                let went = pair.client_says(flags, (seq, 5000), b"data");
                assert_eq!(went, Where::Kernel, "{method:?} {flags:#x}");
            }
            if replies {
                assert_eq!(pair.server_says(ACK, (5000, 108), b"answer"), Where::Kernel);
                assert_eq!(pair.server_says(FIN | ACK, (5006, 108), b""), Where::Kernel);
            }
            assert_eq!(pair.client_says(FIN | ACK, (108, 5007), b""), Where::Kernel);
            pair.wait(Duration::from_secs(30));
            pair.wait(Duration::from_secs(200));
            let all_gone = pair.hook.fill().connections;
            assert_eq!(all_gone, 0, "{method:?}");
        });
    }
}

#[test]
fn datagrams_after_the_first_stay_in_the_kernel() {
    for method in METHODS {
        inside(|net| {
            let mut pair = pair(net, Protocol::Udp, method);
            let datagram = udp(CLIENT, VIP).payload(b"question");
            assert_eq!(pair.client_sends(&whole(&datagram)), Where::Engine);
            assert_eq!(
                pair.client_sends(&whole(&datagram)),
                Where::Kernel,
                "{method:?}"
            );
            let (server, to) = pair.ends();
            if matches!(method, Forwarding::Nat | Forwarding::FullNat) {
                let answer = udp(server, to).payload(b"answer").to_mac(SERVERS_MAC);
                assert_eq!(pair.server_sends(&whole(&answer)), Where::Kernel);
                // NAT gives one without a checksum one; a mode that changes nothing leaves it.
                let without = datagram.clone().no_checksum();
                assert_eq!(pair.client_sends(&whole(&without)), Where::Engine);
            } else {
                let without = datagram.clone().no_checksum();
                assert_eq!(pair.client_sends(&whole(&without)), Where::Kernel);
            }
            pair.wait(Duration::from_secs(299));
            pair.wait(Duration::from_secs(3));
            assert_eq!(pair.hook.fill().connections, 0);
        });
    }
}

#[test]
fn outer_headers_follow_the_inner_packet() {
    for copy_df in [0, 1] {
        inside(|net| {
            let mut pair = pair(net, Protocol::Udp, Forwarding::Tunnel);
            pair.both(|bed| bed.sysctl("pmtu_disc", copy_df));
            let datagram = udp(CLIENT, VIP).payload(b"question");
            assert_eq!(pair.client_sends(&whole(&datagram)), Where::Engine);
            for tos in [0, 0x10, 0xb9, 0xba, 0xbb] {
                let frame = whole(&datagram.clone().tos(tos).ttl(7));
                // Without DF outside there is an identification, which is the program's own.
                if copy_df == 1 {
                    assert_eq!(pair.client_sends(&frame), Where::Kernel, "{tos:#x}");
                }
            }
        });
    }
}

/// A xorshift generator: the same sequences in each run.
struct Dice(u32);

impl Dice {
    fn roll(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    fn of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.roll() as usize % choice.len()]
    }
}

#[test]
fn whatever_segments_come_the_state_is_the_engines() {
    const FLAGS: [u8; 14] = [
        SYN,
        ACK,
        ACK,
        ACK,
        ACK,
        ACK | PSH,
        FIN | ACK,
        RST,
        RST | ACK,
        SYN | ACK,
        SYN | ACK,
        FIN,
        0,
        SYN | RST,
    ];
    for method in METHODS {
        for strict in [0, 3] {
            inside(|net| {
                let mut pair = pair(net, Protocol::Tcp, method);
                pair.both(|bed| bed.sysctl("secure_tcp", strict));
                let mut dice =
                    Dice(0x1234_5678 ^ u32::from(method as u8) << 8 ^ strict.cast_unsigned());
                let (mut client, mut server) = (1000_u32, 9000_u32);
                assert_eq!(pair.client_says(SYN, (client, 0), b""), Where::Engine);
                let mut kernel = 0;
                for _ in 0..400 {
                    let off = dice.of(&[0, 0, 0, 0, 0, 1, 100, 1 << 26, u32::MAX - 5]);
                    let flags = dice.of(&FLAGS);
                    let data = &b"0123456789"[..dice.roll() as usize % 10];
                    let replies = matches!(method, Forwarding::Nat | Forwarding::FullNat);
                    let (list, _) = pair.alone.engine.report_connections(pair.alone.now, 0, 10);
                    let went = if replies && dice.roll().is_multiple_of(2) && !list.is_empty() {
                        server = server.wrapping_add(7);
                        pair.server_says(flags, (server.wrapping_add(off), client), data)
                    } else {
                        client = client.wrapping_add(5);
                        pair.client_says(flags, (client.wrapping_add(off), server), data)
                    };
                    kernel += u32::from(went == Where::Kernel);
                    if dice.roll().is_multiple_of(64) {
                        pair.wait(Duration::from_secs(u64::from(dice.roll() % 90)));
                    }
                }
                assert!(kernel > 50, "{method:?}: {kernel} of 400 in the kernel");
            });
        }
    }
}

#[test]
fn the_lesser_program_takes_what_changes_no_state() {
    inside(|net| {
        let mut pair = pair_with(net, Protocol::Tcp, Forwarding::Nat, Reach::Established);
        assert_eq!(pair.client_says(SYN, (99, 0), b""), Where::Engine);
        assert_eq!(pair.server_says(SYN | ACK, (4999, 100), b""), Where::Engine);
        assert_eq!(pair.client_says(ACK, (100, 5000), b""), Where::Engine);
        assert_eq!(
            pair.client_says(ACK | PSH, (100, 5000), b"data"),
            Where::Kernel
        );
        assert_eq!(pair.server_says(ACK, (5000, 104), b"data"), Where::Kernel);
        assert_eq!(pair.server_says(FIN | ACK, (5004, 104), b""), Where::Engine);
        assert_eq!(pair.client_says(ACK, (104, 5005), b""), Where::Engine);
    });
    inside(|net| {
        let mut pair = pair_with(net, Protocol::Tcp, Forwarding::Nat, Reach::Guard);
        for flags in [SYN, ACK, ACK] {
            assert_eq!(pair.client_says(flags, (100, 0), b""), Where::Engine);
        }
    });
}
