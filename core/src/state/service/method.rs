//! The forwarding methods: one row each says what it is called and what it promises.
//!
//! Command lines, configuration, listings, metrics, guard and engine read the row. What a method does to
//! packets is in its [`ModeDef`](crate::mode::ModeDef).

use serde::{Deserialize, Serialize};

use super::rows::rows;
use super::tunnel::TunnelKind;

/// To whom a real server sends its replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// To the client, past the director.
    Direct,
    /// To the client, through the director: it is the server's gateway.
    Gateway,
    /// To a local address and port of the director's, which stand for the client.
    Local,
}

/// A forwarding method's row.
#[derive(Clone, Copy, Debug)]
pub struct MethodDef {
    /// `mode = "…"` of the configuration, the metrics' label and the column of `uvs show`; a tunnel's two are
    /// its encapsulation's word instead ([`Forwarding::mode`]).
    pub word: &'static str,
    /// As documentation and messages call it.
    pub title: &'static str,
    /// The word of `ipvsadm -L`, at most 7 bytes.
    pub listed: &'static str,
    /// ipvsadm's long option, without its dashes.
    pub option: &'static str,
    /// ipvsadm's letter; `None` for a method of UVS's own.
    pub letter: Option<char>,
    /// To whom servers reply.
    pub replies: Replies,
    /// Whether a server may listen on another port than the service's.
    pub maps_port: bool,
    /// Whether a server may be of another address family than the service.
    pub mixes_families: bool,
}

rows! {
    /// How packets reach a real server. In JSON it is the variant's name in lower case.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Forwarding: MethodDef {
        /// Direct routing (`-g`).
        Dr {
            word: "dr",
            title: "DR",
            listed: "Route",
            option: "gatewaying",
            letter: Some('g'),
            replies: Replies::Direct,
            maps_port: false,
            mixes_families: false,
        }
        /// Network address translation (`-m`).
        Nat {
            word: "nat",
            title: "NAT",
            listed: "Masq",
            option: "masquerading",
            letter: Some('m'),
            replies: Replies::Gateway,
            maps_port: true,
            mixes_families: false,
        }
        /// NAT of both addresses (`--fullnat`), which IPVS does not have.
        FullNat {
            word: "fullnat",
            title: "FULLNAT",
            listed: "FullNat",
            option: "fullnat",
            letter: None,
            replies: Replies::Local,
            maps_port: true,
            mixes_families: true,
        }
        /// A tunnel (`-i`); its [`TunnelKind`] says which.
        Tunnel {
            word: "ipip",
            title: "tunnel",
            listed: "Tunnel",
            option: "ipip",
            letter: Some('i'),
            replies: Replies::Direct,
            maps_port: false,
            mixes_families: true,
        }
    }
}

impl Forwarding {
    /// The mode in a word: the method's, or where it is a tunnel its encapsulation's.
    pub const fn mode(self, kind: TunnelKind) -> &'static str {
        match self {
            Self::Tunnel => kind.def().word,
            _ => self.def().word,
        }
    }

    /// To whom servers reply.
    pub const fn replies(self) -> Replies {
        self.def().replies
    }

    /// Whether a server's replies pass the director.
    pub const fn passes_replies(self) -> bool {
        !matches!(self.replies(), Replies::Direct)
    }

    /// Whether a server sees a local address and port of the director's instead of the client's.
    pub const fn takes_local(self) -> bool {
        matches!(self.replies(), Replies::Local)
    }
}

impl MethodDef {
    /// Whether it is UVS's own, which ipvsadm does not know.
    pub const fn is_ours(&self) -> bool {
        self.letter.is_none()
    }

    /// ipvsadm's option as it is written: `-g`, or `--fullnat` where there is no letter.
    pub fn flag(&self) -> String {
        match self.letter {
            Some(letter) => format!("-{letter}"),
            None => format!("--{}", self.option),
        }
    }
}
