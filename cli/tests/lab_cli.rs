//! `uvs lab` as a command: what it refuses, and how commands run with the lab's privileges end.

use std::process::{Command, Output};

#[test]
fn an_unknown_mode_is_refused_with_the_known_ones() {
    for command in ["demo", "up"] {
        let output = uvs(&["lab", command, "--mode", "tun"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("the modes are dr, nat, fullnat and ipip"),
            "{said}"
        );
    }
}

#[test]
fn exec_hands_arguments_and_status_through() {
    let output = uvs(&[
        "lab",
        "exec",
        "sh",
        "-c",
        "echo \"$0 $1\"; exit 7",
        "--mode",
        "dr",
    ]);
    assert_eq!(
        output.status.code(),
        Some(7),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.stdout, b"--mode dr\n");
}

fn uvs(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_uvs"))
        .args(args)
        .output()
        .expect("uvs runs")
}

#[test]
fn the_demo_is_right_in_every_mode_this_machine_can_have() {
    let output = uvs(&["lab", "demo"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for mode in ["dr", "nat", "fullnat"] {
        assert!(
            said.contains(&format!("\n  {mode:<8} every share exact")),
            "{said}"
        );
    }
    // Without root and with /dev/net/tun closed, a real server cannot unwrap; the demo says so.
    let ipip = [
        "\n  ipip     every share exact",
        "\n  ipip     not shown: this kernel has no ipip",
    ];
    assert!(ipip.iter().any(|line| said.contains(line)), "{said}");
    assert!(said.contains(" s; 0 namespaces left behind."), "{said}");
    if said.contains("5 of 5 shown") {
        must_say_what_the_readme_does(&said);
    }
}

/// The README's lines are the demo's, in their order; it leaves lines out, and another run takes another time.
fn must_say_what_the_readme_does(said: &str) {
    let readme = include_str!("../../README.md");
    let from = readme.find("== nat: ").expect("the README shows the demo");
    let shown = readme[from..].split("```").next().expect("a block");
    let untimed = |line: &str| {
        line.split(" shown in ")
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let mut rest = said.lines().map(untimed);
    for line in shown.lines().filter(|line| line.trim() != "…") {
        assert!(
            rest.any(|one| one == untimed(line)),
            "{line}\nis not in, or not there:\n{said}"
        );
    }
}
