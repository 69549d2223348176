//! Where maps and links are pinned, so that they outlive the daemon: a folder of a BPF file system.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};

use crate::attach::Place;
use crate::clsact;
use crate::error::HookError;
use crate::maps::Maps;
use crate::sys::{map, program};

/// What the names of links begin with.
pub(crate) const LINK: &str = "link-";
/// BPF_FS_MAGIC of linux/magic.h.
const MAGIC: u32 = 0xcafe_4a11;

/// What an earlier daemon left at a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// What is pinned.
    pub pinned: Vec<PathBuf>,
    /// Interfaces that have a filter of ours, by their indexes.
    pub filters: Vec<u32>,
}

impl Leftovers {
    /// Whether there is nothing.
    pub const fn is_empty(&self) -> bool {
        self.pinned.is_empty() && self.filters.is_empty()
    }
}

/// What is there.
///
/// # Errors
/// The folder, or the interfaces, cannot be read.
pub fn leftovers(dir: &Path) -> io::Result<Leftovers> {
    let pinned = match fs::read_dir(dir) {
        Ok(entries) => entries
            .map(|entry| entry.map(|e| e.path()))
            .collect::<io::Result<_>>()?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(e),
    };
    let mut filters = Vec::new();
    for ifindex in interfaces()? {
        let both = [Place::Ingress, Place::Egress];
        let ours = |place: &Place| matches!(clsact::program_at(ifindex, *place), Ok(Some(_)));
        if both.iter().any(ours) {
            filters.push(ifindex);
        }
    }
    Ok(Leftovers { pinned, filters })
}

/// Takes it all away; what there was. Nothing needs to be loaded for it.
///
/// # Errors
/// Something cannot be removed.
pub fn remove_leftovers(dir: &Path) -> Result<Leftovers, HookError> {
    let read = |e| HookError::io(format!("what is pinned in {}", dir.display()))(e);
    let there = leftovers(dir).map_err(read)?;
    for ifindex in &there.filters {
        for place in [Place::Ingress, Place::Egress] {
            drop(clsact::detach(*ifindex, place));
        }
    }
    remove(dir)?;
    Ok(there)
}

/// The interfaces of this network namespace.
fn interfaces() -> io::Result<Vec<u32>> {
    // Of sysfs the mount may be another namespace's; /proc/thread-self is not.
    let text = fs::read_to_string("/proc/thread-self/net/dev")?;
    let names = text
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next());
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let index = |name: &str| name_to_index(&socket, name.trim()).ok();
    Ok(names.filter_map(index).collect())
}

/// Whether an existing path is in a BPF file system.
///
/// # Errors
/// It is not there, or must not be looked at.
pub fn is_bpffs(path: &Path) -> io::Result<bool> {
    let kind = statfs(path)?.f_type;
    Ok(u32::try_from(kind) == Ok(MAGIC))
}

/// Makes the folder, where it can be.
pub(crate) fn prepare(dir: &Path) -> Result<(), HookError> {
    let fail = |error: io::Error| {
        let remedy = match error.raw_os_error() {
            Some(libc::EROFS) => {
                "the BPF file system is mounted read-only: mount -o remount,rw /sys/fs/bpf"
            }
            Some(libc::EPERM | libc::EACCES) => {
                "it is for root, and for whom the folder belongs to"
            }
            _ => "mount a BPF file system: mount -t bpf bpf /sys/fs/bpf",
        };
        HookError::Pins {
            path: dir.to_owned(),
            error,
            remedy,
        }
    };
    fs::create_dir_all(dir).map_err(fail)?;
    if is_bpffs(dir).map_err(fail)? {
        return Ok(());
    }
    // What was just made in another file system is of no use.
    drop(fs::remove_dir(dir));
    Err(fail(io::Error::other("it is in no BPF file system")))
}

/// Pins the maps in the place of those that are there. Links to ports stay: who attaches takes them over.
pub(crate) fn replace(dir: &Path, maps: &Maps) -> Result<(), HookError> {
    for name in Maps::NAMES {
        let path = dir.join(name);
        drop(fs::remove_file(&path));
        if let Some(map) = maps.get(name) {
            let pinned = map.pin(&path);
            pinned.map_err(|e| HookError::refused(format!("pin {}", path.display()), e))?;
        }
    }
    Ok(())
}

/// Removes all that is pinned there, and the folder; links have ended when it returns.
///
/// # Errors
/// Something cannot be removed.
pub fn remove(dir: &Path) -> Result<(), HookError> {
    let gone = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(HookError::io(format!("cannot remove {}", dir.display()))(e)),
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) => return gone(e),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(LINK) {
            end_link(&path);
        }
        fs::remove_file(path).or_else(gone)?;
    }
    fs::remove_dir(dir).or_else(gone)
}

/// Ends a pinned link. Where that is refused, it ends a moment after its pin is removed, if nobody has it open.
fn end_link(pin: &Path) {
    if let Ok(link) = map::open_pinned(pin) {
        drop(program::detach(link.as_fd()));
    }
}
