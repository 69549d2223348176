//! Host and port names, as ipvsadm shows and takes them without `-n`.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use socket2::SockAddr;
use uvs_core::flow::{Addr, Protocol};

/// The longest host name getnameinfo gives (`NI_MAXHOST`).
const HOST_MAX: usize = 1025;

/// Looks names up.
pub trait Names {
    /// The port with this name.
    fn port(&self, name: &str, protocol: Protocol) -> Option<u16>;
    /// The name of this port.
    fn service(&self, port: u16, protocol: Protocol) -> Option<String>;
    /// The IPv4 address of this host; ipvsadm resolves no names to IPv6.
    fn address(&self, host: &str) -> Option<Ipv4Addr>;
    /// The name of the host with this address.
    fn host(&self, addr: Addr) -> Option<String>;
}

/// What all look-ups of host names may take together. ipvsadm itself hangs for half a minute an address
/// where the name server is unreachable; from here on `/etc/hosts` alone is asked.
const PATIENCE: Duration = Duration::from_secs(1);

/// The system's names: `/etc/services` and the resolver.
#[derive(Debug)]
pub struct SystemNames {
    services: OnceCell<Services>,
    listed: OnceCell<Hosts>,
    hosts: RefCell<HashMap<Addr, Option<String>>>,
    /// What is left of [`PATIENCE`].
    patience: Cell<Duration>,
}

impl Default for SystemNames {
    fn default() -> Self {
        Self {
            services: OnceCell::new(),
            listed: OnceCell::new(),
            hosts: RefCell::default(),
            patience: Cell::new(PATIENCE),
        }
    }
}

impl SystemNames {
    /// The host's name: the resolver's, where it tells in time. A look-up that takes longer is left to
    /// itself: it ends with this process.
    fn host_in_time(&self, addr: Addr) -> Option<String> {
        if self.patience.get().is_zero() {
            return self.listed(addr);
        }
        let (found, answer) = channel();
        std::thread::spawn(move || found.send(host_name(addr)));
        let asked = Instant::now();
        let name = answer.recv_timeout(self.patience.get());
        self.patience.set(match name {
            Ok(_) => self.patience.get().saturating_sub(asked.elapsed()),
            Err(_) => Duration::ZERO,
        });
        name.unwrap_or_else(|_| self.listed(addr))
    }

    fn listed(&self, addr: Addr) -> Option<String> {
        let read = || std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let hosts = self.listed.get_or_init(|| Hosts::parse(&read()));
        hosts.0.get(&addr).cloned()
    }

    fn services(&self) -> &Services {
        let read = || std::fs::read_to_string("/etc/services").unwrap_or_default();
        self.services.get_or_init(|| Services::parse(&read()))
    }
}

impl Names for SystemNames {
    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        self.services().port(name, protocol)
    }

    fn service(&self, port: u16, protocol: Protocol) -> Option<String> {
        self.services().name(port, protocol).map(str::to_owned)
    }

    fn address(&self, host: &str) -> Option<Ipv4Addr> {
        let found = (host, 0).to_socket_addrs().ok()?;
        found.map(|a| a.ip()).find_map(|a| match a {
            IpAddr::V4(a) => Some(a),
            IpAddr::V6(_) => None,
        })
    }

    /// Asked once for each address: a resolver that does not answer takes its time.
    fn host(&self, addr: Addr) -> Option<String> {
        let mut hosts = self.hosts.borrow_mut();
        hosts
            .entry(addr)
            .or_insert_with(|| self.host_in_time(addr))
            .clone()
    }
}

/// `/etc/hosts`: of each address the first name.
#[derive(Debug, Default)]
struct Hosts(HashMap<Addr, String>);

impl Hosts {
    fn parse(text: &str) -> Self {
        let mut hosts = HashMap::new();
        for line in text.lines() {
            let mut words = line
                .split('#')
                .next()
                .unwrap_or_default()
                .split_whitespace();
            let addr = words.next().and_then(|w| w.parse::<IpAddr>().ok());
            if let (Some(addr), Some(name)) = (addr, words.next()) {
                hosts.entry(addr.into()).or_insert_with(|| name.to_owned());
            }
        }
        Self(hosts)
    }
}

/// `/etc/services`.
#[derive(Debug, Default)]
struct Services(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    /// The name, then its aliases.
    names: Vec<String>,
    port: u16,
    protocol: String,
}

