//! How a service introduces its clients to real servers that do not see them: with NAT and FULLNAT, whose packets pass
//! the director both ways.

use serde::{Deserialize, Serialize};

use super::{Forwarding, ServiceKey};
use crate::flow::Protocol;
use crate::wire::proxy::MAX_AUTHORITY;

/// By what servers learn their clients' addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAddress {
    /// By nothing beside the packets.
    #[default]
    #[serde(rename = "packet")]
    Packet,
    /// By a line of text before the stream (PROXY protocol, version 1): TCP.
    #[serde(rename = "proxy-v1")]
    ProxyV1,
    /// By a binary header before the stream, or in each datagram (PROXY protocol, version 2): TCP and UDP.
    #[serde(rename = "proxy-v2")]
    ProxyV2,
    /// By an option in the client's first segments (TOA): TCP.
    #[serde(rename = "toa")]
    Toa,
}

impl ClientAddress {
    /// All by their words.
    pub const WORDS: &'static [(&'static str, Self)] = &[
        ("packet", Self::Packet),
        ("proxy-v1", Self::ProxyV1),
        ("proxy-v2", Self::ProxyV2),
        ("toa", Self::Toa),
    ];

    /// As the configuration and listings call it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::ProxyV1 => "proxy-v1",
            Self::ProxyV2 => "proxy-v2",
            Self::Toa => "toa",
        }
    }
}

/// What becomes of the timestamps in clients' segments (RFC 7323): behind one local address many clients' clocks look like
/// one host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Timestamps {
    /// They stay.
    #[default]
    Keep,
    /// The option is taken out of the SYN, so that neither end uses it.
    Strip,
    /// Each connection's begin by one clock, the director's.
    Offset,
}

impl Timestamps {
    /// All by their words.
    pub const WORDS: &'static [(&'static str, Self)] = &[
        ("keep", Self::Keep),
        ("strip", Self::Strip),
        ("offset", Self::Offset),
    ];

    /// As the configuration and listings call it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Strip => "strip",
            Self::Offset => "offset",
        }
    }
}

/// How clients are introduced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Introduction {
    /// By what servers learn their addresses.
    pub client_address: ClientAddress,
    /// The host name that version 2 of the PROXY protocol says beside; none where it is empty.
    pub authority: String,
    /// The kind of TOA's option.
    pub toa_kind: u8,
    /// What becomes of their timestamps.
    pub timestamps: Timestamps,
}

/// The kind of TOA's option that its modules look for (`TCPOPT_TOA`).
pub const TOA_KIND: u8 = 254;

impl Default for Introduction {
    fn default() -> Self {
        Self {
            client_address: ClientAddress::Packet,
            authority: String::new(),
            toa_kind: TOA_KIND,
            timestamps: Timestamps::Keep,
        }
    }
}

/// Why clients cannot be introduced as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The setting that is to blame, as the configuration calls it.
    pub key: &'static str,
    /// What is wrong.
    pub what: &'static str,
    /// What to do.
    pub help: &'static str,
}

impl Introduction {
    /// Whether packets go as they come, but for their addresses.
    pub fn is_plain(&self) -> bool {
        self.client_address == ClientAddress::Packet && self.timestamps == Timestamps::Keep
    }

    /// Whether a service of this key can introduce its clients so.
    ///
    /// # Errors
    /// The setting that does not fit, and why.
    pub fn check(&self, key: &ServiceKey) -> Result<(), Unfit> {
        let protocol = match key {
            ServiceKey::Address { protocol, .. } => Some(*protocol),
            ServiceKey::Mark { .. } => None,
        };
        self.check_address(protocol)?;
        if self.timestamps != Timestamps::Keep && protocol.is_some_and(|p| p != Protocol::Tcp) {
            return Err(Unfit {
                key: "timestamps",
                what: "only TCP has timestamps",
                help: "remove it, or use \"keep\"",
            });
        }
        if !self.authority.is_empty() && self.client_address != ClientAddress::ProxyV2 {
            return Err(Unfit {
                key: "proxy_authority",
                what: "only version 2 of the PROXY protocol says an authority",
                help: "remove it, or set client_address = \"proxy-v2\"",
            });
        }
        if !self.authority.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Unfit {
                key: "proxy_authority",
                what: "the authority has blanks or letters beyond ASCII",
                help: "use a host name; an international one in its form with xn--",
            });
        }
        if self.authority.len() > MAX_AUTHORITY {
            return Err(Unfit {
                key: "proxy_authority",
                what: "the authority is longer than 255 bytes",
                help: "use a host name",
            });
        }
        if self.toa_kind != TOA_KIND && self.client_address != ClientAddress::Toa {
            return Err(Unfit {
                key: "toa_kind",
                what: "only TOA is an option",
                help: "remove it, or set client_address = \"toa\"",
            });
        }
        if !(MIN_TOA_KIND..=TOA_KIND).contains(&self.toa_kind) {
            return Err(Unfit {
                key: "toa_kind",
                what: "the kind is one of TCP's own options",
                help: "use a number from 70 to 254; 254 is what the modules look for",
            });
        }
        Ok(())
    }

    fn check_address(&self, protocol: Option<Protocol>) -> Result<(), Unfit> {
        let (what, help) = match (self.client_address, protocol) {
            (ClientAddress::ProxyV1 | ClientAddress::Toa, Some(Protocol::Udp)) => (
                "a UDP service can only have version 2 of the PROXY protocol",
                "use \"proxy-v2\"",
            ),
            (ClientAddress::Packet, _) | (_, Some(Protocol::Tcp | Protocol::Udp) | None) => {
                return Ok(());
            }
            (_, Some(Protocol::Sctp)) => (
                "SCTP has no way to say the client's address",
                "remove it, or use \"packet\"",
            ),
        };
        Err(Unfit {
            key: "client_address",
            what,
            help,
        })
    }

    /// Whether clients can be introduced to servers that are reached by this method: their replies must pass, for their
    /// numbers change on the way.
    pub fn suits(&self, forwarding: Forwarding) -> bool {
        self.is_plain() || forwarding.passes_replies()
    }
}

/// Kinds below are assigned, or near to those that are (IANA, TCP Option Kind Numbers).
const MIN_TOA_KIND: u8 = 70;
