//! Commands that no stage runs, and where they are run instead.

use crate::pages::{Typed, root};

/// What a command begins with, why it is not run here, and the file of the test that runs it.
const COMMANDS: &[(&str, &str, &str)] = &[
    (
        "make ",
        "builds from the sources, as CI's stages do before and beside these tests",
        "Makefile",
    ),
    ("apt-get ", "installs a package", "cli/tests/packages.rs"),
    (
        "systemctl ",
        "asks a systemd that there is only on a machine which boots",
        "cli/tests/packages.rs",
    ),
    (
        "podman ",
        "takes a container's runtime; what the image is run with is tested without",
        "cli/tests/packaged.rs",
    ),
    (
        "bpftool ",
        "is a program of the kernel's, which says what else is at the interfaces",
        "cli/tests/hook/beside.rs",
    ),
];

/// Sections of pages whose commands are a suite's of their own, which takes them from the page.
const SECTIONS: &[(&str, &str, &str)] = &[
    (
        "docs/plugins.md",
        "Ten minutes to a running plugin",
        "cli/tests/plugins/manual.rs",
    ),
    ("docs/plugins.md", "In C", "cli/tests/plugins/manual.rs"),
];

/// A command in the notation of manuals, which stands for several: `documented.rs` beside the command line parses it.
fn is_notation(command: &str) -> bool {
    let command = command.split(" #").next().unwrap_or_default();
    let words = || command.split_whitespace();
    command.contains(['…'])
        || words().any(|word| word.contains("[,") || word.starts_with("[--"))
        || words().any(|word| word.starts_with('[') && word[1..].starts_with(char::is_uppercase))
        || words().any(|word| word.len() > 1 && word.contains('|') && word != "||")
}

/// Whether a command is run elsewhere.
pub(crate) fn is_run(typed: &Typed) -> bool {
    let begins = |(begin, _, _): &(&str, &str, &str)| typed.command.starts_with(begin);
    let is_there =
        |(page, section, _): &(&str, &str, &str)| typed.page == *page && typed.section == *section;
    COMMANDS.iter().any(begins) || SECTIONS.iter().any(is_there) || is_notation(&typed.command)
}

#[test]
fn what_is_run_elsewhere_is_on_a_page_and_in_a_suite() {
    let all: Vec<Typed> = crate::pages::pages()
        .iter()
        .flat_map(|p| p.typed())
        .collect();
    for (begin, why, suite) in COMMANDS {
        assert!(root().join(suite).is_file(), "{suite}");
        assert!(
            all.iter().any(|typed| typed.command.starts_with(begin)),
            "no page has `{begin}`, which {why}"
        );
    }
    for (page, section, suite) in SECTIONS {
        let file = root().join(suite);
        let text = std::fs::read_to_string(&file).expect("a suite");
        assert!(
            text.contains(page) && text.contains(section),
            "{suite}: {page}, {section}"
        );
        assert!(
            all.iter().any(|t| t.page == *page && t.section == *section),
            "{page}: {section}"
        );
    }
}
