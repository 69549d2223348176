//! Standard output for the native commands: for people or for programs, aligned columns, and a quiet end where the
//! reader left.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::ValueEnum;

/// The ways of showing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// Everything, for programs
    Json,
}

/// How a command shows what it has found.
#[derive(clap::Args)]
pub(crate) struct Shown {
    /// How to show it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    /// Short for --output json
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

impl Shown {
    /// For people or for programs.
    pub(crate) const fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }
}

/// A value as programs get it: JSON, and the end of the line.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).expect("plain data with string keys is JSON") + "\n"
}

/// Prints `text`. A reader that has gone (`uvs show conns | head`) is no failure.
pub(crate) fn print(text: &str) -> ExitCode {
    match try_print(text) {
        Ok(_) => ExitCode::SUCCESS,
        Err(code) => code,
    }
}

/// Prints `text`; whether there is still a reader.
///
/// # Errors
/// The exit code; the reason is printed already.
pub(crate) fn try_print(text: &str) -> Result<bool, ExitCode> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => {
            eprintln!("standard output: {error}");
            Err(ExitCode::from(super::FAILED))
        }
    }
}

/// A column: its title, and whether it holds numbers, which are aligned at their last digit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    title: &'static str,
    numeric: bool,
}

impl Column {
    /// Its title.
    pub(crate) const fn title(&self) -> &'static str {
        self.title
    }

    /// The same under another title.
    pub(crate) const fn titled(self, title: &'static str) -> Self {
        Self { title, ..self }
    }

    /// Whether its cells end in line.
    pub(crate) const fn is_numeric(&self) -> bool {
        self.numeric
    }
}

/// A column of words.
pub(crate) const fn text(title: &'static str) -> Column {
    Column {
        title,
        numeric: false,
    }
}

/// A column of numbers.
pub(crate) const fn number(title: &'static str) -> Column {
    Column {
        title,
        numeric: true,
    }
}

/// Rows under their titles, each column as wide as its widest cell; no blanks at the end of a line.
pub(crate) fn table(columns: &[Column], rows: &[Vec<String>]) -> String {
    let titles: Vec<String> = columns
        .iter()
        .map(|column| column.title.to_owned())
        .collect();
    let lines = || std::iter::once(&titles).chain(rows);
    let width = |i: usize| lines().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut out = String::new();
    for row in lines() {
        let cells = row
            .iter()
            .zip(columns)
            .zip(&widths)
            .map(|((cell, column), &width)| {
                if column.numeric {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_start_and_numbers_end_in_line() {
        let columns = [text("SERVER"), number("WEIGHT"), text("MODE")];
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [
            row(["10.0.0.2:80", "3", "dr"]),
            row(["10.0.0.12:80", "100", ""]),
        ];
        assert_eq!(
            table(&columns, &rows),
            "SERVER        WEIGHT  MODE\n\
             10.0.0.2:80        3  dr\n\
             10.0.0.12:80     100\n"
        );
    }

    #[test]
    fn no_rows_leave_the_titles() {
        assert_eq!(
            table(&[text("REASON"), number("COUNT")], &[]),
            "REASON  COUNT\n"
        );
    }
}
