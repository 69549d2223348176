//! uvs(8), and a page for each command and each command of a command: clap's words about options, and beside them what
//! `words` knows.

use std::io::{self, Write};

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold};

use super::words::{self, Words};
use super::{Page, text};
use crate::commands::Cli;

/// The exit codes of all commands but those that name their own.
const EXIT: &[(&str, &str)] = &[
    ("0", "Done."),
    ("1", "Refused, or failed."),
    ("2", "Wrong usage, or an invalid configuration."),
    ("3", "No daemon answers."),
];

/// The files that a director has.
const FILES: &[(&str, &str)] = &[
    ("/etc/uvs/uvs.toml", "The configuration, uvs.toml(5)."),
    (
        "/run/uvs/control.sock",
        "The control socket. The daemon's group may look; root and the daemon's user may change.",
    ),
    (
        "/run/uvs/ipvs.sock",
        "The socket for programs of the kernel's IPVS.",
    ),
    ("/usr/lib/uvs/schedulers", "Scheduler plugins."),
    (
        "/usr/lib/uvs/libuvs_ipvs.so",
        "What uvs-ipvs-run(8) preloads.",
    ),
    (
        "/sys/fs/bpf/uvs",
        "What outlives a killed daemon, in the kernel.",
    ),
    (
        "/usr/share/uvs",
        "Dashboards for Grafana, alerts and recording rules for Prometheus.",
    ),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "UVS_SOCKET",
        "The control socket, for the daemon and for the commands.",
    ),
    (
        "UVS_IPVS_SOCKET",
        "The socket for programs of the kernel's IPVS.",
    ),
    (
        "UVS_LOG",
        "How much is logged: error, warn, info (the default), debug or trace.",
    ),
    (
        "UVS_HOOK, UVS_WORKERS, UVS_PLUGIN_DIR",
        "What hook.mode, workers and plugins.directory of uvs.toml(5) say, where neither the file nor an option does.",
    ),
    (
        "UVS_IPVS_LIBRARY",
        "The library that uvs-ipvs-run(8) preloads.",
    ),
    (
        "UVS_STATE_DIR",
        "Where uvs-rs(8) remembers what it has changed, in place of /run/uvs-rs.",
    ),
];

/// One page a command.
pub(super) fn pages(date: &str) -> Vec<Page> {
    let mut program = Cli::command();
    program.build();
    let mut pages = Vec::new();
    add(&program, None, date, &mut pages);
    pages
}

fn add(command: &Command, parent: Option<&str>, date: &str, pages: &mut Vec<Page>) {
    let name = name(command);
    pages.push(page(command, parent, date));
    for one in shown(command) {
        add(one, Some(name), date, pages);
    }
}

/// The commands of a command that are for people; `help` has no page of its own.
fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    let all = command.get_subcommands();
    all.filter(|one| !one.is_hide_set() && one.get_name() != "help")
}

fn name(command: &Command) -> &str {
    command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
}

fn page(command: &Command, parent: Option<&str>, date: &str) -> Page {
    let name = name(command);
    let words = words::of(name);
    let man = Man::new(command.clone());
    let mut before = Roff::new();
    description(&mut before, command, words);
    let mut behind = Roff::new();
    commands(&mut behind, command);
    rest(&mut behind, command, words);
    see(&mut behind, (name, parent), words);
    let parts = [
        text::head(name, "8", date),
        clap(|out| man.render_name_section(out)),
        clap(|out| man.render_synopsis_section(out)),
        text::body(&before),
        clap(|out| man.render_options_section(out)),
        text::body(&behind),
    ];
    Page {
        file: format!("{name}.8"),
        text: parts.concat(),
    }
}

/// What clap writes; into memory, which does not fail.
fn clap(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    let written = write(&mut out);
    debug_assert!(written.is_ok(), "memory takes all");
    text::sections(&String::from_utf8_lossy(&out))
}

fn description(page: &mut Roff, command: &Command, words: Option<&Words>) {
    text::heading(page, "DESCRIPTION");
    if let Some(words) = words {
        return text::paragraphs(page, words.about);
    }
    let about = command.get_long_about().or_else(|| command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let about: Vec<&str> = about.split("\n\n").collect();
    text::paragraphs(page, &about);
}

fn commands(page: &mut Roff, command: &Command) {
    let mut shown = shown(command).peekable();
    if shown.peek().is_none() {
        return;
    }
    text::heading(page, "COMMANDS");
    for one in shown {
        let about = one.get_about().map(ToString::to_string);
        let term = vec![bold(format!("{}(8)", name(one)))];
        text::item(page, term, &about.unwrap_or_default());
    }
}

fn rest(page: &mut Roff, command: &Command, words: Option<&Words>) {
    if let Some(words) = words.filter(|words| !words.examples.is_empty()) {
        text::heading(page, "EXAMPLES");
        for (line, meaning) in words.examples {
            text::item(page, vec![bold(*line)], meaning);
        }
    }
    text::heading(page, "EXIT STATUS");
    text::items(page, words.map_or(EXIT, |words| words.exit.unwrap_or(EXIT)));
    if matches!(name(command), "uvs" | "uvs-run") {
        text::heading(page, "ENVIRONMENT");
        text::items(page, ENVIRONMENT);
        text::heading(page, "FILES");
        text::items(page, FILES);
    }
}

fn see(page: &mut Roff, (name, parent): (&str, Option<&str>), words: Option<&Words>) {
    let mut pages = vec!["uvs(8)".to_owned()];
    pages.extend(parent.map(|parent| format!("{parent}(8)")));
    let more = words.into_iter().flat_map(|words| words.see);
    pages.extend(more.map(|page| (*page).to_owned()));
    pages.dedup();
    pages.retain(|page| *page != format!("{name}(8)"));
    text::see_also(page, &pages);
}
