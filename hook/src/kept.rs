//! What a connection and a server's cell are, for a daemon that is started anew, as words in shared memory.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use uvs_core::counters::Stats;
use uvs_core::flow::{Endpoint, Protocol};
use uvs_core::offload::{Kept, ServerCell, ServerOrder, Traffic};
use uvs_core::service::ServiceKey;

use crate::layout::{KEPT, NAMES, addr, words};

/// Words of a service, and of an endpoint.
const SERVICE: usize = 3;
const ENDPOINT: usize = 3;
/// Words of a service and an endpoint.
const BOTH: usize = SERVICE + ENDPOINT;
/// In a service's last word: it is one of a mark, of an IPv6 one, and the value is whole.
const MARK: u64 = 1 << 32;
const IPV6: u64 = 1 << 33;
const THERE: u64 = 1 << 34;

/// Keeps what a connection was made from.
pub(crate) fn keep(at: &[AtomicU64; KEPT], kept: &Kept) {
    let mut all = [0; KEPT];
    let ends = [kept.client, kept.vip, kept.server, kept.local];
    all[..BOTH].copy_from_slice(&names(kept.service, kept.member));
    // The four ends' addresses, then their ports together.
    for (to, end) in all[BOTH..].chunks_exact_mut(2).zip(ends) {
        to.copy_from_slice(&words(end.addr));
    }
    all[14] = (0..)
        .zip(ends)
        .map(|(i, e)| u64::from(e.port) << (16 * i))
        .sum();
    all[15] = u64::from(kept.protocol as u8)
        | u64::from(kept.mode) << 8
        | u64::from(kept.persistent) << 16
        | u64::from(kept.introduced) << 17
        | u64::from(kept.client_packets) << 24
        | u64::from(kept.timeout) << 32;
    store(at, &all);
}

/// What a connection was made from; `None` where what lies there is none.
pub(crate) fn kept(at: &[AtomicU64; KEPT]) -> Option<Kept> {
    let all: [u64; KEPT] = std::array::from_fn(|i| at[i].load(Relaxed));
    let (service, member) = named(all.first_chunk()?)?;
    let end = |i: usize| {
        let port = (all[14] >> (16 * i) & 0xffff).try_into().ok()?;
        Some(Endpoint::new(
            addr([all[BOTH + 2 * i], all[BOTH + 2 * i + 1]]),
            port,
        ))
    };
    let [protocol, mode, flags, client_packets, ..] = all[15].to_le_bytes();
    Some(Kept {
        service,
        member,
        protocol: Protocol::from_number(protocol)?,
        client: end(0)?,
        vip: end(1)?,
        server: end(2)?,
        local: end(3)?,
        mode,
        persistent: flags & 1 != 0,
        introduced: flags & 2 != 0,
        client_packets,
        timeout: u32::try_from(all[15] >> 32).ok()?,
    })
}

/// Keeps whose a server's cell is, and what was counted of it.
pub(crate) fn keep_server(at: &[AtomicU64; NAMES], order: &ServerOrder) {
    let (counted, settled) = (&order.stats, &order.settled);
    let numbers = [
        counted.connections,
        counted.in_packets,
        counted.out_packets,
        counted.in_bytes,
        counted.out_bytes,
        settled.in_packets,
        settled.out_packets,
        settled.in_bytes,
        settled.out_bytes,
    ];
    store(&at[BOTH..], &numbers);
    store(&at[..BOTH], &names(order.service, order.server));
}

/// A server's cell as it was kept; `None` where it is nobody's.
pub(crate) fn kept_server(
    cell: ServerCell,
    generation: u32,
    at: &[AtomicU64; NAMES],
) -> Option<ServerOrder> {
    let word = |i: usize| at[i].load(Relaxed);
    let (service, server) = named(&std::array::from_fn(word))?;
    let number = |i: usize| word(BOTH + i);
    Some(ServerOrder {
        cell,
        generation,
        service,
        server,
        stats: Stats {
            connections: number(0),
            in_packets: number(1),
            out_packets: number(2),
            in_bytes: number(3),
            out_bytes: number(4),
        },
        settled: Traffic {
            in_packets: number(5),
            out_packets: number(6),
            in_bytes: number(7),
            out_bytes: number(8),
        },
    })
}

fn store(at: &[AtomicU64], words: &[u64]) {
    for (to, from) in at.iter().zip(words) {
        to.store(*from, Relaxed);
    }
}

fn names(service: ServiceKey, server: Endpoint) -> [u64; BOTH] {
    let [a, b, c] = match service {
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => {
            let [a, b] = words(addr);
            [a, b, u64::from(port) | u64::from(protocol as u8) << 16]
        }
        ServiceKey::Mark { mark, ipv6 } => {
            let family = if ipv6 { IPV6 } else { 0 };
            [u64::from(mark), 0, MARK | family]
        }
    };
    let [d, e] = words(server.addr);
    [a, b, c | THERE, d, e, u64::from(server.port)]
}

fn named(words: &[u64; BOTH]) -> Option<(ServiceKey, Endpoint)> {
    let [a, b, c, d, e, port] = *words;
    let low = |n: u64| u16::try_from(n & 0xffff).ok();
    let service = if c & MARK != 0 {
        ServiceKey::Mark {
            mark: u32::try_from(a).ok()?,
            ipv6: c & IPV6 != 0,
        }
    } else {
        ServiceKey::Address {
            protocol: Protocol::from_number((c >> 16).to_le_bytes()[0])?,
            addr: addr([a, b]),
            port: low(c)?,
        }
    };
    (c & THERE != 0).then_some((service, Endpoint::new(addr([d, e]), low(port)?)))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use uvs_core::flow::Addr;

    use super::*;

    fn end(text: &str, port: u16) -> Endpoint {
        Endpoint::new(Addr::from(text.parse::<IpAddr>().unwrap()), port)
    }

    #[test]
    fn a_connection_is_read_as_it_was_kept() {
        let at = [const { AtomicU64::new(0) }; KEPT];
        assert_eq!(kept(&at), None, "nothing was kept");
        let v4 = ServiceKey::address(Protocol::Tcp, end("192.0.2.1", 80));
        let mark = ServiceKey::Mark {
            mark: 7,
            ipv6: true,
        };
        for (service, persistent) in [(v4, true), (mark, false)] {
            let connection = Kept {
                service,
                member: end("10.0.0.1", 8080),
                protocol: Protocol::Udp,
                client: end("2001:db8::9", 40_000),
                vip: end("192.0.2.1", 65_535),
                server: end("fd00::1", 1),
                local: Endpoint::NONE,
                mode: 3,
                persistent,
                introduced: !persistent,
                client_packets: 255,
                timeout: 900,
            };
            keep(&at, &connection);
            assert_eq!(kept(&at), Some(connection));
        }
    }

    #[test]
    fn a_servers_cell_is_read_as_it_was_kept() {
        let at = [const { AtomicU64::new(0) }; NAMES];
        let cell = ServerCell(9);
        assert_eq!(kept_server(cell, 3, &at), None);
        let order = ServerOrder {
            cell,
            generation: 3,
            service: ServiceKey::address(Protocol::Sctp, end("2001:db8::1", 0)),
            server: end("10.1.2.3", 443),
            stats: Stats {
                connections: 1,
                in_packets: 2,
                out_packets: 3,
                in_bytes: 4,
                out_bytes: u64::MAX,
            },
            settled: Traffic {
                in_packets: 5,
                out_packets: 6,
                in_bytes: 7,
                out_bytes: 8,
            },
        };
        keep_server(&at, &order);
        assert_eq!(kept_server(cell, 3, &at), Some(order));
    }
}
