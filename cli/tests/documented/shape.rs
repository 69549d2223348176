//! The shape of what a program prints: without its numbers, times and hardware addresses, so that a page's example can
//! be held against what is printed here.

use std::net::IpAddr;

/// Ports of servers; others may be a client's.
const SERVICES: [u32; 4] = [80, 443, 8080, 8443];
/// What a number is followed by where it is a time.
const UNITS: [&str; 4] = ["ns", "µs", "ms", "s"];

/// A line's words, each number as `N`, each time as `T`, each hardware address as `MAC`.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        if word.chars().all(|c| ('▁'..='█').contains(&c)) {
            continue;
        }
        let is_time = words.last().is_some_and(|last| last.ends_with('N'));
        let (unit, rest) = word.split_at(
            word.find(|c: char| !c.is_alphabetic())
                .unwrap_or(word.len()),
        );
        if is_time && UNITS.contains(&unit) {
            let last = words.last_mut().expect("there is one");
            last.pop();
            last.push('T');
            last.push_str(rest);
            continue;
        }
        words.push(masked(word));
    }
    words
}

/// A word with what differs from run to run replaced.
fn masked(word: &str) -> String {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '_' | '/' | '-');
    let begin = word.find(is_inner).unwrap_or(word.len());
    let (before, rest) = word.split_at(begin);
    let end = rest.find(|c| !is_inner(c)).unwrap_or(rest.len());
    let (inner, after) = rest.split_at(end);
    if inner.is_empty() {
        return word.to_owned();
    }
    let trimmed = inner.trim_end_matches(['.', ':']);
    let end = &inner[trimmed.len()..];
    format!("{before}{}{end}{}", value(trimmed), masked_rest(after))
}

fn masked_rest(after: &str) -> String {
    if after.is_empty() {
        String::new()
    } else {
        masked(after)
    }
}

fn value(word: &str) -> String {
    let is_hex = |text: &str| text.chars().all(|c| c.is_ascii_hexdigit());
    let parts: Vec<&str> = word.split(':').collect();
    if parts.len() == 6 && parts.iter().all(|part| part.len() == 2 && is_hex(part)) {
        return "MAC".to_owned();
    }
    if word
        .strip_prefix("0x")
        .is_some_and(|digits| is_hex(digits) && !digits.is_empty())
    {
        return "HEX".to_owned();
    }
    if let Some((addr, port)) = word.rsplit_once(':')
        && addr.parse::<IpAddr>().is_ok()
        && port
            .parse::<u32>()
            .is_ok_and(|port| !SERVICES.contains(&port))
    {
        return format!("{addr}:PORT");
    }
    if word.parse::<IpAddr>().is_ok() {
        return word.to_owned();
    }
    let mut parts = word.split('/');
    let Some(first) = parts.next().and_then(number) else {
        return word.to_owned();
    };
    let rest = parts.map(|part| number(part).unwrap_or(part));
    std::iter::once(first)
        .chain(rest)
        .collect::<Vec<_>>()
        .join("/")
}

/// `N`, where it is a number, with `k`, `M` or `G` where it is shortened so.
fn number(word: &str) -> Option<&'static str> {
    let digits = word.trim_end_matches(['k', 'M', 'G']);
    (digits.len() + 1 >= word.len() && digits.parse::<f64>().is_ok()).then_some("N")
}

/// A line as it is compared.
pub(crate) fn of(line: &str) -> String {
    words(line).join(" ")
}

/// Lines as they are compared: without empty ones, and like ones together.
fn lines<'a>(text: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut shapes: Vec<String> = text.into_iter().map(of).collect();
    shapes.retain(|shape| !shape.is_empty());
    shapes.dedup();
    shapes
}

/// Whether a line is as the page has it, where `…` is for any words.
fn fits(shown: &str, printed: &str) -> bool {
    let mut parts = shown.split('…').map(str::trim);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    for part in &parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty() || parts.last().is_some_and(|last| last.is_empty())
}

/// What is wrong with what a page shows beside what was printed; a line of nothing but `…` is for any lines.
pub(crate) fn difference<'a>(
    shown: impl IntoIterator<Item = &'a str>,
    printed: &str,
) -> Option<String> {
    let shown = lines(shown);
    let printed = lines(printed.lines());
    let mut left = printed.iter();
    let mut is_open = false;
    for line in &shown {
        if line == "…" {
            is_open = true;
            continue;
        }
        let found = if is_open {
            left.find(|printed| fits(line, printed))
        } else {
            left.next().filter(|printed| fits(line, printed))
        };
        if found.is_none() {
            let printed = printed.join("\n  ");
            return Some(format!("no line like\n  {line}\nin\n  {printed}"));
        }
        is_open = false;
    }
    let more = left.next().filter(|_| !is_open)?;
    Some(format!("the page does not show\n  {more}"))
}

#[test]
fn what_differs_from_run_to_run_is_no_difference() {
    let shown = [
        "2 of 3 at 7a:45:e3:3b:23:39, 0xe581, in 41 s",
        "  192.168.0.18:80 from 192.168.0.9:40112   -   34 ms",
        "…",
        "12 % busy: … | errors=1;;0;0",
    ];
    let printed = "12 of 1 at 00:45:e3:3b:23:39, 0x1, in 900 ms\n\
                   192.168.0.18:80 from 192.168.0.9:50112 - 3.4 s\n\
                   more\nmore still\n3 % busy: a note | errors=1;;0;0\n";
    assert_eq!(difference(shown, printed), None);
    for other in [
        printed.replace("192.168.0.18:80", "192.168.0.18:81"),
        printed.replace("busy", "idle"),
        printed.replace("from", ""),
        format!("{printed}and more\n"),
    ] {
        assert!(difference(shown, &other).is_some(), "{other}");
    }
}
