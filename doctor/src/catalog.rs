//! The closed list of what doctor looks at: a stable id, who is asked, how much a finding weighs, why it
//! matters. The commands that fix a finding are built where the host's names and addresses are known.
//!
//! docs/doctor.md is rendered from this list, and a test keeps the two equal.

use std::fmt;

use serde::{Serialize, Serializer};

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Looked at, and as it should be.
    Ok,
    /// Worth knowing; nothing is broken.
    Note,
    /// Hurts some traffic, or under some circumstances.
    Warning,
    /// Traffic is lost, doubled or bypasses the director.
    Error,
}

impl Severity {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Where a check is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// On the director.
    Director,
    /// On a real server.
    Server,
    /// On either.
    Both,
}

impl Side {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Director => "director",
            Self::Server => "real server",
            Self::Both => "either",
        }
    }
}

macro_rules! checks {
    ($($variant:ident $id:literal $side:ident $severity:ident $looks:literal $why:literal $fix:literal)*) => {
        /// One thing that doctor looks at.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Check { $(#[doc = $looks] $variant),* }

        impl Check {
            /// All, in the order in which they are reported.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable name: in `--only`, in JSON, as the anchor in docs/doctor.md.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id),* }
            }

            /// Where it is made.
            pub const fn side(self) -> Side {
                match self { $(Self::$variant => Side::$side),* }
            }

            /// What a finding of it weighs.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity),* }
            }

            /// What must be so.
            pub const fn looks(self) -> &'static str {
                match self { $(Self::$variant => $looks),* }
            }

            /// Why it matters.
            pub const fn why(self) -> &'static str {
                match self { $(Self::$variant => $why),* }
            }

            /// What fixes it, with names in capitals where the report has the host's own.
            pub const fn fix(self) -> &'static str {
                match self { $(Self::$variant => $fix),* }
            }
        }
    };
}

