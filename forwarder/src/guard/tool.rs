//! Runs `nft`, to print the guard for people and to look at the host's other rules, and turns its complaints
//! into errors that name what is missing.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use super::GuardError;
use super::sets::TABLE;
use crate::confinement::starter;

/// The table as nft writes it.
pub(super) fn list(terse: bool) -> Result<String, GuardError> {
    let options: &[&str] = if terse { &["-t"] } else { &[] };
    run(
        "nft",
        &[options, &["list", "table", "netdev", TABLE]].concat(),
        "",
    )
}

pub(super) fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, GuardError> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("PATH", search_path())
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = starter::start(command).map_err(GuardError::NoNft)?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            // It has given up reading and will say why.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
            written => written.map_err(GuardError::NoNft)?,
        }
    }
    let output = child.wait_with_output().map_err(GuardError::NoNft)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(complaint(&String::from_utf8_lossy(&output.stderr)))
}

/// `nft` lives in /usr/sbin, which an ordinary user's path does not have.
fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

fn complaint(stderr: &str) -> GuardError {
    let says = |what: &str| stderr.contains(what);
    if says("Operation not permitted") {
        GuardError::Permission
    } else if says("Operation not supported") || says("Protocol not supported") {
        GuardError::NoKernelSupport
    } else {
        // The first complaint is the cause; nft repeats the offending lines after it.
        GuardError::Refused(stderr.lines().next().unwrap_or("without a word").to_owned())
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let missing = run("uvs-has-no-such-program", &[], "")
            .unwrap_err()
            .to_string();
        assert!(missing.contains("apt install nftables"), "{missing}");
        let table = [
            (
                "Error: Could not process rule: Operation not supported\nadd table",
                "CONFIG_NF_TABLES_NETDEV",
            ),
            (
                "netlink: Error: cache initialization failed: Protocol not supported",
                "CONFIG_NF_TABLES",
            ),
            (
                "Error: Operation not permitted (you must be root)",
                "CAP_NET_ADMIN",
            ),
            (
                "/dev/stdin:3:1-2: Error: syntax error\nfoo\n^^^",
                "/dev/stdin:3:1-2: Error: syntax error",
            ),
        ];
        for (stderr, expected) in table {
            let error = complaint(stderr).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_program_that_reads_nothing_does_not_hang_or_mislead() {
        let error = run("false", &[], &"x".repeat(1 << 20)).unwrap_err();
        assert!(matches!(error, GuardError::Refused(_)), "{error}");
    }
}
