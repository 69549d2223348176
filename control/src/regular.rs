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
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        let message = "not a regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok((file, metadata))
}
