//! What lies between the hosts: veth pairs, bridges, addresses and routes of both families, mode by mode.

use std::net::Ipv4Addr;

use crate::options::{Offloads, Options, VipOwner};
use crate::process::{SOON, output};
use crate::{Error, Host, Mode, Names, Plan, Result, SERVERS, tools, twin};

/// The client's address where a router is between it and the VIP.
pub(crate) const ROUTED_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const CLIENT_ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const DR_ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 1);
const IPIP_ROUTER_OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 80, 1);
const IPIP_ROUTER_INSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 80, 129);
const SERVER_NAMES: [&str; SERVERS] = ["rs1", "rs2", "rs3"];

/// The hosts before anything runs on them.
pub(crate) struct Hosts {
    pub(crate) client: Host,
    pub(crate) director: Host,
    pub(crate) fabric: Host,
    pub(crate) servers: Vec<Host>,
}

impl Hosts {
    /// Makes the hosts and all that lies between them.
    pub(crate) fn wire(names: &Names, plan: &Plan, options: Options) -> Result<Self> {
        let routed = plan.mode == Mode::Ipip || options.client_behind_router;
        let hosts = Self {
            client: Host::new(names, "client")?,
            director: Host::new(names, "director")?,
            fabric: Host::new(names, if routed { "router" } else { "switch" })?,
            servers: SERVER_NAMES
                .iter()
                .map(|role| Host::new(names, role))
                .collect::<Result<_>>()?,
        };
        match plan.mode {
            Mode::Dr => hosts.dr(plan, options)?,
            Mode::Nat | Mode::FullNat => hosts.nat(plan)?,
            Mode::Ipip => hosts.ipip(plan)?,
        }
        hosts.finish(plan, options)?;
        Ok(hosts)
    }

    fn dr(&self, plan: &Plan, options: Options) -> Result<()> {
        bridge(&self.fabric, "br0")?;
        plug((&self.director, "eth0"), &self.fabric, "br0")?;
        self.plug_servers()?;
        address(&self.director, "eth0", plan.director, 24)?;
        if options.client_behind_router {
            self.client_behind_router(plan.client)?;
            address(&self.fabric, "br0", DR_ROUTER, 24)?;
            return default_route(&self.director, DR_ROUTER);
        }
        plug((&self.client, "eth0"), &self.fabric, "br0")?;
        address(&self.client, "eth0", plan.client, 24)
    }

    fn nat(&self, plan: &Plan) -> Result<()> {
        link((&self.client, "eth0"), (&self.director, "eth0"))?;
        bridge(&self.fabric, "br0")?;
        plug((&self.director, "eth1"), &self.fabric, "br0")?;
        self.plug_servers()?;
        address(&self.client, "eth0", plan.client, 24)?;
        address(&self.director, "eth0", plan.director, 24)?;
        if let Some(gateway) = plan.gateway {
            address(&self.director, "eth1", gateway, 24)?;
        }
        if let Some(local) = plan.local {
            address(&self.director, "eth1", local, 32)?;
        }
        Ok(())
    }

    /// The tutorial's VIP and real servers share a /24; its halves are two subnets here.
    fn ipip(&self, plan: &Plan) -> Result<()> {
        self.client_behind_router(plan.client)?;
        link((&self.director, "eth0"), (&self.fabric, "director"))?;
        bridge(&self.fabric, "br0")?;
        self.plug_servers()?;
        address(&self.fabric, "director", IPIP_ROUTER_OUTSIDE, 25)?;
        address(&self.fabric, "br0", IPIP_ROUTER_INSIDE, 25)?;
        address(&self.director, "eth0", plan.director, 25)?;
        default_route(&self.director, IPIP_ROUTER_OUTSIDE)
    }

    fn client_behind_router(&self, client: Ipv4Addr) -> Result<()> {
        link((&self.client, "eth0"), (&self.fabric, "client"))?;
        address(&self.client, "eth0", client, 24)?;
        address(&self.fabric, "client", CLIENT_ROUTER, 24)?;
        default_route(&self.client, CLIENT_ROUTER)?;
        self.fabric.forwarding(true)
    }

