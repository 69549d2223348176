//! Refusing what is right as a file and yet cannot be had on this host, at its place in the file.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Problem};

/// One step into the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a table, by a key.
    Key(&'static str),
    /// Into an array.
    Item(usize),
}

/// The error that says so: `what` is wrong with the value that the steps lead to, and `help` would be right.
pub fn refuse(path: &Path, steps: &[Step], what: String, help: &str) -> ConfigError {
    let name = path.display().to_string();
    // A file that went since it was loaded costs the place only.
    let text = File::open(path).and_then(super::read).unwrap_or_default();
    let problem = Problem {
        span: find(&text, steps),
        key: key(steps),
        what,
        help: help.to_owned(),
        first: None,
    };
    ConfigError::invalid(&name, &text, vec![problem])
}

/// The span of the last step that is there; the file's start where none is.
fn find(text: &str, steps: &[Step]) -> Range<usize> {
    let (document, _) = DeTable::parse_recoverable(text);
    let mut steps = steps.iter();
    let Some(Step::Key(first)) = steps.next() else {
        return 0..0;
    };
    let Some(mut at) = document.get_ref().get(*first) else {
        return 0..0;
    };
    for step in steps {
        match enter(at.get_ref(), *step) {
            Some(next) => at = next,
            None => break,
        }
    }
    at.span()
}

fn enter<'v, 'text>(value: &'v DeValue<'text>, step: Step) -> Option<&'v Spanned<DeValue<'text>>> {
    match step {
        Step::Key(key) => value.as_table()?.get(key),
        Step::Item(item) => value.as_array()?.get(item),
    }
}

fn key(steps: &[Step]) -> String {
    let keys = steps.iter().filter_map(|step| match step {
        Step::Key(key) => Some(*key),
        Step::Item(_) => None,
    });
    keys.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "interfaces = [\"eth0\"]\n[[service]]\nlocal_addresses = [\"10.0.0.1\", \"10.0.0.2\"]\n";

    fn found(steps: &[Step]) -> &'static str {
        &TEXT[find(TEXT, steps)]
    }

    #[test]
    fn a_value_is_found_by_its_steps() {
        use Step::{Item, Key};
        assert_eq!(found(&[Key("interfaces")]), "[\"eth0\"]");
        let local = [Key("service"), Item(0), Key("local_addresses"), Item(1)];
        assert_eq!(found(&local), "\"10.0.0.2\"");
        assert_eq!(key(&local), "service.local_addresses");
        assert_eq!(
            found(&[Key("limits")]),
            "",
            "what is not there is at the start"
        );
    }
}
