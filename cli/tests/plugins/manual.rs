//! docs/plugins.md as a new user goes through it: its commands, in its order, in a fresh directory.
//!
//! Changed on the way: the plugin directory and the lab are the test's own, and cargo builds without
//! `--release` where the other tests' projects are built, so that it does not compile all again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use uvs_lab::shell::Shell;
use uvs_lab::{Daemon, Lab, Mode};

use crate::project::{repository, run, target};

/// Where plugins are installed, in the manual.
const DIRECTORY: &str = "/usr/lib/uvs/schedulers";

/// A fenced block: its language and its text.
type Block = (String, String);

/// The fenced blocks of a section.
fn blocks(section: &str) -> Vec<Block> {
    let manual = std::fs::read_to_string(repository().join("docs/plugins.md")).expect("there");
    let start = manual.find(&format!("\n## {section}\n")).expect(section);
    let text = &manual[start + 1..];
    let text = &text[..text.find("\n## ").unwrap_or(text.len())];
    let fenced = text.split("\n```").skip(1).step_by(2);
    let block = |b: &str| {
        let (language, text) = b.split_once('\n').expect("a block");
        (language.to_owned(), text.to_owned())
    };
    fenced.map(block).collect()
}

/// A user at work.
struct User {
    /// Where the commands are typed.
    at: PathBuf,
    plugins: PathBuf,
    bin: PathBuf,
}

impl User {
    /// In a fresh directory, `uvs` on the path.
    fn new(home: &Path) -> Self {
        let bin = Path::new(crate::project::UVS).parent();
        Self {
            at: home.to_owned(),
            plugins: home.join("plugins"),
            bin: bin.expect("target/PROFILE").to_owned(),
        }
    }

    /// Types a line that is for no host of the lab; what it printed.
    fn types(&mut self, line: &str) -> String {
        if let Some(to) = line.strip_prefix("cd ") {
            self.at.push(to);
            // The versions that are there already, so that nothing has to be fetched.
            let lock = repository().join("Cargo.lock");
            std::fs::copy(lock, self.at.join("Cargo.lock")).expect("copied");
            return String::new();
        }
        let built = target().join("plugins");
        let line = line
            .replace(DIRECTORY, &self.plugins.display().to_string())
            .replace("target/release", &format!("{}/debug", built.display()))
            .replace("--release", "");
        let path = std::env::var("PATH").expect("a path");
        run(Command::new("sh")
            .args(["-ec", &line])
            .current_dir(&self.at)
            .env("PATH", format!("{}:{path}", self.bin.display()))
            .env("CARGO_TARGET_DIR", built)
            .env("CARGO_NET_OFFLINE", "true"))
    }
}

/// `sort | uniq -c`.
fn counted(printed: &str) -> BTreeMap<String, u32> {
    let line = |line: &str| {
        let (count, name) = line.trim().split_once(' ')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    printed.lines().filter_map(line).collect()
}

/// Follows the section's commands; what each printed, in order.
fn follow(user: &mut User, lab: &Lab, shell: &Shell, blocks: &[Block]) -> Vec<(String, String)> {
    let commands = blocks.iter().filter(|(language, _)| language == "sh");
    let lines = commands.flat_map(|(_, text)| text.lines());
    let mut printed = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let inside = [("director", &lab.director), ("client", &lab.client)];
        let typed = inside.into_iter().find_map(|(name, host)| {
            let words = line.strip_prefix(&format!("uvs lab shell {name} -- "))?;
            Some(
                shell
                    .succeed(host, words)
                    .unwrap_or_else(|e| panic!("{line}: {e}")),
            )
        });
        let said = match typed {
            Some(said) => said,
            None if line.starts_with("uvs lab ") => String::new(),
            None => user.types(line),
        };
        printed.push((line.to_owned(), said));
    }
    printed
}

/// Step 5: `pick` becomes the manual's, and the version is raised.
fn make_it_yours(project: &Path, pick: &str) {
    let edit = |file: &str, change: &dyn Fn(String) -> String| {
        let file = project.join(file);
        let text = std::fs::read_to_string(&file).expect("there");
        std::fs::write(&file, change(text)).expect("written");
    };
    edit("src/lib.rs", &|text| {
        let start = text.find("    fn pick(").expect("pick");
        let end = start + text[start..].find("\n}\n").expect("the impl's end");
        let tests = text.find("    #[test]\n    fn clients_are").expect("tests");
        format!("{}{pick}{}}}\n", &text[..start], &text[end..tests])
    });
    edit("Cargo.toml", &|text| text.replace("0.1.0", "0.2.0"));
}

#[test]
fn the_manuals_ten_minutes_lead_to_a_running_plugin() {
    let _alone = crate::traffic::alone();
    let lab = crate::traffic::lab(Mode::Dr);
    let home = tempfile::tempdir().expect("a directory");
    let mut user = User::new(home.path());
    std::fs::create_dir(&user.plugins).expect("made");
    // `uvs lab up`.
    let line = format!(
        "run --interface eth0 --plugin-dir {}",
        user.plugins.display()
    );
    let daemon = Daemon::start_with(&lab, Path::new(crate::project::UVS), &line).expect("uvs runs");
    let shell = Shell::new(&lab, Path::new(crate::project::UVS)).expect("the symlinks are made");
    daemon.ipvsadm(&lab.plan.add_service("wrr")).expect("added");
    for (server, weight) in [3, 1, 2].into_iter().enumerate() {
        daemon
            .ipvsadm(&lab.plan.add_server(server, weight))
            .expect("added");
    }

    let blocks = blocks("Ten minutes to a running plugin");
    let last = blocks.iter().rposition(|(language, _)| language == "rust");
    let (first, second) = blocks.split_at(last.expect("the new pick"));
    let printed = follow(&mut user, &lab, &shell, first);
    let said = |needle: &str| {
        let mut found = printed.iter().filter(|(line, _)| line.contains(needle));
        &found
            .next()
            .unwrap_or_else(|| panic!("{needle}: {printed:?}"))
            .1
    };
    assert!(said("plugin check").contains("sticky conforms."));
    assert!(said("ipvsadm -ln").contains("TCP  192.168.0.38:80 wrr"));
    assert_eq!(
        counted(said("[1-20]")).into_values().collect::<Vec<_>>(),
        [20]
    );
    let spread = counted(said("[1-60]"));
    assert_eq!(spread.values().sum::<u32>(), 60);
    assert_eq!(spread.len(), 3, "{spread:?}");
    assert!(said("plugin list").contains("sticky  0.1.0      1  "));

    // The library that is in use is not the file cargo writes next.
    make_it_yours(&user.at, second[0].1.trim_end());
    let printed = follow(&mut user, &lab, &shell, second);
    let reloaded = printed.iter().find(|(line, _)| line.contains("reload"));
    let expected = blocks.last().expect("a transcript");
    assert_eq!(
        reloaded.expect("reloaded").1.trim_end(),
        expected.1.trim_end()
    );
    daemon.stop().expect("a clean end");
}

#[test]
fn the_manuals_c_project_builds_and_conforms() {
    let home = tempfile::tempdir().expect("a directory");
    let mut user = User::new(home.path());
    let blocks = blocks("In C");
    let commands = blocks.iter().find(|(language, _)| language == "sh");
    let lines = commands.expect("commands").1.lines();
    let said: String = lines.map(|line| user.types(line)).collect();
    assert!(said.contains("mine conforms."), "{said}");
    assert!(user.plugins.join("libmine.so").is_file());
}