    fn plug_servers(&self) -> Result<()> {
        self.servers
            .iter()
            .try_for_each(|server| plug((server, "eth0"), &self.fabric, "br0"))
    }

    /// What all modes share: the servers' addresses, the VIP, the options.
    fn finish(&self, plan: &Plan, options: Options) -> Result<()> {
        let bits = if plan.mode == Mode::Ipip { 25 } else { 24 };
        for (server, planned) in self.servers.iter().zip(plan.servers) {
            address(server, "eth0", *planned.ip(), bits)?;
            match plan.mode {
                Mode::Nat => plan
                    .gateway
                    .map_or(Ok(()), |gateway| default_route(server, gateway))?,
                Mode::Ipip => default_route(server, IPIP_ROUTER_INSIDE)?,
                Mode::Dr if options.client_behind_router => default_route(server, DR_ROUTER)?,
                Mode::Dr | Mode::FullNat => {}
            }
        }
        if options.vip == VipOwner::Host {
            address(&self.director, "eth0", *plan.vip.ip(), 32)?;
        }
        self.director.forwarding(options.ip_forward)?;
        // A load of one connection a request needs every port there is.
        self.client
            .sysctl("net.ipv4.ip_local_port_range", "1024 65535")?;
        if options.offloads == Offloads::Off {
            self.all().try_for_each(offloads_off)?;
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &Host> {
        [&self.client, &self.director, &self.fabric]
            .into_iter()
            .chain(&self.servers)
    }
}

/// One end of a cable.
type End<'a> = (&'a Host, &'a str);

/// A veth pair, both ends up.
fn link(a: End<'_>, b: End<'_>) -> Result<()> {
    let ((a, a_name), (b, b_name)) = (a, b);
    let words = [
        "link",
        "add",
        a_name,
        "netns",
        a.name(),
        "type",
        "veth",
        "peer",
        "name",
        b_name,
        "netns",
        b.name(),
    ];
    output(tools::command("ip", words)?, "", SOON)?;
    a.ip(&format!("link set {a_name} up"))?;
    b.ip(&format!("link set {b_name} up"))
}

/// A bridge in `host`, without spanning tree and thus forwarding at once.
fn bridge(host: &Host, name: &str) -> Result<()> {
    host.ip(&format!(
        "link add {name} type bridge stp_state 0 mcast_snooping 0\nlink set {name} up"
    ))
}

/// A cable from an interface to a bridge; the port bears the other host's role as its name.
fn plug(end: End<'_>, switch: &Host, bridge: &str) -> Result<()> {
    let port = end.0.role();
    link(end, (switch, port))?;
    switch.ip(&format!("link set {port} master {bridge}"))
}

/// Turns offloads off on every veth end of a host.
fn offloads_off(host: &Host) -> Result<()> {
    let shown = host.run("ip -brief link show type veth")?;
    for line in shown.lines() {
        let name = line
            .split(['@', ' '])
            .next()
            .filter(|name| !name.is_empty());
        host.offloads_off(
            name.ok_or_else(|| Error::Wrong(format!("no interface name in {line:?}")))?,
        )?;
    }
    Ok(())
}

/// An address and its twin: alone where that is alone, else in a /64. What is alone is a VIP or a local address of
/// FULLNAT's, which the host's own connections are not to come from: in IPv6 that must be said (RFC 6724 §5, rule 3),
/// and keepalived says it too.
fn address(host: &Host, interface: &str, address: Ipv4Addr, bits: u8) -> Result<()> {
    let twin = twin(address);
    let six = if bits == 32 {
        format!("{twin}/128 dev {interface} nodad preferred_lft 0")
    } else {
        format!("{twin}/64 dev {interface} nodad")
    };
    host.ip(&format!(
        "addr add {address}/{bits} dev {interface}\naddr add {six}"
    ))
}

/// The default route of both families, by the same router.
fn default_route(host: &Host, gateway: Ipv4Addr) -> Result<()> {
    let twin = twin(gateway);
    host.ip(&format!(
        "route add default via {gateway}\nroute add default via {twin}"
    ))
}
