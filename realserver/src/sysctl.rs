//! The sysctls that matter to a real server, and their right values.

use serde::{Deserialize, Serialize};

use super::family::Family;
use super::finding::Fault;

/// The sysctls of `net.FAMILY.conf.DEVICE` that matter to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Key {
    /// Which ARP requests are answered.
    ArpIgnore,
    /// Which source address ARP requests carry.
    ArpAnnounce,
    /// Whether sources that are routed elsewhere are dropped.
    RpFilter,
    /// Whether the device has no IPv6 at all.
    DisableIpv6,
}

impl Key {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ArpIgnore => "arp_ignore",
            Self::ArpAnnounce => "arp_announce",
            Self::RpFilter => "rp_filter",
            Self::DisableIpv6 => "disable_ipv6",
        }
    }

    pub(super) const fn family(self) -> Family {
        match self {
            Self::ArpIgnore | Self::ArpAnnounce | Self::RpFilter => Family::Ipv4,
            Self::DisableIpv6 => Family::Ipv6,
        }
    }

    /// As sysctl(8) writes it.
    pub(super) fn dotted(self, device: &str) -> String {
        format!("net.{}.conf.{device}.{}", self.family().name(), self.name())
    }

    /// The value that `up` sets.
    pub(super) const fn wanted(self) -> &'static str {
        match self {
            Self::ArpIgnore => "1",
            Self::ArpAnnounce => "2",
            Self::RpFilter | Self::DisableIpv6 => "0",
        }
    }

    /// Whether a value does as well as the wanted one (Linux, ip-sysctl.rst). arp_ignore 3 does not: it
    /// answers for any address of global scope; 2 and 8 are stricter than 1.
    pub(super) fn accepts(self, value: &str) -> bool {
        match self {
            Self::ArpIgnore => ["1", "2", "8"].contains(&value),
            Self::ArpAnnounce | Self::RpFilter | Self::DisableIpv6 => value == self.wanted(),
        }
    }

    /// What a wrong value of it is.
    pub(super) const fn fault(self) -> Fault {
        match self {
            Self::ArpIgnore => Fault::ArpIgnore,
            Self::ArpAnnounce => Fault::ArpAnnounce,
            Self::RpFilter => Fault::RpFilter,
            Self::DisableIpv6 => Fault::Ipv6Off,
        }
    }
}
