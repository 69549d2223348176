//! What makes a question: a row of [`questions!`] gives it a struct, its word, who may ask it and the type
//! of its answer. That type is all that a caller can get for it and all that the daemon can give.

use serde::de::Error;
use serde_json::value::RawValue;

use super::{Command, Errno, Refusal, Rest};

/// An answer or a part of one as it goes over the wire, e.g. `{"sysctl":1}` or `"done"`.
pub type Encoded = Box<RawValue>;

/// A command that knows what it is answered by.
pub trait Question: Into<Command> {
    /// What the daemon answers.
    type Answer;

    /// The answer, or a part of it, as it goes over the wire.
    ///
    /// # Errors
    /// It has something that JSON has not, as a map whose keys are no strings.
    fn encode(answer: Self::Answer) -> serde_json::Result<Encoded>;

    /// Reads what [`Question::encode`] wrote.
    ///
    /// # Errors
    /// It is no answer to this question: the daemon is of another release.
    fn decode(part: &RawValue) -> serde_json::Result<Self::Answer>;

    /// Adds the next part to those before it.
    ///
    /// # Errors
    /// Only a [`Listing`] is answered in parts.
    fn append(_all: &mut Self::Answer, _part: Self::Answer) -> serde_json::Result<()> {
        Err(serde_json::Error::custom("an answer in parts"))
    }
}

/// An answer that may come in parts.
pub trait Parts {
    /// Adds the next part to those before it.
    fn append(&mut self, part: Self);
}

impl<T> Parts for Vec<T> {
    fn append(&mut self, mut part: Self) {
        Self::append(self, &mut part);
    }
}

/// A question whose answer may be too long for one reply.
pub trait Listing: Question<Answer: Parts> {
    /// What brings the part from this cursor on.
    fn rest(self, from: u64) -> Rest;
}

/// Answers a question, whole.
pub trait Answers<Q: Question> {
    /// The answer.
    ///
    /// # Errors
    /// Why there is none; nothing was changed.
    fn answer(&mut self, question: Q) -> Result<Q::Answer, Refusal>;
}

/// Answers a question, part by part.
pub trait Lists<Q: Listing> {
    /// The part from a cursor on, which is 0 or what came with the part before, and the next part's cursor
    /// unless this is the last.
    ///
    /// # Errors
    /// Why there is none.
    fn part(&mut self, question: &Q, from: u64) -> Result<(Q::Answer, Option<u64>), Refusal>;
}

/// Has a listing answered whole.
///
/// # Errors
/// Why there is none.
pub fn all<Q: Listing>(question: &Q, by: &mut impl Lists<Q>) -> Result<Q::Answer, Refusal> {
    let (mut all, mut next) = by.part(question, 0)?;
    while let Some(from) = next {
        let part;
        (part, next) = by.part(question, from)?;
        all.append(part);
    }
    Ok(all)
}

/// What goes out for a command.
#[derive(Debug)]
pub enum Answer {
    /// All of it, or the last part.
    Last(Result<Encoded, Refusal>),
    /// A part, and what brings the next one when the client has room for it.
    Part(Encoded, Rest),
}

/// Has a question answered whole.
pub fn whole<Q: Question>(question: Q, by: &mut impl Answers<Q>) -> Answer {
    Answer::Last(by.answer(question).and_then(encode::<Q>))
}

/// Has the part from a cursor on answered.
pub(super) fn part<Q: Listing>(question: Q, from: u64, by: &mut impl Lists<Q>) -> Answer {
    let part = by.part(&question, from);
    match part.and_then(|(answer, next)| Ok((encode::<Q>(answer)?, next))) {
        Ok((answer, Some(next))) => Answer::Part(answer, question.rest(next)),
        Ok((answer, None)) => Answer::Last(Ok(answer)),
        Err(refusal) => Answer::Last(Err(refusal)),
    }
}

fn encode<Q: Question>(answer: Q::Answer) -> Result<Encoded, Refusal> {
    Q::encode(answer).map_err(|error| Refusal {
        errno: Errno::Failed,
        message: format!("the answer cannot be sent: {error}"),
    })
}

/// Who may give a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Whoever may open the socket.
    Read,
    /// Root and the daemon's own user.
    Write,
}

