//! BPF maps.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use uvs_core::narrow;

use super::attr::{self, Batch, Element, Info, MapCreate, MapInfo, Object};
use super::{address, bpf, bpf_fd, cpus};

/// What a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// `enum bpf_map_type`.
    pub(crate) kind: u32,
    /// Bytes of a key.
    pub(crate) key: u32,
    /// Bytes of a value, of each CPU's where it has one for each.
    pub(crate) value: u32,
    /// Most elements; of a ring buffer its bytes.
    pub(crate) entries: u32,
    /// `BPF_F_*`.
    pub(crate) flags: u32,
}

/// A map.
#[derive(Debug)]
pub(crate) struct Map {
    fd: OwnedFd,
    shape: Shape,
    /// Bytes that a look-up writes.
    answer: usize,
}

impl Map {
    /// Makes one.
    pub(crate) fn create(name: &str, shape: Shape) -> io::Result<Self> {
        let mut attr = MapCreate {
            kind: shape.kind,
            key_size: shape.key,
            value_size: shape.value,
            max_entries: shape.entries,
            flags: shape.flags,
            name: attr::name(name),
            ..MapCreate::default()
        };
        // SAFETY: it is this command's struct, without pointers.
        let fd = unsafe { bpf_fd(attr::MAP_CREATE, &mut attr)? };
        Self::new(fd, shape)
    }

