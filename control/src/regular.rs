//! Opening what must be a regular file: whoever opens a FIFO may wait forever for its writer, and a daemon that
//! serves waits for nobody.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens it for reading, without waiting.
///
/// # Errors
/// It cannot be opened, or is a FIFO, a device or a directory ([`io::ErrorKind::InvalidInput`]).
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let file = options().read(true).open(path)?;
    let metadata = regular(&file)?;
    Ok((file, metadata))
}

/// Opens it for lines at its end, without waiting; one that is new is its owner's alone.
///
/// # Errors
/// As [`open`]'s.
pub fn append(path: &Path) -> io::Result<File> {
    let file = options().append(true).create(true).mode(0o600).open(path)?;
    regular(&file)?;
    Ok(file)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(libc::O_NONBLOCK);
    options
}

fn regular(file: &File) -> io::Result<Metadata> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        let message = "not a regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(metadata)
}
