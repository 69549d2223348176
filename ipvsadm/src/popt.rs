//! Tokens as popt makes them, ipvsadm's option parser: clusters (`-Ln`), glued values (`-tX`, `-t=X`),
//! `--long=X`, values that may be left out, no abbreviations, arguments anywhere.

use super::options::{Kind, Opt, Row, Value, options};

/// An option with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) opt: Opt,
    /// What it counts as where it may be given once only.
    pub(super) kind: Option<Kind>,
    pub(super) value: Option<&'a str>,
}

/// A token that is none. popt names the whole word it met it in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TokenError<'a> {
    /// There is no such option.
    Unknown(&'a str),
    /// The value is missing.
    MissingValue(&'a str),
    /// `--long=value` or `-s=value` of an option that takes none.
    UnwantedValue(&'a str),
}

/// Walks over the words of a command line.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    words: &'a [String],
    next: usize,
    cluster: &'a str,
    arguments: Vec<&'a str>,
    word: &'a str,
}

impl<'a> Tokens<'a> {
    /// Tokens of `words`, which do not include the program's name.
    pub(super) fn new(words: &'a [String]) -> Self {
        Self {
            words,
            next: 0,
            cluster: "",
            arguments: Vec::new(),
            word: "",
        }
    }

    /// The word the last token ended in.
    pub(super) fn word(&self) -> &'a str {
        self.word
    }

    /// The arguments that belong to no option, in order; complete when [`Self::token`] gave `None`.
    pub(super) fn into_arguments(self) -> Vec<&'a str> {
        self.arguments
    }

    /// The next option, `None` at the end.
    pub(super) fn token(&mut self) -> Result<Option<Token<'a>>, TokenError<'a>> {
        if !self.cluster.is_empty() {
            return self.short().map(Some);
        }
        while let Some(word) = self.take() {
            if word == "--" {
                self.arguments
                    .extend(self.words[self.next..].iter().map(String::as_str));
                self.next = self.words.len();
            } else if let Some(long) = word.strip_prefix("--") {
                return self.long(long).map(Some);
            } else if word.len() > 1 && word.starts_with('-') {
                self.cluster = &word[1..];
                return self.short().map(Some);
            } else {
                self.arguments.push(word);
            }
        }
        Ok(None)
    }

    fn take(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.next)?;
        self.next += 1;
        self.word = word;
        Some(word)
    }

    fn long(&mut self, text: &'a str) -> Result<Token<'a>, TokenError<'a>> {
        let (name, glued) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let row = options().find(|o| o.long == name);
        let row = row.ok_or(TokenError::Unknown(self.word))?;
        if row.value == Value::None && glued.is_some() {
            return Err(TokenError::UnwantedValue(self.word));
        }
        self.finish(&row, glued)
    }

    fn short(&mut self) -> Result<Token<'a>, TokenError<'a>> {
        let mut rest = self.cluster.chars();
        let letter = rest.next();
        self.cluster = rest.as_str();
        let row = options().find(|o| letter.is_some_and(|l| o.short.contains(&l)));
        let row = row.ok_or(TokenError::Unknown(self.word))?;
        if row.value == Value::None {
            if self.cluster.starts_with('=') {
                return Err(TokenError::UnwantedValue(self.word));
            }
            return self.finish(&row, None);
        }
        let rest = std::mem::take(&mut self.cluster);
        let glued = (!rest.is_empty()).then(|| rest.strip_prefix('=').unwrap_or(rest));
        self.finish(&row, glued)
    }

    fn finish(&mut self, row: &Row, glued: Option<&'a str>) -> Result<Token<'a>, TokenError<'a>> {
        let value = match row.value {
            Value::Required if glued.is_none() => {
                let word = self.word;
                Some(self.take().ok_or(TokenError::MissingValue(word))?)
            }
            Value::Optional if glued.is_none() => {
                let next = self.words.get(self.next);
                if next.is_some_and(|w| w.starts_with('-')) {
                    None
                } else {
                    self.take()
                }
            }
            Value::None | Value::Required | Value::Optional => glued,
        };
        Ok(Token {
            opt: row.opt,
            kind: row.kind,
            value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_and_glued_values_are_taken_apart() {
        let want = Ok(vec![
            (Opt::List, None),
            (Opt::Numeric, None),
            (Opt::Tcp, Some("a:1")),
        ]);
        for line in [
            "-Lnta:1",
            "-Lnt=a:1",
            "-Lnt a:1",
            "-L -n -t a:1",
            "--list --numeric --tcp-service=a:1",
        ] {
            assert_eq!(tokens(&words(line)), want, "{line}");
        }
    }

    #[test]
    fn an_optional_value_is_the_next_word_unless_that_is_an_option() {
        let of = |line| {
            let words = words(line);
            let tokens = tokens(&words).expect("good options");
            tokens[0].1.map(str::to_owned)
        };
        assert_eq!(of("-p 60"), Some("60".to_owned()));
        assert_eq!(of("-p60 x"), Some("60".to_owned()));
        assert_eq!(of("--persistent=60"), Some("60".to_owned()));
        assert_eq!(of("-p -s rr"), None);
        assert_eq!(of("-p --"), None);
        assert_eq!(of("-p"), None);
    }

    #[test]
    fn a_bad_option_is_named_by_its_whole_word() {
        assert_eq!(tokens(&words("-L -nq")), Err(TokenError::Unknown("-nq")));
        assert_eq!(
            tokens(&words("--list=3")),
            Err(TokenError::UnwantedValue("--list=3"))
        );
        assert_eq!(
            tokens(&words("-Ln=3")),
            Err(TokenError::UnwantedValue("-Ln=3"))
        );
        assert_eq!(
            tokens(&words("-A -nt")),
            Err(TokenError::MissingValue("-nt"))
        );
        assert_eq!(
            tokens(&words("--lis")),
            Err(TokenError::Unknown("--lis")),
            "no abbreviations"
        );
    }

    #[test]
    fn arguments_may_stand_anywhere_and_all_follow_two_dashes() {
        let words = words("a -L - b -- -n c");
        let mut tokens = Tokens::new(&words);
        assert!(matches!(
            tokens.token(),
            Ok(Some(Token { opt: Opt::List, .. }))
        ));
        assert_eq!(tokens.token(), Ok(None));
        assert_eq!(tokens.into_arguments(), ["a", "-", "b", "-n", "c"]);
    }

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    fn tokens(words: &[String]) -> Result<Vec<(Opt, Option<&str>)>, TokenError<'_>> {
        let mut tokens = Tokens::new(words);
        let mut all = Vec::new();
        while let Some(token) = tokens.token()? {
            all.push((token.opt, token.value));
        }
        Ok(all)
    }
}