    /// Opens a pinned one, whatever it is.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::of(open_pinned(path)?)
    }

    /// One that another process has handed over, whatever it is.
    pub(crate) fn of(fd: OwnedFd) -> io::Result<Self> {
        let mut info = MapInfo::default();
        let mut attr = Info {
            fd: raw(fd.as_fd()),
            len: narrow::to_u32(size_of::<MapInfo>()),
            info: address(&raw mut info),
        };
        // SAFETY: it is this command's struct; the pointer leads to `info`, which is as long as it says and
        // outlives the call.
        unsafe { bpf(attr::OBJ_INFO, &mut attr)? };
        let shape = Shape {
            kind: info.kind,
            key: info.key_size,
            value: info.value_size,
            entries: info.max_entries,
            flags: info.flags,
        };
        Self::new(fd, shape)
    }

    fn new(fd: OwnedFd, shape: Shape) -> io::Result<Self> {
        let value = shape.value as usize;
        let per_cpu =
            [kind::PERCPU_HASH, kind::PERCPU_ARRAY, kind::LRU_PERCPU_HASH].contains(&shape.kind);
        let answer = match per_cpu {
            true => value.next_multiple_of(8) * cpus::possible()?,
            false => value,
        };
        Ok(Self { fd, shape, answer })
    }

    /// For another process.
    pub(crate) fn hand_down(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// What it is.
    pub(crate) const fn shape(&self) -> Shape {
        self.shape
    }

    /// Pins it.
    pub(crate) fn pin(&self, path: &Path) -> io::Result<()> {
        pin(self.fd.as_fd(), path)
    }

    /// No program and no process changes it any more, but for memory that is mapped.
    pub(crate) fn freeze(&self) -> io::Result<()> {
        let mut attr = Element {
            map: raw(self.as_fd()),
            ..Element::default()
        };
        // SAFETY: of this command's struct only the file descriptor is used, which comes first here too.
        unsafe { bpf(attr::MAP_FREEZE, &mut attr).map(drop) }
    }

    /// Writes an element.
    ///
    /// # Panics
    /// Where key or value are not as long as the map's.
    pub(crate) fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.check_key(key);
        assert_eq!(value.len(), self.answer, "a whole value");
        let mut attr = self.element(key, address(value));
        // SAFETY: it is this command's struct; the pointers lead to slices as long as key and value of the map are.
        unsafe { bpf(attr::MAP_UPDATE, &mut attr).map(drop) }
    }

    /// Takes an element out; whether it was there.
    ///
    /// # Panics
    /// Where the key is not as long as the map's.
    pub(crate) fn delete(&self, key: &[u8]) -> io::Result<bool> {
        self.check_key(key);
        let mut attr = self.element(key, 0);
        // SAFETY: it is this command's struct; the pointer leads to a slice as long as a key.
        match unsafe { bpf(attr::MAP_DELETE, &mut attr) } {
            Ok(_) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Reads an element; all CPUs' values, one behind the other, where it has one for each.
    ///
    /// # Panics
    /// Where the key is not as long as the map's.
    pub(crate) fn lookup(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.check_key(key);
        let mut value = vec![0; self.answer];
        let mut attr = self.element(key, address(value.as_mut_ptr()));
        // SAFETY: it is this command's struct; the pointers lead to slices as long as a key, and as what the kernel
        // writes.
        match unsafe { bpf(attr::MAP_LOOKUP, &mut attr) } {
            Ok(_) => Ok(Some(value)),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// All keys, of a map that nobody else changes meanwhile.
    pub(crate) fn keys(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut next = vec![0; self.shape.key as usize];
            let last = keys.last().map_or(0, |key| address(key.as_slice()));
            let mut attr = Element {
                map: raw(self.as_fd()),
                key: last,
                value: address(next.as_mut_ptr()),
                ..Element::default()
            };
            // SAFETY: it is this command's struct; both pointers lead to slices as long as a key, or the first
            // to nothing, which asks for the first key.
            match unsafe { bpf(attr::MAP_NEXT_KEY, &mut attr) } {
                Ok(_) => keys.push(next),
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(keys),
                Err(e) => return Err(e),
            }
        }
    }

    /// Writes elements in their order; how many, where not all of them could be.
    ///
    /// # Panics
    /// Where keys and values are not as many.
    pub(crate) fn update_batch(
        &self,
        keys: &[u8],
        values: &[u8],
    ) -> Result<(), (usize, io::Error)> {
        let count = keys.len() / self.shape.key as usize;
        assert_eq!(keys.len(), count * self.shape.key as usize, "whole keys");
        assert_eq!(values.len(), count * self.answer, "a value for each key");
        if count == 0 {
            return Ok(());
        }
        let mut attr = Batch {
            keys: address(keys),
            values: address(values),
            count: u32::try_from(count).map_err(|_| (0, io::ErrorKind::InvalidInput.into()))?,
            map: raw(self.as_fd()),
            ..Batch::default()
        };
        // SAFETY: it is this command's struct; the pointers lead to as many keys and values as it says.
        match unsafe { bpf(attr::MAP_UPDATE_BATCH, &mut attr) } {
            Ok(_) => Ok(()),
            Err(e) => Err((attr.count as usize, e)),
        }
    }

    fn check_key(&self, key: &[u8]) {
        assert_eq!(key.len(), self.shape.key as usize, "a whole key");
    }

    fn element(&self, key: &[u8], value: u64) -> Element {
        Element {
            map: raw(self.as_fd()),
            key: address(key),
            value,
            ..Element::default()
        }
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `enum bpf_map_type`, as far as it is used.
pub(crate) mod kind {
    pub(crate) const HASH: u32 = 1;
    pub(crate) const ARRAY: u32 = 2;
    pub(crate) const PERCPU_HASH: u32 = 5;
    pub(crate) const PERCPU_ARRAY: u32 = 6;
    pub(crate) const LRU_HASH: u32 = 9;
    pub(crate) const LRU_PERCPU_HASH: u32 = 10;
    pub(crate) const LPM_TRIE: u32 = 11;
    pub(crate) const RINGBUF: u32 = 27;
}

/// BPF_F_NO_PREALLOC.
pub(crate) const NO_PREALLOC: u32 = 1;
/// BPF_F_MMAPABLE.
pub(crate) const MMAPABLE: u32 = 1 << 10;

/// A file descriptor as bpf(2) wants it.
pub(super) fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// BPF_OBJ_PIN.
pub(crate) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = Object {
        path: address(path.as_ptr()),
        fd: raw(fd),
        flags: 0,
    };
    // SAFETY: it is this command's struct; the pointer leads to a text with its end, which outlives the call.
    unsafe { bpf(attr::OBJ_PIN, &mut attr).map(drop) }
}

/// BPF_OBJ_GET.
pub(crate) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attr = Object {
        path: address(path.as_ptr()),
        fd: 0,
        flags: 0,
    };
    // SAFETY: it is this command's struct; the pointer leads to a text with its end, which outlives the call.
    unsafe { bpf_fd(attr::OBJ_GET, &mut attr) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}
