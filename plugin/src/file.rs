//! A plugin's file: may it be loaded, is it a shared library, and a private copy of its bytes to load.
//!
//! The bytes are read once through the descriptor that was checked, and loaded from an anonymous sealed
//! file. So nobody can exchange the file between check and load, a `cp` over the file of a running plugin
//! does not pull its code from under the daemon (which would be its end by SIGBUS), and the next version
//! may have the same path, for which `dlopen` would answer with the old one.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};

/// The largest file that is taken for a plugin.
const MAX_BYTES: u64 = 256 << 20;

/// Why a file may not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file, or the directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is somewhere else, perhaps through a link.
    #[error(
        "{path} is outside the plugin directory {directory}: copy it there (no link, no subdirectory)"
    )]
    Outside {
        /// Where it really is.
        path: PathBuf,
        /// Where it must be.
        directory: PathBuf,
    },
    /// Somebody else than root could exchange it.
    #[error("{path} is owned by user {uid}, not by root: chown root:root {path}")]
    Owner {
        /// The file, or the directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// Somebody else than root could change it.
    #[error("{path} is writable by others than its owner (mode {mode:03o}): chmod go-w {path}")]
    Writable {
        /// The file, or the directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is no file of this machine's shared libraries.
    #[error("{path} is not a shared library: {why}")]
    NotALibrary {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// No private copy could be made.
    #[error("{path}: no private copy of it could be made: {source}")]
    Copy {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Which state of a file was read: another one has another identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    file: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

impl Identity {
    /// A file's present one.
    ///
    /// # Errors
    /// It is not there.
    pub fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|meta| Self::from(&meta))
    }
}

impl From<&Metadata> for Identity {
    fn from(meta: &Metadata) -> Self {
        Self {
            file: (meta.dev(), meta.ino()),
            size: meta.size(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// The bytes of a shared library, out of anybody's reach.
#[derive(Debug)]
pub struct Image {
    #[cfg_attr(not(feature = "load"), expect(dead_code, reason = "for the loader"))]
    copy: OwnedFd,
    path: PathBuf,
    identity: Identity,
}

impl Image {
    /// Reads a file of the plugin directory. It and the directory must be root's alone to change.
    ///
    /// # Errors
    /// It may not be loaded.
    pub fn installed(directory: &Path, path: &Path) -> Result<Self, FileError> {
        let directory = canonical(directory)?;
        let path = canonical(path)?;
        if path.parent() != Some(&directory) {
            return Err(FileError::Outside { path, directory });
        }
        let meta = std::fs::metadata(&directory).map_err(unreadable(&directory))?;
        permit(&directory, meta.uid(), meta.mode())?;
        Self::read(path, |path, meta| permit(path, meta.uid(), meta.mode()))
    }

    /// Reads a file wherever it is and whoever owns it, for its author to try it.
    ///
    /// # Errors
    /// It is no shared library.
    pub fn anywhere(path: &Path) -> Result<Self, FileError> {
        Self::read(canonical(path)?, |_, _| Ok(()))
    }

    /// Where the bytes came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state of the file they came from.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// A path by which this process reaches the copy, as long as this value lives.
    #[cfg(feature = "load")]
    pub(crate) fn reachable(&self) -> String {
        format!("/proc/self/fd/{}", self.copy.as_raw_fd())
    }

    fn read(
        path: PathBuf,
        permit: impl FnOnce(&Path, &Metadata) -> Result<(), FileError>,
    ) -> Result<Self, FileError> {
        // A handle that is looked at before anything is opened: whoever opens a FIFO may wait forever for its writer, and
        // a device may begin to do what it is for.
        let handle = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = open(&path, &path, handle)?;
        let meta = handle.metadata().map_err(unreadable(&path))?;
        permit(&path, &meta)?;
        let not_a_library = |why: &str| FileError::NotALibrary {
            path: path.clone(),
            why: why.to_owned(),
        };
        if !meta.is_file() {
            return Err(not_a_library("it is not a regular file"));
        }
        if meta.size() > MAX_BYTES {
            return Err(not_a_library("it is larger than 256 MiB"));
        }
        // The file that was looked at, whatever its path leads to by now.
        let looked_at = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
        let file = open(&path, &looked_at, OFlags::RDONLY | OFlags::CLOEXEC)?;
        let mut bytes = Vec::new();
        let mut within = file.take(MAX_BYTES);
        within.read_to_end(&mut bytes).map_err(unreadable(&path))?;
        check_elf(&bytes).map_err(not_a_library)?;
        let copy = sealed(&path, &bytes).map_err(|source| FileError::Copy {
            path: path.clone(),
            source,
        })?;
        Ok(Self {
            copy,
            path,
            identity: Identity::from(&meta),
        })
    }
}

/// Asked of the directory too: who may write there can put another file in this one's place.
fn permit(path: &Path, uid: u32, mode: u32) -> Result<(), FileError> {
    let path = path.to_owned();
    if uid != 0 {
        return Err(FileError::Owner { path, uid });
    }
    if mode & 0o022 != 0 {
        let mode = mode & 0o777;
        return Err(FileError::Writable { path, mode });
    }
    Ok(())
}

/// Opens a file by one of its names; errors have the other.
fn open(path: &Path, by: &Path, flags: OFlags) -> Result<File, FileError> {
    let opened = rustix::fs::open(by, flags, Mode::empty());
    opened
        .map(File::from)
        .map_err(|e| unreadable(path)(e.into()))
}

fn canonical(path: &Path) -> Result<PathBuf, FileError> {
    path.canonicalize().map_err(unreadable(path))
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Unreadable { path, source }
}

fn sealed(path: &Path, bytes: &[u8]) -> io::Result<OwnedFd> {
    let name = path.file_name().unwrap_or_default();
    let copy = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(copy);
    file.write_all(bytes)?;
    let copy = OwnedFd::from(file);
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy)
}

/// Bytes of an ELF64 header.
const HEADER: usize = 64;
/// `ET_DYN`.
const SHARED: u16 = 3;
/// `PT_LOAD`.
const LOAD: u32 = 1;
/// `e_machine` of the machine this program is for, where it is known here.
const MACHINE: Option<u16> = match std::env::consts::ARCH.as_bytes() {
    b"x86_64" => Some(62),
    b"aarch64" => Some(183),
    b"riscv64" => Some(243),
    _ => None,
};

/// What the dynamic loader does not say well, or crashes on: half a file is mapped beyond its end.
fn check_elf(bytes: &[u8]) -> Result<(), &'static str> {
    if !bytes.starts_with(b"\x7fELF") {
        return Err("it does not begin as an ELF file does");
    }
    if bytes.len() < HEADER || bytes[4] != 2 || bytes[5] != 1 {
        return Err("it is not a 64-bit little-endian ELF file");
    }
    if half(bytes, 16) != SHARED {
        return Err(
            "it is an ELF file of another kind; link it with -shared (Rust: crate-type = [\"cdylib\"])",
        );
    }
    if MACHINE.is_some_and(|machine| machine != half(bytes, 18)) {
        return Err("it is for another machine");
    }
    let (start, size, count) = (long(bytes, 32), half(bytes, 54), half(bytes, 56));
    for i in 0..u64::from(count) {
        let at = start.saturating_add(i * u64::from(size));
        let header = usize::try_from(at)
            .ok()
            .and_then(|at| bytes.get(at..at.checked_add(56)?));
        let Some(header) = header else {
            return Err("it is cut short");
        };
        let end = long(header, 8).saturating_add(long(header, 32));
        if word(header, 0) == LOAD && end > bytes.len() as u64 {
            return Err("it is cut short");
        }
    }
    Ok(())
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from(half(bytes, at)) | u32::from(half(bytes, at + 2)) << 16
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn this_program() -> Vec<u8> {
        std::fs::read(std::env::current_exe().expect("a path")).expect("read")
    }

    fn said(file: &[u8]) -> &'static str {
        check_elf(file).expect_err("not a library")
    }

    #[test]
    fn what_the_loader_would_stumble_over_is_named() {
        // A position-independent program is the same kind of ELF file as a library.
        let library = this_program();
        assert_eq!(check_elf(&library), Ok(()));
        assert!(said(b"").contains("does not begin as an ELF file"));
        assert!(said(b"#!/bin/sh\n").contains("does not begin as an ELF file"));
        assert!(said(&library[..40]).contains("64-bit"));
        assert!(said(&library[..HEADER]).contains("cut short"));
        assert!(said(&library[..8192]).contains("cut short"));
        let mut other = library.clone();
        other[18] ^= 1;
        assert!(said(&other).contains("another machine"));
        other.clone_from(&library);
        other[16] = 1;
        assert!(said(&other).contains("-shared"));
    }

    #[test]
    fn any_bytes_are_answered_without_a_panic() {
        let mut bytes = this_program();
        bytes.truncate(4096);
        let mut random = uvs_core::random::Random::new(1);
        for _ in 0..10_000 {
            let mut damaged = bytes.clone();
            for _ in 0..4 {
                let at = 4 + random.index(124);
                [damaged[at], ..] = random.next_u64().to_le_bytes();
            }
            damaged.truncate(random.index(bytes.len()));
            let _ = check_elf(&damaged);
        }
    }

    #[test]
    fn only_roots_own_files_are_permitted() {
        let path = Path::new("/usr/lib/uvs/schedulers/libx.so");
        let said = |uid, mode| permit(path, uid, mode).expect_err("refused").to_string();
        assert!(permit(path, 0, 0o100_644).is_ok());
        assert!(permit(path, 0, 0o100_755).is_ok());
        assert_eq!(
            said(1000, 0o100_644),
            format!(
                "{0} is owned by user 1000, not by root: chown root:root {0}",
                path.display()
            )
        );
        for mode in [0o100_664, 0o100_646] {
            assert!(said(0, mode).contains("writable by others than its owner (mode 6"));
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let folder = tempfile::tempdir().expect("a directory");
        let fifo = folder.path().join("x.so");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, 0o600.into()).expect("made");
        for path in [&fifo, Path::new("/dev/zero"), folder.path()] {
            let error = Image::anywhere(path).expect_err("refused").to_string();
            assert!(error.ends_with("it is not a regular file"), "{error}");
        }
    }

    #[test]
    fn a_file_outside_the_directory_is_refused_also_through_a_link() {
        let inside = tempfile::tempdir().expect("a directory");
        let outside = tempfile::tempdir().expect("a directory");
        let file = outside.path().join("x.so");
        std::fs::write(&file, b"").expect("written");
        let link = inside.path().join("x.so");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        for path in [
            file,
            link,
            inside.path().join("../x.so"),
            inside.path().to_owned(),
        ] {
            let error = Image::installed(inside.path(), &path).expect_err("refused");
            let outside = matches!(error, FileError::Outside { .. });
            assert!(
                outside || matches!(error, FileError::Unreadable { .. }),
                "{error}"
            );
        }
    }
}
