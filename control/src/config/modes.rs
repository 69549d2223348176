//! The words of modes and tunnels, as keys take them and messages list them. They are the rows' of core.

use uvs_core::service::{Forwarding, TunnelChecksum, TunnelKind};

use super::fields::Fields;

/// The checksums of tunnels by their words.
pub(super) const CHECKSUMS: &[(&str, TunnelChecksum)] = &[
    ("none", TunnelChecksum::None),
    ("full", TunnelChecksum::Full),
    ("remote", TunnelChecksum::Remote),
];

/// The mode that is written here, else `default`. After a wrong word the rest is checked as for NAT,
/// which forbids least, so that one mistake does not look like several.
pub(super) fn mode(fields: &Fields<'_>, default: Forwarding) -> Forwarding {
    let written = fields.get("mode").map(|value| value.choice(&methods()));
    written.map_or(default, |mode| mode.unwrap_or(Forwarding::Nat))
}

/// The methods by their words.
fn methods() -> Vec<(&'static str, Forwarding)> {
    let all = Forwarding::ALL.iter();
    all.map(|method| (method.def().word, *method)).collect()
}

/// The kinds of tunnels by their words.
pub(super) fn kinds() -> Vec<(&'static str, TunnelKind)> {
    let all = TunnelKind::ALL.iter();
    all.map(|kind| (kind.def().word, *kind)).collect()
}

/// Whether tunnels of a kind can have this checksum; any can have none.
pub(super) fn can_have(kind: TunnelKind, checksum: TunnelChecksum) -> bool {
    checksum == TunnelChecksum::None || kind.def().checksums.contains(&checksum)
}

/// The methods like this: `dr and ipip`.
pub(super) fn methods_that(are: impl Fn(Forwarding) -> bool) -> String {
    listed(&words(&methods(), are), "and")
}

/// One of the methods like this: `"nat" or "fullnat"`.
pub(super) fn one_method_that(is: impl Fn(Forwarding) -> bool) -> String {
    one_quoted(&words(&methods(), is))
}

/// One of the kinds like this: `"gue"`.
pub(super) fn one_kind_that(is: impl Fn(TunnelKind) -> bool) -> String {
    one_quoted(&words(&kinds(), is))
}

/// Which checksums each kind can have, those with the fewest first.
pub(super) fn checksums_of_each() -> String {
    let mut kinds = TunnelKind::ALL.to_vec();
    kinds.sort_by_key(|kind| kind.def().checksums.len());
    let of_kind = |(i, kind): (usize, &TunnelKind)| {
        let verb = if i == 0 { " has" } else { "" };
        let checksums = words(CHECKSUMS, |checksum| can_have(*kind, checksum));
        format!("{}{verb} {}", kind.def().word, listed(&checksums, "or"))
    };
    let each: Vec<String> = kinds.iter().enumerate().map(of_kind).collect();
    each.join(", ")
}

fn words<T: Copy>(of: &[(&'static str, T)], is: impl Fn(T) -> bool) -> Vec<String> {
    let found = of.iter().filter(|(_, value)| is(*value));
    found.map(|(word, _)| (*word).to_owned()).collect()
}

fn one_quoted(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    listed(&quoted, "or")
}

/// `a, b and c`, with this word before the last.
fn listed(words: &[String], last: &str) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_list_the_rows() {
        assert_eq!(methods_that(|m| !m.def().maps_port), "dr and ipip");
        assert_eq!(
            one_method_that(Forwarding::passes_replies),
            r#""nat" or "fullnat""#
        );
        assert_eq!(one_kind_that(|kind| kind.def().has_port), r#""gue""#);
        assert_eq!(
            checksums_of_each(),
            "ipip has none, gre none or full, gue none, full or remote"
        );
    }
}
