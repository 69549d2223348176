//! Holds the documentation to the code: the pages on drop reasons and on sysctls are what it says, and links
//! between pages lead somewhere.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use uvs_core::snapshot::Sysctls;
use uvs_core::verdict::DropReason;

const DROPS_HEAD: &str = "\
# Drop reasons

Every frame that UVS drops is counted under exactly one of these. `uvs show drops` prints the counters that
are not 0. This page is rendered from `core/src/state/verdict.rs`; a test keeps the two equal.

Frames that the kernel dropped because UVS's ring was full were never UVS's, and are counted apart: `RING-FULL` of
`uvs show drops`, and `uvs_rx_kernel_drops_total`. The worker is too slow then.

| Reason | What it means | What to do |
|---|---|---|
";

const SYSCTLS_HEAD: &str = "\
# sysctls

IPVS's: all names that the kernel has, with its defaults, and with the values that it takes; anything else is an
error. `uvs sysctl -a` prints those of the running daemon, `uvs sysctl net.ipv4.vs.NAME=VALUE` sets one, `uvs sysctl
-p FILE` what a file of sysctl.d(5) sets, and so does the section `[sysctl]` of the configuration, where two values
are a string: `sync_threshold = \"3 50\"`. The kernel's own are not touched. This page is rendered from
`core/src/state/sysctls.rs`; a test keeps the two equal.

| Name after `net.ipv4.vs.` | Default | Values | Effect |
|---|---|---|---|
";

const NO_EFFECT_HEAD: &str = "
## Without an effect

kube-proxy, Docker and files in /etc/sysctl.d set these, so they are taken, remembered and listed. Whoever sets one to
another value than its default is told on standard error, and the log says it of the configuration's.

| Name after `net.ipv4.vs.` | Default | Values | In the kernel | Why not here |
|---|---|---|---|---|
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
    let mut others = NO_EFFECT_HEAD.to_owned();
    let defaults = Sysctls::default();
    for name in Sysctls::NAMES {
        let default = match defaults.get(name).unwrap() {
            none if none.is_empty() => "none".to_owned(),
            value => value.replace('\t', " "),
        };
        let about = Sysctls::about(name).unwrap();
        let values = Sysctls::values(name).unwrap();
        match Sysctls::no_effect(name) {
            None => writeln!(page, "| `{name}` | {default} | {values} | {about} |").unwrap(),
            Some(why) => {
                writeln!(
                    others,
                    "| `{name}` | {default} | {values} | {about} | {why} |"
                )
                .unwrap();
            }
        }
    }
    page + &others
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

/// Every page of the tree: Markdown below the root, but for what is built or fetched.
fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
            pages(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    pages(&root, &mut found);
    assert!(found.len() > 20, "{found:?}");
    let mut broken = Vec::new();
    for page in &found {
        let text = std::fs::read_to_string(page).unwrap();
        for (_, rest) in text
            .match_indices("](")
            .map(|(at, _)| text.split_at(at + 2))
        {
            let link = rest.split([')', '#', ' ']).next().unwrap();
            let elsewhere = link.is_empty() || link.starts_with("http");
            if !elsewhere && !page.parent().unwrap().join(link).exists() {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