checks! {
    Capabilities "capabilities" Director Error
        "UVS has CAP_NET_RAW and CAP_NET_ADMIN"
        "without CAP_NET_RAW there is no packet socket and nothing is forwarded; without CAP_NET_ADMIN there is no guard, no neighbour is resolved and super-frames find no buffer"
        "setcap cap_net_raw,cap_net_admin+ep PROGRAM"
    Confinement "confinement" Director Note
        "the daemon has given up the capabilities and system calls that it does not need, and no program can give it more"
        "where it has not, a plugin or whoever gets hold of the daemon may do all that its user may"
        "uvs run --seccomp on"
    AddressSpace "address_space" Director Error
        "the limit of address space (ulimit -v) has room for rings and connection table"
        "rings and table are allocated in full at the start, and `uvs run` fails there"
        "ulimit -v unlimited"
    Hook "hook" Director Note
        "the kernel forwards established connections (the hook), or was not asked to"
        "without the hook every frame goes through user space, which costs several times the CPU, and what the host keeps for itself is told from UVS's by rules instead of by connection"
        "setcap cap_net_raw,cap_net_admin,cap_bpf+ep PROGRAM"
    HookPort "hook_port" Director Note
        "UVS's interfaces are no ports of a bridge, bond or team"
        "the bridge takes a port's frames before the host's stack does, so the hook cannot be there, and UVS does without it"
        "uvs run --interface BRIDGE"
    HookDetached "hook_detached" Director Error
        "the hook is on all of UVS's interfaces, as the daemon put it there"
        "where it is not, the kernel answers clients with a RST and UVS sees nothing; the daemon puts it back within seconds, unless something prevents that"
        "bpftool net show dev IF"
    HookOthers "hook_others" Director Note
        "no other program is where the hook is"
        "it sees only what the hook leaves to the host, so what it counts, filters or redirects of a service it does not any more; one that puts itself before the hook takes frames from UVS"
        "bpftool net show dev IF"
    HookUnpinned "hook_unpinned" Director Warning
        "the hook is pinned, so that it outlives the daemon"
        "if the daemon is killed, its connections end with it: the kernel answers their next packets with a RST"
        "mount -t bpf bpf /sys/fs/bpf"
    HookLeftover "hook_leftover" Director Error
        "no hook is left of a daemon that was killed"
        "until its heartbeat is stale clients get no answer, and the interfaces keep its program; a daemon that starts takes it over"
        "uvs guard down"
    UdpSegmentation "udp_segmentation" Director Warning
        "the kernel can hand super-frames of UVS's protocols to user space"
        "a local sender's super-frame of UDP segments (QUIC, WireGuard) is lost whole before Linux 6.2, one of SCTP on any; kernels without a fix of 2026 then stop filling the interface's ring, until UVS makes it anew a second or two later"
        "ethtool -K PEER tx-udp-segmentation off"
    NetdevIngress "netdev_ingress" Director Error
        "the kernel has the netdev ingress hook, and the program nft is there to look at it; or the hook does their work"
        "without them there is no guard, and the kernel answers for the VIP with a RST"
        "modprobe nf_tables"
    InterfaceAbsent "interface_absent" Director Error
        "the interfaces that UVS is to run on exist"
        "nothing is received or sent there"
        "uvs run --interface IF"
    InterfaceDown "interface_down" Director Error
        "UVS's interfaces are up and have a carrier"
        "nothing is received or sent there"
        "ip link set dev IF up"
    Workers "workers" Director Note
        "there is a CPU for each worker, and the kernel takes an interface's frames in on several CPUs where there are several workers"
        "workers that share a CPU forward no more than one of them; and an interface with one receive queue is one CPU's, however many workers are behind it"
        "ethtool -L IF combined WORKERS"
    LargeReceive "large_receive" Director Error
        "large receive offload (LRO) is off"
        "what LRO merged cannot be cut again as it was, so the kernel drops such frames before UVS sees them; GRO does the same job without that drawback"
        "ethtool -K IF lro off"
    GenericReceive "generic_receive" Director Note
        "generic receive offload (GRO) is on"
        "behind a physical wire GRO makes bulk transfers about three times as fast; between containers, where super-frames arrive anyway, it changes nothing"
        "ethtool -K IF gro on"
    RpFilter "rp_filter" Director Note
        "the effective rp_filter (the larger of `all` and the interface's) is not strict"
        "UVS enforces it as the kernel does: where clients come in by one interface and the route back to them leaves by another, their packets are dropped as reverse_path. Where both directions use one interface it is sound, and keeps forged sources out"
        "echo 2 > /proc/sys/net/ipv4/conf/IF/rp_filter"
    SendRedirects "send_redirects" Director Warning
        "a director that forwards for NAT servers on the clients' own interface sends no ICMP redirects"
        "a redirect tells a server to reach a client directly; its replies then bypass the director and carry the server's address"
        "echo 0 > /proc/sys/net/ipv4/conf/IF/send_redirects"
    VipUnguarded "vip_unguarded" Director Error
        "a VIP on one of the director's interfaces is guarded on all of UVS's interfaces"
        "the kernel answers as well as UVS: clients get a RST, and connections break at random"
        "uvs guard down --force"
    ForwardUnguarded "forward_unguarded" Director Error
        "with ip_forward=1 a VIP on no interface is guarded on all of UVS's interfaces"
        "the kernel forwards a second copy of what UVS forwards, or answers that it has no route"
        "uvs guard down --force"
    GuardLeftover "guard_leftover" Director Error
        "no guard is left of a daemon that was killed"
        "nothing serves, and the kernel is kept silent: clients get no answer"
        "uvs guard down"
    GuardDamaged "guard_damaged" Director Error
        "the guard is as the daemon put it up"
        "whatever the guard lacks, the kernel answers as well as UVS; the daemon repairs it at once, unless another program holds the table"
        "uvs guard down --force"
    GuardRepaired "guard_repaired" Director Warning
        "no other program has removed or changed the guard in the last hour"
        "until it is back, for a millisecond or more, the kernel answers clients and servers as well as UVS does, and running NAT and FULLNAT connections may be reset"
        "nft monitor"
    FirewallBypassed "firewall_bypassed" Director Note
        "no firewall rule names a VIP"
        "UVS takes the service's packets before the firewall, so the rule filters, translates and counts nothing of them; filter on the real servers or before the director"
        "nft delete rule FAMILY TABLE CHAIN handle N"
    FirewallUnheeded "firewall_unheeded" Director Warning
        "clients that a rule of the host's firewall keeps out by address, UVS keeps out too"
        "UVS takes the service's packets before the host's INPUT, FORWARD, raw and netdev chains; of their rules it follows those of INPUT that certainly hold, so this one protects no service"
        "uvs deny add PREFIX"
    PolicyRules "policy_rules" Director Warning
        "UVS follows every routing rule and every route"
        "it follows `from`, `to`, `iif`, `not`, `goto`, `suppress_prefixlength` and all tables; what a rule or a route says of firewall marks, TOS, protocols, ports or VRFs it cannot ask its packets, which may then leave by another way than the kernel's would"
        "ip -4 rule show"
    Ipv6Off "ipv6_off" Director Error
        "IPv6 is on where UVS runs, if a service or a server is IPv6"
        "without it an interface has no IPv6 address, route or neighbour: packets to IPv6 servers are dropped as no_route, and nobody is told of the VIP"
        "echo 0 > /proc/sys/net/ipv6/conf/IF/disable_ipv6"
    AcceptRa "accept_ra" Director Warning
        "a director that forwards keeps the default route that router advertisements bring"
        "with forwarding=1 the kernel heeds them only where accept_ra is 2: the route goes when its time is over, and replies to IPv6 clients have no way"
        "echo 2 > /proc/sys/net/ipv6/conf/IF/accept_ra"
    VipAbsent "vip_absent" Director Warning
        "every VIP is on one of the director's interfaces, owned by UVS, or answered for by another director"
        "a stand-by whose partner is gone, or forgotten? Nobody answers ARP (IPv6: neighbour solicitations) for the VIP, and what is routed here all the same is the kernel's: no client is served"
        "ip address add VIP/32 dev IF # or have UVS own it: uvs run --own-vip VIP, own_vips in the configuration"
    VipStandby "vip_standby" Director Note
        "every VIP is this director's: on one of its interfaces, or owned by UVS"
        "a stand-by, or forgotten? UVS is silent about the VIP and serves nothing of it until it is here; keepalived puts it here when it takes over"
        "ip address add VIP/32 dev IF # when the other host has it no more; or have UVS own it: uvs run --own-vip VIP, own_vips in the configuration"
    VipDuplicate "vip_duplicate" Both Error
        "one host answers ARP (IPv6: neighbour solicitations) for the VIP"
        "clients send to whoever answered last; what reaches the other host never passes the director"
        "on the other host: ip address del VIP/PREFIX dev IF"
    VipAsSource "vip_as_source" Director Warning
        "the director's own connections to servers that have the VIP do not come from it"
        "of an interface's IPv6 addresses the kernel may choose the VIP as the source (RFC 6724): a DR or tunnel server answers itself then, and health checks see it dead. An address without preferred lifetime is chosen last, as keepalived adds its VIPs"
        "ip address change VIP/128 dev IF preferred_lft 0"
    ServerAnswersArp "server_answers_arp" Director Error
        "DR servers do not answer ARP (IPv6: neighbour solicitations) for the VIP"
        "clients that hear the server's answer send to it directly: they bypass the director, and hang when that server goes"
        "on the server: uvs rs up --mode dr --vip VIP"
    ServerWithoutVip "server_without_vip" Director Error
        "DR servers have the VIP: they answer a ping or a SYN to it at their MAC address (IPv4)"
        "what a server without the VIP gets it drops, or sends back to the director: its share of the clients waits for nothing. A firewall of the server's that drops both from the director looks the same"
        "on the server: uvs rs up --mode dr --vip VIP"
    ServerNoTunnel "server_no_tunnel" Director Error
        "IPIP servers take the tunnel and have the VIP: they answer a ping or a SYN to it from within (IPv4)"
        "a server without a decapsulator, or without the VIP behind it, drops what it gets: its share of the clients waits for nothing"
        "on the server: uvs rs up --mode ipip --vip VIP"
    NoRoute "no_route" Director Error
        "there is a route to every real server"
        "the server gets nothing: its packets are dropped as no_route"
        "ip route add SERVER/32 dev IF"
    NotAPort "not_a_port" Director Error
        "the route to every real server leads out of an interface that UVS runs on"
        "the server gets nothing: its packets are dropped as not_a_port"
        "restart it as: uvs run --interface IF --interface OTHER"
    OffSegment "off_segment" Director Error
        "DR servers are in the director's broadcast domain"
        "direct routing changes the MAC address only: the router in between gets a packet to the VIP and sends it back to the director"
        "uvs ipvsadm -e -t VIP:PORT -r SERVER:PORT -i -w WEIGHT"
    NeighbourUnresolved "neighbour_unresolved" Director Error
        "the next hop of every real server answers ARP (IPv6: neighbour solicitations)"
        "the server is down or not in the segment: its share of new connections is lost until its weight is 0"
        "uvs ipvsadm -e -t VIP:PORT -r SERVER:PORT -g -w 0"
    PathMtu "path_mtu" Director Error
        "packets as large as the MTU of the path to a real server allows do reach it"
        "large packets vanish without an ICMP message: small pages work, large transfers hang. With the MTU on the route UVS tells clients what fits"
        "ip route replace SERVER/32 via ROUTER dev IF mtu MTU"
    NatNoReply "nat_no_reply" Director Error
        "replies of NAT servers come back through the director"
        "the server's default route is not the director: its replies bypass it, carry the server's address, and clients drop them"
        "on the server: uvs rs up --mode nat --vip VIP --gateway DIRECTOR"
    FullNatNoReply "fullnat_no_reply" Director Error
        "replies of FULLNAT servers come back to the local address"
        "the server has no route, or another one, to the local address, so no connection is ever established"
        "on the server: ip route replace LOCAL/32 via DIRECTOR"
    ServerNoAnswers "server_no_answers" Director Error
        "NAT and FULLNAT servers answer the handshakes of clients"
        "a reset: nobody listens there; silence: the server is down, its firewall drops clients, or its replies take another way. Clients that are sent there fail until its weight is 0"
        "uvs ipvsadm -e -t VIP:PORT -r SERVER:PORT -m -w 0"
    LocalAddressAbsent "local_address_absent" Director Error
        "FULLNAT's local addresses are on the director"
        "nobody answers ARP for the address, and no reply of a server comes back"
        "ip address add LOCAL/32 dev IF"
    LocalPortsShared "local_ports_shared" Director Warning
        "FULLNAT's local ports are not those that the host takes for its own connections from the same address"
        "the host's connection to a server (a health check) and a client's can get the same port: one of the two receives the other's replies"
        "echo 'FIRST LAST' > /proc/sys/net/ipv4/ip_local_port_range"
    TunnelMtu "tunnel_mtu" Director Warning
        "the path to tunnel servers has room for a full Ethernet packet and the outer header"
        "clients' full-sized packets do not fit; UVS says so by ICMP 3/4 (IPv6: packet too big), and where that is filtered large uploads hang. The wire and the next hop must carry the larger MTU too"
        "ip link set dev IF mtu MTU"
    TunnelTooNarrow "tunnel_too_narrow" Director Warning
        "the path to a server behind a tunnel over IPv6 leaves 1280 bytes inside it"
        "IPv6 needs as many on every link (RFC 8200 §5), so packets of up to 1280 bytes go in two fragments, which cost time and which many a firewall drops. (The kernel's IPVS sends nothing at all through such a tunnel, IPv4 and small packets included.) A tunnel over IPv4 has no such limit"
        "ip link set dev IF mtu MTU"
    RsArpIgnore "rs_arp_ignore" Server Error
        "arp_ignore keeps ARP silent about the VIP"
        "this host may answer ARP for the VIP, and clients then bypass the director"
        "echo 1 > /proc/sys/net/ipv4/conf/IF/arp_ignore"
    RsArpAnnounce "rs_arp_announce" Server Error
        "arp_announce keeps the VIP out of ARP requests"
        "its ARP requests may carry the VIP as sender, which draws the VIP's traffic here"
        "echo 2 > /proc/sys/net/ipv4/conf/IF/arp_announce"
    RsRpFilter "rs_rp_filter" Server Error
        "rp_filter is off for the tunnel"
        "the kernel drops decapsulated packets, whose clients it reaches by another device"
        "echo 0 > /proc/sys/net/ipv4/conf/TUNNEL/rp_filter"
    RsTunnel "rs_tunnel" Server Error
        "there is a tunnel device, or the decapsulator runs"
        "nothing takes the director's outer header off, so no packet arrives"
        "uvs rs up --mode ipip --vip VIP"
    RsVipAbsent "rs_vip_absent" Server Error
        "the VIP is on lo (DR) or on the tunnel as a /32"
        "packets for the VIP are not this host's, and it drops them"
        "ip address add VIP/32 dev lo"
    RsLinkDown "rs_link_down" Server Error
        "the tunnel device is up"
        "a device that is down passes nothing on"
        "ip link set TUNNEL up"
    RsIpv6Off "rs_ipv6_off" Server Error
        "IPv6 is on for the device that has an IPv6 VIP"
        "a device without IPv6 takes no IPv6 address"
        "echo 0 > /proc/sys/net/ipv6/conf/lo/disable_ipv6"
    RsVipAnswers "rs_vip_answers" Server Error
        "the VIP is on no device that answers ARP or neighbour solicitations"
        "clients then reach this host and not the director"
        "ip address del VIP/PREFIX dev IF"
    RsVipProxied "rs_vip_proxied" Server Error
        "no device answers neighbour solicitations for the VIP by proxy"
        "with forwarding and proxy_ndp the kernel answers for the addresses of `ip -6 neigh show proxy`: clients then reach this host and not the director"
        "ip -6 neigh del proxy VIP dev IF"
    RsVipNetwork "rs_vip_network" Server Error
        "the VIP is on lo without the network around it"
        "the host takes its neighbours' addresses for its own (IPv6: may look for them on lo) and cannot reach them"
        "ip address del VIP/PREFIX dev lo"
    RsNatVip "rs_nat_vip" Server Error
        "a NAT or FULLNAT server does not have the VIP"
        "the VIP is the director's alone; this host would answer for it"
        "ip address del VIP/PREFIX dev IF"
    RsDefaultRoute "rs_default_route" Server Error
        "a NAT server's default route is the director"
        "replies that bypass the director carry this server's address, not the VIP"
        "ip route replace default via DIRECTOR"
    RsLocalRoute "rs_local_route" Server Error
        "a FULLNAT server has a route to the local address"
        "replies have no way back to the director"
        "ip route replace LOCAL/32 via DIRECTOR"
    RsNoWayBack "rs_no_way_back" Server Note
        "a DR or IPIP server has a default route of the VIP's family"
        "its replies go straight to the clients: those beyond its own networks get none. A host may well have one of IPv4 and none of IPv6"
        "ip -6 route add default via ROUTER"
    RsUdpAnswers "rs_udp_answers" Server Note
        "UDP programs of a DR or IPIP server listen on the VIP"
        "a client takes an answer only from the VIP, which it asked; a program that listens on all addresses answers from another of the server's, unless it asks for the address with IP_PKTINFO, which cannot be seen from outside. Have it listen on the VIP, or look at the source of what it sends (docs/real-servers.md#udp)"
        "tcpdump -ni any udp src port PORT"
    RsTunnelMss "rs_tunnel_mss" Server Warning
        "an IPIP server asks clients for segments that leave room for the outer header"
        "clients' full-sized segments do not fit into the tunnel; where ICMP 3/4 (IPv6: packet too big) is filtered large uploads hang"
        "ip route replace default via GATEWAY dev IF advmss 1440"
}

impl Check {
    /// The check with this id.
    pub fn by_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|check| check.id() == id)
    }

    /// Its section of docs/doctor.md.
    pub fn explain(self) -> String {
        format!(
            "### {}\n\n{}. Must be so: {}\n\nWhy: {}\n\nFix: `{}`\n",
            self.id(),
            self.severity().name(),
            sentence(self.looks()),
            sentence(self.why()),
            self.fix()
        )
    }

    /// Where docs/doctor.md tells more.
    pub fn docs(self) -> String {
        format!("docs/doctor.md#{}", self.id())
    }
}

/// A clause with a capital and a full stop.
fn sentence(clause: &str) -> String {
    let mut rest = clause.chars();
    let first = rest.next().map(|c| c.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), rest.as_str())
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.id())
    }
}
