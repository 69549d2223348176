//! Runs `nft`, the one tool that speaks every kernel's nf_tables, and turns its complaints into errors
//! that name what is missing.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::GuardError;
use super::rules::TABLE;

/// Frames dropped by one rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Counter {
    /// Why they were dropped, e.g. `service`.
    pub(crate) name: String,
    /// Frames.
    pub(crate) packets: u64,
    /// Bytes from the IP header on.
    pub(crate) bytes: u64,
}

/// Puts a script in force: all of it or nothing.
pub(super) fn run_script(script: &str) -> Result<(), GuardError> {
    run("nft", &["-f", "-"], script).map(drop)
}

/// Whether the table is there.
pub(super) fn is_present() -> Result<bool, GuardError> {
    let tables = run("nft", &["list", "tables", "netdev"], "")?;
    let ours = format!("table netdev {TABLE}");
    Ok(tables.lines().any(|line| line == ours))
}

/// Removes the table; says whether it was there.
pub(super) fn remove() -> Result<bool, GuardError> {
    if !is_present()? {
        return Ok(false);
    }
    // Adding first makes the deletion safe against somebody who was faster.
    run_script(&format!(
        "add table netdev {TABLE}\ndelete table netdev {TABLE}\n"
    ))?;
    Ok(true)
}

/// The table as nft writes it.
pub(super) fn list(terse: bool) -> Result<String, GuardError> {
    let options: &[&str] = if terse { &["-t"] } else { &[] };
    run(
        "nft",
        &[options, &["list", "table", "netdev", TABLE]].concat(),
        "",
    )
}

/// The table's counters.
pub(super) fn counters() -> Result<Vec<Counter>, GuardError> {
    #[derive(Deserialize)]
    struct Listing {
        nftables: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        counter: Option<Counter>,
    }
    let json = run(
        "nft",
        &["-j", "list", "counters", "table", "netdev", TABLE],
        "",
    )?;
    let listing: Listing = serde_json::from_str(&json)
        .map_err(|e| GuardError::Refused(format!("its list of counters is not readable: {e}")))?;
    Ok(listing
        .nftables
        .into_iter()
        .filter_map(|i| i.counter)
        .collect())
}

pub(super) fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, GuardError> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", search_path())
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(GuardError::NoNft)?;
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
    #![allow(clippy::unwrap_used)]

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
