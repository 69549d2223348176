//! The real server's side: `uvs rs up | down | check`.
//!
//! What a mode needs of a real server is a list of `step::Step`s (`plan`). `up` takes the steps that
//! are not yet true and notes in the `undo_log` how each is taken back; `down` takes them back once no VIP
//! needs them; `check` names the ones that are not true. The same list serves all three, so `check` is
//! content exactly where `up` would do nothing.

mod check;
mod counters;
pub mod decap;
mod error;
mod family;
mod filter;
mod finding;
mod fragments;
pub mod host;
mod ipip;
mod mode;
mod own;
mod plan;
mod state;
mod step;
mod sys;
mod sysctl;
pub mod tunnel;
mod undo;
mod undo_log;
mod vnet;

use std::net::IpAddr;

pub use check::{check, has_vip};
pub use error::RsError;
pub use family::Family;
pub use finding::{Fault, Finding};
use mode::Holder;
pub use mode::Mode;
use undo::Undo;
use undo_log::{Store, UndoLog};

/// What the command line asks for.
#[derive(Debug)]
pub struct Request {
    /// The forwarding mode this real server serves.
    pub mode: Mode,
    /// The VIPs.
    pub vips: Vec<IpAddr>,
    /// IPIP: the families of the director's outer headers; empty = each VIP's own.
    pub outer: Vec<Family>,
    /// NAT: the director, to become the default gateway; one of each family at most.
    pub gateways: Vec<IpAddr>,
    /// The devices that face the director; empty = those by which the VIP's network is reached.
    pub interfaces: Vec<String>,
}

impl Request {
    /// The gateway of a VIP's family.
    fn gateway_for(&self, vip: IpAddr) -> Option<IpAddr> {
        let family = Family::of(vip);
        let mut gateways = self.gateways.iter().copied();
        gateways.find(|gateway| Family::of(*gateway) == family)
    }

    fn holders(&self) -> Vec<Holder> {
        let mut holders: Vec<_> = self
            .vips
            .iter()
            .map(|&vip| Holder {
                mode: self.mode,
                vip,
            })
            .collect();
        holders.sort();
        holders.dedup();
        holders
    }
}

/// Makes this host a real server. Returns what was changed, a line each; nothing where all was so already.
/// A step that fails takes back those before it.
pub fn up(request: &Request) -> Result<Vec<String>, RsError> {
    host::require_admin()?;
    host::require_interfaces(&request.interfaces)?;
    let store = Store::open()?;
    let before = store.load()?;
    let mut taken = Taken {
        undo_log: before.clone(),
        undos: Vec::new(),
        lines: Vec::new(),
    };
    match request
        .holders()
        .into_iter()
        .try_for_each(|h| taken.take_all(&store, request, h))
    {
        Ok(()) => {
            store.save(&taken.undo_log)?;
            Ok(taken.lines)
        }
        Err(error) => {
            for undo in taken.undos.iter().rev() {
                // The error that is reported is the first one; a second would only hide it.
                let _ = undo.run();
            }
            store.save(&before)?;
            Err(error)
        }
    }
}

/// Takes back what `up` did for these VIPs, as far as no other VIP needs it. Returns what was changed.
pub fn down(request: &Request) -> Result<Vec<String>, RsError> {
    host::require_admin()?;
    let store = Store::open()?;
    let mut undo_log = store.load()?;
    let mut lines = Vec::new();
    let mut failed = None;
    for holder in request.holders() {
        if !undo_log.holds(holder) {
            lines.push(format!("{holder} is not up: nothing to restore"));
            continue;
        }
        for entry in undo_log.release(holder) {
            match entry.undo.run() {
                Ok(Some(line)) => lines.push(line),
                Ok(None) => {}
                Err(error) => {
                    // Stays noted, so that another `down` can try again.
                    undo_log.put_back(entry, holder);
                    failed = failed.or(Some(error));
                }
            }
        }
    }
    store.save(&undo_log)?;
    failed.map_or(Ok(lines), Err)
}

/// What is up on this host: mode and VIP. Needs no privilege and waits for nobody.
pub fn held() -> Result<Vec<(Mode, IpAddr)>, RsError> {
    let held = undo_log::peek()?.holders();
    Ok(held.into_iter().map(|h| (h.mode, h.vip)).collect())
}

/// The steps taken so far by one `up`.
struct Taken {
    undo_log: UndoLog,
    undos: Vec<Undo>,
    lines: Vec<String>,
}

impl Taken {
    fn take_all(
        &mut self,
        store: &Store,
        request: &Request,
        holder: Holder,
    ) -> Result<(), RsError> {
        for step in plan::steps(request, holder.vip, tunnel::Probe::MayCreate)? {
            let wrong = step.inspect()?;
            let undo = wrong.map_or(Undo::Nothing, |w| w.undo);
            let pending = undo != Undo::Nothing;
            self.undo_log.hold(&step, holder, undo.clone())?;
            if pending {
                // Noted before it is done: a crash in between leaves something that `down` can take back.
                store.save(&self.undo_log)?;
                self.undos.push(undo);
                step.apply()?;
                self.lines.push(step.to_string());
            }
        }
        Ok(())
    }
}
