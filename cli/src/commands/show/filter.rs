//! Which services, servers and connections `uvs show` is asked for.

use std::net::{IpAddr, SocketAddr};

use uvs_control::protocol::ClientFilter;
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::service::ServiceKey;

use super::What;

/// What is asked for.
#[derive(clap::Args)]
pub(super) struct Wanted {
    /// Only this service: VIP:PORT, after tcp:, udp: or sctp: where several share it; or fwm:MARK (services, servers, conns)
    #[arg(long, value_name = "SERVICE", value_parser = service)]
    pub(super) service: Option<ServiceName>,
    /// Only this real server: IP or IP:PORT (servers, conns)
    #[arg(long, value_name = "SERVER", value_parser = server)]
    pub(super) server: Option<ServerName>,
    /// Only from these clients: IP, IP:PORT or SUBNET/BITS (conns)
    #[arg(long, value_name = "CLIENT", value_parser = client)]
    pub(super) client: Option<ClientFilter>,
    /// At most COUNT, those with the latest packets (conns)
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) latest: Option<u32>,
}

/// A service as typed: the protocol may be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commands) struct ServiceName {
    typed: String,
    protocol: Option<Protocol>,
    what: Named,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Vip(Endpoint),
    Mark { mark: u32, ipv6: Option<bool> },
}

/// A server; without a port, any of that address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) struct ServerName(Endpoint);

impl From<ServerName> for Endpoint {
    fn from(name: ServerName) -> Self {
        name.0
    }
}

impl ServerName {
    /// Whether the server is meant.
    pub(super) fn is(self, server: Endpoint) -> bool {
        self.0.addr == server.addr && (self.0.port == 0 || self.0.port == server.port)
    }
}

impl ServiceName {
    /// The one service that is meant, or what to type instead.
    pub(in crate::commands) fn among(&self, keys: &[ServiceKey]) -> Result<ServiceKey, String> {
        let meant: Vec<_> = keys.iter().copied().filter(|key| self.is(*key)).collect();
        match meant.as_slice() {
            [one] => Ok(*one),
            [] => Err(format!(
                "{}: no such service; there are {}",
                self.typed,
                list(keys)
            )),
            several => Err(format!(
                "{}: several services match: {}; {}",
                self.typed,
                list(several),
                match self.what {
                    Named::Vip(_) => "put tcp:, udp: or sctp: before it",
                    Named::Mark { .. } => "put -4 or -6 behind it",
                }
            )),
        }
    }

    fn is(&self, key: ServiceKey) -> bool {
        match (self.what, key) {
            (Named::Vip(vip), ServiceKey::Address { protocol, .. }) => {
                key.vip() == vip && self.protocol.is_none_or(|wanted| wanted == protocol)
            }
            (Named::Mark { mark, ipv6 }, ServiceKey::Mark { mark: m, ipv6: v6 }) => {
                mark == m && ipv6.is_none_or(|wanted| wanted == v6)
            }
            _ => false,
        }
    }
}

impl Wanted {
    /// A filter that this view has no use for, and which have.
    pub(super) fn misplaced(&self, what: What) -> Option<String> {
        let (services, servers) = (what == What::Services, what == What::Servers);
        let conns = what == What::Conns;
        let given = [
            (
                "--service",
                self.service.is_some(),
                services || servers || conns,
                "services, servers and conns",
            ),
            (
                "--server",
                self.server.is_some(),
                servers || conns,
                "servers and conns",
            ),
            ("--client", self.client.is_some(), conns, "conns"),
            ("--latest", self.latest.is_some(), conns, "conns"),
        ];
        let wrong = given
            .into_iter()
            .find(|(_, given, fits, _)| *given && !fits);
        wrong.map(|(option, _, _, of)| format!("{option} goes with `uvs show` of {of} only"))
    }
}

fn list(keys: &[ServiceKey]) -> String {
    const MOST: usize = 10;
    let shown: Vec<String> = keys.iter().take(MOST).map(ToString::to_string).collect();
    match keys.len() {
        0 => "none".to_owned(),
        n if n > MOST => format!("{} and {} more", shown.join(", "), n - MOST),
        _ => shown.join(", "),
    }
}

