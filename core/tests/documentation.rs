//! Holds the documentation to the code: the pages on drop reasons and on sysctls are what it says.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;

use uvs_core::snapshot::Sysctls;
use uvs_core::verdict::DropReason;

const DROPS_HEAD: &str = "\
# Drop reasons

Every frame that UVS drops is counted under exactly one of these. `uvs show drops` prints the counters that
are not 0. This page is rendered from `core/src/verdict.rs`; a test keeps the two equal.

Frames that the kernel dropped because UVS's ring was full were never UVS's, and are counted apart: `RING-FULL` of
`uvs show drops`, and `uvs_rx_kernel_drops_total`. The worker is too slow then.

| Reason | What it means | What to do |
|---|---|---|
";

const SYSCTLS_HEAD: &str = "\
# sysctls

IPVS's, with its names and defaults. `uvs sysctl -a` prints those of the running daemon, `uvs sysctl
net.ipv4.vs.NAME=VALUE` sets one, and so does the section `[sysctl]` of the configuration. The kernel's own are not
touched. This page is rendered from `core/src/snapshot.rs`; a test keeps the two equal.

| Name after `net.ipv4.vs.` | Default | Values | Effect |
|---|---|---|---|
";

/// The page on drop reasons.
fn drops() -> String {
    let mut page = DROPS_HEAD.to_owned();
    for reason in DropReason::ALL {
        let (label, meaning, advice) = (reason.label(), reason.meaning(), reason.advice());
        writeln!(page, "| `{label}` | {meaning} | {advice} |").unwrap();
    }
    page
}

/// The page on sysctls.
fn sysctls() -> String {
    let mut page = SYSCTLS_HEAD.to_owned();
    let defaults = Sysctls::default();
    for name in Sysctls::NAMES {
        let default = defaults.get(name).unwrap();
        let about = Sysctls::about(name).unwrap();
        let range = Sysctls::range(name).unwrap();
        let values = match (*range.start(), *range.end()) {
            (low, i32::MAX) => format!("{low} and more"),
            (low, high) if low == high => low.to_string(),
            (low, high) => format!("{low} to {high}"),
        };
        writeln!(page, "| `{name}` | {default} | {values} | {about} |").unwrap();
    }
    page
}

/// Compares a page with the one in the tree; with `$UPDATE_DOCS`, writes it first.
fn check(name: &str, page: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("docs/{name}: {e}"));
    assert!(
        written == page,
        "docs/{name} differs from the code; render it again: \
         UPDATE_DOCS=1 cargo test -p uvs-core --test documentation"
    );
}

#[test]
fn the_page_on_drops_is_what_the_code_says() {
    check("drops.md", &drops());
}

#[test]
fn the_page_on_sysctls_is_what_the_code_says() {
    check("sysctls.md", &sysctls());
}
