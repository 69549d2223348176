//! What `check` finds, as data: whoever asked knows what it is called and says why it matters.

/// What is not as a mode needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The kernel answers ARP for a VIP.
    ArpIgnore,
    /// ARP requests carry the VIP as their source.
    ArpAnnounce,
    /// Packets out of the tunnel are dropped by the reverse-path filter.
    RpFilter,
    /// There is no device that unwraps the director's packets.
    Tunnel,
    /// The VIP is not on this host.
    VipAbsent,
    /// The device with the VIP is down.
    LinkDown,
    /// IPv6 is off on the device that is to have the VIP.
    Ipv6Off,
    /// The VIP is on a device that answers ARP or neighbour solicitations for it.
    VipAnswers,
    /// A device answers neighbour solicitations for the VIP by proxy.
    VipProxied,
    /// The VIP is on `lo` with a network behind it.
    VipNetwork,
    /// NAT: this host has the VIP, which is the director's alone.
    NatVip,
    /// NAT: the default route does not lead to the director.
    DefaultRoute,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub fault: Fault,
    /// What was seen, with the actual values.
    pub seen: String,
    /// The command on this host that fixes it, ready to be pasted.
    pub fix: String,
}
