//! The four topologies' addresses, which are the LVS tutorial's. Each has an IPv6 [`twin`](crate::twin) on the same
//! host, and [`Service`] has the commands that follow from them.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::wiring::ROUTED_CLIENT;
use crate::{Error, Families, Service};

/// Real servers in every lab.
pub const SERVERS: usize = 3;

/// How the director forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Direct routing: one broadcast domain, only the MAC address changes.
    Dr,
    /// The director is the real servers' default gateway.
    Nat,
    /// As NAT, and the real servers see the director's local address as the client.
    FullNat,
    /// The real servers are in a subnet behind a router and unwrap what they get.
    Ipip,
}

impl Mode {
    /// All four, in the order the demo shows them.
    pub const ALL: [Self; 4] = [Self::Dr, Self::Nat, Self::FullNat, Self::Ipip];

    /// As written on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dr => "dr",
            Self::Nat => "nat",
            Self::FullNat => "fullnat",
            Self::Ipip => "ipip",
        }
    }

    /// ipvsadm's flag of a real server.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Dr => "-g",
            Self::Nat => "-m",
            Self::FullNat => "--fullnat",
            Self::Ipip => "-i",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|mode| mode.name() == text);
        found.ok_or_else(|| {
            Error::Wrong(format!(
                "unknown mode {text:?}; the modes are dr, nat, fullnat and ipip"
            ))
        })
    }
}

/// A mode's IPv4 addresses, of which the IPv6 ones follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The mode.
    pub mode: Mode,
    /// The service.
    pub vip: SocketAddrV4,
    /// The client.
    pub client: Ipv4Addr,
    /// The director's own address on the client's side.
    pub director: Ipv4Addr,
    /// The real servers' addresses and ports.
    pub servers: [SocketAddrV4; SERVERS],
    /// The director's gateway address on the real servers' side (NAT and FULLNAT).
    pub gateway: Option<Ipv4Addr>,
    /// The address that FULLNAT's real servers see as their client.
    pub local: Option<Ipv4Addr>,
    /// The interfaces `uvs run` is given.
    pub interfaces: Vec<String>,
}

impl Plan {
    /// The plan of a mode.
    pub fn of(mode: Mode) -> Self {
        let ip = |c, d| Ipv4Addr::new(192, 168, c, d);
        let inside = |port| [18, 28, 48].map(|d| SocketAddrV4::new(ip(0, d), port));
        let outside = |d| Ipv4Addr::new(172, 16, 254, d);
        let one_armed = vec!["eth0".to_owned()];
        let two_armed = vec!["eth0".to_owned(), "eth1".to_owned()];
        let nat = Self {
            mode,
            vip: SocketAddrV4::new(outside(200), 80),
            client: outside(100),
            director: outside(1),
            servers: inside(80),
            gateway: Some(ip(0, 1)),
            local: None,
            interfaces: two_armed,
        };
        match mode {
            Mode::Dr => Self {
                vip: SocketAddrV4::new(ip(0, 38), 80),
                client: ip(0, 100),
                director: ip(0, 8),
                gateway: None,
                interfaces: one_armed,
                ..nat
            },
            Mode::Nat => nat,
            Mode::FullNat => Self {
                servers: inside(8080),
                local: Some(ip(0, 200)),
                ..nat
            },
            Mode::Ipip => Self {
                vip: SocketAddrV4::new(ip(80, 120), 8080),
                client: ROUTED_CLIENT,
                director: ip(80, 8),
                servers: [135, 136, 137].map(|d| SocketAddrV4::new(ip(80, d), 8080)),
                gateway: None,
                interfaces: one_armed,
                ..nat
            },
        }
    }

    /// Its service in these families.
    pub fn service(&self, families: Families) -> Service {
        Service::of(self, families)
    }

    /// [`Service::url`] in IPv4.
    pub fn url(&self, path: &str) -> String {
        self.service(Families::V4).url(path)
    }

    /// [`Service::add_service`] in IPv4.
    pub fn add_service(&self, scheduler: &str) -> String {
        self.service(Families::V4).add_service(scheduler)
    }

    /// [`Service::add_server`] in IPv4.
    pub fn add_server(&self, server: usize, weight: u32) -> String {
        self.service(Families::V4).add_server(server, weight)
    }

    /// [`Service::edit_server`] in IPv4.
    pub fn edit_server(&self, server: usize, weight: u32) -> String {
        self.service(Families::V4).edit_server(server, weight)
    }

    /// [`Service::delete_server`] in IPv4.
    pub fn delete_server(&self, server: usize) -> String {
        self.service(Families::V4).delete_server(server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_the_tutorials() {
        let dr = Plan::of(Mode::Dr);
        assert_eq!(dr.add_service("wrr"), "-A -t 192.168.0.38:80 -s wrr");
        assert_eq!(
            dr.add_server(0, 3),
            "-a -t 192.168.0.38:80 -r 192.168.0.18:80 -g -w 3"
        );
        assert_eq!(dr.url("/"), "http://192.168.0.38/");
        let nat = Plan::of(Mode::Nat);
        assert_eq!(
            nat.add_server(1, 1),
            "-a -t 172.16.254.200:80 -r 192.168.0.28:80 -m -w 1"
        );
        let tun = Plan::of(Mode::Ipip);
        assert_eq!(
            tun.add_server(1, 1),
            "-a -t 192.168.80.120:8080 -r 192.168.80.136 -i -w 1"
        );
        assert_eq!(tun.url("/x"), "http://192.168.80.120:8080/x");
        let fullnat = Plan::of(Mode::FullNat);
        assert_eq!(
            fullnat.add_service("rr"),
            "-A -t 172.16.254.200:80 -s rr --laddr 192.168.0.200"
        );
        assert_eq!(
            fullnat.add_server(0, 1),
            "-a -t 172.16.254.200:80 -r 192.168.0.18:8080 --fullnat -w 1"
        );
    }

    #[test]
    fn modes_are_read_as_they_are_written() {
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse::<Mode>().expect("its own name"), mode);
        }
        assert!(
            "DR2"
                .parse::<Mode>()
                .expect_err("not a mode")
                .to_string()
                .contains("dr, nat, fullnat and ipip")
        );
    }
}
