//! The service of a lab, in either family: where its clients find it, where its servers are, and ipvsadm's words.
//!
//! Every host of a lab has an IPv6 address beside each IPv4 address, its [`twin`]; so one topology serves
//! clients of both families, and a tunnel's (or FULLNAT's) servers may be reached in the other one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::{Error, Mode, Plan, SERVERS};

/// The family that clients use, and the one by which the director reaches the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Families {
    /// IPv4 throughout.
    V4,
    /// IPv6 throughout.
    V6,
    /// IPv6 clients, servers by IPv4.
    V6To4,
    /// IPv4 clients, servers by IPv6.
    V4To6,
}

impl Families {
    /// As written on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
            Self::V6To4 => "ipv6-to-ipv4",
            Self::V4To6 => "ipv4-to-ipv6",
        }
    }

    const fn clients_v6(self) -> bool {
        matches!(self, Self::V6 | Self::V6To4)
    }

    const fn servers_v6(self) -> bool {
        matches!(self, Self::V6 | Self::V4To6)
    }
}

impl fmt::Display for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Families {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let all = [Self::V4, Self::V6, Self::V6To4, Self::V4To6];
        let found = all.into_iter().find(|families| families.name() == text);
        found.ok_or_else(|| {
            let names = all.map(Self::name).join(", ");
            Error::Wrong(format!("unknown families {text:?}; there are {names}"))
        })
    }
}

/// The IPv6 address of the host that has this IPv4 address: the same digits, in a /64 of its own for each IPv4
/// subnet of the labs. 192.168.0.18 is 2001:db8:192::18, and the upper half of 192.168.80.0/24 is 2001:db8:192:81::.
pub fn twin(address: Ipv4Addr) -> Ipv6Addr {
    let [network, _, subnet, host] = address.octets();
    let upper_half = subnet == 80 && host >= 128;
    let subnet = digits(subnet) + u16::from(upper_half);
    Ipv6Addr::new(
        0x2001,
        0xdb8,
        digits(network),
        subnet,
        0,
        0,
        0,
        digits(host),
    )
}

/// The hexadecimal number that is written like this decimal one.
fn digits(number: u8) -> u16 {
    let number = u16::from(number);
    number / 100 * 0x100 + number / 10 % 10 * 0x10 + number % 10
}

/// A mode's service in one or two families.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The mode.
    pub mode: Mode,
    /// Of clients and servers.
    pub families: Families,
    /// Where clients find it.
    pub vip: SocketAddr,
    /// The client.
    pub client: IpAddr,
    /// The director, in the servers' family.
    pub director: IpAddr,
    /// The real servers.
    pub servers: [SocketAddr; SERVERS],
    /// The address that FULLNAT's real servers see as their client.
    pub local: Option<IpAddr>,
}

impl Service {
    /// A plan's service in these families.
    pub fn of(plan: &Plan, families: Families) -> Self {
        let family = |v6: bool, address: Ipv4Addr| -> IpAddr {
            if v6 {
                twin(address).into()
            } else {
                address.into()
            }
        };
        let clients = |address| family(families.clients_v6(), address);
        let servers = |address| family(families.servers_v6(), address);
        Self {
            mode: plan.mode,
            families,
            vip: SocketAddr::new(clients(*plan.vip.ip()), plan.vip.port()),
            client: clients(plan.client),
            director: servers(plan.director),
            servers: plan
                .servers
                .map(|server| SocketAddr::new(servers(*server.ip()), server.port())),
            local: plan.local.map(servers),
        }
    }

    /// `http://VIP:PORT` and a path; the port where it is not 80.
    pub fn url(&self, path: &str) -> String {
        match (self.vip.ip(), self.vip.port()) {
            (IpAddr::V4(vip), 80) => format!("http://{vip}{path}"),
            (IpAddr::V6(vip), 80) => format!("http://[{vip}]{path}"),
            _ => format!("http://{}{path}", self.vip),
        }
    }

    /// ipvsadm's words that add the service.
    pub fn add_service(&self, scheduler: &str) -> String {
        format!("-A -t {} -s {scheduler}{}", self.vip, self.local_words())
    }

    /// ipvsadm's words for FULLNAT's local address, with a blank before them.
    pub fn local_words(&self) -> String {
        self.local
            .map_or_else(String::new, |address| format!(" --laddr {address}"))
    }

    /// ipvsadm's words that add a real server.
    pub fn add_server(&self, server: usize, weight: u32) -> String {
        let (words, flag) = (self.server_words(server), self.mode.flag());
        format!("-a {words} {flag} -w {weight}")
    }

    /// ipvsadm's words that change a real server's weight.
    pub fn edit_server(&self, server: usize, weight: u32) -> String {
        let (words, flag) = (self.server_words(server), self.mode.flag());
        format!("-e {words} {flag} -w {weight}")
    }

    /// ipvsadm's words that remove a real server.
    pub fn delete_server(&self, server: usize) -> String {
        format!("-d {}", self.server_words(server))
    }

    /// The tutorial names no port for TUN's real servers, and indeed only NAT can have another than the VIP's.
    /// ipvsadm takes an IPv6 address without a port as it is, without brackets.
    fn server_words(&self, server: usize) -> String {
        let address = self.servers[server];
        match self.mode {
            Mode::Ipip => format!("-t {} -r {}", self.vip, address.ip()),
            Mode::Dr | Mode::Nat | Mode::FullNat => format!("-t {} -r {address}", self.vip),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_are_written_with_the_same_digits() {
        for (v4, v6) in [
            ("192.168.0.18", "2001:db8:192::18"),
            ("192.168.80.120", "2001:db8:192:80::120"),
            ("192.168.80.135", "2001:db8:192:81::135"),
            ("172.16.254.200", "2001:db8:172:254::200"),
            ("10.0.0.1", "2001:db8:10::1"),
        ] {
            assert_eq!(twin(v4.parse().expect(v4)).to_string(), v6);
        }
    }

    #[test]
    fn words_are_ipvsadms_in_both_families() {
        let of = |mode, families| Service::of(&Plan::of(mode), families);
        let dr = of(Mode::Dr, Families::V6);
        assert_eq!(dr.add_service("wrr"), "-A -t [2001:db8:192::38]:80 -s wrr");
        assert_eq!(
            dr.add_server(0, 3),
            "-a -t [2001:db8:192::38]:80 -r [2001:db8:192::18]:80 -g -w 3"
        );
        assert_eq!(dr.url("/"), "http://[2001:db8:192::38]/");
        let mixed = of(Mode::Ipip, Families::V6To4);
        assert_eq!(
            mixed.add_server(1, 1),
            "-a -t [2001:db8:192:80::120]:8080 -r 192.168.80.136 -i -w 1"
        );
        assert_eq!(mixed.url("/x"), "http://[2001:db8:192:80::120]:8080/x");
        assert_eq!(
            of(Mode::FullNat, Families::V4To6).add_service("rr"),
            "-A -t 172.16.254.200:80 -s rr --laddr 2001:db8:192::200"
        );
    }

    #[test]
    fn families_are_read_as_they_are_written() {
        for families in [Families::V4, Families::V6, Families::V6To4, Families::V4To6] {
            assert_eq!(
                families.name().parse::<Families>().expect("a name"),
                families
            );
        }
        assert!("ipv5".parse::<Families>().is_err());
    }
}
