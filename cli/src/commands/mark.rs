//! `uvs mark`: which packets have which firewall mark, for the services of `ipvsadm -f`.
//!
//! A packet socket sees a frame before netfilter could mark it, so the rules are the daemon's own. A
//! protocol holds for all destinations after it: `uvs mark 1 tcp VIP:80 VIP:443`.

use std::process::ExitCode;

use uvs_control::protocol::{Change, ask};
use uvs_core::marks::{Destination, MarkRule};

use super::output::{Format, number, table, text};
use super::{USAGE, daemon, output};

/// A mark, and what has it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The mark; alone, its rules are listed
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    mark: Option<u32>,
    /// tcp, udp, sctp or any, then ADDRESS[/LENGTH][:PORT[-LAST]], one or more
    #[arg(value_name = "MATCH", requires = "mark")]
    matches: Vec<String>,
    /// Remove these rules, or all of the mark
    #[arg(short, long, requires = "mark")]
    delete: bool,
    /// How to list
    #[arg(short, long, value_enum, default_value = "table", conflicts_with_all = ["delete", "matches"])]
    output: Format,
}

/// Adds, removes or lists.
pub(crate) fn main(args: &Args) -> ExitCode {
    let matches = match read(&args.matches) {
        Ok(matches) => matches,
        Err(message) => {
            eprintln!("uvs mark: {message}");
            return ExitCode::from(USAGE);
        }
    };
    match args.mark {
        Some(mark) if args.delete => change(Change::Unmark(mark, matches)),
        Some(mark) if !matches.is_empty() => change(Change::Mark(mark, matches)),
        only => list(only, args.output),
    }
}

fn change(change: Change) -> ExitCode {
    match daemon::change(change) {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => code,
    }
}

fn list(only: Option<u32>, format: Format) -> ExitCode {
    let mut rules = match daemon::ask(ask::ListMarks) {
        Ok(rules) => rules,
        Err(code) => return code,
    };
    rules.retain(|r| only.is_none_or(|mark| r.mark == mark));
    output::print(&match format {
        Format::Table => as_table(&rules),
        Format::Json => format!("{}\n", serde_json::json!(rules)),
    })
}

fn as_table(rules: &[MarkRule]) -> String {
    let row = |r: &MarkRule| vec![r.mark.to_string(), r.to.to_string()];
    let rows: Vec<_> = rules.iter().map(row).collect();
    table(&[number("MARK"), text("MATCH")], &rows)
}

/// Words as a person may have quoted them: a word without a digit is the protocol of those after it.
fn read(words: &[String]) -> Result<Vec<Destination>, String> {
    let mut protocol = None;
    let mut matches = Vec::new();
    let mut pending = None;
    for word in words.iter().flat_map(|w| w.split_whitespace()) {
        if !word.contains(|c: char| c.is_ascii_digit()) {
            if let Some(idle) = pending.replace(word) {
                return Err(nothing_for(idle));
            }
            protocol = Some(word);
            continue;
        }
        let Some(protocol) = protocol else {
            let help = "begin with a protocol: tcp, udp, sctp or any";
            return Err(format!("\"{word}\" has no protocol: {help}"));
        };
        pending = None;
        let to: Result<Destination, _> = format!("{protocol} {word}").parse();
        matches.push(to.map_err(|e| e.to_string())?);
    }
    match pending {
        Some(idle) => Err(nothing_for(idle)),
        None => Ok(matches),
    }
}

fn nothing_for(protocol: &str) -> String {
    format!("\"{protocol}\" has no destination: write ADDRESS[/LENGTH][:PORT[-LAST]] after it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(words: &[&str]) -> Result<Vec<String>, String> {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        read(&words).map(|all| all.into_iter().map(String::from).collect())
    }

    #[test]
    fn a_protocol_holds_until_the_next() {
        let all = [
            "tcp 192.0.2.1:80",
            "tcp 192.0.2.1:443",
            "udp 192.0.2.0/24:5000-5100",
        ];
        let words = [
            "tcp",
            "192.0.2.1:80",
            "192.0.2.1:443",
            "udp",
            "192.0.2.0/24:5000-5100",
        ];
        assert_eq!(said(&words), Ok(all.map(str::to_owned).to_vec()));
        assert_eq!(said(&all), said(&words), "quoted");
        assert_eq!(said(&[]), Ok(Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_told_before_a_daemon_is_asked() {
        for (words, text) in [
            (&["192.0.2.1:80"][..], "\"192.0.2.1:80\" has no protocol"),
            (&["tcp"], "\"tcp\" has no destination"),
            (
                &["tcp", "udp", "192.0.2.1:80"],
                "\"tcp\" has no destination",
            ),
            (&["icmp", "192.0.2.1"], "\"icmp\" is no protocol"),
            (&["tcp", "192.0.2.1:99999"], "\"99999\" is not a port"),
        ] {
            let error = said(words).expect_err(text);
            assert!(error.contains(text), "{error}");
        }
    }
}
