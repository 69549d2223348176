//! What the documentation tells people to type is what the command line takes.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;

use super::Cli;

/// What placeholders stand for; a word that has none of them stands for itself.
const PLACEHOLDERS: &[(&str, &str)] = &[
    ("ADDRESS[:PORT]", "10.0.0.2:80"),
    ("SERVER:PORT", "10.0.0.2:80"),
    ("CLIENT:PORT", "10.0.0.9:4711"),
    ("VIP:PORT", "10.0.0.1:80"),
    ("VIP:80", "10.0.0.1:80"),
    ("VIP:443", "10.0.0.1:443"),
    ("DIRECTOR", "10.0.0.8"),
    ("SERVER", "10.0.0.2"),
    ("CLIENT", "10.0.0.9"),
    ("ADDRESS", "10.0.0.2"),
    ("PREFIX", "10.0.0.0/8"),
    ("FAMILY", "ipv4"),
    ("LOCAL", "10.0.0.8"),
    ("MATCH", "tcp 10.0.0.1:80"),
    ("MARK", "1"),
    ("WHAT", "servers"),
    ("SECONDS", "2"),
    ("NUMBER", "5"),
    ("TIME", "60s"),
    ("VIP", "10.0.0.1"),
    ("ID", "rp_filter"),
];

/// The README, and what is in docs/.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let entries = fs::read_dir(root.join("docs")).expect("docs/");
    let files = entries.map(|entry| entry.expect("an entry").path());
    let pages = files.filter(|file| file.extension().is_some_and(|e| e == "md"));
    pages.chain([root.join("README.md")]).collect()
}

/// The commands of a page that begin with `program`: in code spans, and on lines of their own.
fn commands(text: &str, program: &str) -> Vec<String> {
    let spans = text.split('`').skip(1).step_by(2);
    let lines = text.lines().map(|line| {
        let line = line
            .trim_start()
            .trim_start_matches(['$', '#'])
            .trim_start();
        line.split(" #").next().unwrap_or_default()
    });
    let starts = |words: &&str| {
        let rest = words.strip_prefix(program);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    let one = |words: &str| {
        words
            .split("; ")
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let single = |words: &&str| !words.contains('\n');
    let found = spans.filter(single).chain(lines).filter(starts);
    found.map(one).collect()
}

/// The words of a command in the notation of manuals: of alternatives the first, what may be left out as if it were
/// there, nothing behind `…` or a shell's operator.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (n, part) in command.split('\'').enumerate() {
        if n % 2 == 1 {
            words.push(placed(part));
            continue;
        }
        for word in part.split(' ').filter(|word| !word.is_empty()) {
            if word.starts_with('…') || matches!(word, "&&" | "|" | ">") {
                return words;
            }
            // One server or port may follow another: the first is enough.
            let word = placed(word.trim_end_matches('…'));
            let word = word.split("[,").next().unwrap_or_default();
            let word = word.replace(['[', ']'], "");
            let word = word.split('|').next().unwrap_or_default();
            words.extend(word.split(' ').map(str::to_owned));
        }
    }
    words
}

/// With a value for each placeholder.
fn placed(words: &str) -> String {
    let place = |words: String, (name, value): &(&str, &str)| words.replace(name, value);
    PLACEHOLDERS.iter().fold(words.to_owned(), place)
}

#[test]
fn every_command_of_ours_is_taken() {
    /// Named without all that it needs, as one names a command.
    const SHORT: [ErrorKind; 3] = [
        ErrorKind::MissingRequiredArgument,
        ErrorKind::MissingSubcommand,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
    ];
    let mut wrong = Vec::new();
    let mut seen = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for command in commands(&text, "uvs") {
            // What `top` shows begins as it does.
            if command.contains("   pid ") || command == "uvs" {
                continue;
            }
            let words = words(&command);
            seen += 1;
            match Cli::try_parse_from(&words) {
                // An option by its name alone.
                Err(e) if e.kind() == ErrorKind::InvalidValue && ends_in_option(&words) => {}
                Err(e) if !SHORT.contains(&e.kind()) => {
                    wrong.push(format!("{}: {command}\n{words:?}\n{e}", page.display()));
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 100, "{seen} commands are too few to be all");
}

fn ends_in_option(words: &[String]) -> bool {
    words.last().is_some_and(|word| word.starts_with("--"))
}

/// `ipvsadm` takes a server without a mode for one of DR, also where it is of another and only its weight is to change.
#[test]
fn whoever_changes_a_server_by_ipvsadm_is_told_its_mode() {
    const MODES: [&str; 7] = [
        "-g",
        "-m",
        "-i",
        "-b",
        "--gatewaying",
        "--masquerading",
        "--fullnat",
    ];
    let mut seen = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        let ours = commands(&text, "uvs ipvsadm").into_iter();
        for command in ours.chain(commands(&text, "ipvsadm")) {
            let words: Vec<&str> = command.split(' ').collect();
            let has = |any: &[&str]| any.iter().any(|word| words.contains(word));
            if has(&["-e"]) && has(&["-r"]) {
                seen += 1;
                assert!(has(&MODES), "{}: {command}", page.display());
            }
        }
    }
    assert!(seen > 0, "the pages have such commands");
}
