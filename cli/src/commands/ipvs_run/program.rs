//! Whether a library can be preloaded into a program, and whether that sees what the program says: by the
//! program's own file, its interpreter's where it is a script (elf(5), execve(2), ld.so(8)).

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes of a file's beginning that are looked at: the ELF header, or a script's first line.
const HEAD: u64 = 256;
/// Bytes of an ELF header of 64 bits, and of one of its program headers.
const ELF_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// Program headers are few; a file that says otherwise is none.
const MAX_HEADERS: u16 = 256;
/// Bytes of a segment that is read whole.
const MAX_SEGMENT: u64 = 64 << 10;
/// Scripts whose interpreter is a script, and so on: as many as the kernel takes.
const MAX_SCRIPTS: usize = 4;

/// PT_INTERP and PT_NOTE.
const INTERPRETER: u32 = 3;
const NOTE: u32 = 4;

/// Why the library is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error(
        "is linked statically, so that no library can be preloaded; start it by `uvs ipvs-run --trace`, or change the table by `uvs ipvsadm`"
    )]
    Static,
    #[error(
        "is linked with another C library ({0}) than libuvs_ipvs.so; start it by `uvs ipvs-run --trace`, or use a build for glibc"
    )]
    OtherLibrary(String),
    #[error(
        "is written in Go, which makes its system calls itself, unseen by any library; start it by `uvs ipvs-run --trace`, or change the table by `uvs ipvsadm`"
    )]
    Go,
    #[error("is no program for this machine's 64 bits, as libuvs_ipvs.so is")]
    OtherMachine,
    #[error(
        "is setuid, setgid or has file capabilities, and the loader ignores LD_PRELOAD then; run it as the user it becomes, or by `uvs ipvs-run --trace`"
    )]
    Privileged,
    #[error("its interpreter {}: {what}", .path.display())]
    Interpreter { path: PathBuf, what: Box<Self> },
    #[error("{0}")]
    Unreadable(#[from] io::Error),
}

/// A program's file: a path as it is, a name by PATH.
pub(super) fn found(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return path.is_file().then_some(path);
    }
    let path = std::env::var_os("PATH")?;
    let mut files = std::env::split_paths(&path).map(|dir| dir.join(name));
    files.find(|file| {
        rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file()
    })
}

/// Whether the library sees what a program says.
pub(super) fn check(path: &Path) -> Result<(), Unfit> {
    check_script(path, MAX_SCRIPTS)
}

fn check_script(path: &Path, scripts: usize) -> Result<(), Unfit> {
    let mut file = File::open(path)?;
    let mut head = Vec::new();
    (&mut file).take(HEAD).read_to_end(&mut head)?;
    if let Some(line) = head.strip_prefix(b"#!").filter(|_| scripts > 0) {
        let Some(interpreter) = interpreter(line) else {
            return Ok(());
        };
        return check_script(&interpreter, scripts - 1).map_err(|what| Unfit::Interpreter {
            path: interpreter,
            what: Box::new(what),
        });
    }
    if is_privileged(path, &file.metadata()?) {
        return Err(Unfit::Privileged);
    }
    // A script without `#!`, which a shell runs, or nothing that runs: what starts it says so.
    if !head.starts_with(b"\x7fELF") {
        return Ok(());
    }
    check_elf(&mut file, &head)
}

/// The interpreter that a script's first line names. What `env` would start is looked for as it does.
fn interpreter(line: &[u8]) -> Option<PathBuf> {
    let line = line.split(|byte| *byte == b'\n').next()?;
    let mut words = line
        .split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty());
    let first = Path::new(OsStr::from_bytes(words.next()?));
    if first.file_name() != Some(OsStr::new("env")) {
        return Some(first.to_owned());
    }
    let named = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'='))?;
    found(OsStr::from_bytes(named))
}

/// Whether the program gets rights that its caller has not: those of files that are root's or capable add nothing
/// to root.
fn is_privileged(path: &Path, file: &Metadata) -> bool {
    const SET_USER: u32 = 0o4000;
    const SET_GROUP: u32 = 0o2010;
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let mode = file.mode();
    let capable = || rustix::fs::getxattr(path, "security.capability", &mut [0u8; 64][..]).is_ok();
    mode & SET_USER != 0 && file.uid() != user
        || mode & SET_GROUP == SET_GROUP && file.gid() != group
        || user != 0 && capable()
}

fn check_elf(file: &mut File, head: &[u8]) -> Result<(), Unfit> {
    let header = head.first_chunk::<ELF_HEADER>();
    // EI_CLASS and EI_DATA: 64 bits, in this machine's order.
    let order = if cfg!(target_endian = "little") { 1 } else { 2 };
    let header = header
        .filter(|h| h[4] == 2 && h[5] == order)
        .ok_or(Unfit::OtherMachine)?;
    let start = u64::from_ne_bytes(field(header, 32));
    let size = u16::from_ne_bytes(field(header, 54));
    let count = u16::from_ne_bytes(field(header, 56));
    if usize::from(size) != PROGRAM_HEADER || count > MAX_HEADERS {
        return Err(Unfit::OtherMachine);
    }
    let mut headers = vec![0; PROGRAM_HEADER * usize::from(count)];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut headers)?;
    let mut loader = None;
    for header in headers.as_chunks::<PROGRAM_HEADER>().0 {
        match u32::from_ne_bytes(field(header, 0)) {
            INTERPRETER => loader = Some(segment(file, header)?),
            NOTE if is_gos(&segment(file, header)?) => return Err(Unfit::Go),
            _ => {}
        }
    }
    let loader = loader.ok_or(Unfit::Static)?;
    let loader = String::from_utf8_lossy(&loader);
    match loader.contains("ld-musl") {
        true => Err(Unfit::OtherLibrary(
            loader.trim_end_matches('\0').to_owned(),
        )),
        false => Ok(()),
    }
}

