//! Files of sysctl.d(5): of all that they set, what is IPVS's.

use std::io::{Read, stdin};
use std::path::{Path, PathBuf};

use uvs_core::snapshot::Sysctls;

use super::{Setting, Wrong, dotted, parse};
use crate::commands::{FAILED, USAGE};

/// What the files set, in order.
///
/// # Errors
/// The exit code, with all that is wrong.
pub(super) fn settings(files: &[PathBuf], ignore: bool) -> Result<Vec<Setting>, (u8, Vec<String>)> {
    let mut settings = Vec::new();
    let mut wrong = Vec::new();
    for file in files {
        let text = read(file).map_err(|e| (FAILED, vec![format!("{}: {e}", file.display())]))?;
        for (number, line) in (1..).zip(text.lines()) {
            match setting(line, ignore) {
                Ok(setting) => settings.extend(setting),
                Err(message) => wrong.push(format!("{}:{number}: {message}", file.display())),
            }
        }
    }
    if wrong.is_empty() {
        Ok(settings)
    } else {
        Err((USAGE, wrong))
    }
}

fn read(file: &Path) -> std::io::Result<String> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
}

/// What a line sets: nothing where it is a comment, somebody else's, or wrong and to be let be.
fn setting(line: &str, ignore: bool) -> Result<Option<Setting>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return Ok(None);
    }
    let (line, lenient) = match line.strip_prefix('-') {
        Some(line) => (line.trim_start(), true),
        None => (line, false),
    };
    let (name, value) = line
        .split_once('=')
        .map_or((line, None), |(n, v)| (n, Some(v)));
    if !dotted(name.trim()).starts_with(Sysctls::PREFIX) {
        return Ok(None);
    }
    match parse(line) {
        // Behind a dash, this names what no pattern is to set.
        Ok(_) if value.is_none() && lenient => Ok(None),
        Ok(_) if value.is_none() => Err(format!("{line}: no value; use NAME = VALUE")),
        Ok(setting) => Ok(Some(setting)),
        Err(Wrong::Name(_)) if ignore => Ok(None),
        Err(_) if lenient => Ok(None),
        Err(wrong) => Err(wrong.message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str, ignore: bool) -> Result<Option<(&'static str, String)>, String> {
        let setting = setting(line, ignore)?;
        Ok(setting.map(|s| (s.name, s.value.unwrap_or_default())))
    }

    #[test]
    fn ipvs_is_taken_and_the_rest_let_be() {
        let taken = |name, value: &str| Ok(Some((name, value.to_owned())));
        assert_eq!(
            told("net.ipv4.vs.conntrack = 1", false),
            taken("conntrack", "1")
        );
        assert_eq!(
            told("  net/ipv4/vs/drop_entry=3  ", false),
            taken("drop_entry", "3")
        );
        assert_eq!(
            told("- net.ipv4.vs.drop_entry = 1", false),
            taken("drop_entry", "1")
        );
        assert_eq!(
            told("net.ipv4.vs.sync_threshold = 3 50", false),
            taken("sync_threshold", "3 50")
        );
        for line in [
            "",
            "# net.ipv4.vs.conntrack = 1",
            "; net.ipv4.vs.conntrack = 1",
            "net.ipv4.ip_forward = 1",
            "net.ipv4.conf.*.rp_filter = 2",
            "vm.swappiness",
            "-net.ipv4.vs.conntrack",
            "-net.ipv4.vs.nosuch = 1",
            "-net.ipv4.vs.drop_entry = 9",
        ] {
            assert_eq!(told(line, false), Ok(None), "{line}");
        }
        assert_eq!(told("net.ipv4.vs.nosuch = 1", true), Ok(None));
    }

    #[test]
    fn a_wrong_line_is_told() {
        for (line, ignore, said) in [
            ("net.ipv4.vs.nosuch = 1", false, "nosuch: no such sysctl"),
            ("net.ipv4.vs.drop_entry = 9", true, "9 is out of range"),
            ("net.ipv4.vs.drop_entry", true, "no value; use NAME = VALUE"),
        ] {
            let error = told(line, ignore).expect_err(line);
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
