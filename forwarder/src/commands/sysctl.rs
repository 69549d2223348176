//! `uvs sysctl net.ipv4.vs.NAME[=VALUE]…`: IPVS's sysctls, read and set as sysctl(8) would.
//!
//! Every argument is looked at before the first is carried out, so that a slip of the keyboard in the
//! last one changes nothing.

use std::process::ExitCode;

use uvs_core::snapshot::{SysctlError, Sysctls};

use super::{daemon, output};
use crate::control::protocol::{Command, Data};

const PREFIX: &str = "net.ipv4.vs.";

/// Names, and the values they shall have.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A sysctl (net.ipv4.vs.NAME or net/ipv4/vs/NAME), with =VALUE to set it
    #[arg(value_name = "NAME[=VALUE]", required_unless_present = "all")]
    settings: Vec<String>,
    /// Print all of them
    #[arg(short, long, conflicts_with = "settings")]
    all: bool,
    /// Accepted for scripts: a name with a value is set in any case
    #[arg(short, long)]
    write: bool,
}

/// A sysctl's name and the value to set.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    name: &'static str,
    value: Option<i32>,
}

/// Reads or sets each, and prints `net.ipv4.vs.NAME = VALUE`.
pub(crate) fn main(args: &Args) -> ExitCode {
    let settings: Result<Vec<Setting>, String> = if args.all {
        Ok(Sysctls::NAMES
            .iter()
            .map(|name| Setting { name, value: None })
            .collect())
    } else {
        args.settings.iter().map(|text| parse(text)).collect()
    };
    let settings = match settings {
        Ok(settings) => settings,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(super::USAGE);
        }
    };
    settings
        .into_iter()
        .map(carry_out)
        .find(|code| *code != ExitCode::SUCCESS)
        .unwrap_or_default()
}

fn carry_out(Setting { name, value }: Setting) -> ExitCode {
    match daemon::ask(Command::Sysctl {
        name: name.to_owned(),
        value,
    }) {
        Ok(Data::Sysctl(value)) => output::print(&format!("{PREFIX}{name} = {value}\n")),
        Ok(_) => daemon::unexpected(),
        Err(code) => code,
    }
}

fn parse(text: &str) -> Result<Setting, String> {
    let (path, value) = match text.split_once('=') {
        Some((path, value)) => (path.trim(), Some(value.trim())),
        None => (text.trim(), None),
    };
    let dotted = path.replace('/', ".");
    let name = Sysctls::NAMES
        .iter()
        .find(|name| dotted.strip_prefix(PREFIX) == Some(name));
    let Some(name) = name else {
        let known = Sysctls::NAMES.join(", ");
        return Err(format!(
            "{path}: no such sysctl; there are, each after {PREFIX}: {known}"
        ));
    };
    let value = value.map(|value| check(name, value)).transpose()?;
    Ok(Setting { name, value })
}

fn check(name: &str, text: &str) -> Result<i32, String> {
    let Ok(value) = text.parse::<i32>() else {
        return Err(format!("{PREFIX}{name}: \"{text}\" is not a whole number"));
    };
    match Sysctls::default().set(name, value) {
        Err(SysctlError::Range { low, high }) => Err(format!(
            "{PREFIX}{name}: {value} is out of range; use {low} to {high}"
        )),
        Ok(()) | Err(SysctlError::Unknown) => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_with_dots_or_slashes() {
        let setting = |value| {
            Ok(Setting {
                name: "expire_nodest_conn",
                value,
            })
        };
        assert_eq!(parse("net.ipv4.vs.expire_nodest_conn"), setting(None));
        assert_eq!(parse("net/ipv4/vs/expire_nodest_conn=1"), setting(Some(1)));
        assert_eq!(
            parse("net.ipv4.vs.expire_nodest_conn = 0"),
            setting(Some(0))
        );
    }

    #[test]
    fn what_is_wrong_is_told_before_a_daemon_is_asked() {
        for (text, said) in [
            (
                "net.ipv4.vs.expire_nodest",
                "no such sysctl; there are, each after net.ipv4.vs.: am_droprate",
            ),
            ("expire_nodest_conn=1", "expire_nodest_conn: no such sysctl"),
            (
                "net.ipv4.ip_forward=1",
                "net.ipv4.ip_forward: no such sysctl",
            ),
            (
                "net.ipv4.vs.drop_entry=9",
                "net.ipv4.vs.drop_entry: 9 is out of range; use 0 to 3",
            ),
            (
                "net.ipv4.vs.drop_entry=yes",
                "\"yes\" is not a whole number",
            ),
            ("net.ipv4.vs.drop_entry=", "\"\" is not a whole number"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