/// The bytes of a segment, from its program header.
fn segment(file: &mut File, header: &[u8; PROGRAM_HEADER]) -> io::Result<Vec<u8>> {
    let (start, length) = (
        u64::from_ne_bytes(field(header, 8)),
        u64::from_ne_bytes(field(header, 32)),
    );
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(length.min(MAX_SEGMENT)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether one of a segment's notes has Go's name, as each program of its linker's has.
fn is_gos(mut notes: &[u8]) -> bool {
    while let Some(header) = notes.first_chunk::<12>() {
        let name = u32::from_ne_bytes(field(header, 0)) as usize;
        let data = u32::from_ne_bytes(field(header, 4)) as usize;
        let Some(named) = notes.get(12..12 + name) else {
            return false;
        };
        if named == b"Go\0\0" {
            return true;
        }
        let next = 12 + name.next_multiple_of(4) + data.next_multiple_of(4);
        notes = notes.get(next..).unwrap_or(&[]);
    }
    false
}

/// Bytes of a header. The place is within it.
fn field<const N: usize>(header: &[u8], place: usize) -> [u8; N] {
    std::array::from_fn(|n| header[place + n])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// A program of one segment a kind, each with its bytes.
    fn elf(segments: &[(u32, &[u8])]) -> Vec<u8> {
        let mut file = vec![0; ELF_HEADER];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[32..40].copy_from_slice(&64u64.to_ne_bytes());
        file[54..56].copy_from_slice(&56u16.to_ne_bytes());
        let count = u16::try_from(segments.len()).expect("few");
        file[56..58].copy_from_slice(&count.to_ne_bytes());
        let mut at = ELF_HEADER + segments.len() * PROGRAM_HEADER;
        for (kind, bytes) in segments {
            let mut header = [0; PROGRAM_HEADER];
            header[..4].copy_from_slice(&kind.to_ne_bytes());
            header[8..16].copy_from_slice(&(at as u64).to_ne_bytes());
            header[32..40].copy_from_slice(&(bytes.len() as u64).to_ne_bytes());
            file.extend(header);
            at += bytes.len();
        }
        segments.iter().for_each(|(_, bytes)| file.extend(*bytes));
        file
    }

    fn checked(bytes: &[u8], mode: u32) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("program");
        fs::write(&path, bytes).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        check(&path).map_or_else(|e| e.to_string(), |()| "fit".to_owned())
    }

    const GLIBC: (u32, &[u8]) = (INTERPRETER, b"/lib64/ld-linux-x86-64.so.2\0");
    const GO: (u32, &[u8]) = (NOTE, b"\x04\0\0\0\x04\0\0\0\x04\0\0\0Go\0\0abcd");
    const GNU: (u32, &[u8]) = (NOTE, b"\x04\0\0\0\x02\0\0\0\x03\0\0\0GNU\0ab\0\0");

    #[test]
    fn a_program_says_by_its_file_whether_the_library_sees_it() {
        for (segments, said) in [
            (&[GLIBC][..], "fit"),
            (&[GNU, GLIBC], "fit"),
            (&[GNU], "linked statically"),
            (&[], "linked statically"),
            (
                &[(INTERPRETER, b"/lib/ld-musl-x86_64.so.1\0")],
                "ld-musl-x86_64.so.1",
            ),
            (&[GLIBC, GO], "written in Go"),
        ] {
            let got = checked(&elf(segments), 0o755);
            assert!(got.contains(said), "{got}");
        }
        let mut short = elf(&[GLIBC]);
        short[4] = 1;
        assert!(checked(&short, 0o755).contains("64 bits"));
    }

    #[test]
    fn a_file_that_is_cut_off_is_refused() {
        let whole = elf(&[GNU, GLIBC]);
        for length in 4..ELF_HEADER + 2 * PROGRAM_HEADER {
            let got = checked(&whole[..length], 0o755);
            assert_ne!(got, "fit", "{length} bytes");
        }
    }

    #[test]
    fn a_script_is_what_its_interpreter_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let shell = dir.path().join("shell");
        fs::write(&shell, elf(&[])).expect("written");
        let script = format!("#! {} -e\necho\n", shell.display());
        let got = checked(script.as_bytes(), 0o755);
        assert!(got.contains("shell: is linked statically"), "{got}");
        assert_eq!(checked(b"#!/bin/sh\n", 0o755), "fit");
        assert_eq!(checked(b"#!/usr/bin/env -S sh\n", 0o755), "fit");
        assert_eq!(checked(b"echo\n", 0o755), "fit");
    }

    #[test]
    fn a_program_of_its_own_user_needs_no_rights_of_its_own() {
        assert_eq!(checked(&elf(&[GLIBC]), 0o4755), "fit");
    }
}