/// The questions, one row each: what is asked, `->` the answer's word and type, and who may ask. A row without
/// an answer is answered `"done"`. A question's word is its name in snake case. What is listed `in parts` is
/// answered by [`Lists`], all else by [`Answers`].
macro_rules! questions {
    (
        whole { $(
            $(#[$doc:meta])*
            $Q:ident $(($asked:ident: $of:ty))? $(-> $word:ident: $answer:ty)?, $right:expr;
        )* }
        in parts { $(
            $(#[$list_doc:meta])*
            $L:ident $(($list_asked:ident: $list_of:ty))? -> $list_word:ident: $list:ty, $list_right:expr;
        )* }
    ) => {
        /// What a daemon can be asked, and asked to do, beside changes of its table.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Ask {
            $( $(#[$doc])* $Q $(($of))?, )*
            $( $(#[$list_doc])* $L $(($list_of))?, )*
        }

        impl Ask {
            /// Who may ask it.
            #[allow(unused_variables, reason = "few rights depend on what exactly is asked")]
            pub(super) fn right(&self) -> Right {
                match self {
                    $( Self::$Q $(($asked))? => $right, )*
                    $( Self::$L $(($list_asked))? => $list_right, )*
                }
            }

            /// Has it answered.
            pub(super) fn put_to(self, daemon: &mut impl Responder) -> Answer {
                match self {
                    $( Self::$Q $(($asked))? => whole($Q $(($asked))?, daemon), )*
                    $( Self::$L $(($list_asked))? => part($L $(($list_asked))?, 0, daemon), )*
                }
            }
        }

        /// The part of an answer that is to come, and the cursor that it begins at.
        #[derive(Clone, Debug)]
        pub enum Rest {
            $( $(#[$list_doc])* $L($L, u64), )*
        }

        impl Rest {
            /// Has the next part answered.
            pub fn put_to(self, daemon: &mut impl Responder) -> Answer {
                match self {
                    $( Self::$L(question, from) => part(question, from, daemon), )*
                }
            }
        }

        /// Whoever has an answer to every command: the daemon.
        pub trait Responder: Answers<Change> $( + Answers<$Q> )* $( + Lists<$L> )* {}

        impl<D> Responder for D where D: Answers<Change> $( + Answers<$Q> )* $( + Lists<$L> )* {}

        $(
            question! { $(#[$doc])* $Q $(($asked: $of))? }
            answered! { $Q $(-> $word: $answer)? }
        )*
        $(
            question! { $(#[$list_doc])* $L $(($list_asked: $list_of))? }
            answered! { $L -> $list_word: $list, with {
                fn append(all: &mut $list, part: $list) -> serde_json::Result<()> {
                    Parts::append(all, part);
                    Ok(())
                }
            } }

            impl Listing for $L {
                fn rest(self, from: u64) -> Rest {
                    Rest::$L(self, from)
                }
            }
        )*
    };
}

/// The struct that asks a question.
macro_rules! question {
    ($(#[$doc:meta])* $Q:ident $(($asked:ident: $of:ty))?) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $Q $((pub $of))?;

        impl From<$Q> for Command {
            fn from(question: $Q) -> Self {
                let $Q $(($asked))? = question;
                Self::Ask(Ask::$Q $(($asked))?)
            }
        }
    };
}

/// What answers a command. On the wire it is an enum of a single word, so that serde refuses every other.
macro_rules! answered {
    ($Q:ident) => {
        const _: () = {
            #[derive(Serialize, Deserialize)]
            #[serde(rename_all = "snake_case")]
            enum Wire {
                Done,
            }

            impl Question for $Q {
                type Answer = ();

                fn encode((): ()) -> serde_json::Result<Encoded> {
                    to_raw_value(&Wire::Done)
                }

                fn decode(part: &RawValue) -> serde_json::Result<()> {
                    serde_json::from_str(part.get()).map(|Wire::Done| ())
                }
            }
        };
    };
    ($Q:ident -> $word:ident: $answer:ty $(, with { $append:item })?) => {
        const _: () = {
            #[derive(Serialize, Deserialize)]
            #[expect(non_camel_case_types, reason = "the word as it is on the wire")]
            enum Wire {
                $word($answer),
            }

            impl Question for $Q {
                type Answer = $answer;

                fn encode(answer: $answer) -> serde_json::Result<Encoded> {
                    to_raw_value(&Wire::$word(answer))
                }

                fn decode(part: &RawValue) -> serde_json::Result<$answer> {
                    serde_json::from_str(part.get()).map(|Wire::$word(answer)| answer)
                }

                $($append)?
            }
        };
    };
}

pub(super) use {answered, question, questions};
