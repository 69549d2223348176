//! The guard: keeps the host's kernel from answering or forwarding what is UVS's.
//!
//! AF_PACKET only taps: the kernel processes every frame as well. One nft table, `netdev uvs`, drops
//! exactly the frames that UVS serves at the ingress hook, which comes after the packet sockets and
//! before everything else. It is replaced whole, or its sets are changed, in one transaction, so it is
//! never half there; a killed run's table is found and replaced by the next.

mod claim;
mod clients;
mod elements;
mod kept;
mod netlink;
mod nft;
mod rules;
mod watch;

use std::os::fd::RawFd;

pub(crate) use clients::Idle;
pub(crate) use nft::Counter;
pub(crate) use rules::{FullNat, GuardSpec, HOST_MARK, LOOPBACK, Nat, Server};

use claim::Claim;
use elements::Change;
use watch::Watch;

/// Why the guard could not be put up, taken down or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuardError {
    /// Another daemon has the guard of this network namespace.
    #[error(
        "another uvs{} already runs in this network namespace (it holds the socket @uvs-guard); two would replace each other's guard: stop it, or run this one in a namespace of its own",
        .pid.map(|p| format!(" (process {p})")).unwrap_or_default()
    )]
    Busy {
        /// The other's process id, where the kernel tells it.
        pid: Option<i32>,
    },
    /// There is no `nft`.
    #[error("cannot run `nft`: {0}; install it (Debian: apt install nftables)")]
    NoNft(std::io::Error),
    /// The kernel cannot do it.
    #[error(
        "this kernel has no nf_tables for the netdev family: it needs CONFIG_NF_TABLES and CONFIG_NF_TABLES_NETDEV (module nf_tables), and for a NAT server that is the director itself CONFIG_NETFILTER_EGRESS (Linux 5.16)"
    )]
    NoKernelSupport,
    /// No right to change the rules.
    #[error("changing nft's rules needs CAP_NET_ADMIN: run as root, or grant the capability")]
    Permission,
    /// An interface name that cannot be written in nft's language.
    #[error(
        "interface name `{0}` contains a quote, which nft cannot express; rename the interface"
    )]
    InterfaceName(String),
    /// `nft` refused.
    #[error("nft refused: {0}")]
    Refused(String),
    /// A system call failed.
    #[error("guard: cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// The guard of this network namespace. While this value lives, no other daemon can have it; when it
/// goes, so do the rules.
pub(crate) struct Guard {
    claim: Claim,
    watch: Watch,
    /// What was applied last; `None` = nothing is, by us.
    applied: Option<GuardSpec>,
    /// It was put up anew, and knows no clients.
    unsure: bool,
}

impl Guard {
    /// Claims the guard of this network namespace. Rules that a killed run left stay in force until the
    /// first [`apply`](Self::apply) replaces them; the log says so.
    ///
    /// # Errors
    /// Another daemon has it; `nft` or the kernel's support for it is missing.
    pub(crate) fn claim() -> Result<Self, GuardError> {
        let claim = Claim::new()?;
        let watch = Watch::new()?;
        if nft::is_present()? {
            tracing::warn!(
                "an earlier run left its guard (nft table `netdev uvs`) behind; it will be replaced"
            );
        }
        Ok(Self {
            claim,
            watch,
            applied: None,
            unsure: false,
        })
    }

    /// Puts the guard up, or changes it. Interfaces that do not exist now are left out and named in the
    /// log: [`replace`](Self::replace) it when they are back.
    ///
    /// # Errors
    /// The rules could not be put in force; those before them still are.
    pub(crate) fn apply(&mut self, spec: &GuardSpec) -> Result<(), GuardError> {
        let spec = spec.union(spec);
        let changes = self
            .applied
            .as_ref()
            .and_then(|applied| elements::changes(applied, &spec));
        let Some(changes) = changes else {
            return self.replace(&spec);
        };
        if !changes.is_empty()
            && let Err(error) = netlink::change(&changes)
        {
            // Somebody changed our table, or a kernel wants it otherwise.
            tracing::debug!(%error, "the guard's sets could not be changed; it is replaced");
            return self.replace(&spec);
        }
        self.applied = Some(spec);
        Ok(())
    }

