//! The pages of the documentation, and the commands in them: what the parser's test (`src/commands/documented.rs`)
//! holds against the command line, and what the tests here run.

#![allow(
    dead_code,
    reason = "shared by the program's own test, which needs a part"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// What a line of a block begins with that is a command without a prompt.
const PROGRAMS: [&str; 34] = [
    "apt-get",
    "bash",
    "bpftool",
    "cargo",
    "cd",
    "chmod",
    "chown",
    "cp",
    "curl",
    "docker",
    "echo",
    "ethtool",
    "export",
    "git",
    "install",
    "ip",
    "ipvsadm",
    "journalctl",
    "jq",
    "keepalived",
    "kill",
    "kubectl",
    "ln",
    "make",
    "mount",
    "nft",
    "podman",
    "rustup",
    "setcap",
    "sysctl",
    "systemctl",
    "tcpdump",
    "uvs",
    "uvs-ipvsadm",
];

/// Languages of a fence in which there may be commands. Others are files, or are not for a shell, as is `text`.
const CONSOLE: [&str; 3] = ["", "sh", "console"];

/// Prompts that name the host where the command is typed.
const HOSTS: [&str; 3] = ["director", "server", "client"];

/// The directory of the sources.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A page.
pub(crate) struct Page {
    /// Its path in the sources.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A command that people are told to type.
#[derive(Clone, Debug)]
pub(crate) struct Typed {
    pub(crate) page: String,
    pub(crate) line: usize,
    /// The heading above it.
    pub(crate) section: String,
    /// The host that its prompt names.
    pub(crate) host: Option<&'static str>,
    pub(crate) command: String,
    /// What the page shows below it.
    pub(crate) shown: Vec<String>,
}

/// What is between fences, or indented by four or more.
#[derive(Debug)]
pub(crate) struct Block {
    /// Of its first line.
    pub(crate) line: usize,
    /// The last line, its fence included.
    end: usize,
    pub(crate) section: String,
    pub(crate) language: String,
    pub(crate) lines: Vec<String>,
}

/// The README, and what is in docs/.
pub(crate) fn pages() -> Vec<Page> {
    let entries = fs::read_dir(root().join("docs")).expect("docs/");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names
        .map(|name| format!("docs/{}", name.to_string_lossy()))
        .filter(|name| name.ends_with(".md"))
        .chain(["README.md".to_owned()])
        .collect();
    names.sort_unstable();
    names.iter().map(|name| Page::read(name)).collect()
}

impl Page {
    /// Reads it.
    pub(crate) fn read(name: &str) -> Self {
        let text = fs::read_to_string(root().join(name));
        Self {
            name: name.to_owned(),
            text: text.unwrap_or_else(|e| panic!("{name}: {e}")),
        }
    }

    /// Its blocks, in order.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut open: Option<Block> = None;
        let mut is_fenced = false;
        let mut section = String::new();
        let mut is_behind_blank = true;
        for (n, line) in self.text.lines().enumerate() {
            let number = n + 1;
            let begun = |language: &str, lines| Block {
                line: number + usize::from(language != "indented"),
                end: number,
                section: section.clone(),
                language: language.to_owned(),
                lines,
            };
            let fence = line.trim_start().strip_prefix("```");
            let is_indented = line.starts_with("    ") && !line.trim().is_empty();
            match (&mut open, fence) {
                (Some(_), Some(_)) if is_fenced => {
                    is_fenced = false;
                    let block = open.take().into_iter();
                    blocks.extend(block.map(|block| Block {
                        end: number,
                        ..block
                    }));
                }
                (Some(block), _) if is_fenced => block.lines.push(line.to_owned()),
                (_, Some(language)) => {
                    blocks.extend(open.take());
                    open = Some(begun(language, Vec::new()));
                    is_fenced = true;
                }
                (Some(block), None) if is_indented || line.is_empty() => {
                    block.lines.push(line.to_owned());
                    block.end = number;
                }
                (None, None) if is_indented && is_behind_blank => {
                    open = Some(begun("indented", vec![line.to_owned()]));
                }
                _ => blocks.extend(open.take()),
            }
            if !is_fenced && open.is_none() && line.starts_with('#') {
                section = line.trim_start_matches('#').trim().to_owned();
            }
            is_behind_blank = line.is_empty();
        }
        blocks.extend(open);
        blocks.into_iter().map(Block::dedented).collect()
    }

    /// The block that begins so.
    pub(crate) fn block(&self, begin: &str) -> Vec<String> {
        let begins = |block: &Block| block.lines.first().is_some_and(|l| l.starts_with(begin));
        let found = self.blocks().into_iter().find(begins);
        found
            .unwrap_or_else(|| panic!("{}: no block begins with {begin:?}", self.name))
            .lines
    }