/// Reads the name of a service.
pub(in crate::commands) fn service(text: &str) -> Result<ServiceName, String> {
    let help = "use [tcp:|udp:|sctp:]VIP:PORT, or fwm:MARK, fwm:MARK-4 or fwm:MARK-6";
    let lower = text.to_ascii_lowercase();
    let split = lower.split_once([':', ' ']);
    let (protocol, rest) = match split {
        Some(("tcp", rest)) => (Some(Protocol::Tcp), after(rest)),
        Some(("udp", rest)) => (Some(Protocol::Udp), after(rest)),
        Some(("sctp", rest)) => (Some(Protocol::Sctp), after(rest)),
        Some(("fwm", mark)) => {
            let (mark, ipv6) = match mark.rsplit_once(['-', ' ']) {
                Some((mark, "4")) => (mark, Some(false)),
                Some((mark, "6" | "ipv6")) => (mark, Some(true)),
                _ => (mark, None),
            };
            let mark = mark.parse().map_err(|_| help.to_owned())?;
            return Ok(ServiceName {
                typed: text.to_owned(),
                protocol: None,
                what: Named::Mark { mark, ipv6 },
            });
        }
        _ => (None, lower.as_str()),
    };
    let vip: SocketAddr = rest.parse().map_err(|_| help.to_owned())?;
    let vip = Endpoint::new(vip.ip().into(), vip.port());
    Ok(ServiceName {
        typed: text.to_owned(),
        protocol,
        what: Named::Vip(vip),
    })
}

/// What comes after a protocol, which may be written as a URL's.
fn after(rest: &str) -> &str {
    rest.strip_prefix("//").unwrap_or(rest)
}

pub(in crate::commands) fn server(text: &str) -> Result<ServerName, String> {
    let (addr, port) = place(text).ok_or("use IP or IP:PORT")?;
    Ok(ServerName(Endpoint::new(addr, port)))
}

pub(in crate::commands) fn client(text: &str) -> Result<ClientFilter, String> {
    const HELP: &str = "use IP, IP:PORT or SUBNET/BITS";
    let Some((subnet, bits)) = text.split_once('/') else {
        let (addr, port) = place(text).ok_or(HELP)?;
        let prefix = whole(addr);
        return Ok(ClientFilter { addr, prefix, port });
    };
    let addr = Addr::from(subnet.parse::<IpAddr>().map_err(|_| HELP)?);
    let prefix = bits.parse::<u8>().ok().filter(|bits| *bits <= whole(addr));
    let prefix = prefix.ok_or(HELP)?;
    Ok(ClientFilter {
        addr,
        prefix,
        port: 0,
    })
}

/// Address and port; port 0 where none is said.
fn place(text: &str) -> Option<(Addr, u16)> {
    if let Ok(addr) = text.parse::<IpAddr>() {
        return Some((addr.into(), 0));
    }
    let both = text.parse::<SocketAddr>().ok()?;
    Some((both.ip().into(), both.port()))
}

const fn whole(addr: Addr) -> u8 {
    if addr.is_v4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Endpoint = Endpoint::new(Addr::v4([10, 0, 0, 1]), 53);
    const TCP: ServiceKey = ServiceKey::address(Protocol::Tcp, VIP);
    const UDP: ServiceKey = ServiceKey::address(Protocol::Udp, VIP);
    const MARK: ServiceKey = ServiceKey::Mark {
        mark: 7,
        ipv6: false,
    };

    #[test]
    fn a_service_is_found_by_what_one_types() {
        let among = |text: &str, keys: &[ServiceKey]| service(text).expect(text).among(keys);
        assert_eq!(among("10.0.0.1:53", &[TCP, MARK]), Ok(TCP));
        assert_eq!(among("udp:10.0.0.1:53", &[TCP, UDP]), Ok(UDP));
        assert_eq!(among("TCP 10.0.0.1:53", &[TCP, UDP]), Ok(TCP));
        assert_eq!(among("udp://10.0.0.1:53", &[TCP, UDP]), Ok(UDP));
        assert_eq!(among("fwm:7", &[TCP, MARK]), Ok(MARK));
        let several = among("10.0.0.1:53", &[TCP, UDP]).expect_err("two");
        assert!(
            several.contains("TCP 10.0.0.1:53, UDP 10.0.0.1:53; put tcp:"),
            "{several}"
        );
        let none = among("10.0.0.2:53", &[TCP]).expect_err("none");
        assert_eq!(
            none,
            "10.0.0.2:53: no such service; there are TCP 10.0.0.1:53"
        );
        for wrong in [
            "",
            "10.0.0.1",
            "tcp:",
            "http:10.0.0.1:80",
            "fwm:x",
            "10.0.0.1:99999",
        ] {
            assert!(service(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn servers_and_clients_may_lack_a_port() {
        let any = server("10.0.0.1").expect("an address");
        assert!(any.is(VIP) && !server("10.0.0.1:80").expect("both").is(VIP));
        let clients = |text| client(text).map(|c| (c.prefix, c.port));
        assert_eq!(clients("10.0.0.1"), Ok((32, 0)));
        assert_eq!(clients("10.0.0.1:4711"), Ok((32, 4711)));
        assert_eq!(clients("10.0.0.0/8"), Ok((8, 0)));
        assert_eq!(clients("2001:db8::/32"), Ok((32, 0)));
        assert_eq!(clients("[2001:db8::1]:80"), Ok((128, 80)));
        for wrong in ["10.0.0.0/33", "10.0.0.0/8:80", "rs1", "/8", "10.0.0.0/-1"] {
            assert!(client(wrong).is_err(), "{wrong}");
        }
    }
}
