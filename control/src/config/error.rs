//! What is wrong with a configuration, for people (a caret under the value), for logs and for replies
//! on the control socket (one greppable line each).

use std::fmt;
use std::ops::Range;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
};
use serde::Serialize;

/// Problems that are printed; past them the rest is only counted.
const MAX_SHOWN: usize = 20;

/// Columns of a rendered report; fixed, so that a message is the same everywhere.
const WIDTH: usize = 100;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{file}: {source}")]
    Unreadable {
        /// The file as it was named.
        file: String,
        /// The host's reason.
        source: std::io::Error,
    },
    /// The file was read and is wrong.
    #[error("{0}")]
    Invalid(Box<Invalid>),
}

/// Everything that is wrong with one file.
#[derive(Debug)]
pub struct Invalid {
    file: String,
    source: NamedSource<String>,
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The bytes of the file that it is about.
    pub(super) span: Range<usize>,
    /// The key, from the top (`service.server.weight`); empty where it is no key's fault.
    pub(super) key: String,
    /// What is wrong.
    pub(super) what: String,
    /// What would be right.
    pub(super) help: String,
    /// Where the same thing was said first.
    pub(super) first: Option<Range<usize>>,
}

/// One thing that is wrong, for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its line in the file, from 1; `None` where the file could not be read.
    pub line: Option<usize>,
    /// Its column in that line, from 1, in characters.
    pub column: Option<usize>,
    /// The key, from the top (`service.server.weight`); empty where it is no key's fault.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What would be right; empty where nobody knows.
    pub help: String,
}

impl Finding {
    /// Of something that is not in the file.
    pub const fn without_place(what: String) -> Self {
        Self {
            line: None,
            column: None,
            key: String::new(),
            what,
            help: String::new(),
        }
    }
}

impl ConfigError {
    /// Everything that is wrong, in the file's order.
    pub fn findings(&self) -> Vec<Finding> {
        match self {
            Self::Unreadable { .. } => vec![Finding::without_place(self.to_string())],
            Self::Invalid(invalid) => {
                let problems = invalid.problems.iter();
                problems.map(|problem| invalid.finding(problem)).collect()
            }
        }
    }

    pub(super) fn invalid(name: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|p| p.span.start);
        let source = NamedSource::new(name, text.to_owned());
        Self::Invalid(Box::new(Invalid {
            file: name.to_owned(),
            source,
            problems,
        }))
    }

    /// The error as it is shown to a person: each problem with its lines and a caret under the value.
    pub fn report(&self, colour: bool) -> String {
        match self {
            Self::Unreadable { .. } => format!("{self}\n"),
            Self::Invalid(invalid) => invalid.report(colour),
        }
    }
}

impl Invalid {
    fn finding(&self, problem: &Problem) -> Finding {
        let (line, column) = self.position(problem.span.start);
        Finding {
            line: Some(line),
            column: Some(column),
            key: problem.key.clone(),
            what: problem.what.clone(),
            help: problem.help.clone(),
        }
    }

    fn report(&self, colour: bool) -> String {
        let theme = if colour {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::none()
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(WIDTH)
            .with_links(false)
            .with_wrap_lines(false);
        let mut out = String::new();
        for problem in self.shown() {
            // Writing to a string cannot fail; an unprintable source would only cost its lines.
            let _ = handler.render_report(
                &mut out,
                &Shown {
                    problem,
                    source: &self.source,
                },
            );
            out.push('\n');
        }
        out.push_str(&self.summary());
        out.push('\n');
        out
    }

    fn shown(&self) -> &[Problem] {
        &self.problems[..self.problems.len().min(MAX_SHOWN)]
    }

    fn summary(&self) -> String {
        let count = self.problems.len();
        let plural = if count == 1 { "" } else { "s" };
        let hidden = match count.saturating_sub(MAX_SHOWN) {
            0 => String::new(),
            more => format!(" ({more} more not shown)"),
        };
        format!("{}: {count} error{plural}{hidden}", self.file)
    }

    /// Line and column of a byte, both from 1, columns in characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let text = self.source.inner();
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.shown().iter().enumerate() {
            let (line, column) = self.position(problem.span.start);
            let newline = if i == 0 { "" } else { "\n" };
            write!(
                f,
                "{newline}{}:{line}:{column}: {problem}; {}",
                self.file, problem.help
            )?;
            if let Some(first) = &problem.first {
                write!(f, " (first at line {})", self.position(first.start).0)?;
            }
        }
        if self.problems.len() > MAX_SHOWN {
            write!(f, "\n{}", self.summary())?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => f.write_str(&self.what),
            key => write!(f, "{key}: {}", self.what),
        }
    }
}

/// A problem beside the text it is about, as miette wants to see it.
#[derive(Debug)]
struct Shown<'a> {
    problem: &'a Problem,
    source: &'a NamedSource<String>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.problem.help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let here = self
            .problem
            .first
            .is_some()
            .then(|| "again here".to_owned());
        let here = LabeledSpan::new_primary_with_span(here, self.problem.span.clone());
        let first = self.problem.first.clone();
        let first =
            first.map(|span| LabeledSpan::new_with_span(Some("first here".to_owned()), span));
        Some(Box::new(first.into_iter().chain([here])))
    }
}
