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
