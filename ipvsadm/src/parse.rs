//! One command line: its words become a [`Line`].

use uvs_control::protocol::SyncRole;

use super::line::Line;
use super::names::Names;
use super::options::{Opt, Verb};
use super::popt::{TokenError, Tokens};
use super::stop::{Stop, usage};
use super::{check, set};

/// What a command line asks for.
pub(super) enum Action {
    /// `-h`
    Help,
    /// `-v`
    Version,
    /// A command with its options.
    Run(Box<Line>),
}

/// Parses a command line, without the program's name.
pub(super) fn parse(words: &[String], names: &dyn Names) -> Result<Action, Stop> {
    let mut tokens = Tokens::new(words);
    let Ok(Some(first)) = tokens.token() else {
        return Err(Stop::hint());
    };
    let verb = match first.opt {
        Opt::Help => return Ok(Action::Help),
        Opt::Version => return Ok(Action::Version),
        other => Verb::of(other).ok_or_else(Stop::hint)?,
    };
    let role = daemon_state(verb, first.value)?;
    let mut line = Line::new(verb);
    if let Some(role) = role {
        line.sync.role = role;
    }
    // Read last, as `-s` may still follow.
    let mut flag_names = "";
    loop {
        match tokens.token() {
            Ok(Some(token)) if is_command(token.opt) => {
                return Err(usage(format!("invalid option `{}'", tokens.word())));
            }
            Ok(Some(token)) => {
                set::option(&mut line, token, names)?;
                if token.opt == Opt::SchedFlags {
                    flag_names = token.value.unwrap_or_default();
                }
            }
            Ok(None) => break,
            Err(error) => return Err(bad_token(&error)),
        }
    }
    let rest = set::arguments(&mut line, &tokens.into_arguments())?;
    if let Some(argument) = rest {
        return Err(usage(format!("unexpected argument {argument}")));
    }
    line.flags = set::sched_flags(flag_names, line.scheduler())?;
    check::line(&line)?;
    Ok(Action::Run(Box::new(line)))
}

fn is_command(opt: Opt) -> bool {
    matches!(opt, Opt::Help | Opt::Version) || Verb::of(opt).is_some()
}

fn bad_token(error: &TokenError<'_>) -> Stop {
    let message = match error {
        TokenError::Unknown(word) => format!("{word}: unknown option"),
        TokenError::MissingValue(word) => format!("{word}: missing argument"),
        TokenError::UnwantedValue(word) => format!("{word}: option does not take an argument"),
    };
    Stop::refused(message)
}

/// Which sync daemon a command is about, where it is about one.
fn daemon_state(verb: Verb, state: Option<&str>) -> Result<Option<SyncRole>, Stop> {
    let role = state.and_then(SyncRole::from_word);
    match verb {
        Verb::StartDaemon if role.is_none() => {
            Err(usage("illegal start-daemon parameter specified"))
        }
        // The misprint is the original's, and it is what scripts see.
        Verb::StopDaemon if role.is_none() => Err(usage("illegal start_daemon specified")),
        _ => Ok(role),
    }
}
