//! A hook that goes on in another process: maps and links are handed over open, and the program forwards all the while.
//!
//! The other process loads its own programs for these maps before it takes anything up ([`Hook::beside`]), and changes
//! nothing by that. So the first may go on at any time until the other [begins](Hook::begin).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

use crate::attach::{Link, Place};
use crate::error::HookError;
use crate::hook::{Hook, Setup, lock};
use crate::maps::{Maps, VERSION};
use crate::rules::InForce;

/// What is handed over of a hook beside its maps and the links' descriptors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedDown {
    /// Connections in the maps.
    pub connections: u32,
    /// Where the program is. Each that is a link of tcx's has a descriptor, in this order.
    pub links: Vec<HandedLink>,
}

/// A program at an interface that is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedLink {
    /// The interface.
    pub ifindex: u32,
    place: Place,
    /// Whether it is a link, and no filter, which belongs to no process.
    is_tcx: bool,
}

impl HandedDown {
    /// How many of the links have a descriptor.
    pub fn descriptors(&self) -> usize {
        self.links.iter().filter(|link| link.is_tcx).count()
    }
}

impl HandedLink {
    /// Whether it is at the interface's egress.
    pub fn is_at_egress(&self) -> bool {
        self.place == Place::Egress
    }
}

impl Hook {
    /// The maps, for another process, while this one works with them.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub fn hand_down_maps(&self) -> io::Result<Vec<OwnedFd>> {
        let maps = Maps::NAMES.iter().filter_map(|name| self.maps.get(name));
        maps.map(|map| map.hand_down()).collect()
    }

    /// All else, once nobody changes anything any more; with the links' descriptors.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub fn hand_down(&self) -> io::Result<(HandedDown, Vec<OwnedFd>)> {
        let (mut links, mut descriptors) = (Vec::new(), Vec::new());
        for ((ifindex, place), link) in &*lock(&self.links) {
            if let Link::Tcx { fd, .. } = link {
                descriptors.push(fd.try_clone()?);
            }
            links.push(HandedLink {
                ifindex: *ifindex,
                place: *place,
                is_tcx: matches!(link, Link::Tcx { .. }),
            });
        }
        let connections = self.taken.load(Relaxed);
        Ok((HandedDown { connections, links }, descriptors))
    }

    /// A hook beside that of another process, whose maps these are. Its programs are loaded and nowhere, and nothing is
    /// changed.
    ///
    /// # Errors
    /// [`HookError::Handed`]: the maps are not as this version makes them; the kernel refuses a program.
    pub fn beside(setup: &Setup, maps: Vec<OwnedFd>) -> Result<Self, HookError> {
        let maps = Maps::succeed(maps, &setup.limits)?;
        let hook = Self::new(setup, maps, InForce::default())?;
        let version = hook.memory.control().version.load(Relaxed);
        if version != VERSION {
            return Err(HookError::Handed(format!(
                "they are of version {version}, and this release has version {VERSION}"
            )));
        }
        Ok(hook)
    }

    /// Takes up all that is not in the maps, and still changes nothing.
    ///
    /// # Errors
    /// The maps cannot be read; a descriptor is missing.
    pub fn succeed(
        &self,
        handed: &HandedDown,
        descriptors: impl IntoIterator<Item = OwnedFd>,
    ) -> Result<(), HookError> {
        *lock(&self.rules) = InForce::going_on(&self.maps)?;
        self.taken.store(handed.connections, Relaxed);
        let mut descriptors = descriptors.into_iter();
        let mut links = lock(&self.links);
        for link in &handed.links {
            let at = (link.ifindex, link.place);
            let held = match link.is_tcx {
                false => Link::Clsact,
                true => Link::Tcx {
                    fd: descriptors
                        .next()
                        .ok_or_else(|| HookError::Handed("a link is missing".to_owned()))?,
                    pin: self.pin_of(link.ifindex, link.place),
                },
            };
            links.insert(at, held);
        }
        Ok(())
    }
}
