//! `uvs sysctl net.ipv4.vs.NAME[=VALUE]…`: IPVS's sysctls, read and set as sysctl(8) would.
//!
//! Every argument and every line of a file is looked at before the first is carried out, so that a slip of the
//! keyboard in the last one changes nothing.

mod file;

use std::path::PathBuf;
use std::process::ExitCode;

use uvs_control::protocol::{SysctlRequest, SysctlValue, ask};
use uvs_core::snapshot::{SysctlError, Sysctls};

use super::{daemon, output};

/// Names, and the values to set.
#[derive(clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the switches are sysctl(8)'s"
)]
pub(crate) struct Args {
    /// A sysctl (net.ipv4.vs.NAME or net/ipv4/vs/NAME), with =VALUE to set it; more files with -p
    #[arg(value_name = "NAME[=VALUE]", required_unless_present_any = ["all", "load"])]
    settings: Vec<String>,
    /// Print all of them
    #[arg(short, long, visible_short_aliases = ['A', 'X'], conflicts_with_all = ["settings", "load"])]
    all: bool,
    /// Apply the net.ipv4.vs settings of a sysctl.d(5) file and ignore the rest; - is standard input
    #[arg(
        short = 'p',
        long,
        value_name = "FILE",
        num_args = 0..=1,
        default_missing_value = "/etc/sysctl.conf",
        allow_hyphen_values = true
    )]
    load: Vec<PathBuf>,
    /// Accepted for scripts: a name with a value is set in any case
    #[arg(short, long)]
    write: bool,
    /// Print values without their names
    #[arg(short = 'n', long)]
    values: bool,
    /// Print names without their values
    #[arg(short = 'N', long, conflicts_with = "values")]
    names: bool,
    /// Ignore unknown names
    #[arg(short = 'e', long)]
    ignore: bool,
    /// Do not print what is set
    #[arg(short, long)]
    quiet: bool,
}

/// A sysctl's name and the value to set.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    name: &'static str,
    value: Option<String>,
}

/// What is wrong with a setting.
#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    /// No sysctl has that name.
    Name(String),
    /// The kernel would not take the value.
    Value(String),
}

impl Wrong {
    fn message(self) -> String {
        match self {
            Self::Name(message) | Self::Value(message) => message,
        }
    }
}

/// Reads or sets each, and prints `net.ipv4.vs.NAME = VALUE`.
pub(crate) fn main(args: &Args) -> ExitCode {
    let settings = match wanted(args) {
        Ok(settings) => settings,
        Err((code, messages)) => {
            for message in messages {
                eprintln!("{message}");
            }
            return ExitCode::from(code);
        }
    };
    settings
        .into_iter()
        .map(|setting| carry_out(setting, args))
        .find(|code| *code != ExitCode::SUCCESS)
        .unwrap_or_default()
}

/// All that is to be done, or the exit code with all that is wrong.
fn wanted(args: &Args) -> Result<Vec<Setting>, (u8, Vec<String>)> {
    if args.all {
        let all = Sysctls::NAMES.iter();
        return Ok(all.map(|name| Setting { name, value: None }).collect());
    }
    if !args.load.is_empty() {
        let more = args.settings.iter().map(PathBuf::from);
        let files: Vec<PathBuf> = args.load.iter().cloned().chain(more).collect();
        return file::settings(&files, args.ignore);
    }
    let mut settings = Vec::new();
    let mut messages = Vec::new();
    for text in &args.settings {
        match parse(text) {
            Ok(setting) => settings.push(setting),
            Err(Wrong::Name(_)) if args.ignore => {}
            Err(wrong) => messages.push(wrong.message()),
        }
    }
    if messages.is_empty() {
        Ok(settings)
    } else {
        Err((super::USAGE, messages))
    }
}

fn carry_out(Setting { name, value }: Setting, args: &Args) -> ExitCode {
    let note = value.as_ref().and_then(|value| {
        let mut sysctls = Sysctls::default();
        sysctls.set(name, value).ok()?;
        sysctls.note(name)
    });
    let silent = args.quiet && value.is_some();
    let asked = daemon::ask(ask::Sysctl(SysctlRequest {
        name: name.to_owned(),
        value: value.map(SysctlValue::from),
    }));
    let value = match asked {
        Ok(value) => value,
        Err(code) => return code,
    };
    if let Some(note) = note {
        eprintln!("{note}");
    }
    let prefix = Sysctls::PREFIX;
    match (silent, args.names, args.values) {
        (true, ..) => ExitCode::SUCCESS,
        (_, true, _) => output::print(&format!("{prefix}{name}\n")),
        (_, _, true) => output::print(&format!("{value}\n")),
        _ => output::print(&format!("{prefix}{name} = {value}\n")),
    }
}

fn parse(text: &str) -> Result<Setting, Wrong> {
    let (path, value) = match text.split_once('=') {
        Some((path, value)) => (path, Some(value)),
        None => (text, None),
    };
    let (path, prefix) = (path.trim(), Sysctls::PREFIX);
    let wanted = dotted(path);
    let wanted = wanted.strip_prefix(prefix);
    let name = Sysctls::NAMES.iter().find(|name| wanted == Some(name));
    let Some(name) = name else {
        let known = Sysctls::NAMES.join(", ");
        return Err(Wrong::Name(format!(
            "{path}: no such sysctl; there are, each after {prefix}: {known}"
        )));
    };
    let value = value.map(|value| value.trim().to_owned());
    if let Some(value) = &value {
        check(name, value)?;
    }
    Ok(Setting { name, value })
}

/// A name with dots, which may have been a path.
fn dotted(path: &str) -> String {
    let path = path.strip_prefix("/proc/sys/").unwrap_or(path);
    path.replace('/', ".")
}

fn check(name: &str, value: &str) -> Result<(), Wrong> {
    match Sysctls::default().set(name, value) {
        Err(SysctlError::Value { what, wanted }) => Err(Wrong::Value(format!(
            "{}{name}: {what}; use {wanted}",
            Sysctls::PREFIX
        ))),
        Ok(()) | Err(SysctlError::Unknown) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_with_dots_or_slashes() {
        let setting = |value: Option<&str>| {
            Ok(Setting {
                name: "expire_nodest_conn",
                value: value.map(str::to_owned),
            })
        };
        for (text, value) in [
            ("net.ipv4.vs.expire_nodest_conn", None),
            ("net/ipv4/vs/expire_nodest_conn=1", Some("1")),
            ("net.ipv4.vs.expire_nodest_conn = 0", Some("0")),
            ("/proc/sys/net/ipv4/vs/expire_nodest_conn", None),
        ] {
            assert_eq!(parse(text), setting(value), "{text}");
        }
        let pair = parse("net.ipv4.vs.sync_threshold=3\t50").expect("a pair");
        assert_eq!(pair.value.as_deref(), Some("3\t50"));
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
                "net.ipv4.vs.drop_entry: 9 is out of range; use a whole number from 0 to 3",
            ),
            (
                "net.ipv4.vs.drop_entry=yes",
                "\"yes\" is not a whole number",
            ),
            ("net.ipv4.vs.drop_entry=", "\"\" is not a whole number"),
        ] {
            let error = parse(text).expect_err(text).message();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
