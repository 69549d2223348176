//! Nothing of a lab stays: not when it is dropped, when a test panics, or when the demo fails half-way.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use uvs_lab::screen::Screen;
use uvs_lab::{Error, Families, Lab, Mode, Options, demo};

#[test]
fn a_dropped_lab_leaves_nothing() {
    let lab = Lab::build(Mode::Nat, Options::default()).expect("the lab is built");
    let traces = Traces::of(&lab);
    assert_eq!(
        traces.found().len(),
        6 + 3 + 1,
        "hosts, HTTP servers, a directory"
    );
    drop(lab);
    assert_eq!(traces.found(), [] as [PathBuf; 0]);
}

#[test]
fn a_panic_leaves_nothing() {
    let mut traces = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let lab = Lab::build(Mode::Dr, Options::default()).expect("the lab is built");
        traces = Some(Traces::of(&lab));
        assert!(lab.servers.is_empty(), "meant to fail");
    }));
    assert!(result.is_err());
    assert_eq!(
        traces.expect("the lab was built").found(),
        [] as [PathBuf; 0]
    );
}

#[test]
fn an_interrupted_demo_stops_and_leaves_nothing() {
    let scratch = tempfile::tempdir().expect("temporary directory");
    let (result, text) = demo_text(scratch.path(), "/bin/true", &AtomicBool::new(true));
    assert!(matches!(result, Err(Error::Interrupted)), "{text}");
    assert!(!text.contains("uvs run"), "{text}");
}

#[test]
fn a_daemon_that_does_not_start_fails_the_demo_by_name() {
    let scratch = tempfile::tempdir().expect("temporary directory");
    let (result, text) = demo_text(scratch.path(), "/bin/false", &AtomicBool::new(false));
    assert!(matches!(result, Ok(false)), "{text}");
    assert!(
        text.contains("FAILED: `false run --interface eth0 --interface eth1` failed"),
        "{text}"
    );
    assert!(text.contains("0 namespaces left behind"), "{text}");
}

fn demo_text(
    scratch: &Path,
    uvs: &str,
    interrupted: &AtomicBool,
) -> (uvs_lab::Result<bool>, String) {
    let file = scratch.join("screen");
    let mut screen = Screen::plain(Box::new(fs::File::create(&file).expect("a file")));
    let result = demo::run(
        &mut screen,
        Path::new(uvs),
        &[(Mode::Nat, Families::V4)],
        interrupted,
    );
    (result, fs::read_to_string(&file).expect("text"))
}

/// Where a lab can be seen from outside.
struct Traces {
    namespaces: Vec<PathBuf>,
    processes: Vec<PathBuf>,
    dir: PathBuf,
}

impl Traces {
    fn of(lab: &Lab) -> Self {
        Self {
            namespaces: lab
                .hosts()
                .map(|host| Path::new("/run/netns").join(host.name()))
                .collect(),
            processes: lab
                .servers
                .iter()
                .map(|s| format!("/proc/{}", s.http_process()).into())
                .collect(),
            dir: lab.dir().to_owned(),
        }
    }

    fn found(&self) -> Vec<PathBuf> {
        let all = self
            .namespaces
            .iter()
            .chain(&self.processes)
            .chain([&self.dir]);
        all.filter(|path| path.exists()).cloned().collect()
    }
}
