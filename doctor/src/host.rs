//! What the checks may ask of the host, behind a trait, so that each can be tried on data: the text of
//! files under /proc, what `ip` and `nft` print, an interface's offloads, which neighbours and pings are answered.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::thread::{CapabilitySet, capabilities};
use serde::de::DeserializeOwned;
use socket2::{Domain, Socket, Type};
use uvs_forwarder::hook::{self, Ability};
use uvs_forwarder::{guard, sys};
use uvs_realserver::Family;
use uvs_realserver::host::{self, Device};

use super::echo;
use super::finding::NotMade;
use super::neighbour::{self, Answer, Question};
use super::probe::{self, Outcome, Probe};

/// ETHTOOL_GFLAGS, ETHTOOL_GGRO and the flag of LRO (linux/ethtool.h).
const GET_FLAGS: u32 = 0x25;
const GET_GRO: u32 = 0x2b;
const FLAG_LRO: u32 = 1 << 15;

/// An offload that doctor asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Offload {
    /// Large receive offload.
    Lro,
    /// Generic receive offload.
    Gro,
}

/// The host.
pub(super) trait Host {
    /// A file's text.
    fn read(&self, path: &str) -> Result<String, NotMade>;
    /// What `ip` prints.
    fn ip(&self, words: &[&str]) -> Result<String, NotMade>;
    /// What `nft` prints; `input` is its standard input.
    fn nft(&self, words: &[&str], input: &str) -> Result<String, guard::GuardError>;
    /// Whether an interface's offload is on.
    fn offload(&self, interface: &str, which: Offload) -> Result<bool, NotMade>;
    /// Asks neighbours, waiting about a second for all answers.
    fn who_has(&self, questions: &[Question]) -> Result<Vec<Answer>, NotMade>;
    /// The largest packet up to each MTU that comes back unfragmented, waiting about a second for all.
    fn largest(&self, paths: &[(IpAddr, u32)]) -> Result<HashMap<IpAddr, u32>, NotMade>;
    /// Asks servers for the VIP, waiting about a second for all answers; in their order.
    fn has_vip(&self, probes: &[Probe]) -> Result<Vec<Outcome>, NotMade>;
    /// The effective capabilities of this process.
    fn capabilities(&self) -> CapabilitySet;
    /// What the kernel lets this process do of the hook.
    fn hook_ability(&self) -> Ability;
    /// What a killed daemon left of its hook below a directory, in a line.
    fn hook_leftover(&self, pins: &Path) -> Result<Option<String>, NotMade>;
}

impl dyn Host + '_ {
    /// A sysctl of `net.FAMILY.conf`.
    pub(super) fn conf(&self, family: Family, device: &str, key: &str) -> Result<u32, NotMade> {
        let path = host::sysctl_path(family, device, key);
        let path = path.display().to_string();
        let text = self.read(&path)?;
        let number = text.trim().parse();
        number.map_err(|_| NotMade(format!("{path} is {text:?}, not a number")))
    }

    /// What `ip -j` prints, understood.
    pub(super) fn ip_json<T: DeserializeOwned>(&self, words: &[&str]) -> Result<Vec<T>, NotMade> {
        let text = self.ip(&[&["-j"], words].concat())?;
        // Old versions print nothing at all for an empty list.
        let text = if text.trim().is_empty() { "[]" } else { &text };
        serde_json::from_str(text).map_err(|e| {
            NotMade(format!(
                "`ip -j {}` is not understood: {e}",
                words.join(" ")
            ))
        })
    }

    /// Every device with its addresses.
    pub(super) fn devices(&self) -> Result<Vec<Device>, NotMade> {
        self.ip_json(&["-d", "address", "show"])
    }
}

/// This host.
pub(super) struct ThisHost;

impl ThisHost {
    fn require_raw(&self, doing: &str) -> Result<(), NotMade> {
        if self.capabilities().contains(CapabilitySet::NET_RAW) {
            return Ok(());
        }
        Err(NotMade(format!(
            "{doing} needs CAP_NET_RAW: run it as root"
        )))
    }
}

impl Host for ThisHost {
    fn read(&self, path: &str) -> Result<String, NotMade> {
        fs::read_to_string(path).map_err(|e| NotMade(format!("cannot read {path}: {e}")))
    }

    fn ip(&self, words: &[&str]) -> Result<String, NotMade> {
        host::ip(words).map_err(NotMade::of)
    }

    fn nft(&self, words: &[&str], input: &str) -> Result<String, guard::GuardError> {
        guard::ask(words, input)
    }

    fn offload(&self, interface: &str, which: Offload) -> Result<bool, NotMade> {
        let failed = |e| NotMade(format!("cannot read the offloads of {interface}: {e}"));
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).map_err(failed)?;
        let command = match which {
            Offload::Lro => GET_FLAGS,
            Offload::Gro => GET_GRO,
        };
        let value = sys::ethtool_value(socket.as_fd(), interface, command).map_err(failed)?;
        Ok(match which {
            Offload::Lro => value & FLAG_LRO != 0,
            Offload::Gro => value != 0,
        })
    }

    fn who_has(&self, questions: &[Question]) -> Result<Vec<Answer>, NotMade> {
        self.require_raw("asking neighbours")?;
        neighbour::who_has(questions).map_err(|e| NotMade(format!("asking neighbours failed: {e}")))
    }

    fn largest(&self, paths: &[(IpAddr, u32)]) -> Result<HashMap<IpAddr, u32>, NotMade> {
        self.require_raw("pinging")?;
        echo::largest(paths).map_err(|e| NotMade(format!("pinging failed: {e}")))
    }

    fn has_vip(&self, probes: &[Probe]) -> Result<Vec<Outcome>, NotMade> {
        self.require_raw("asking servers for the VIP")?;
        probe::ask(probes).map_err(|e| NotMade(format!("asking servers for the VIP failed: {e}")))
    }

    fn capabilities(&self) -> CapabilitySet {
        capabilities(None).map_or_else(|_| CapabilitySet::empty(), |had| had.effective)
    }

    fn hook_ability(&self) -> Ability {
        hook::ability()
    }

    fn hook_leftover(&self, pins: &Path) -> Result<Option<String>, NotMade> {
        hook::show(pins).map_err(|e| NotMade(format!("cannot look for a hook that was left: {e}")))
    }
}
