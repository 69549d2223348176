//! What a `kill -9` left is gone after the next lab's start. A file, and thus a process, of its own, as
//! leftovers are looked for once in a process.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use uvs_lab::{Lab, Mode, Options, tools};

#[test]
fn the_next_lab_removes_what_a_dead_one_left() {
    let mut dead = Command::new("true").spawn().expect("true runs");
    dead.wait().expect("it ends");
    let name = format!("uvs-{}-0-client", dead.id());
    let directory = std::env::temp_dir().join(format!("uvs-{}-0-files", dead.id()));
    let ip = |words: &[&str]| tools::command("ip", words).expect("ip is there");
    assert!(
        ip(&["netns", "add", &name])
            .status()
            .expect("ip runs")
            .success()
    );
    fs::create_dir(&directory).expect("a directory");
    let mut inside = ip(&["netns", "exec", &name, "sh", "-c", "echo; exec sleep 60"]);
    let mut inside = inside.stdout(Stdio::piped()).spawn().expect("sleep runs");
    let output = inside.stdout.as_mut().expect("piped");
    output
        .read_exact(&mut [0])
        .expect("it says that it is inside");

    let lab = Lab::build(Mode::Dr, Options::default()).expect("the lab is built");

    let status = inside.wait().expect("it was ended");
    assert!(!status.success(), "killed, not done: {status}");
    assert!(!directory.exists());
    let listed = ip(&["netns", "list"]).output().expect("ip runs").stdout;
    let listed = String::from_utf8_lossy(&listed);
    assert!(
        !listed.contains(&name) && listed.contains(lab.client.name()),
        "{listed}"
    );
}
