//! Typed reading of a TOML document that goes on after a mistake.
//!
//! `serde` stops at the first thing it does not like, and a person would then fix a file error by
//! error. This reader walks the parsed document, keeps every value's place, notes what is wrong in one
//! list and answers `None`, so that the caller carries on with the next key.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;

/// A word of which at least this share is a known one (Damerau–Levenshtein) is taken for a slip.
const SIMILAR: f64 = 0.5;

/// The list of what is wrong.
#[derive(Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(super) fn add(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }

    pub(super) fn into_inner(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// A table whose keys are known.
pub(super) struct Fields<'a> {
    entries: &'a DeTable<'a>,
    path: String,
    keys: &'static [&'static str],
    problems: &'a Problems,
}

impl<'a> Fields<'a> {
    /// Reads a table; keys that are not in `keys` are reported here.
    pub(super) fn new(
        entries: &'a DeTable<'a>,
        path: String,
        keys: &'static [&'static str],
        problems: &'a Problems,
    ) -> Self {
        let fields = Self {
            entries,
            path,
            keys,
            problems,
        };
        for (key, _) in entries {
            if !keys.contains(&key.get_ref().as_ref()) {
                fields.report_unknown(key);
            }
        }
        fields
    }

    /// The value of a key, where it is there.
    pub(super) fn get(&self, key: &'static str) -> Option<Value<'a>> {
        debug_assert!(
            self.keys.contains(&key),
            "{key} is read but not among the table's keys"
        );
        let (_, value) = self.entries.iter().find(|(k, _)| k.get_ref() == key)?;
        Some(Value::new(self.full_name(key), value, self.problems))
    }

    /// A whole number within `range`, where the key is there and it is right.
    pub(super) fn integer<T: TryFrom<i64>>(
        &self,
        key: &'static str,
        range: RangeInclusive<i64>,
    ) -> Option<T> {
        self.get(key)?.integer(range)
    }

    fn full_name(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn report_unknown(&self, key: &Spanned<std::borrow::Cow<'_, str>>) {
        let place = if self.path.is_empty() {
            "at the top"
        } else {
            "here"
        };
        self.problems.add(Problem {
            span: key.span(),
            key: self.full_name(key.get_ref()),
            what: "unknown key".to_owned(),
            help: suggest(key.get_ref(), self.keys, &format!("keys {place}")),
            first: None,
        });
    }
}

/// A value with its key and its place in the file.
pub(super) struct Value<'a> {
    key: String,
    span: Range<usize>,
    value: &'a DeValue<'a>,
    problems: &'a Problems,
}

impl<'a> Value<'a> {
    fn new(key: String, value: &'a Spanned<DeValue<'a>>, problems: &'a Problems) -> Self {
        Self {
            key,
            span: value.span(),
            value: value.get_ref(),
            problems,
        }
    }

    /// Its place.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Notes that it is wrong and what would be right.
    pub(super) fn refuse(&self, what: impl Into<String>, help: impl Into<String>) {
        self.note(what.into(), help.into(), None);
    }

    /// Notes that the same thing is already at `first`.
    pub(super) fn refuse_again(&self, what: String, help: &str, first: Range<usize>) {
        self.note(what, help.to_owned(), Some(first));
    }

    /// A string, where it is one.
    pub(super) fn text(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    /// A string.
    pub(super) fn string(&self) -> Option<&'a str> {
        self.value
            .as_str()
            .or_else(|| self.mistyped("a string in quotes"))
    }

    /// A whole number, or a string in quotes, as text.
    pub(super) fn number_or_string(&self) -> Option<String> {
        if let Some(number) = self.value.as_integer() {
            let value = i64::from_str_radix(number.as_str(), number.radix()).ok();
            return Some(value.map_or_else(|| number.as_str().to_owned(), |v| v.to_string()));
        }
        let text = self.value.as_str().map(str::to_owned);
        text.or_else(|| self.mistyped("a whole number or a string in quotes"))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        self.value
            .as_bool()
            .or_else(|| self.mistyped("true or false"))
    }

    /// A whole number within `range`.
    pub(super) fn integer<T: TryFrom<i64>>(&self, range: RangeInclusive<i64>) -> Option<T> {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(number) = self.value.as_integer() else {
            return self.mistyped(&wanted);
        };
        let value = i64::from_str_radix(number.as_str(), number.radix()).ok();
        let fits = value
            .filter(|v| range.contains(v))
            .and_then(|v| T::try_from(v).ok());
        if fits.is_none() {
            self.refuse(
                format!("{} is out of range", number.as_str()),
                format!("use {wanted}"),
            );
        }
        fits
    }

    /// The value that one of a few words stands for.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Option<T> {
        let word = self.string()?;
        let found = choices
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.refuse(
                format!("unknown value \"{word}\""),
                suggest(word, &names, "known"),
            );
        }
        found
    }

    /// The members of an array; empty where it is none.
    pub(super) fn items(&self) -> Vec<Self> {
        let Some(array) = self.value.as_array() else {
            let wanted = match self.is_table() {
                true => format!("double brackets: [[{}]]", self.key),
                false => "an array: [ … ]".to_owned(),
            };
            return self.mistyped(&wanted).unwrap_or_default();
        };
        array
            .iter()
            .map(|v| Self::new(self.key.clone(), v, self.problems))
            .collect()
    }

    /// Whether it is an array.
    pub(super) fn is_array(&self) -> bool {
        self.value.is_array()
    }

    /// Whether it is a string.
    pub(super) fn is_string(&self) -> bool {
        self.value.as_str().is_some()
    }

    /// Whether it is a table.
    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// The keys of a table.
    pub(super) fn fields(&self, keys: &'static [&'static str]) -> Option<Fields<'a>> {
        match self.value.as_table() {
            Some(table) => Some(Fields::new(table, self.key.clone(), keys, self.problems)),
            None => self.mistyped("a table"),
        }
    }

    fn mistyped<T>(&self, wanted: &str) -> Option<T> {
        let article = if matches!(self.value, DeValue::Integer(_) | DeValue::Array(_)) {
            "an"
        } else {
            "a"
        };
        self.refuse(
            format!("is {article} {}", self.value.type_str()),
            format!("use {wanted}"),
        );
        None
    }

    fn note(&self, what: String, help: String, first: Option<Range<usize>>) {
        self.problems.add(Problem {
            span: self.span(),
            key: self.key.clone(),
            what,
            help,
            first,
        });
    }
}

/// "did you mean …", where `word` looks like a known one, and the known ones in any case.
pub(super) fn suggest(word: &str, known: &[&str], title: &str) -> String {
    let score = |k: &&str| strsim::normalized_damerau_levenshtein(word, k);
    let nearest = known
        .iter()
        .rev()
        .copied()
        .max_by(|a, b| score(a).total_cmp(&score(b)));
    let list = format!("{title}: {}", known.join(", "));
    match nearest.filter(|n| score(n) >= SIMILAR) {
        Some(nearest) => format!("did you mean \"{nearest}\"? {list}"),
        None => list,
    }
}
