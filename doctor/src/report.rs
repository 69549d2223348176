//! The whole of what doctor says: for reading, and as JSON whose keys stay.

use std::fmt::Write;

use serde::Serialize;

use super::catalog::{Check, Severity};
use super::finding::{Finding, Fix, NotMade, Seen};

/// The version of the JSON form: it rises when a key goes or changes its meaning.
const VERSION: u32 = 1;
/// Things that an `ok` line names before it only counts them.
const NAMED: usize = 4;
/// Columns of an id in the text, as long as the longest.
const ID_WIDTH: usize = 20;

/// What was looked at, and what came of it.
#[derive(Debug)]
pub struct Report {
    role: &'static str,
    about: String,
    lines: Vec<Line>,
    not_made: Vec<Unmade>,
}

/// A finding, or a check without one.
#[derive(Debug, Serialize)]
struct Line {
    id: Check,
    severity: Severity,
    seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<Fix>,
    docs: String,
}

#[derive(Debug, Serialize)]
struct Unmade {
    id: Check,
    reason: String,
}

/// How many of each.
#[derive(Debug, Default, Serialize)]
struct Summary {
    error: usize,
    warning: usize,
    note: usize,
    ok: usize,
    not_made: usize,
}

#[derive(Serialize)]
struct Json<'r> {
    version: u32,
    role: &'r str,
    about: &'r str,
    findings: &'r [Line],
    not_made: &'r [Unmade],
    summary: Summary,
}

impl Report {
    /// An empty report about a host in its role.
    pub(super) fn new(role: &'static str, about: String) -> Self {
        Self {
            role,
            about,
            lines: Vec::new(),
            not_made: Vec::new(),
        }
    }

    /// Takes in what a check brought.
    pub(super) fn add(&mut self, check: Check, outcome: Result<Seen, NotMade>) {
        match outcome {
            Err(NotMade(reason)) => self.not_made.push(Unmade { id: check, reason }),
            Ok(seen) if seen.findings.is_empty() => self.lines.push(Line {
                id: check,
                severity: Severity::Ok,
                seen: shortened(&seen.looked),
                why: None,
                fix: None,
                docs: check.docs(),
            }),
            Ok(seen) => self.lines.extend(grouped(seen.findings)),
        }
    }

    /// Whether there is a finding of severity error.
    pub fn has_errors(&self) -> bool {
        self.summary().error > 0
    }

    /// For programs.
    ///
    /// # Errors
    /// Never in practice: everything in it can be written.
    pub fn json(&self) -> serde_json::Result<String> {
        let json = Json {
            version: VERSION,
            role: self.role,
            about: &self.about,
            findings: &self.lines,
            not_made: &self.not_made,
            summary: self.summary(),
        };
        serde_json::to_string_pretty(&json).map(|text| text + "\n")
    }

    /// For reading: what is worst first.
    pub fn text(&self) -> String {
        let mut lines: Vec<&Line> = self.lines.iter().collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.severity));
        let mut out = format!("{}: {}\n\n", self.role, self.about);
        for line in lines {
            // Writing to a string cannot fail.
            let _ = line.write(&mut out);
        }
        for Unmade { id, reason } in &self.not_made {
            let _ = writeln!(out, "{:<9}{id:<ID_WIDTH$}  {reason}", "not made");
        }
        let s = self.summary();
        let _ = writeln!(
            out,
            "\nerrors {}, warnings {}, notes {}, ok {}, not made {}",
            s.error, s.warning, s.note, s.ok, s.not_made
        );
        out
    }

    /// As Nagios and its like want a plugin to speak: one line of what is worst, with what is counted behind a bar, and
    /// the whole below.
    pub fn nagios(&self) -> (NagiosState, String) {
        let summary = self.summary();
        let state = match &summary {
            Summary { error: 1.., .. } => NagiosState::Critical,
            Summary { warning: 1.., .. } => NagiosState::Warning,
            Summary { ok: 0, note: 0, .. } => NagiosState::Unknown,
            Summary { .. } => NagiosState::Ok,
        };
        let worst = self.lines.iter().max_by_key(|line| line.severity);
        let worst = worst.filter(|line| line.severity >= Severity::Warning);
        let worst = worst.map_or_else(
            || self.about.clone(),
            |line| format!("{}: {}", line.id, line.seen),
        );
        let Summary {
            error,
            warning,
            note,
            ok,
            not_made,
        } = summary;
        let counted = format!(
            "errors={error};;0;0 warnings={warning};0;;0 notes={note};;;0 ok={ok};;;0 not_made={not_made};;;0"
        );
        let said = state.line(&format!("{error} errors, {warning} warnings: {worst}"));
        (
            state,
            format!("{said} | {counted}\n{}", unbarred(&self.text())),
        )
    }

    fn summary(&self) -> Summary {
        let of = |severity| self.lines.iter().filter(|l| l.severity == severity).count();
        Summary {
            error: of(Severity::Error),
            warning: of(Severity::Warning),
            note: of(Severity::Note),
            ok: of(Severity::Ok),
            not_made: self.not_made.len(),
        }
    }
}

/// A plugin's states, by their exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum NagiosState {
    /// Nothing is wrong.
    Ok = 0,
    /// There are warnings.
    Warning = 1,
    /// There are errors.
    Critical = 2,
    /// It cannot be told.
    Unknown = 3,
}

impl NagiosState {
    /// The one line that is shown.
    pub fn line(self, what: &str) -> String {
        let name = match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        };
        format!("UVS {name} - {}", unbarred(what).replace('\n', " "))
    }
}

/// Behind a bar is what is counted.
fn unbarred(text: &str) -> String {
    text.replace('|', "¦")
}

