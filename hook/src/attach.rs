//! The programs at interfaces: by a tcx link where the kernel has these (6.6), else as a clsact filter.
//!
//! Whoever comes first decides, and a program that says TC_ACT_OK ends the row: so UVS's is put before all that are
//! there. What is not UVS's it leaves to them (TC_ACT_UNSPEC). A link goes with the process unless it is pinned; a filter
//! stays until it is taken away.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clsact;
use crate::error::HookError;
use crate::hook::{Hook, lock};
use crate::layout::CELLS;
use crate::pins;
use crate::sys::map;
use crate::sys::program::{self, Program, TCX_EGRESS, TCX_INGRESS};

/// Which of an interface's two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Place {
    Ingress,
    Egress,
}

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// By a tcx link.
    Tcx,
    /// As a filter of the clsact qdisc.
    Clsact,
}

impl Way {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// How a port's program was attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// How.
    pub way: Way,
    /// Programs of others at the same place, which come after it.
    pub others: usize,
}

/// What holds a program at an interface.
#[derive(Debug)]
pub(crate) enum Link {
    /// It ends with the process, unless it is pinned there.
    Tcx {
        fd: OwnedFd,
        pin: Option<PathBuf>,
    },
    Clsact,
}

impl Place {
    pub(crate) const fn tcx(self) -> u32 {
        match self {
            Self::Ingress => TCX_INGRESS,
            Self::Egress => TCX_EGRESS,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

impl Hook {
    /// Puts the program at an interface's ingress: from now on its frames are decided there. Where one is there already,
    /// of a daemon before this one, this program takes that one's place without a gap.
    ///
    /// # Errors
    /// The interface is gone, or the kernel refuses; the text says what helps.
    pub fn attach(&self, ifindex: u32) -> Result<Attached, HookError> {
        self.number(ifindex)?;
        self.put_at(ifindex, Place::Ingress)
    }

    /// Puts the program at an interface's egress that hands replies of servers on this host itself to the port `lo`.
    ///
    /// # Errors
    /// As [`Hook::attach`].
    pub fn attach_egress(&self, ifindex: u32) -> Result<Attached, HookError> {
        self.put_at(ifindex, Place::Egress)
    }

    /// Takes the program away from an interface's ingress, where it is.
    pub fn detach(&self, ifindex: u32) {
        self.take_from(ifindex, Place::Ingress);
    }

    /// Takes the program away from an interface's egress, where it is.
    pub fn detach_egress(&self, ifindex: u32) {
        self.take_from(ifindex, Place::Egress);
    }

    /// Whether the program is still at an interface's ingress: others may have removed it.
    ///
    /// # Errors
    /// The interface is gone, or the kernel does not say.
    pub fn is_attached(&self, ifindex: u32) -> io::Result<bool> {
        self.is_at(ifindex, Place::Ingress)
    }

    /// Whether the program is still at an interface's egress.
    ///
    /// # Errors
    /// As [`Hook::is_attached`].
    pub fn is_attached_at_egress(&self, ifindex: u32) -> io::Result<bool> {
        self.is_at(ifindex, Place::Egress)
    }

    /// Takes everything away: programs from all interfaces, and what is pinned.
    ///
    /// # Errors
    /// Something pinned cannot be removed.
    pub fn remove(&self) -> Result<(), HookError> {
        for ((ifindex, place), link) in std::mem::take(&mut *lock(&self.links)) {
            release(ifindex, place, link);
        }
        match &self.setup.pins {
            Some(dir) => pins::remove(dir).map(drop),
            None => Ok(()),
        }
    }

    /// Gives a port its cells, where it has none yet.
    fn number(&self, ifindex: u32) -> Result<(), HookError> {
        let ports = &self.maps.ports;
        let read = || -> io::Result<Vec<(u32, u32)>> {
            let word = |b: &[u8]| b.first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
            let all = ports.keys()?;
            let value =
                |key: &Vec<u8>| Ok((word(key), word(&ports.lookup(key)?.unwrap_or_default())));
            all.iter().map(value).collect()
        };
        let there = read().map_err(HookError::io("the ports' numbers"))?;
        if there.iter().any(|(known, _)| *known == ifindex) {
            return Ok(());
        }
        let room = self.setup.limits.ports;
        let free = (0..room).find(|place| there.iter().all(|(_, taken)| taken != place));
        let Some(place) = free else {
            let (what, wanted) = ("ports", there.len() + 1);
            return Err(HookError::Full { what, room, wanted });
        };
        // Its cells may have been another's.
        let zero = self.maps.cells.lookup(&place.to_le_bytes());
        let zero = vec![0; zero.ok().flatten().map_or(16, |v| v.len())];
        for cell in place * CELLS..(place + 1) * CELLS {
            let written = self.maps.cells.update(&cell.to_le_bytes(), &zero);
            written.map_err(|e| HookError::refused("write a port's numbers", e))?;
        }
        let entered = ports.update(&ifindex.to_le_bytes(), &place.to_le_bytes());
        entered.map_err(|e| HookError::refused("enter a port", e))
    }

    fn of(&self, place: Place) -> &Program {
        match place {
            Place::Ingress => &self.programs.ingress,
            Place::Egress => &self.programs.egress,
        }
    }

    fn put_at(&self, ifindex: u32, place: Place) -> Result<Attached, HookError> {
        if self.is_at(ifindex, place).unwrap_or(false) {
            self.take_from(ifindex, place);
        }
        let link = match self.tcx(ifindex, place) {
            Ok(link) => link,
            Err(e) if is_without_tcx(&e) => {
                let filter = clsact::attach(ifindex, place, self.of(place));
                filter.map_err(|e| cannot_attach(ifindex, e))?;
                Link::Clsact
            }
            Err(e) => return Err(cannot_attach(ifindex, e)),
        };
        let way = match link {
            Link::Tcx { .. } => Way::Tcx,
            Link::Clsact => Way::Clsact,
        };
        lock(&self.links).insert((ifindex, place), link);
        let there = program::at_tcx(ifindex, place.tcx()).map_or(0, |ids| ids.len());
        Ok(Attached {
            way,
            others: there.saturating_sub(usize::from(way == Way::Tcx)),
        })
    }

    fn tcx(&self, ifindex: u32, place: Place) -> io::Result<Link> {
        let program = self.of(place);
        let known = lock(&self.links).remove(&(ifindex, place));
        if let Some(Link::Tcx { fd, pin }) = known
            && program.replace_at(&fd).is_ok()
        {
            return Ok(Link::Tcx { fd, pin });
        }
        let pin = self.pin_of(ifindex, place);
        if let Some(path) = &pin
            && let Ok(fd) = map::open_pinned(path)
        {
            // An earlier daemon's: it changes its program in one step. One whose interface has gone cannot.
            if program.replace_at(&fd).is_ok() {
                return Ok(Link::Tcx { fd, pin });
            }
            std::fs::remove_file(path)?;
        }
        let fd = program.link(ifindex, place.tcx())?;
        if let Some(path) = &pin {
            map::pin(fd.as_fd(), path)?;
        }
        Ok(Link::Tcx { fd, pin })
    }

    /// Where a link is pinned.
    pub(crate) fn pin_of(&self, ifindex: u32, place: Place) -> Option<PathBuf> {
        let dir = self.setup.pins.as_deref()?;
        Some(dir.join(format!("{}{ifindex}-{}", pins::LINK, place.word())))
    }

    fn is_at(&self, ifindex: u32, place: Place) -> io::Result<bool> {
        let (id, _) = self.of(place).info()?;
        let by_filter = matches!(lock(&self.links).get(&(ifindex, place)), Some(Link::Clsact));
        match by_filter {
            true => clsact::is_attached(ifindex, place, id),
            false => match program::at_tcx(ifindex, place.tcx()) {
                Err(e) if is_without_tcx(&e) => Ok(false),
                there => Ok(there?.contains(&id)),
            },
        }
    }

    fn take_from(&self, ifindex: u32, place: Place) {
        let link = lock(&self.links).remove(&(ifindex, place));
        if let Some(link) = link {
            release(ifindex, place, link);
        }
    }
}

/// Ends what holds a program. That something is gone already is no matter.
fn release(ifindex: u32, place: Place, link: Link) {
    match link {
        Link::Tcx { fd, pin } => {
            drop(program::detach(fd.as_fd()));
            if let Some(pin) = pin {
                drop(std::fs::remove_file(pin));
            }
        }
        Link::Clsact => drop(clsact::detach(ifindex, place)),
    }
}

/// Whether the kernel has no tcx: an attach type that it does not know.
fn is_without_tcx(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

fn cannot_attach(ifindex: u32, error: io::Error) -> HookError {
    let remedy = match error.raw_os_error() {
        Some(libc::ENODEV) => "it is gone",
        _ => crate::error::remedy(&error),
    };
    HookError::Attach {
        ifindex,
        error,
        remedy,
    }
}
