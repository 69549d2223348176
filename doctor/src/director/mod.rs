//! The director's checks. Each family is a file with a table of checks; what they look at is gathered
//! once, in [`Director`], from the daemon or a configuration file, and from the host.

mod firewall;
mod fullnat;
mod guarding;
mod has_vip;
mod hook;
mod kernel;
mod needs;
mod ports;
mod reach;
mod replies;
mod sizes;
#[cfg(test)]
mod tests;
mod vips;
mod words;

use std::cell::OnceCell;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use uvs_control::config::OwnVips;
use uvs_control::protocol::{GuardStatus, HookStatus, HookTier};
use uvs_control::table::UnassignedVips;
use uvs_core::access::Access;
use uvs_core::counters::Stats;
use uvs_core::fib::{Fib, NextHop, Query, Unreachable};
use uvs_core::marks::Destination;
use uvs_core::numbers::HandshakeNumbers;
use uvs_core::service::{ServerSpec, ServiceKey, ServiceSpec};
use uvs_core::wire::ethernet::{Mac, mac_text};
use uvs_forwarder::netlink::{Mirror, Unfollowed};
use uvs_realserver::host::Device;

use super::catalog::Check;
use super::finding::{NotMade, Seen};
use super::host::Host;
use super::neighbour::{Answer, Question};

/// Addresses that neighbours are asked for at once. More would be a storm for the segment.
const MOST_QUESTIONS: usize = 512;

/// A check of a director.
type Made = (Check, fn(&Director<'_>) -> Result<Seen, NotMade>);

/// All of them, in families.
pub(super) const FAMILIES: &[&[Made]] = &[
    needs::CHECKS,
    ports::CHECKS,
    kernel::CHECKS,
    guarding::CHECKS,
    hook::CHECKS,
    firewall::CHECKS,
    vips::CHECKS,
    reach::CHECKS,
    has_vip::CHECKS,
    replies::CHECKS,
    fullnat::CHECKS,
    sizes::CHECKS,
];

/// What the director is asked to do, by its daemon or by a file.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// The interfaces to run on.
    pub(super) interfaces: Vec<String>,
    /// The services; without counters where they come from a file.
    pub(super) services: Vec<Service>,
    /// Who is kept out.
    pub(super) access: Arc<Access>,
    /// FULLNAT's local ports.
    pub(super) local_ports: (u16, u16),
    /// The connection table's limit.
    pub(super) connections: u32,
    /// How many workers there are, and CPUs for them.
    pub(super) workers: usize,
    pub(super) cpus: usize,
    /// The VIPs that UVS owns where the host does not have them.
    pub(super) own: OwnVips,
    /// The daemon's process, where one runs.
    pub(super) daemon: Option<u32>,
    /// What that says of its guard.
    pub(super) guard: Option<GuardStatus>,
    /// And of its hook; without a daemon only what is wanted of it.
    pub(super) hook: HookStatus,
    /// Where the hook is pinned.
    pub(super) pins: PathBuf,
    /// The arguments of `uvs run`, but for the interfaces.
    pub(super) run: String,
}

/// A service.
#[derive(Clone, Debug)]
pub(super) struct Service {
    /// As asked for.
    pub(super) spec: ServiceSpec,
    /// Where its packets go.
    pub(super) to: Vec<Destination>,
    /// Its servers; the list in `spec` is not looked at.
    pub(super) servers: Vec<Counted>,
}

impl Service {
    /// The destinations that are addresses.
    pub(super) fn vips(&self) -> impl Iterator<Item = (&Destination, IpAddr)> {
        let hosts = self.to.iter().filter(|to| to.is_host());
        hosts.map(|to| (to, IpAddr::from(to.addr)))
    }
}

/// A real server with what was counted of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    /// As asked for.
    pub(super) spec: ServerSpec,
    /// Totals.
    pub(super) stats: Stats,
    /// Per second.
    pub(super) rates: Stats,
    /// How it has answered clients.
    pub(super) handshakes: HandshakeNumbers,
}

