//! What a person sees: the commands as typed, short sentences, small tables. Colour on a terminal only.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use crate::share::Share;

/// Where a lab tells what it does.
pub struct Screen {
    out: Box<dyn Write>,
    colour: bool,
}

#[derive(Clone, Copy)]
enum Ink {
    Bold,
    Dim,
    Green,
    Red,
}

impl Screen {
    /// Standard output.
    pub fn stdout() -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            out: Box::new(io::stdout()),
            colour,
        }
    }

    /// Anywhere else, without colour.
    pub fn plain(out: Box<dyn Write>) -> Self {
        Self { out, colour: false }
    }

    /// A heading.
    pub fn title(&mut self, text: impl Display) {
        let line = self.ink(Ink::Bold, &format!("== {text}"));
        self.line(format!("\n{line}"));
    }

    /// A sentence.
    pub fn say(&mut self, text: impl Display) {
        self.line(format!("  {text}"));
    }

    /// A command as typed on a host.
    pub fn command(&mut self, host: &str, command: impl Display) {
        let prompt = self.ink(Ink::Dim, &format!("{host}#"));
        self.line(format!("  {prompt} {command}"));
    }

    /// A program's output, as it came.
    pub fn quote(&mut self, text: &str) {
        text.lines()
            .for_each(|line| self.line(format!("      {line}")));
    }

    /// Who answered how many, against what the weights say.
    pub fn shares(&mut self, shares: &[Share]) {
        self.line("      real server  weight  expected  answered".to_owned());
        for share in shares {
            let verdict = if share.expected == share.answered {
                self.ink(Ink::Green, "exact")
            } else if share.is_right() {
                self.ink(Ink::Green, "right: workers go round each for itself")
            } else {
                self.ink(Ink::Red, "WRONG")
            };
            let Share {
                server,
                weight,
                expected,
                answered,
            } = share;
            self.line(format!(
                "      {server:<11}  {weight:>6}  {expected:>8}  {answered:>8}  {verdict}"
            ));
        }
    }

    /// A line that says that something is well.
    pub fn good(&mut self, text: impl Display) {
        let line = self.ink(Ink::Green, &text.to_string());
        self.say(line);
    }

    /// A line that says that something is not.
    pub fn bad(&mut self, text: impl Display) {
        let line = self.ink(Ink::Red, &text.to_string());
        self.say(line);
    }

    fn line(&mut self, text: String) {
        // A reader that went away (`| head`) must not keep the lab from being taken down.
        let _ = writeln!(self.out, "{text}").and_then(|()| self.out.flush());
    }

    fn ink(&self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Green => "32",
            Ink::Red => "1;31",
        };
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
