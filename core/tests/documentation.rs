//! Holds the documentation to the code: every drop reason and every sysctl is documented as it is.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use uvs_core::snapshot::Sysctls;
use uvs_core::verdict::DropReason;

const DROPS_HEAD: &str = "\
# Drop reasons

Every frame that UVS drops is counted under exactly one of these. `uvs show drops` prints the counters that
are not 0. This page is rendered from `core/src/verdict.rs`; a test keeps the two equal.

| Reason | What it means | What to do |
|---|---|---|
";

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(docs(name)).unwrap_or_else(|e| panic!("docs/{name}: {e}"))
}

/// The page on drop reasons.
fn drops() -> String {
    let mut page = DROPS_HEAD.to_owned();
    for reason in DropReason::ALL {
        let (label, meaning, advice) = (reason.label(), reason.meaning(), reason.advice());
        writeln!(page, "| `{label}` | {meaning} | {advice} |").unwrap();
    }
    page
}

#[test]
fn the_page_on_drops_is_what_the_code_says() {
    let page = drops();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(docs("drops.md"), &page).unwrap();
    }
    assert!(
        read("drops.md") == page,
        "docs/drops.md differs from core/src/verdict.rs; render it again: \
         UPDATE_DOCS=1 cargo test -p uvs-core --test documentation"
    );
}

#[test]
fn every_sysctl_is_documented_with_its_default_and_no_other_is() {
    let page = read("operations.md");
    let defaults = Sysctls::default();
    let mut documented: Vec<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `net.ipv4.vs."))
        .map(|rest| {
            rest.split('|')
                .take(2)
                .map(str::trim)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let mut expected: Vec<String> = Sysctls::NAMES
        .iter()
        .map(|name| format!("{name}` {}", defaults.get(name).unwrap()))
        .collect();
    documented.sort();
    expected.sort();
    assert_eq!(
        documented, expected,
        "the table in docs/operations.md, name and default"
    );
}
