//! The network around a test bed, the same in both families: clients behind a gateway on the one side, a server on the
//! other.

use crate::fib::{Fib, Hop, Interface, ReversePath, Route, Target};
use crate::flow::{Addr, Endpoint, Family};
use crate::testing::packets::DIRECTOR_MAC;
use crate::verdict::PortId;
use crate::wire::ethernet::Mac;

/// The port on the clients' side.
pub const CLIENTS: PortId = PortId(0);
/// The port on the servers' side.
pub const SERVERS: PortId = PortId(1);
/// The director's MAC address on the servers' side.
pub const SERVERS_MAC: Mac = [2, 0, 0, 0, 2, 1];
/// The VIP of all services.
pub const VIP: Endpoint = Endpoint::new(Addr::v4([10, 0, 1, 100]), 80);
/// The director's address on the servers' side, and FULLNAT's local address.
pub const LOCAL: Addr = Addr::v4([10, 0, 2, 1]);
/// A real server; its port with NAT is 8080.
pub const SERVER: Addr = Addr::v4([10, 0, 2, 11]);
/// A client, reached through a gateway.
pub const CLIENT: Endpoint = Endpoint::new(Addr::v4([192, 0, 2, 7]), 40_000);
/// The port of [`SERVER`] where the mode translates ports.
pub const SERVER_PORT: u16 = 8080;

/// An address of network `2001:db8:THIRD::/48`.
const fn six(third: u8, last: u8) -> Addr {
    Addr::v6([
        0x20, 1, 0xd, 0xb8, 0, third, 0, 0, 0, 0, 0, 0, 0, 0, 0, last,
    ])
}

/// The VIP of a family's services.
pub const fn vip(family: Family) -> Endpoint {
    match family {
        Family::V4 => VIP,
        Family::V6 => Endpoint::new(six(1, 100), VIP.port),
    }
}

/// The director's address on the servers' side, and FULLNAT's local address.
pub const fn local(family: Family) -> Addr {
    match family {
        Family::V4 => LOCAL,
        Family::V6 => six(2, 1),
    }
}

/// A real server.
pub const fn server(family: Family) -> Addr {
    match family {
        Family::V4 => SERVER,
        Family::V6 => six(2, 11),
    }
}

/// A client, reached through a gateway.
pub const fn client(family: Family) -> Endpoint {
    match family {
        Family::V4 => CLIENT,
        Family::V6 => Endpoint::new(six(0xff, 7), CLIENT.port),
    }
}

/// Interfaces, addresses, routes and neighbours of the director.
pub fn fib() -> Fib {
    let mut f = Fib::new();
    (f.forwarding, f.forwarding_ipv6) = (true, true);
    for (port, mac) in [(CLIENTS, DIRECTOR_MAC), (SERVERS, SERVERS_MAC)] {
        f.set_interface(Interface {
            port,
            ifindex: u32::from(port.0) + 2,
            mac,
            mtu: 1500,
            up: true,
            reverse_path: ReversePath::Off,
        });
    }
    add_network(&mut f, 2, Addr::v4([10, 0, 1, 1]), 24);
    add_network(&mut f, 3, LOCAL, 24);
    add_network(&mut f, 2, six(1, 1), 64);
    add_network(&mut f, 3, local(Family::V6), 64);
    f.add_broadcast(Addr::v4([10, 0, 1, 255]));
    let defaults = [
        (Addr::UNSPECIFIED, Addr::v4([10, 0, 1, 254])),
        (Addr::v6([0; 16]), six(1, 254)),
    ];
    for (all, gateway) in defaults {
        let hop = Hop::by(2, Some(gateway));
        f.add_route(Route::new(all, 0, Target::Hop(hop)));
        f.set_neighbour(2, gateway, [2, 0, 0, 0, 1, 0xfe]);
    }
    for family in Family::ALL {
        f.add_local(2, vip(family).addr);
        f.set_neighbour(3, server(family), [2, 0, 0, 0, 2, 0x11]);
    }
    f
}

/// A network that an interface has an address in.
fn add_network(f: &mut Fib, ifindex: u32, own: Addr, prefix: u8) {
    f.add_address(ifindex, own, prefix);
    let hop = Hop {
        source: Some(own),
        ..Hop::by(ifindex, None)
    };
    f.add_route(Route::new(own.masked(prefix), prefix, Target::Hop(hop)));
}
