//! Where lines go: a file, the journal, or another program's socket.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uvs_control::config::LogTo;
use uvs_control::regular;

use crate::log::{journal, write_all};

/// How long a datagram waits for its receiver to make room: a burst is no loss, and one that has stopped does not hold
/// the thread for ever.
const PATIENCE: Duration = Duration::from_secs(1);
/// The name by which the journal has the lines: `journalctl -t uvs-connections`.
const IDENTIFIER: &str = "uvs-connections";

/// An open place.
pub(super) enum Place {
    /// A file, and whether its last line was written in part.
    File {
        file: File,
        path: PathBuf,
        cut: bool,
    },
    /// systemd's journal.
    Journal(UnixDatagram),
    /// A socket of datagrams.
    Unix(UnixDatagram, PathBuf),
}

impl Place {
    /// Opens it. Who receives datagrams need not be there yet.
    pub(super) fn open(to: &LogTo) -> io::Result<Self> {
        Ok(match to {
            LogTo::File(path) => Self::File {
                file: regular::append(path)?,
                path: path.clone(),
                cut: false,
            },
            LogTo::Journald => Self::Journal(sender()?),
            LogTo::Unix(path) => Self::Unix(sender()?, path.clone()),
        })
    }

    /// Opens a file again under its name, which is another file by now; the old one stays where that fails.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if let Self::File { file, path, cut } = self {
            (*file, *cut) = (regular::append(path)?, false);
        }
        Ok(())
    }

    /// Whether it is a file that somebody has deleted: nobody would ever read what is written there.
    pub(super) fn is_deleted(&self) -> bool {
        match self {
            Self::File { file, .. } => file.metadata().is_ok_and(|about| about.nlink() == 0),
            Self::Journal(_) | Self::Unix(..) => false,
        }
    }

    /// Writes lines, however long that takes; how many were, and why not the rest.
    pub(super) fn write(&mut self, lines: &[String]) -> (usize, Option<io::Error>) {
        match self {
            Self::File { file, cut, .. } => append(file, cut, lines),
            Self::Journal(socket) => send(socket, Path::new(journal::SOCKET), lines, |line| {
                journal::plain(IDENTIFIER, tracing::Level::INFO, line)
            }),
            Self::Unix(socket, path) => send(socket, path, lines, |line| line.as_bytes().to_vec()),
        }
    }
}

/// As the configuration writes it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = match self {
            Self::File { path, .. } => LogTo::File(path.clone()),
            Self::Journal(_) => LogTo::Journald,
            Self::Unix(_, path) => LogTo::Unix(path.clone()),
        };
        to.fmt(f)
    }
}

/// A socket of ours. It stays unconnected, so that it finds a receiver that was restarted.
fn sender() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn append(file: &File, cut: &mut bool, lines: &[String]) -> (usize, Option<io::Error>) {
    let begun = *cut;
    let mut bytes = Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
    // What a full disk has cut off stands on a line of its own.
    bytes.extend(begun.then_some(b'\n'));
    for line in lines {
        bytes.extend(line.as_bytes());
        bytes.push(b'\n');
    }
    let (written, error) = match write_all(file.as_fd(), &bytes) {
        Ok(()) => (bytes.len(), None),
        Err((written, error)) => (written, Some(error.into())),
    };
    let there = &bytes[..written];
    *cut = there.last().map_or(begun, |last| *last != b'\n');
    let ends = there.iter().filter(|byte| **byte == b'\n').count();
    (ends - usize::from(begun && written > 0), error)
}

fn send(
    socket: &UnixDatagram,
    path: &Path,
    lines: &[String],
    datagram: impl Fn(&str) -> Vec<u8>,
) -> (usize, Option<io::Error>) {
    let mut sent = 0;
    let mut why = None;
    for line in lines {
        match socket.send_to(&datagram(line), path) {
            Ok(_) => sent += 1,
            // Each would wait as long as this one has.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return (
                    sent,
                    Some(io::Error::new(error.kind(), "nobody reads there")),
                );
            }
            Err(error) => why = Some(error),
        }
    }
    (sent, why)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn lines(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("{{\"line\":{n}}}")).collect()
    }

    #[test]
    fn a_file_is_its_owners_is_appended_to_and_is_opened_again_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("connections.log");
        let to = LogTo::File(path.clone());
        let mut place = Place::open(&to).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(place.write(&lines(2)).0, 2);
        let rotated = dir.path().join("connections.log.1");
        std::fs::rename(&path, &rotated).unwrap();
        assert_eq!(place.write(&lines(1)).0, 1);
        place.reopen().unwrap();
        assert_eq!(place.write(&lines(1)).0, 1);
        let read = |path| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(&rotated), "{\"line\":0}\n{\"line\":1}\n{\"line\":0}\n");
        assert_eq!(read(&path), "{\"line\":0}\n");
        assert!(!place.is_deleted());
        std::fs::remove_file(&path).unwrap();
        assert!(place.is_deleted());
        // The next daemon goes on where it ends.
        drop(place);
        let mut next = Place::open(&LogTo::File(rotated.clone())).unwrap();
        next.write(&lines(1));
        assert_eq!(read(&rotated).lines().count(), 4);
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        for path in [fifo.as_path(), Path::new("/dev/null"), dir.path()] {
            assert!(Place::open(&LogTo::File(path.into())).is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_full_disk_costs_lines_and_says_so() {
        let file = File::options().write(true).open("/dev/full").unwrap();
        let mut place = Place::File {
            file,
            path: "/dev/full".into(),
            cut: false,
        };
        let (written, error) = place.write(&lines(3));
        assert_eq!(written, 0);
        assert_eq!(error.unwrap().raw_os_error(), Some(libc::ENOSPC));
    }

    #[test]
    fn a_line_that_was_cut_stands_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("connections.log");
        std::fs::write(&path, "{\"line\"").unwrap();
        let mut place = Place::File {
            file: regular::append(&path).unwrap(),
            path: path.clone(),
            cut: true,
        };
        assert_eq!(place.write(&lines(2)).0, 2);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"line\"\n{\"line\":0}\n{\"line\":1}\n");
    }

    #[test]
    fn datagrams_reach_who_listens_and_are_lost_where_nobody_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("collector");
        let mut place = Place::open(&LogTo::Unix(path.clone())).unwrap();
        assert_eq!(place.write(&lines(1)).0, 0, "not there yet");
        let collector = UnixDatagram::bind(&path).unwrap();
        assert_eq!(place.write(&lines(2)).0, 2);
        let mut buffer = [0; 100];
        let length = collector.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"{\"line\":0}");
        drop(collector);
        assert_eq!(place.write(&lines(1)).0, 0, "gone");
    }

    #[test]
    fn a_receiver_that_has_stopped_is_given_up_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("collector");
        let _asleep = UnixDatagram::bind(&path).unwrap();
        let mut place = Place::open(&LogTo::Unix(path)).unwrap();
        let begun = std::time::Instant::now();
        let (sent, error) = place.write(&lines(5000));
        assert!(sent < 5000, "its queue has an end");
        assert!(error.unwrap().to_string().contains("nobody reads"));
        assert!(begun.elapsed() < PATIENCE * 3);
    }
}