    /// The commands of its blocks, in order.
    pub(crate) fn typed(&self) -> Vec<Typed> {
        let mut all: Vec<Typed> = Vec::new();
        let mut last_end = None;
        for block in self.blocks() {
            let typed = block.typed(&self.name);
            // A block right behind one of commands is what the last of them printed.
            if typed.is_empty() {
                let is_next = last_end.is_some_and(|end| {
                    let between = self.text.lines().skip(end);
                    let fence = block.line - 2;
                    between.take(fence.saturating_sub(end)).all(str::is_empty)
                });
                if let Some(last) = all.last_mut().filter(|_| is_next) {
                    last.shown.extend(block.lines);
                }
                last_end = None;
            } else {
                all.extend(typed);
                last_end = Some(block.end);
            }
        }
        all
    }

    /// The commands in the prose's code spans that begin with one of these programs, in order, on one line each.
    pub(crate) fn spans(&self, programs: &[&str]) -> Vec<Typed> {
        let mut prose = String::new();
        let blocks = self.blocks();
        for (n, line) in self.text.lines().enumerate() {
            let in_block = |b: &Block| n + 1 >= b.line && n < b.end;
            if !line.starts_with("```") && !blocks.iter().any(in_block) {
                prose.push_str(line);
            }
            prose.push('\n');
        }
        let mut at = 0;
        let mut section = String::new();
        let mut found = Vec::new();
        for (n, span) in prose.split('`').enumerate() {
            let line = prose[..at].matches('\n').count() + 1;
            at += span.len() + 1;
            if n % 2 == 0 {
                let heading = span.lines().rfind(|line| line.starts_with('#'));
                section = heading.map_or(section, |h| h.trim_start_matches('#').trim().to_owned());
                continue;
            }
            let words: Vec<&str> = span.split_whitespace().collect();
            // A program's name alone is no command.
            if words.len() > 1 && programs.contains(&words[0]) {
                found.push(Typed {
                    page: self.name.clone(),
                    line,
                    section: section.clone(),
                    host: None,
                    command: words.join(" "),
                    shown: Vec::new(),
                });
            }
        }
        found
    }
}

impl Block {
    /// Without what all its lines are indented by.
    fn dedented(mut self) -> Self {
        while self.lines.last().is_some_and(String::is_empty) {
            self.lines.pop();
        }
        let written = self.lines.iter().filter(|line| !line.is_empty());
        let indents = written.map(|line| line.len() - line.trim_start().len());
        let indent = indents.min().unwrap_or(0);
        for line in &mut self.lines {
            *line = line.get(indent..).unwrap_or_default().to_owned();
        }
        if self.language == "indented" {
            self.language.clear();
        }
        self
    }

    /// Its commands.
    fn typed(&self, page: &str) -> Vec<Typed> {
        if !CONSOLE.contains(&self.language.as_str()) {
            return Vec::new();
        }
        let is_script = self.language == "sh";
        let is_bare = |line: &str| {
            let first = line.split([' ', '=']).next().unwrap_or_default();
            PROGRAMS.contains(&first) || first.starts_with("UVS_")
        };
        // Where commands have no prompt, `#` begins a comment.
        let has_prompts = !is_script && !self.lines.iter().any(|line| is_bare(line));
        let mut all: Vec<Typed> = Vec::new();
        let mut continues = false;
        for (n, line) in self.lines.iter().enumerate() {
            let (host, command) = prompt(line, has_prompts);
            let is_command = match command {
                Some(_) => true,
                None => is_bare(line) || is_script && !line.is_empty() && !line.starts_with('#'),
            };
            match all.last_mut() {
                Some(last) if continues => {
                    last.command.push('\n');
                    last.command.push_str(line);
                }
                _ if is_command => all.push(Typed {
                    page: page.to_owned(),
                    line: self.line + n,
                    section: self.section.clone(),
                    host,
                    command: command.unwrap_or(line).trim().to_owned(),
                    shown: Vec::new(),
                }),
                Some(last) if !line.starts_with('#') => last.shown.push(line.clone()),
                _ => {}
            }
            continues = line.ends_with('\\') && !all.is_empty();
        }
        for typed in &mut all {
            while typed
                .shown
                .last()
                .is_some_and(|line| line.trim().is_empty())
            {
                typed.shown.pop();
            }
        }
        all
    }
}

/// The host that a line's prompt names, and what is typed at it.
fn prompt(line: &str, has_prompts: bool) -> (Option<&'static str>, Option<&str>) {
    let trimmed = line.trim_start();
    for host in HOSTS {
        if let Some(command) = trimmed
            .strip_prefix(host)
            .and_then(|l| l.strip_prefix("# "))
        {
            return (Some(host), Some(command.trim_start()));
        }
    }
    let user = line.strip_prefix("$ ");
    let typed = user.or_else(|| line.strip_prefix("# ").filter(|_| has_prompts));
    (None, typed)
}
