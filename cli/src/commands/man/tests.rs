//! The pages are about commands that there are, and have what a page has to have.

use clap::{CommandFactory, Parser};
use uvs_control::config::reference;

use super::pages;
use super::words::WORDS;
use crate::commands::Cli;

fn page(file: &str) -> String {
    let page = pages("2026-11-29")
        .into_iter()
        .find(|page| page.file == file);
    page.unwrap_or_else(|| panic!("no {file}")).text
}

#[test]
fn every_command_has_a_page_with_all_its_options() {
    let mut program = Cli::command();
    program.build();
    let mut seen = 0;
    let mut commands = vec![&program];
    while let Some(command) = commands.pop() {
        seen += 1;
        let name = command
            .get_display_name()
            .unwrap_or_else(|| command.get_name());
        let text = page(&format!("{name}.8"));
        let sections = [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "\"EXIT STATUS\"",
            "\"SEE ALSO\"",
        ];
        for section in sections {
            assert_eq!(
                text.matches(&format!(".SH {section}\n")).count(),
                1,
                "{name}: {section}\n{text}"
            );
        }
        let options = command.get_arguments().filter(|arg| !arg.is_hide_set());
        for long in options.filter_map(|arg| arg.get_long()) {
            let long = format!("\\-\\-{}", long.replace('-', "\\-"));
            assert!(text.contains(&long), "{name}: {long}\n{text}");
        }
        let all = command.get_subcommands();
        commands.extend(all.filter(|one| !one.is_hide_set() && one.get_name() != "help"));
    }
    assert!(seen > 25, "{seen} are too few to be all");
}

#[test]
fn words_are_about_pages_that_there_are() {
    let pages = pages("2026-11-29");
    let has = |name: &str| pages.iter().any(|page| page.file == name);
    for words in WORDS {
        assert!(has(&format!("{}.8", words.page)), "{}", words.page);
        for see in words.see.iter().filter(|see| see.starts_with("uvs")) {
            let file = see.replace('(', ".").replace(')', "");
            assert!(has(&file), "{}: {see}", words.page);
        }
    }
}

#[test]
fn examples_are_taken() {
    for (line, _) in WORDS.iter().flat_map(|words| words.examples) {
        if let Err(e) = Cli::try_parse_from(line.split(' ')) {
            panic!("{line}: {e}");
        }
    }
}

#[test]
fn the_files_page_has_every_key() {
    let text = page("uvs.toml.5");
    let keys = reference::tables().iter().flat_map(|table| table.keys);
    let names = keys.map(|key| key.name);
    for name in names.chain(reference::sysctls().iter().map(|sysctl| sysctl.name)) {
        assert!(text.contains(&format!("\\fB{name}\\fR")), "{name}");
    }
}