impl Counted {
    /// A server that nobody has counted anything for.
    pub(super) fn nothing(spec: ServerSpec) -> Self {
        Self {
            spec,
            stats: Stats::default(),
            rates: Stats::default(),
            handshakes: HandshakeNumbers::default(),
        }
    }
}

/// A director: what is wanted of it, and its host.
pub(super) struct Director<'h> {
    pub(super) wanted: Wanted,
    pub(super) host: &'h dyn Host,
    /// Every device of the host.
    pub(super) devices: Vec<Device>,
    /// The interfaces that exist, in the order of their ports in `fib`.
    pub(super) ports: Vec<String>,
    /// Where packets go, as the engine sees it.
    pub(super) fib: Fib,
    /// What the engine does not see of the host's rules and routes.
    pub(super) unfollowed: Vec<Unfollowed>,
    /// What came of asking neighbours, once for all checks.
    heard: OnceCell<Result<Vec<Answer>, NotMade>>,
}

/// A real server of a service, with the way to it.
pub(super) struct Server<'d> {
    pub(super) service: ServiceKey,
    pub(super) vip: IpAddr,
    pub(super) addr: IpAddr,
    pub(super) status: &'d Counted,
    pub(super) hop: Result<NextHop, Unreachable>,
}

impl<'h> Director<'h> {
    /// Looks at the host.
    pub(super) fn gather(wanted: Wanted, host: &'h dyn Host) -> Result<Self, NotMade> {
        let devices = host.devices()?;
        let is_ethernet = |name: &&String| {
            let named = devices.iter().find(|d| d.ifname == **name);
            named.is_some_and(|d| d.link_type == "ether")
        };
        let ports: Vec<String> = wanted
            .interfaces
            .iter()
            .filter(is_ethernet)
            .cloned()
            .collect();
        let mirror = Mirror::new(&ports).map_err(NotMade::of)?;
        Ok(Self {
            fib: Fib::clone(&mirror.fib()),
            unfollowed: mirror.unfollowed(),
            wanted,
            host,
            devices,
            ports,
            heard: OnceCell::new(),
        })
    }

    /// Whether the hook keeps from the kernel what is UVS's, and not the nft guard.
    pub(super) fn is_hooked(&self) -> bool {
        self.wanted.hook.works != HookTier::Off
    }

    /// In a line, for the head of the report.
    pub(super) fn about(&self) -> String {
        let servers: usize = self.wanted.services.iter().map(|s| s.servers.len()).sum();
        let who = match self.wanted.daemon {
            Some(pid) => format!("the daemon {pid}"),
            None => "a configuration, without a daemon".to_owned(),
        };
        format!(
            "{who} on {}, services {}, real servers {servers}",
            self.wanted.interfaces.join(", "),
            self.wanted.services.len(),
        )
    }

    /// The services, each with its first VIP. Networks, which a firewall mark may have, are none.
    pub(super) fn services(&self) -> impl Iterator<Item = (&Service, IpAddr)> {
        let served = self.wanted.services.iter();
        served.filter_map(|s| Some((s, s.vips().next()?.1)))
    }

    /// Whether anything of IPv6 is to be forwarded.
    pub(super) fn has_ipv6(&self) -> bool {
        self.vips().iter().any(IpAddr::is_ipv6) || self.servers().any(|s| s.addr.is_ipv6())
    }

    /// The VIPs, each once.
    pub(super) fn vips(&self) -> Vec<IpAddr> {
        let services = self.wanted.services.iter();
        let mut vips: Vec<_> = services
            .flat_map(|s| s.vips().map(|(_, vip)| vip))
            .collect();
        vips.sort();
        vips.dedup();
        vips
    }

    /// The VIPs that this host neither has nor owns: a stand-by's.
    pub(super) fn absent(&self) -> Vec<IpAddr> {
        let to = self.wanted.services.iter().flat_map(|s| &s.to);
        let unassigned = UnassignedVips::of(to.copied(), &self.wanted.own, &self.fib);
        unassigned.absent.into_iter().map(IpAddr::from).collect()
    }