    /// Puts the guard up anew as a whole, on the interfaces there are now.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub(crate) fn replace(&mut self, spec: &GuardSpec) -> Result<(), GuardError> {
        // An interface may go between the look and the transaction: then one more look.
        let first = self.try_apply(spec);
        if matches!(first, Err(GuardError::Refused(_))) {
            self.try_apply(spec)?;
        } else {
            first?;
        }
        self.unsure = true;
        self.applied = Some(spec.union(spec));
        Ok(())
    }

    /// Whether it was put up anew and knows no clients, so that it keeps all that NAT servers send from the
    /// kernel: [`remember`](Self::remember) them, and [`be_sure`](Self::be_sure).
    pub(crate) const fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// These are clients of NAT services.
    ///
    /// # Errors
    /// They could not be noted.
    pub(crate) fn remember(&self, those: &[Server]) -> Result<(), GuardError> {
        Self::change("clients", true, clients::keys(those))
    }

    /// All clients are known: what NAT servers send to others is the kernel's again.
    ///
    /// # Errors
    /// It could not be said; the kernel forgets by itself within half a minute.
    pub(crate) fn be_sure(&mut self) -> Result<(), GuardError> {
        let protocols = clients::PROTOCOLS.map(|p| vec![p]);
        Self::change("unsure", false, protocols.into())?;
        self.unsure = false;
        Ok(())
    }

    fn change(set: &'static str, gained: bool, keys: Vec<Vec<u8>>) -> Result<(), GuardError> {
        if keys.is_empty() {
            return Ok(());
        }
        let change = Change { set, gained, keys };
        netlink::change(&[change]).map_err(|source| GuardError::Io {
            doing: "note clients",
            source,
        })
    }

    /// Takes the guard down; says whether there was one.
    ///
    /// # Errors
    /// It could not be taken down.
    pub(crate) fn remove(&mut self) -> Result<bool, GuardError> {
        self.applied = None;
        nft::remove()
    }

    /// A descriptor that becomes readable when anybody changes nft's rules: call
    /// [`restore`](Self::restore) then.
    pub(crate) fn fd(&self) -> RawFd {
        self.watch.fd()
    }

    /// Puts the guard up again where somebody removed it (`nft flush ruleset`, a firewall's reload);
    /// says whether that was so.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub(crate) fn restore(&mut self) -> Result<bool, GuardError> {
        if !self.watch.drain()? {
            return Ok(false);
        }
        let Some(spec) = self.applied.clone() else {
            return Ok(false);
        };
        if nft::is_present()? {
            return Ok(false);
        }
        tracing::warn!("somebody removed the guard (nft table `netdev uvs`); it is put up again");
        self.replace(&spec)?;
        Ok(true)
    }

    fn try_apply(&self, spec: &GuardSpec) -> Result<(), GuardError> {
        let (present, absent): (Vec<_>, Vec<_>) = spec
            .interfaces
            .iter()
            .cloned()
            .partition(|name| self.claim.has_interface(name));
        for interface in absent {
            tracing::warn!(
                interface,
                "no such interface now: not guarded until it is back"
            );
        }
        nft::run_script(&rules::render(spec, &present)?)
    }
}

impl Drop for Guard {
    /// The last resort, where the daemon unwinds before it could call [`Guard::remove`].
    fn drop(&mut self) {
        if self.applied.is_some()
            && let Err(error) = self.remove()
        {
            tracing::error!(%error, "the guard could not be removed; `uvs guard down` does it");
        }
    }
}

/// Frames dropped by each of the guard's rules since it was last put up or replaced; empty where there
/// is no guard.
///
/// # Errors
/// `nft` failed.
pub(crate) fn counters() -> Result<Vec<Counter>, GuardError> {
    if !nft::is_present()? {
        return Ok(Vec::new());
    }
    nft::counters()
}

/// The rules in force with their counters, as nft writes them, `terse` without the sets' elements;
/// `None` where there is no guard.
///
/// # Errors
/// `nft` failed.
pub(crate) fn show(terse: bool) -> Result<Option<String>, GuardError> {
    if !nft::is_present()? {
        return Ok(None);
    }
    nft::list(terse).map(Some)
}

/// What `nft` answers to these words, with `input` on its standard input.
///
/// # Errors
/// `nft` failed.
pub(crate) fn ask(words: &[&str], input: &str) -> Result<String, GuardError> {
    nft::run("nft", words, input)
}

/// Takes down whatever guard is there; says whether there was one.
///
/// # Errors
/// A daemon that runs in this network namespace needs it, unless `force`; `nft` failed.
pub(crate) fn down(force: bool) -> Result<bool, GuardError> {
    let _claim = if force { None } else { Some(Claim::new()?) };
    nft::remove()
}
