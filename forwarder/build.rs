//! What `uvs --version` and `uvs_build_info` name: the commit and the compiler. Neither is needed to build.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Moves with every commit and checkout, and lies elsewhere in a worktree.
    if let Some(log) = printed("git", &["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    let commit = printed("git", &["rev-parse", "--short=12", "HEAD"]);
    let release = env!("CARGO_PKG_VERSION");
    let version = match &commit {
        Some(commit) => format!("{release} ({commit})"),
        None => release.to_owned(),
    };
    println!("cargo::rustc-env=UVS_VERSION={version}");
    let rustc = std::env::var("RUSTC").ok();
    let rustc = rustc.and_then(|rustc| printed(&rustc, &["--version"]));
    let unknown = || "unknown".to_owned();
    println!(
        "cargo::rustc-env=UVS_COMMIT={}",
        commit.unwrap_or_else(unknown)
    );
    println!(
        "cargo::rustc-env=UVS_RUSTC={}",
        rustc.unwrap_or_else(unknown)
    );
}

fn printed(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
