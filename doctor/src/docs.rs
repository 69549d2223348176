//! Keeps docs/doctor.md to the catalog: its part after the marker is rendered from it.

use std::fmt::Write as _;

use super::catalog::{Check, Side};

#[path = "../../exporter/tests/common/written.rs"]
mod written;

const HEAD: &str = include_str!("doctor.md.in");

#[test]
fn the_page_on_doctor_is_what_the_catalog_says() {
    written::must_be_written("../docs/doctor.md", &page());
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for check in Check::ALL {
        let (id, side, severity) = (check.id(), check.side().name(), check.severity().name());
        writeln!(
            page,
            "| [{id}](#{id}) | {side} | {severity} | {} |",
            check.looks()
        )
        .expect("a string");
    }
    for (title, side) in [
        ("On a director", Side::Director),
        ("On either", Side::Both),
        ("On a real server", Side::Server),
    ] {
        writeln!(page, "\n## {title}").expect("a string");
        for check in Check::ALL.iter().filter(|c| c.side() == side) {
            write!(page, "\n{}", check.explain()).expect("a string");
        }
    }
    page
}

#[test]
fn ids_are_unique_and_fit_their_column() {
    for (i, check) in Check::ALL.iter().enumerate() {
        let id = check.id();
        assert_eq!(Check::by_id(id), Some(*check), "{id} is twice");
        assert!(id.len() <= 20 && i < 64, "{id}");
    }
}
