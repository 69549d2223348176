//! `-R`: the rules on standard input, one a line.
//!
//! As ipvsadm goes on behind a refused rule and stops at one it cannot read, so does this. Rules that follow each
//! other go to the daemon together: a table of a thousand services is put in force a few times, not
//! thousands of times.

use uvs_control::client::{Asking, CallError};
use uvs_control::protocol::{Change, MAX_BATCH, ask};

use super::Session;
use super::messages;
use super::options::Verb;
use super::parse::{Action, parse};
use super::stop::{self, Stop};

/// How the last rule ended; told already where it was refused.
type Last = Result<(), Stop>;

/// Rules that have been read and not yet sent.
#[derive(Default)]
struct Waiting {
    verbs: Vec<Verb>,
    changes: Vec<Change>,
}

impl Session<'_, '_> {
    /// Carries the rules out. The exit code is the last one's.
    pub(super) fn restore(&mut self) -> Last {
        let mut waiting = Waiting::default();
        let mut last = Ok(());
        let mut text = Vec::new();
        loop {
            text.clear();
            if self.io.stdin.read_until(b'\n', &mut text)? == 0 {
                return self.send(&mut waiting, last)?;
            }
            let text = String::from_utf8_lossy(&text);
            let words = text
                .split_ascii_whitespace()
                .skip_while(|w| *w == "ipvsadm");
            let words: Vec<String> = words.map(str::to_owned).collect();
            if !words.is_empty() {
                last = self.rule(&words, &mut waiting, last)?;
            }
        }
    }

    /// One rule, and how it ended; an error ends them all.
    fn rule(&mut self, words: &[String], waiting: &mut Waiting, last: Last) -> Result<Last, Stop> {
        if let Ok(Action::Run(line)) = parse(words, self.io.names)
            && let Some(change) = line.change()?
        {
            waiting.verbs.push(line.verb);
            waiting.changes.push(change);
            return if waiting.changes.len() < MAX_BATCH {
                Ok(last)
            } else {
                self.send(waiting, last)
            };
        }
        // Anything else is for the table as the rules before have left it.
        self.send(waiting, last)?.ok();
        match self.line(words, true) {
            Err(stop) if !stop.all => Ok(Err(self.report(stop))),
            Err(stop) => Err(stop),
            Ok(()) => Ok(Ok(())),
        }
    }

    /// Sends what waits, and says how the last of it ended; `last` where nothing waits.
    fn send(&mut self, waiting: &mut Waiting, last: Last) -> Result<Last, Stop> {
        if waiting.changes.is_empty() {
            return Ok(last);
        }
        let Waiting { verbs, changes } = std::mem::take(waiting);
        let outcomes = match self.daemon.ask(ask::Batch(changes.clone())) {
            Ok(outcomes) => outcomes,
            // For instance that this user may not change anything: so it is with each of them.
            Err(CallError::Refused(refusal)) => vec![Err(refusal); changes.len()],
            Err(unreachable) => return Err(stop::usage(unreachable.to_string())),
        };
        let done = changes.iter().zip(&outcomes).filter(|(_, o)| o.is_ok());
        self.remark_absent(&done.map(|(change, _)| change).collect::<Vec<_>>());
        let mut last = Ok(());
        for ((verb, change), outcome) in verbs.into_iter().zip(&changes).zip(outcomes) {
            if outcome.is_ok() {
                self.remark(change);
            }
            last = outcome.map_err(|refusal| {
                let message = messages::refusal(verb, Some(change), refusal);
                self.report(Stop::refused(message))
            });
        }
        Ok(last)
    }
}
