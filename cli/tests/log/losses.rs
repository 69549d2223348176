//! The log goes to where nothing can be written, or nobody reads, under 300 connections a second.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Write, pipe};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use uvs_lab::shell::Shell;
use uvs_lab::{Lab, Mode, Options};

use crate::load::Load;
use crate::own::Own;
use crate::stand::lab;

/// Lines of a megabyte: more than the queue holds.
const SHOUTS: usize = 8;

/// The clients are served, commands are answered, lines are counted as lost, and SIGTERM ends it.
fn must_serve_and_end(lab: &Lab, own: Own<'_>, lost: impl Fn((u64, u64)) -> bool) {
    own.serve();
    Load::beside(lab, || {
        for _ in 0..SHOUTS {
            own.shout();
        }
        own.command("ipvsadm -ln");
        let losses = own.losses();
        assert!(lost(losses), "{losses:?}");
    });
    own.end();
}

/// A pipe into which nothing goes any more.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().expect("a pipe");
    rustix::io::ioctl_fionbio(&writer, true).expect("non-blocking");
    while writer.write(&[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).expect("blocking");
    (reader, writer)
}

const RUN: &str = "exec $RUN";

fn start<'a>(lab: &'a Lab, shell: &'a Shell, stderr: impl Into<Stdio>) -> Own<'a> {
    Own::start(lab, shell, RUN, stderr.into())
}

#[test]
fn a_full_disk() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let full = File::options().write(true).open("/dev/full");
    let own = start(&lab, &shell, full.expect("the device that is always full"));
    must_serve_and_end(&lab, own, |(_, failed)| failed > 0);
    let dir = lab.dir().join("small");
    std::fs::create_dir(&dir).expect("a directory");
    // A file system of its own, seen by nobody else, that is full after the first lines.
    let script = format!(
        "exec unshare -m sh -c 'mount -t tmpfs -o size=64k none {0} && exec $RUN 2>{0}/log'",
        dir.display()
    );
    let own = Own::start(&lab, &shell, &script, Stdio::null());
    must_serve_and_end(&lab, own, |(_, failed)| failed > 0);
    // A limit of the file's size, whose signal ends who does not look.
    let script = format!("ulimit -f 8; exec $RUN 2>{}/log", dir.display());
    let own = Own::start(&lab, &shell, &script, Stdio::null());
    must_serve_and_end(&lab, own, |(_, failed)| failed > 0);
}

#[test]
fn a_reader_that_stalls() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let (reader, writer) = pipe().expect("a pipe");
    let own = start(&lab, &shell, writer);
    must_serve_and_end(&lab, own, |(full, _)| full > 0);
    drop(reader);
    // Full before the first line.
    let (reader, writer) = full_pipe();
    let own = start(&lab, &shell, writer);
    must_serve_and_end(&lab, own, |(full, _)| full > 0);
    drop(reader);
}

/// Nobody can be told why, and the exit code says it all the same.
#[test]
fn a_start_that_fails_beside_a_reader_that_stalls_ends() {
    let (_reader, writer) = full_pipe();
    let refused = Command::new(env!("CARGO_BIN_EXE_uvs"))
        .args(["run", "--config", "/nonexistent/uvs.toml"])
        .stderr(writer)
        .status();
    assert_eq!(refused.expect("it ends").code(), Some(2));
}

#[test]
fn a_reader_that_is_gone() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    let own = start(&lab, &shell, writer);
    must_serve_and_end(&lab, own, |(_, failed)| failed > 0);
    let (peer, ours) = UnixStream::pair().expect("a pair");
    drop(peer);
    let ours: std::os::fd::OwnedFd = ours.into();
    let own = start(&lab, &shell, ours);
    must_serve_and_end(&lab, own, |(_, failed)| failed > 0);
}
