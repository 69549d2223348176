//! Files of prefixes: one a line, `#` and `;` begin a comment. They are read whole and taken whole, when the
//! daemon starts, when it reloads, and when they have changed. One that has become bad or is gone leaves
//! what was read last in force, and that is said once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uvs_core::access::Prefix;

use super::{AllConfigured, prefixes};
use crate::regular;

/// Bytes of a file: a million prefixes and what is said of them.
const MAX_BYTES: u64 = 64 << 20;

/// Why a file was not taken.
#[derive(Debug)]
pub enum FileError {
    /// It cannot be read.
    Unreadable(PathBuf, io::Error),
    /// A line of it, counted from 1, is wrong; so many others are.
    Line {
        /// The file.
        path: PathBuf,
        /// The first wrong line.
        line: usize,
        /// What is wrong, and what would be right.
        what: String,
        /// Other wrong lines.
        others: usize,
    },
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Line {
                path,
                line,
                what,
                others,
            } => {
                write!(f, "{}:{line}: {what}", path.display())?;
                match others {
                    0 => Ok(()),
                    1 => write!(f, " (and 1 other line is wrong)"),
                    n => write!(f, " (and {n} other lines are wrong)"),
                }
            }
        }
    }
}

impl std::error::Error for FileError {}

/// What tells a file from the one that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds: of the content's change, and of any change.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

/// A file as it was read last.
#[derive(Clone, Debug)]
struct Known {
    /// What it looked like when it was looked at last, also where it was refused; `None` = it was gone.
    seen: Option<Stamp>,
    prefixes: Arc<[Prefix]>,
}

/// What a changed file holds now, or why it was not taken.
type Change = Result<(PathBuf, Arc<[Prefix]>), FileError>;

/// The files that the configuration names.
#[derive(Clone, Debug, Default)]
pub struct ListFiles(BTreeMap<PathBuf, Known>);

impl ListFiles {
    /// Reads all files that a configuration names.
    ///
    /// # Errors
    /// The first that cannot be read, or in which a line is wrong.
    pub fn load(configured: &AllConfigured) -> Result<Self, FileError> {
        let files = configured.values().flat_map(|list| &list.files);
        let paths: BTreeSet<&PathBuf> = files.map(|(_, path)| path).collect();
        let read = |path: &PathBuf| {
            let (stamp, prefixes) = read(path)?;
            let seen = Some(stamp);
            Ok((path.clone(), Known { seen, prefixes }))
        };
        paths
            .into_iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// What a file holds.
    pub(super) fn prefixes(&self, path: &Path) -> Arc<[Prefix]> {
        let known = self.0.get(path);
        known.map_or_else(|| Arc::from([]), |known| Arc::clone(&known.prefixes))
    }

    /// Looks which files have changed since they were looked at. What one held stays where it is not taken.
    pub fn look_again(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (path, known) in &mut self.0 {
            let now = std::fs::metadata(path).ok().map(|m| Stamp::of(&m));
            if now == known.seen {
                continue;
            }
            known.seen = now;
            changes.push(match read(path) {
                Ok((stamp, prefixes)) => {
                    known.seen = Some(stamp);
                    known.prefixes = Arc::clone(&prefixes);
                    Ok((path.clone(), prefixes))
                }
                Err(error) => Err(error),
            });
        }
        changes
    }
}

fn read(path: &Path) -> Result<(Stamp, Arc<[Prefix]>), FileError> {
    let unreadable = |error| FileError::Unreadable(path.to_owned(), error);
    let (file, metadata) = regular::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let taken = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    taken.map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        let message = format!("larger than {MAX_BYTES} bytes");
        let error = io::Error::new(io::ErrorKind::FileTooLarge, message);
        return Err(unreadable(error));
    }
    let prefixes = parse(path, &String::from_utf8_lossy(&bytes))?;
    Ok((Stamp::of(&metadata), prefixes.into()))
}

fn parse(path: &Path, text: &str) -> Result<Vec<Prefix>, FileError> {
    let mut all = Vec::new();
    let mut first = None;
    let mut wrong = 0;
    for (number, line) in text.lines().enumerate() {
        let word = line.split(['#', ';']).next().unwrap_or_default().trim();
        if word.is_empty() {
            continue;
        }
        match prefixes(word) {
            Ok(mut found) => all.append(&mut found),
            Err(error) => {
                wrong += 1;
                first.get_or_insert_with(|| (number + 1, error.to_string()));
            }
        }
    }
    match first {
        None => {
            all.sort_unstable();
            all.dedup();
            Ok(all)
        }
        Some((line, what)) => Err(FileError::Line {
            path: path.to_owned(),
            line,
            what,
            others: wrong - 1,
        }),
    }
}

#[cfg(test)]
mod tests {

    use uvs_core::access::Action;

    use super::*;
    use crate::access::Configured;

    fn parsed(text: &str) -> Result<Vec<String>, String> {
        let all = parse(Path::new("deny.txt"), text).map_err(|e| e.to_string())?;
        Ok(all.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_line_is_a_prefix_a_comment_or_nothing() {
        let text = "# ours\n\n10.0.0.0/8\r\n 192.0.2.7  # who\n1.10.16.0/20 ; SBL256894\n10.0.0.0/8\n2001:db8::/32";
        let expected = ["1.10.16.0/20", "10.0.0.0/8", "192.0.2.7", "2001:db8::/32"];
        let mut all = parsed(text).unwrap();
        all.sort();
        assert_eq!(all, expected);
        assert_eq!(parsed("all").unwrap().len(), 2);
        assert_eq!(parsed("").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_wrong_line_is_named_with_its_number() {
        let error = parsed("10.0.0.0/8\n\n192.0.2.7/24\nwww.example.org\n").unwrap_err();
        assert!(
            error.starts_with("deny.txt:3: 192.0.2.7/24 has bits"),
            "{error}"
        );
        assert!(error.ends_with("(and 1 other line is wrong)"), "{error}");
    }

    fn configured(path: &Path) -> AllConfigured {
        let files = vec![(Action::Deny, path.to_owned())];
        let list = Configured {
            files,
            ..Configured::default()
        };
        AllConfigured::from([(None, list)])
    }

    #[test]
    fn a_file_is_read_again_where_it_changed_and_kept_where_it_went_bad() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deny.txt");
        std::fs::write(&path, "10.0.0.0/8\n").unwrap();
        let mut files = ListFiles::load(&configured(&path)).unwrap();
        let held = |files: &ListFiles| files.prefixes(&path).len();
        assert!(files.look_again().is_empty());

        std::fs::write(&path, "10.0.0.0/8\n192.0.2.7\n").unwrap();
        assert!(files.look_again()[0].is_ok());
        assert_eq!(held(&files), 2);

        std::fs::write(&path, "nonsense\n").unwrap();
        assert!(files.look_again()[0].is_err());
        assert!(files.look_again().is_empty(), "it is said once");
        std::fs::remove_file(&path).unwrap();
        assert!(files.look_again()[0].is_err());
        assert!(files.look_again().is_empty(), "this too");
        assert_eq!(held(&files), 2);

        std::fs::write(&path, "").unwrap();
        assert!(files.look_again()[0].is_ok());
        assert_eq!(held(&files), 0);
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        let error = ListFiles::load(&configured(&pipe)).unwrap_err().to_string();
        assert!(error.ends_with("not a regular file"), "{error}");
        let error = ListFiles::load(&configured(folder.path())).unwrap_err();
        assert!(error.to_string().ends_with("not a regular file"), "{error}");
        assert!(ListFiles::load(&configured(Path::new("/nosuch"))).is_err());
    }
}