impl Services {
    fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(Entry::parse).collect())
    }

    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        let mut entries = self.of(protocol);
        entries
            .find(|e| e.names.iter().any(|n| n == name))
            .map(|e| e.port)
    }

    fn name(&self, port: u16, protocol: Protocol) -> Option<&str> {
        let mut entries = self.of(protocol);
        entries
            .find(|e| e.port == port)
            .map(|e| e.names[0].as_str())
    }

    fn of(&self, protocol: Protocol) -> impl Iterator<Item = &Entry> {
        self.0
            .iter()
            .filter(move |e| e.protocol.eq_ignore_ascii_case(protocol.name()))
    }
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let name = words.next()?.to_owned();
        let (port, protocol) = words.next()?.split_once('/')?;
        let names = std::iter::once(name)
            .chain(words.map(str::to_owned))
            .collect();
        Some(Self {
            names,
            port: port.parse().ok()?,
            protocol: protocol.to_owned(),
        })
    }
}

/// The resolver's name for an address, `None` where it has none.
fn host_name(addr: Addr) -> Option<String> {
    let addr = SockAddr::from(SocketAddr::new(addr.into(), 0));
    let mut host = [0_u8; HOST_MAX];
    let length = libc::socklen_t::try_from(host.len()).ok()?;
    // SAFETY: `addr` is a whole socket address of `addr.len()` bytes, `host` has `length` bytes to write
    // to, and no service name is asked for; getnameinfo keeps none of the pointers.
    let failed = unsafe {
        libc::getnameinfo(
            addr.as_ptr().cast(),
            addr.len(),
            host.as_mut_ptr().cast(),
            length,
            std::ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    if failed != 0 {
        return None;
    }
    let name = CStr::from_bytes_until_nul(&host).ok()?;
    name.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The few names the recorded sessions show, so that tests depend on no host's files.
    pub(crate) struct FewNames;

    impl FewNames {
        const SERVICES: &str = "tcpmux 1/tcp\nftp 21/tcp\nssh 22/tcp\ntelnet 23/tcp\ndomain 53/tcp\ndomain 53/udp\n\
            tftp 69/udp\nhttp 80/tcp www\nacr-nema 104/tcp dicom\nhttps 443/tcp\nhttps 443/udp\n\
            http-alt 8080/tcp webcache\ntproxy 8081/tcp\n";
    }

    impl Names for FewNames {
        fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
            Services::parse(Self::SERVICES).port(name, protocol)
        }

        fn service(&self, port: u16, protocol: Protocol) -> Option<String> {
            Services::parse(Self::SERVICES)
                .name(port, protocol)
                .map(str::to_owned)
        }

        fn address(&self, host: &str) -> Option<Ipv4Addr> {
            (host == "localhost").then_some(Ipv4Addr::LOCALHOST)
        }

        fn host(&self, addr: Addr) -> Option<String> {
            let six = Addr::from(std::net::Ipv6Addr::LOCALHOST);
            let local = addr == Ipv4Addr::LOCALHOST.into() || addr == six;
            local.then(|| "localhost".to_owned())
        }
    }

    #[test]
    fn services_have_names_aliases_and_comments() {
        let services =
            Services::parse("# head\nhttp\t80/tcp\twww # the web\nwww-udp 80/udp\nbad\n\n");
        assert_eq!(services.port("www", Protocol::Tcp), Some(80));
        assert_eq!(services.port("www", Protocol::Udp), None);
        assert_eq!(services.name(80, Protocol::Tcp), Some("http"));
        assert_eq!(services.name(80, Protocol::Sctp), None);
    }

    #[test]
    fn a_silent_resolver_leaves_the_names_in_the_hosts_file() {
        let text =
            "# local\n127.0.0.1\tlocalhost loop # it\n127.0.0.1 other\n::1 six\nbad\n10.0.0.1\n";
        let names = SystemNames {
            patience: Cell::new(Duration::ZERO),
            listed: OnceCell::from(Hosts::parse(text)),
            ..SystemNames::default()
        };
        let name = |addr: &str| names.host(addr.parse::<IpAddr>().expect("an address").into());
        assert_eq!(name("127.0.0.1").as_deref(), Some("localhost"));
        assert_eq!(name("::1").as_deref(), Some("six"));
        assert_eq!(name("10.0.0.1"), None);
    }

    #[test]
    fn the_system_knows_itself() {
        let names = SystemNames::default();
        assert_eq!(names.address("localhost"), Some(Ipv4Addr::LOCALHOST));
        assert!(names.host(Ipv4Addr::LOCALHOST.into()).is_some());
    }
}
