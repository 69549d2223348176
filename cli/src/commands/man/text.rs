//! What all pages have: their head and their sections.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// What stands at the foot and at the head of a page.
const MANUAL: &str = "Userspace Virtual Server";

/// The release that a page is about, without its commit: a page is the same however it was built.
pub(super) const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// The head of a page. The day is the release's, where whoever builds a package tells it.
pub(super) fn head(name: &str, section: &str, date: &str) -> String {
    let name = name.to_uppercase();
    // `Roff` leaves out a word that is empty.
    format!(
        "{}.TH \"{name}\" \"{section}\" \"{date}\" \"uvs {RELEASE}\" \"{MANUAL}\"\n",
        Roff::new().render()
    )
}

/// Sections, without the macros before them that a page's head has already.
pub(super) fn body(page: &Roff) -> String {
    sections(&page.render())
}

/// What begins with the first section's heading.
pub(super) fn sections(text: &str) -> String {
    let at = text.find(".SH").unwrap_or(text.len());
    text[at..].to_owned()
}

/// A section's heading.
pub(super) fn heading(page: &mut Roff, title: &str) {
    page.control("SH", [title]);
}

/// Paragraphs.
pub(super) fn paragraphs(page: &mut Roff, texts: &[&str]) {
    for (n, text) in texts.iter().enumerate() {
        if n > 0 {
            page.control("PP", []);
        }
        page.text([roman(*text)]);
    }
}

/// A term and what it means.
pub(super) fn item(page: &mut Roff, term: Vec<Inline>, meaning: &str) {
    page.control("TP", []);
    page.text(term);
    page.text([roman(meaning)]);
}

/// Terms that are typed as they stand, and what they mean.
pub(super) fn items(page: &mut Roff, items: &[(&str, &str)]) {
    for (term, meaning) in items {
        item(page, vec![bold(*term)], meaning);
    }
}

/// Lines as they are typed.
pub(super) fn verbatim(page: &mut Roff, lines: &[&str]) {
    page.control("RS", ["4"]);
    page.control("nf", []);
    for line in lines {
        page.text([roman(*line)]);
    }
    page.control("fi", []);
    page.control("RE", []);
}

/// Other pages: `uvs(8)`.
pub(super) fn see_also(page: &mut Roff, pages: &[String]) {
    heading(page, "SEE ALSO");
    let mut line = Vec::new();
    for (n, name) in pages.iter().enumerate() {
        let (name, section) = name.split_once('(').unwrap_or((name, ""));
        if n > 0 {
            line.push(roman(", "));
        }
        line.push(bold(name));
        if !section.is_empty() {
            line.push(roman(format!("({section}")));
        }
    }
    page.text(line);
    page.control("PP", []);
    page.text([
        roman("The manual is in "),
        italic("/usr/share/doc/uvs/docs"),
        roman("."),
    ]);
}
