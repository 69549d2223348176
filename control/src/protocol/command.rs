//! A command on the wire: a change's word or a question's, with what belongs to it.

use std::fmt;

use serde::de::value::{self, EnumAccessDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, VariantAccess, Visitor,
};
use serde::{Deserialize, Deserializer, Serialize, forward_to_deserialize_any};

use super::ask::Responder;
use super::question::{Answer, Right, whole};
use super::{Ask, Change};

/// What a request wants: that the table be changed, or that a question be answered.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Command {
    /// Answered `"done"`.
    Change(Change),
    /// Answered by what the question names.
    Ask(Ask),
}

impl Command {
    /// Who may give it.
    pub fn right(&self) -> Right {
        match self {
            Self::Change(_) => Right::Write,
            Self::Ask(ask) => ask.right(),
        }
    }

    /// Has it carried out.
    pub fn put_to(self, daemon: &mut impl Responder) -> Answer {
        match self {
            Self::Change(change) => whole(change, daemon),
            Self::Ask(ask) => ask.put_to(daemon),
        }
    }
}

/// What it asks for, as it comes after "refused: to".
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change(change) => fmt::Display::fmt(change, f),
            Self::Ask(ask) => {
                let word = serde_json::to_value(ask)
                    .ok()
                    .and_then(|value| match value {
                        serde_json::Value::String(word) => Some(word),
                        serde_json::Value::Object(of) => of.keys().next().cloned(),
                        _ => None,
                    });
                f.write_str(&word.unwrap_or_default().replace('_', " "))
            }
        }
    }
}

impl From<Change> for Command {
    fn from(change: Change) -> Self {
        Self::Change(change)
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_enum("Command", &[], ByWord)
    }
}

/// Reads the word, and hands it with the rest to the one of the two enums that has it.
struct ByWord;

impl<'de> Visitor<'de> for ByWord {
    type Value = Command;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Command, A::Error> {
        let (word, content) = data.variant::<String>()?;
        let (changes, questions) = (words::<Change>(), words::<Ask>());
        let is_one_of = |words: &[&str]| words.contains(&word.as_str());
        if is_one_of(changes) {
            Change::deserialize(worded(word, content)).map(Command::Change)
        } else if is_one_of(questions) {
            Ask::deserialize(worded(word, content)).map(Command::Ask)
        } else {
            let known = [changes, questions].concat().join("`, `");
            let what = format!("unknown variant `{word}`, expected one of `{known}`");
            Err(de::Error::custom(what))
        }
    }
}

/// An enum of which the word has been read.
fn worded<'de, C>(word: String, content: C) -> EnumAccessDeserializer<Worded<C>>
where
    C: VariantAccess<'de>,
{
    EnumAccessDeserializer::new(Worded { word, content })
}

struct Worded<C> {
    word: String,
    content: C,
}

impl<'de, C: VariantAccess<'de>> EnumAccess<'de> for Worded<C> {
    type Error = C::Error;
    type Variant = C;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, C), C::Error> {
        let word = seed.deserialize(self.word.into_deserializer())?;
        Ok((word, self.content))
    }
}

/// The words of an enum, as it tells them to whoever reads one.
fn words<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Words<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Words<'_> {
        type Error = value::Error;

        fn deserialize_enum<V: Visitor<'de>>(
            self,
            _: &'static str,
            words: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = words;
            self.deserialize_any(visitor)
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(de::Error::custom("there is nothing to read but the words"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
        }
    }

    let mut words: &[&str] = &[];
    let read = T::deserialize(Words(&mut words));
    debug_assert!(read.is_err() && !words.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Errno, Info, Question, Refusal, SysctlValue, ask};

    #[test]
    fn commands_are_their_words_with_what_belongs_to_them() {
        let service = r#"{"address":{"protocol":"tcp","addr":"10.0.0.1","port":80}}"#;
        let server = r#"{"addr":"10.0.0.2","port":80}"#;
        for line in [
            r#""clear""#.to_owned(),
            r#"{"set_timeouts":{"tcp":0,"tcp_fin":0,"udp":5}}"#.to_owned(),
            format!(r#"{{"delete_service":{service}}}"#),
            format!(r#"{{"delete_server":[{service},{server}]}}"#),
            format!(r#"{{"batch":["clear",{{"delete_service":{service}}}]}}"#),
            r#""info""#.to_owned(),
            r#"{"zero":null}"#.to_owned(),
            r#"{"list_access":7}"#.to_owned(),
            r#"{"sysctl":{"name":"drop_entry","value":1}}"#.to_owned(),
        ] {
            let command: Command = serde_json::from_str(&line).expect("a command");
            assert_eq!(serde_json::to_string(&command).expect("JSON"), line);
        }
    }

    #[test]
    fn what_is_no_command_is_told() {
        for (line, said) in [
            (
                r#""fly""#,
                "unknown variant `fly`, expected one of `add_service`, `edit_service`",
            ),
            (r#"{"sysctl":{"nam":"x"}}"#, "unknown field `nam`"),
            (r#"{"clear":1}"#, "expected unit"),
            (r#""add_service""#, "expected newtype variant"),
            (r#"{"batch":["clear","info"]}"#, "unknown variant `info`"),
            ("5", "expected value"),
        ] {
            let error = serde_json::from_str::<Command>(line)
                .expect_err(line)
                .to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
    }

    #[test]
    fn an_answer_has_its_questions_word_and_no_other_passes() {
        let done = ask::Reload::encode(()).expect("JSON");
        let value = ask::Sysctl::encode(SysctlValue::Number(1)).expect("JSON");
        let info = ask::Info::encode(Info::default()).expect("JSON");
        assert_eq!((done.get(), value.get()), (r#""done""#, r#"{"sysctl":1}"#));
        assert!(Change::decode(&done).is_ok() && ask::Info::decode(&info).is_ok());
        let error = ask::Sysctl::decode(&info).expect_err("no sysctl");
        assert!(
            error
                .to_string()
                .contains("unknown variant `info`, expected `sysctl`"),
            "{error}"
        );
        assert!(ask::Reload::decode(&info).is_err() && ask::Info::decode(&done).is_err());
        let refusal = Refusal {
            errno: Errno::NotFound,
            message: "no such service".to_owned(),
        };
        let outcomes = ask::Batch::encode(vec![Ok(()), Err(refusal)]).expect("JSON");
        assert_eq!(
            outcomes.get(),
            r#"{"outcomes":[{"Ok":null},{"Err":{"errno":"not_found","message":"no such service"}}]}"#
        );
    }
}
