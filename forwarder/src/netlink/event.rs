//! What changed in the host's network, each change one log line.

use std::fmt;

use uvs_core::fib::ReversePath;
use uvs_core::flow::{Addr, Family};
use uvs_core::verdict::PortId;
use uvs_core::wire::ethernet::{Mac, mac_text};

/// A change that [`Mirror::read_events`](super::Mirror::read_events) saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A port can carry traffic.
    InterfaceUp {
        /// The port.
        port: PortId,
        /// Its name.
        name: String,
    },
    /// A port was set down or lost its carrier.
    InterfaceDown {
        /// The port.
        port: PortId,
        /// Its name.
        name: String,
    },
    /// A port's interface was deleted, renamed or moved away.
    InterfaceGone {
        /// The port.
        port: PortId,
        /// The name it had.
        name: String,
    },
    /// A port's interface exists again: sockets and the guard must be bound again.
    InterfaceBack {
        /// The port.
        port: PortId,
        /// Its name.
        name: String,
        /// Its new index.
        ifindex: u32,
    },
    /// A port's MAC address or MTU changed.
    InterfaceChanged {
        /// The port.
        port: PortId,
        /// Its name.
        name: String,
        /// The MAC address now.
        mac: Mac,
        /// The MTU now.
        mtu: u32,
    },
    /// The host got an address.
    AddressAdded {
        /// The address.
        addr: Addr,
        /// The interface's name.
        dev: String,
    },
    /// The host lost an address.
    AddressRemoved {
        /// The address.
        addr: Addr,
        /// The interface's name, or its index where it is gone.
        dev: String,
    },
    /// What the host takes as its own changed: the local routes, which come and go a moment after an address does, and
    /// also without one (`ip route add local PREFIX dev lo`).
    LocalChanged,
    /// A route appeared.
    RouteAdded {
        /// The route, as `ip route` writes it.
        route: String,
    },
    /// A route to the same prefix with the same metric leads elsewhere now.
    RouteChanged {
        /// The new route, as `ip route` writes it.
        route: String,
    },
    /// A route is gone.
    RouteRemoved {
        /// The route, as `ip route` writes it.
        route: String,
    },
    /// The routing rules changed.
    RulesChanged,
    /// A port's effective rp_filter changed.
    ReversePathChanged {
        /// The interface's name.
        name: String,
        /// What it is now.
        mode: ReversePath,
    },
    /// A neighbour's MAC address became known or changed.
    NeighbourKnown {
        /// The port it is reached through.
        port: PortId,
        /// Its address.
        addr: Addr,
        /// Its MAC address now.
        mac: Mac,
        /// What it was before.
        before: Option<Mac>,
    },
    /// A neighbour does not answer, or the kernel forgot it.
    NeighbourLost {
        /// The port it was looked for on.
        port: PortId,
        /// Its address.
        addr: Addr,
        /// Whether ARP or neighbour discovery went unanswered: frames that wait for it can be given up.
        failed: bool,
    },
    /// `net.ipv4.ip_forward` or `net.ipv6.conf.all.forwarding` changed.
    Forwarding(Family, bool),
    /// The kernel had more to tell than the socket could hold: everything was read again.
    Overrun,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InterfaceUp { name, .. } => write!(f, "interface {name} is up"),
            Self::InterfaceDown { name, .. } => write!(f, "interface {name} is down"),
            Self::InterfaceGone { name, .. } => write!(f, "interface {name} is gone"),
            Self::InterfaceBack { name, ifindex, .. } => {
                write!(f, "interface {name} is back (index {ifindex})")
            }
            Self::InterfaceChanged { name, mac, mtu, .. } => {
                write!(
                    f,
                    "interface {name} now has MAC {} and MTU {mtu}",
                    mac_text(*mac)
                )
            }
            Self::AddressAdded { addr, dev } => write!(f, "address {addr} added to {dev}"),
            Self::AddressRemoved { addr, dev } => write!(f, "address {addr} removed from {dev}"),
            Self::LocalChanged => {
                f.write_str("what this host takes as its own (`ip route show table local`) changed")
            }
            Self::RouteAdded { route } => write!(f, "route {route} added"),
            Self::RouteChanged { route } => write!(f, "route moved: {route}"),
            Self::RouteRemoved { route } => write!(f, "route {route} removed"),
            Self::RulesChanged => f.write_str("the routing rules (`ip rule`) changed"),
            Self::ReversePathChanged { name, mode } => {
                let mode = match mode {
                    ReversePath::Off => "off",
                    ReversePath::Strict => "strict",
                    ReversePath::Loose => "loose",
                };
                write!(f, "rp_filter of {name} is now {mode}")
            }
            Self::NeighbourKnown {
                addr, mac, before, ..
            } => match before {
                None => write!(f, "neighbour {addr} is at {}", mac_text(*mac)),
                Some(old) => {
                    write!(
                        f,
                        "neighbour {addr} moved from {} to {}",
                        mac_text(*old),
                        mac_text(*mac)
                    )
                }
            },
            Self::NeighbourLost {
                addr, failed: true, ..
            } => {
                let question = match addr.family() {
                    Family::V4 => "ARP",
                    Family::V6 => "neighbour solicitations",
                };
                write!(f, "neighbour {addr} does not answer {question}")
            }
            Self::NeighbourLost {
                addr,
                failed: false,
                ..
            } => {
                write!(f, "neighbour {addr} was forgotten")
            }
            Self::Forwarding(family, on) => {
                let sysctl = match family {
                    Family::V4 => "net.ipv4.ip_forward",
                    Family::V6 => "net.ipv6.conf.all.forwarding",
                };
                write!(f, "{sysctl} is now {}", u8::from(*on))
            }
            Self::Overrun => f.write_str("netlink overrun: all tables were read again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_readable_line() {
        let addr = Addr::v4([10, 0, 1, 7]);
        let table = [
            (
                Event::RouteChanged {
                    route: "10.9.0.0/16 via 10.0.1.7 dev eth0".into(),
                },
                "route moved: 10.9.0.0/16 via 10.0.1.7 dev eth0",
            ),
            (
                Event::ReversePathChanged {
                    name: "eth0".into(),
                    mode: ReversePath::Strict,
                },
                "rp_filter of eth0 is now strict",
            ),
            (
                Event::NeighbourKnown {
                    port: PortId(0),
                    addr,
                    mac: [2, 0, 0, 0, 0, 0xab],
                    before: Some([2, 0, 0, 0, 0, 1]),
                },
                "neighbour 10.0.1.7 moved from 02:00:00:00:00:01 to 02:00:00:00:00:ab",
            ),
            (
                Event::InterfaceBack {
                    port: PortId(1),
                    name: "eth1".into(),
                    ifindex: 12,
                },
                "interface eth1 is back (index 12)",
            ),
            (
                Event::Forwarding(Family::V4, true),
                "net.ipv4.ip_forward is now 1",
            ),
            (
                Event::NeighbourLost {
                    port: PortId(0),
                    addr: Addr([0x20; 16]),
                    failed: true,
                },
                "neighbour 2020:2020:2020:2020:2020:2020:2020:2020 does not answer neighbour solicitations",
            ),
        ];
        for (event, line) in table {
            assert_eq!(event.to_string(), line);
        }
    }
}
