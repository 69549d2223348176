//! The programs the lab runs, and Debian's packages that have them.
//!
//! A user's PATH on Debian lacks the sbin directories, where half of them are; rootless labs need them too.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Result};

/// Program and package; `lab/deps.sh` installs the same.
const PACKAGES: &[(&str, &str)] = &[
    ("bash", "bash"),
    ("curl", "curl"),
    ("dpkg-deb", "dpkg"),
    ("dpkg-shlibdeps", "dpkg-dev"),
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("iperf3", "iperf3"),
    ("ipvsadm", "ipvsadm"),
    ("jq", "jq"),
    ("keepalived", "keepalived"),
    ("man", "man-db"),
    ("nft", "nftables"),
    ("nginx", "nginx-light"),
    ("nsenter", "util-linux"),
    ("openssl", "openssl"),
    ("python3", "python3"),
    ("setcap", "libcap2-bin"),
    ("setpriv", "util-linux"),
    ("tcpdump", "tcpdump"),
    ("tmux", "tmux"),
    ("unshare", "util-linux"),
    ("wrk", "wrk"),
];

/// What every lab runs.
pub const BASIC: &[&str] = &["ip", "ethtool", "nft", "nginx", "curl"];

/// Where a program is, or an error that names its package.
pub fn find(tool: &str) -> Result<PathBuf> {
    search_path()
        .iter()
        .map(|dir| Path::new(dir).join(tool))
        .find(|path| path.is_file())
        .ok_or_else(|| missing(&[tool]))
}

/// Refuses with one message that names everything that is missing.
pub fn require(tools: &[&str]) -> Result<()> {
    let absent: Vec<_> = tools
        .iter()
        .copied()
        .filter(|tool| find(tool).is_err())
        .collect();
    if absent.is_empty() {
        Ok(())
    } else {
        Err(missing(&absent))
    }
}

/// A command by a program's bare name.
pub fn command<A: AsRef<OsStr>>(tool: &str, args: impl IntoIterator<Item = A>) -> Result<Command> {
    Ok(program(&find(tool)?, args))
}

/// A command by a program's path, which finds the lab's programs in turn.
pub fn program<A: AsRef<OsStr>>(path: &Path, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(path);
    command
        .args(args)
        .env("PATH", path_variable())
        .env("LC_ALL", "C");
    command
}

/// PATH with the directories that a user's lacks.
pub fn path_variable() -> OsString {
    env::join_paths(search_path()).unwrap_or_default()
}

fn search_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<_> = env::split_paths(&path).collect();
    for dir in ["/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
        if !dirs.iter().any(|d| d == Path::new(dir)) {
            dirs.push(dir.into());
        }
    }
    dirs
}

fn missing(tools: &[&str]) -> Error {
    let mut packages: Vec<_> = tools
        .iter()
        .map(|tool| {
            PACKAGES
                .iter()
                .find(|(name, _)| name == tool)
                .map_or(*tool, |(_, package)| package)
        })
        .collect();
    packages.dedup();
    Error::MissingTools {
        tools: tools.join(", "),
        packages: packages.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named_with_its_package() {
        let error =
            require(&["ip", "no-such-tool-a", "no-such-tool-b"]).expect_err("two are missing");
        assert_eq!(
            error.to_string(),
            "not installed: no-such-tool-a, no-such-tool-b; install with: apt-get install no-such-tool-a no-such-tool-b"
        );
        assert_eq!(
            missing(&["nginx"]).to_string(),
            "not installed: nginx; install with: apt-get install nginx-light"
        );
    }
}