impl Line {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        let (severity, id, seen) = (self.severity.name(), self.id, &self.seen);
        writeln!(out, "{severity:<9}{id:<ID_WIDTH$}  {seen}")?;
        if let Some(why) = self.why {
            writeln!(out, "{:9}why: {why}", "")?;
        }
        if let Some(Fix { on, command }) = &self.fix {
            let place = on
                .as_ref()
                .map_or_else(|| "here".to_owned(), |on| format!("on {on}"));
            writeln!(out, "{:9}fix it {place}:\n{:13}{command}", "", "")?;
            writeln!(out, "{:9}see {}\n", "", self.docs)?;
        }
        Ok(())
    }
}

/// Findings that one command fixes are one line.
fn grouped(findings: Vec<Finding>) -> Vec<Line> {
    let mut groups: Vec<(Check, Fix, Vec<String>)> = Vec::new();
    for Finding { check, seen, fix } in findings {
        match groups.iter_mut().find(|(c, f, _)| (*c, &fix) == (check, f)) {
            Some((_, _, all)) => all.push(seen),
            None => groups.push((check, fix, vec![seen])),
        }
    }
    let line = |(check, fix, seen): (Check, Fix, Vec<String>)| Line {
        id: check,
        severity: check.severity(),
        seen: shortened(&seen),
        why: Some(check.why()),
        fix: Some(fix),
        docs: check.docs(),
    };
    groups.into_iter().map(line).collect()
}

/// The first few, and how many more.
fn shortened(looked: &[String]) -> String {
    let named = looked
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join("; ");
    match looked.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("director", "1 interface".to_owned());
        let mut well = Seen::default();
        for what in ["eth0 0", "eth1 0", "a", "b", "c"] {
            well.well(what);
        }
        report.add(Check::RpFilter, Ok(well));
        let mut wrong = Seen::default();
        for what in ["eth0: lro is on", "eth0: lro is on", "eth0 again"] {
            let fix = "ethtool -K eth0 lro off".to_owned();
            wrong.wrong(Finding::here(Check::LargeReceive, what.to_owned(), fix));
        }
        report.add(Check::LargeReceive, Ok(wrong));
        report.add(
            Check::VipDuplicate,
            Err(NotMade("needs CAP_NET_RAW".to_owned())),
        );
        report
    }

    #[test]
    fn nagios_is_told_in_a_line_and_by_the_state() {
        let (state, text) = report().nagios();
        assert_eq!(state, NagiosState::Critical);
        let (line, rest) = text.split_once('\n').expect("lines");
        assert_eq!(
            line,
            "UVS CRITICAL - 1 errors, 0 warnings: large_receive: eth0: lro is on; eth0 again | \
             errors=1;;0;0 warnings=0;0;;0 notes=0;;;0 ok=1;;;0 not_made=1;;;0"
        );
        assert_eq!(rest, report().text());

        let state = |checks: &[(Check, bool)]| {
            let mut report = Report::new("director", "1 interface".to_owned());
            for (check, well) in checks {
                let mut seen = Seen::default();
                if *well {
                    seen.well("a | b");
                } else {
                    seen.wrong(Finding::here(
                        *check,
                        "a | b".to_owned(),
                        "x | y".to_owned(),
                    ));
                }
                report.add(*check, Ok(seen));
            }
            let (state, text) = report.nagios();
            assert_eq!(text.matches('|').count(), 1, "{text}");
            state
        };
        let of = |severity| Check::ALL.iter().find(|c| c.severity() == severity);
        let [warning, note] = [Severity::Warning, Severity::Note].map(|s| *of(s).expect("one"));
        assert_eq!(
            state(&[(note, true), (warning, false)]),
            NagiosState::Warning
        );
        assert_eq!(state(&[(note, false)]), NagiosState::Ok);
        assert_eq!(state(&[(warning, true)]), NagiosState::Ok);
        assert_eq!(
            state(&[]),
            NagiosState::Unknown,
            "nothing could be looked at"
        );
    }

    #[test]
    fn the_worst_comes_first_and_all_is_counted() {
        let why = Check::LargeReceive.why();
        assert_eq!(
            report().text(),
            format!(
                "director: 1 interface\n\n\
                 error    large_receive         eth0: lro is on; eth0 again\n         why: {why}\n         \
                 fix it here:\n             ethtool -K eth0 lro off\n         \
                 see docs/doctor.md#large_receive\n\n\
                 ok       rp_filter             eth0 0; eth1 0; a; b; and 1 more\n\
                 not made vip_duplicate         needs CAP_NET_RAW\n\n\
                 errors 1, warnings 0, notes 0, ok 1, not made 1\n"
            )
        );
    }

    #[test]
    fn the_json_has_the_documented_keys() {
        let text = report().json().expect("it can be written");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let keys = |v: &serde_json::Value| -> Vec<String> {
            let object = v.as_object().expect("an object");
            object.keys().cloned().collect()
        };
        let top = [
            "about", "findings", "not_made", "role", "summary", "version",
        ];
        assert_eq!(sorted(keys(&json)), top);
        let finding = &json["findings"][1];
        let all = ["docs", "fix", "id", "seen", "severity", "why"];
        assert_eq!(sorted(keys(finding)), all);
        assert_eq!(finding["fix"]["command"], "ethtool -K eth0 lro off");
        assert_eq!(json["findings"][0]["severity"], "ok");
        assert_eq!(json["not_made"][0]["id"], "vip_duplicate");
        assert_eq!(json["summary"]["not_made"], 1);
    }

    fn sorted(mut keys: Vec<String>) -> Vec<String> {
        keys.sort();
        keys
    }
}
