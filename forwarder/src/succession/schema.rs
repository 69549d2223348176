//! What the estate's bytes mean, told from its types: every value that may be in it with its place and its kind, a line
//! each. `estate.txt` is what that is for [`VERSION`]; whoever changes a type that is handed down, in whatever crate,
//! changes it too.
//!
//! What the words mean that a scheduler tells of its state (`Scheduler::state`) is not in it, nor what the hook's maps mean,
//! which have a version of their own.
//!
//! Types are asked what they read (`Deserialize`) and are given one of everything. A type reads one of an enum's variants
//! at a time, so it is asked again until all were read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::de::value::{Error, U32Deserializer};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::{Estate, VERSION};
use crate::worker;

/// Elements of a tuple from which on it is an array, whose elements are alike.
const ARRAY: usize = 4;
/// What types are given for a number or a text: one that takes the first refuses none, others try the next.
const NUMBERS: [u8; 4] = [1, 0, 6, 17];
const TEXTS: [&str; 5] = ["", "192.0.2.0/24", "tcp 192.0.2.1:80", "rr", "192.0.2.1"];

/// What is known of a type.
#[derive(Default)]
struct Known {
    /// By place.
    kinds: BTreeMap<String, String>,
    /// By an enum's place: how many variants were read, of how many.
    variants: BTreeMap<String, (usize, usize)>,
    /// By the place of a number or a text: which of them is given.
    given: BTreeMap<String, usize>,
    /// Where one was given last.
    last: String,
}

impl Known {
    fn of<T: for<'de> Deserialize<'de>>(name: &str) -> Self {
        let mut known = Self::default();
        loop {
            let before = known.variants.clone();
            let at = At::new(&mut known, name.to_owned());
            if let Err(why) = T::deserialize(at) {
                known.variants = before;
                let place = known.last.clone();
                let tried = known.given.entry(place.clone()).or_default();
                *tried += 1;
                let all = TEXTS.len().max(NUMBERS.len());
                assert!(
                    *tried < all,
                    "{place} takes nothing that it is given: {why}"
                );
            } else if known.variants.values().all(|(read, of)| read >= of) {
                return known;
            }
        }
    }
}

/// A place that something is read from.
struct At<'k> {
    known: &'k mut Known,
    place: String,
}

impl<'k> At<'k> {
    fn new(known: &'k mut Known, place: String) -> Self {
        Self { known, place }
    }

    fn note(&mut self, kind: impl Into<String>) {
        let kind = kind.into();
        let known = self.known.kinds.insert(self.place.clone(), kind.clone());
        assert!(
            known.is_none_or(|k| k == kind),
            "{} is two things",
            self.place
        );
    }

    fn choice(&mut self, kind: &str) -> usize {
        self.note(kind);
        self.known.last.clone_from(&self.place);
        self.known.given.get(&self.place).copied().unwrap_or(0)
    }

    fn number(&mut self, kind: &str) -> u8 {
        NUMBERS[self.choice(kind) % NUMBERS.len()]
    }

    fn text(&mut self, kind: &str) -> &'static str {
        TEXTS[self.choice(kind) % TEXTS.len()]
    }

    fn elements(self, names: Vec<String>) -> Elements<'k> {
        Elements {
            known: self.known,
            place: self.place,
            names: names.into_iter(),
        }
    }
}

/// Several places, one after the other.
struct Elements<'k> {
    known: &'k mut Known,
    place: String,
    names: std::vec::IntoIter<String>,
}

impl Elements<'_> {
    fn next(&mut self) -> Option<At<'_>> {
        let place = format!("{}{}", self.place, self.names.next()?);
        Some(At::new(self.known, place))
    }
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.next().map(|at| seed.deserialize(at)).transpose()
    }
}

impl<'de> MapAccess<'de> for Elements<'_> {
    type Error = Error;

    fn next_key_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.next().map(|at| seed.deserialize(at)).transpose()
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.next().expect("each key has a value"))
    }
}

fn tuple(len: usize) -> Vec<String> {
    let name = |i| match len {
        ..ARRAY => format!(".{i}"),
        _ => format!("[{len}]"),
    };
    (0..len).map(name).collect()
}