    /// The servers that get new connections. One of weight 0 gets none, and need not be there.
    pub(super) fn servers(&self) -> impl Iterator<Item = Server<'_>> {
        self.services().flat_map(move |(service, vip)| {
            let in_use = service.servers.iter().filter(|s| s.spec.weight > 0);
            in_use.map(move |status| {
                let ServerSpec {
                    endpoint,
                    forwarding,
                    ..
                } = status.spec;
                let local = service.spec.local.first();
                let query = Query::to_server(endpoint.addr, forwarding, local.copied());
                Server {
                    service: service.spec.key,
                    vip,
                    addr: endpoint.addr.into(),
                    status,
                    hop: self.fib.lookup(query),
                }
            })
        })
    }

    /// The name of the interface that a way leads out of.
    pub(super) fn port_of(&self, hop: &NextHop) -> &str {
        let name = self.ports.get(usize::from(hop.port.0));
        name.map_or("?", String::as_str)
    }

    /// The interface on which clients or their router see the VIP: that which has it, or is in its subnet.
    pub(super) fn interface_of(&self, vip: IpAddr) -> Option<&str> {
        let has = |d: &&Device| d.prefixes_of(vip).next().is_some() && d.does_arp();
        let owner = self.devices.iter().find(has).map(|d| d.ifname.as_str());
        owner.or_else(|| {
            let hop = self.fib.lookup(Query::to(vip.into())).ok()?;
            Some(self.port_of(&hop))
        })
    }

    /// Who answered for a VIP, or for a next hop that the kernel has not resolved.
    pub(super) fn answers(&self) -> Result<&[Answer], NotMade> {
        let heard = self.heard.get_or_init(|| {
            let questions = self.questions();
            if questions.len() > MOST_QUESTIONS {
                let count = questions.len();
                return Err(NotMade(format!(
                    "{count} addresses to ask for are too many (at most {MOST_QUESTIONS})"
                )));
            }
            self.host.who_has(&questions)
        });
        heard.as_deref().map_err(Clone::clone)
    }

    fn questions(&self) -> Vec<Question> {
        let mut questions = Vec::new();
        for interface in self.up_ports() {
            questions.extend(self.vips().into_iter().map(|target| Question {
                interface: interface.to_owned(),
                target,
            }));
        }
        for hop in self.servers().filter_map(|s| s.hop.ok()) {
            let target = Some(hop.via).filter(|_| hop.mac.is_none());
            questions.extend(target.map(|target| Question {
                interface: self.port_of(&hop).to_owned(),
                target: target.into(),
            }));
        }
        questions.sort();
        questions.dedup();
        questions
    }

    /// The MAC address of a neighbour, as the kernel has it or as it answered now.
    pub(super) fn mac_of(&self, addr: IpAddr) -> Option<Mac> {
        let hop = self.fib.lookup(Query::to(addr.into())).ok();
        let known = hop
            .filter(|hop| hop.via == addr.into())
            .and_then(|hop| hop.mac);
        let answered = || {
            Some(
                self.answers()
                    .ok()?
                    .iter()
                    .find(|a| a.to.target == addr)?
                    .mac,
            )
        };
        known.or_else(answered)
    }

    /// Whether a MAC address is this host's.
    pub(super) fn has_mac(&self, mac: Mac) -> bool {
        self.devices.iter().any(|own| own.address == mac_text(mac))
    }

    /// The device of a name.
    pub(super) fn device(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|d| d.ifname == name)
    }

    /// UVS's interfaces that can send.
    pub(super) fn up_ports(&self) -> impl Iterator<Item = &str> {
        let up = |name: &&String| {
            self.device(name)
                .is_some_and(|d| d.is_up() && d.has_carrier())
        };
        self.ports.iter().filter(up).map(String::as_str)
    }
}
