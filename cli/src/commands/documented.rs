//! What the documentation tells people to type is what the command line takes, also where it has placeholders. Commands
//! without are run as well: `tests/documented.rs`.

#[path = "../../tests/documented/pages.rs"]
mod pages;

use clap::Parser;
use clap::error::ErrorKind;
use pages::{Page, Typed};

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

/// The commands of a page that begin with this program: in its blocks, and in the code spans of its prose.
fn commands(page: &Page, program: &str) -> Vec<String> {
    let one = |typed: Typed| {
        let typed = typed.command;
        let typed = typed.split(" #").next().unwrap_or_default();
        typed
            .split("; ")
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let found = page.typed().into_iter().chain(page.spans(&[program]));
    let ours = |command: &String| {
        let rest = command.strip_prefix(program);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    found.map(one).filter(ours).collect()
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
    for page in pages::pages() {
        for command in commands(&page, "uvs") {
            let words = words(&command);
            seen += 1;
            match Cli::try_parse_from(&words) {
                // An option by its name alone.
                Err(e) if e.kind() == ErrorKind::InvalidValue && ends_in_option(&words) => {}
                Err(e) if !SHORT.contains(&e.kind()) => {
                    wrong.push(format!("{}: {command}\n{words:?}\n{e}", page.name));
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
    for page in pages::pages() {
        let ours = commands(&page, "uvs").into_iter();
        let ours = ours.filter_map(|c| c.strip_prefix("uvs ").map(str::to_owned));
        let ours = ours.filter(|command| command.starts_with("ipvsadm "));
        for command in ours.chain(commands(&page, "ipvsadm")) {
            let words: Vec<&str> = command.split(' ').collect();
            let has = |any: &[&str]| any.iter().any(|word| words.contains(word));
            if has(&["-e"]) && has(&["-r"]) {
                seen += 1;
                assert!(has(&MODES), "{}: {command}", page.name);
            }
        }
    }
    assert!(seen > 0, "the pages have such commands");
}