fn fields(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!(".{name}")).collect()
}

/// An enum's variant.
struct Variant<'k> {
    at: At<'k>,
    index: u32,
    name: &'static str,
}

impl<'k> Variant<'k> {
    /// Where its content is read from.
    fn content(self) -> At<'k> {
        let place = format!("{}::{}", self.at.place, self.name);
        At::new(self.at.known, place)
    }
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Error> {
        let index: U32Deserializer<Error> = self.index.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.content())
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(self.content().elements(tuple(len)))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut at = self.content();
        at.note(names.join(", "));
        visitor.visit_seq(at.elements(fields(names)))
    }
}

macro_rules! numbers {
    ($($read:ident $visit:ident $type:ty),* $(,)?) => {$(
        fn $read<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(<$type>::from(self.number(stringify!($type))))
        }
    )*};
}

macro_rules! texts {
    ($($read:ident $kind:literal),* $(,)?) => {$(
        fn $read<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
            visitor.visit_borrowed_str(self.text($kind))
        }
    )*};
}

impl<'de> Deserializer<'de> for At<'_> {
    type Error = Error;

    fn is_human_readable(&self) -> bool {
        false
    }

    numbers! {
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64, deserialize_u128 visit_u128 u128, deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64, deserialize_i128 visit_i128 i128,
        deserialize_f32 visit_f32 f32, deserialize_f64 visit_f64 f64, deserialize_char visit_char char,
    }

    texts! { deserialize_str "text", deserialize_string "text" }

    fn deserialize_i8<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i8(self.number("i8").cast_signed())
    }

    fn deserialize_bool<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.note("bool");
        visitor.visit_bool(false)
    }

    fn deserialize_bytes<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.note("bytes");
        visitor.visit_borrowed_bytes(&[])
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let place = format!("{}?", self.place);
        visitor.visit_some(At::new(self.known, place))
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.note("nothing");
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(self.elements(vec!["[]".to_owned()]))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(self.elements(tuple(len)))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(self.elements(vec!["{key}".to_owned(), "{}".to_owned()]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.note(names.join(", "));
        visitor.visit_seq(self.elements(fields(names)))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.note(names.join(" | "));
        let variants = self.known.variants.entry(self.place.clone());
        let (read, of) = variants.or_insert((0, names.len()));
        let index = *read % *of;
        *read += 1;
        visitor.visit_enum(Variant {
            at: self,
            index: u32::try_from(index).expect("few"),
            name: names[index],
        })
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        unreachable!("postcard has no names")
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        panic!("{} cannot be read by postcard", self.place)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
}

fn schema() -> String {
    let mut text = format!("version {VERSION}\n");
    let parts = [
        Known::of::<Estate>("daemon"),
        Known::of::<worker::Estate<'static>>("worker"),
    ];
    for (place, kind) in parts.iter().flat_map(|known| &known.kinds) {
        writeln!(text, "{place}: {kind}").expect("memory");
    }
    text
}

#[test]
fn a_type_that_is_handed_down_changes_with_the_version() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/succession/estate.txt");
    let (now, known) = (schema(), include_str!("estate.txt"));
    if std::env::var_os("UVS_WRITE_ESTATE").is_some() {
        return std::fs::write(file, now).expect("written");
    }
    if now == known {
        return;
    }
    let mut differs = known.lines().map(|l| ("-", l)).collect::<Vec<_>>();
    differs.extend(now.lines().map(|l| ("+", l)));
    differs.retain(|(_, line)| {
        let has = |text: &str| text.lines().any(|l| l == *line);
        !(has(known) && has(&now))
    });
    let lines: Vec<_> = differs
        .iter()
        .map(|(sign, l)| format!("{sign} {l}"))
        .collect();
    panic!(
        "what a daemon hands down has changed:\n{}\nThe running daemon of a release with the same version would be \
         misunderstood: raise VERSION in forwarder/src/succession/mod.rs (once from release to release), and run this \
         test again with UVS_WRITE_ESTATE=1",
        lines.join("\n")
    );
}
