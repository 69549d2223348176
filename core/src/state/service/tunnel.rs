//! The encapsulations of tunnels: one row each says what it is called, what can be set of it, and its size.

use serde::{Deserialize, Serialize};

use super::rows::rows;
use crate::flow::Family;
use crate::wire::{gre, gue, ipv4, ipv6, udp};

/// Bytes of an outer IP header of this family.
pub const fn outer_header(family: Family) -> usize {
    match family {
        Family::V4 => ipv4::MIN_LEN,
        Family::V6 => ipv6::LEN,
    }
}

/// An encapsulation's row.
#[derive(Clone, Copy, Debug)]
pub struct TunnelDef {
    /// `--tun-type`, `kind = "…"` of the configuration, the metrics' label and the column of `uvs show`.
    pub word: &'static str,
    /// Whether it has a port of the server's.
    pub has_port: bool,
    /// What its outer checksum can be; empty where its header has no such field.
    pub checksums: &'static [TunnelChecksum],
    /// Bytes between the outer IP header and the packet within,
    pub header: usize,
    /// and those that an outer checksum adds to them.
    pub checksum_field: usize,
}

rows! {
    /// How a tunnelled packet is wrapped. In JSON it is the variant's name in lower case.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum TunnelKind: TunnelDef {
        /// IP in IP (RFC 2003).
        #[default]
        Ipip {
            word: "ipip",
            has_port: false,
            checksums: &[],
            header: 0,
            checksum_field: 0,
        }
        /// Generic UDP encapsulation: UDP's header and GUE's without options.
        Gue {
            word: "gue",
            has_port: true,
            checksums: &[TunnelChecksum::None, TunnelChecksum::Full, TunnelChecksum::Remote],
            header: udp::LEN + gue::MIN_LEN,
            checksum_field: 0,
        }
        /// GRE (RFC 2784).
        Gre {
            word: "gre",
            has_port: false,
            checksums: &[TunnelChecksum::None, TunnelChecksum::Full],
            header: gre::header_len(false),
            checksum_field: gre::header_len(true) - gre::header_len(false),
        }
    }
}

/// The outer checksum of a GUE or GRE tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelChecksum {
    /// `--tun-nocsum`
    #[default]
    None,
    /// `--tun-csum`
    Full,
    /// `--tun-remcsum`
    Remote,
}

/// A tunnel's parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Tunnel {
    /// Encapsulation.
    pub kind: TunnelKind,
    /// The server's port where the encapsulation has one (GUE's), host byte order; 0 otherwise.
    pub port: u16,
    /// Outer checksum; IPIP has none.
    pub checksum: TunnelChecksum,
}

impl Tunnel {
    /// Bytes between the outer IP header and the packet within.
    pub fn header(&self) -> usize {
        let def = self.kind.def();
        match self.checksum {
            TunnelChecksum::Full => def.header + def.checksum_field,
            TunnelChecksum::None | TunnelChecksum::Remote => def.header,
        }
    }

    /// Bytes that it adds in front of the packet on the way to a server of this family.
    pub fn overhead(&self, server: Family) -> usize {
        outer_header(server) + self.header()
    }
}
