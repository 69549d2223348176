//! Plugins made by the system's C compiler in a directory of the test's own: found, refused, taken over.
//! Needs `cc`, and root, whose files the plugins must be.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use uvs_core::scheduler::SchedulerParams;
use uvs_core::testing::servers::{backends, flow};

use super::{Loaded, PluginSettings, Schedulers, Unfound};

/// A plugin directory.
struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// Builds a plugin that always picks this server.
    fn build(&self, file: &str, name: &str, version: &str, server: usize) {
        self.compile(
            file,
            &format!(
                "#include \"uvs_scheduler.h\"\n\
                 static int64_t pick(void *s, const struct uvs_flow *f, const struct uvs_backend *b, size_t n)\n\
                 {{ (void)s; (void)f; (void)b; (void)n; return {server}; }}\n\
                 const struct uvs_scheduler_table *uvs_scheduler(void)\n\
                 {{ static const struct uvs_scheduler_table t = {{ UVS_SCHEDULER_HEAD, .name = \"{name}\",\n\
                   .version = \"{version}\", .about = \"a test\", .pick = pick }}; return &t; }}\n"
            ),
        );
    }

    fn compile(&self, file: &str, source: &str) {
        let text = self.path("source.c");
        std::fs::write(&text, source).expect("written");
        let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin/include");
        let output = Command::new("cc")
            .args(["-std=c11", "-fPIC", "-shared", "-I"])
            .arg(include)
            .arg("-o")
            .args([self.path(file), text])
            .output()
            .expect("a C compiler called cc");
        assert!(output.status.success(), "{output:?}");
    }

    fn schedulers(&self) -> Arc<Schedulers> {
        let settings = PluginSettings {
            max_faults: Some(2),
            ..PluginSettings::default()
        };
        Schedulers::new(self.0.path(), &settings)
    }
}

/// The server that a scheduler of this name picks of three.
fn picks(schedulers: &Schedulers, name: &str) -> Option<usize> {
    let made = schedulers.make(name, &SchedulerParams::default());
    made?.pick(&flow(0), &backends(&[(1, 1), (2, 1), (3, 1)]))
}

fn unknown(schedulers: &Schedulers, name: &str) -> String {
    match schedulers.find(name).expect_err("not found") {
        Unfound::Unknown(what) => what,
        Unfound::Refused(what) => panic!("refused: {what}"),
    }
}

fn refused(schedulers: &Schedulers, name: &str) -> String {
    match schedulers.find(name).expect_err("refused") {
        Unfound::Refused(why) => why,
        Unfound::Unknown(what) => panic!("unknown: {what}"),
    }
}

fn reload(schedulers: &Schedulers, name: &str) -> String {
    let done = schedulers.reload(Some(name)).expect("reloaded");
    assert_eq!(done.len(), 1);
    format!("{}: {}", done[0].name, done[0].what)
}

#[test]
fn a_file_dropped_into_the_directory_is_a_scheduler_at_once() {
    let dir = Dir::new();
    let schedulers = dir.schedulers();
    let said = unknown(&schedulers, "mine");
    assert!(
        said.starts_with("no scheduler is called \"mine\"; there are rr, wrr,"),
        "{said}"
    );
    assert!(said.ends_with(&format!(
        "no plugin in {} is called so",
        dir.0.path().display()
    )));
    dir.build("libmine.so", "mine", "1.0", 2);
    assert_eq!(schedulers.find("mine"), Ok(()));
    assert_eq!(picks(&schedulers, "mine"), Some(2));
    assert_eq!(picks(&schedulers, "rr"), Some(0), "built-in ones go on");
    assert!(schedulers.names().contains(&"mine".to_owned()));
}

#[test]
fn a_file_of_any_name_is_found_but_others_are_left_alone() {
    let dir = Dir::new();
    dir.build("libone.so", "one", "1.0", 1);
    dir.build("something.so", "two", "1.0", 2);
    let schedulers = dir.schedulers();
    assert_eq!(schedulers.find("one"), Ok(()));
    let others = schedulers.other_files();
    assert_eq!(
        others,
        [(
            dir.path("something.so"),
            "not loaded: a service that names it loads it".to_owned()
        )]
    );
    assert_eq!(schedulers.find("two"), Ok(()));
    assert_eq!(picks(&schedulers, "two"), Some(2));
}

#[test]
fn what_may_not_be_loaded_is_refused_and_said_why() {
    let dir = Dir::new();
    let schedulers = dir.schedulers();
    dir.build("libmine.so", "mine", "1.0", 0);
    let file = dir.path("libmine.so");
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("changed");
    };
    mode(&file, 0o664);
    assert!(
        refused(&schedulers, "mine")
            .contains("libmine.so is writable by others than its owner (mode 664): chmod go-w")
    );
    mode(&file, 0o644);
    chown(&file, Some(65534), None).expect("given away");
    assert!(
        refused(&schedulers, "mine")
            .contains("libmine.so is owned by user 65534, not by root: chown root:root")
    );
    chown(&file, Some(0), None).expect("taken back");
    mode(dir.0.path(), 0o777);
    assert!(
        refused(&schedulers, "mine").contains("is writable by others than its owner (mode 777)")
    );
    mode(dir.0.path(), 0o755);
    let elsewhere = Dir::new();
    std::fs::rename(&file, elsewhere.path("libmine.so")).expect("moved");
    symlink(elsewhere.path("libmine.so"), &file).expect("linked");
    assert!(refused(&schedulers, "mine").contains("is outside the plugin directory"));
    let said = schedulers
        .load(&elsewhere.path("libmine.so"))
        .expect_err("refused");
    assert!(said.contains("is outside the plugin directory"), "{said}");
    std::fs::remove_file(&file).expect("removed");
    std::fs::write(&file, "no library").expect("written");
    assert!(refused(&schedulers, "mine").contains("libmine.so is not a shared library"));
    dir.compile("libmine.so", "int x;");
    assert!(refused(&schedulers, "mine").contains("libmine.so has no symbol uvs_scheduler"));
    dir.compile(
        "libmine.so",
        "static const unsigned t[64] = { 3, 88 }; const void *uvs_scheduler(void) { return t; }",
    );
    let said = refused(&schedulers, "mine");
    assert!(
        said.contains("it has ABI version 3, this uvs has version 1"),
        "{said}"
    );
    assert_eq!(schedulers.other_files()[0].1, format!("refused: {said}"));
    dir.build("libmine.so", "mine", "1.0", 0);
    assert_eq!(schedulers.find("mine"), Ok(()), "put right, it is taken");
}

#[test]
fn a_name_is_taken_once() {
    let dir = Dir::new();
    let schedulers = dir.schedulers();
    dir.build("libfast.so", "wrr", "1.0", 0);
    let said = refused(&schedulers, "fast");
    assert!(
        said.contains("the name \"wrr\" is taken by a built-in scheduler"),
        "{said}"
    );
    dir.build("a.so", "mine", "1.0", 0);
    dir.build("b.so", "mine", "1.0", 1);
    assert_eq!(schedulers.load(Path::new("a.so")), Ok(()));
    let same = dir
        .path("../")
        .join(dir.0.path().file_name().expect("a name"))
        .join("a.so");
    assert_eq!(schedulers.load(&same), Ok(()), "it has its own name");
    let said = schedulers.load(Path::new("b.so")).expect_err("refused");
    assert!(
        said.contains("the name \"mine\" is taken by the plugin of"),
        "{said}"
    );
    assert_eq!(picks(&schedulers, "mine"), Some(0));
}

#[test]
fn the_highest_version_takes_over_on_reload_and_running_services_follow() {
    let dir = Dir::new();
    dir.build("libmine.so", "mine", "1.9", 0);
    let schedulers = dir.schedulers();
    assert!(
        schedulers
            .reload(Some("mine"))
            .expect_err("unknown")
            .contains("no plugin \"mine\" is loaded; loaded: none")
    );
    schedulers.find("mine").expect("found");
    let mut running = schedulers
        .make("mine", &SchedulerParams::default())
        .expect("made");
    let set = backends(&[(1, 1), (2, 1), (3, 1)]);
    assert_eq!(running.pick(&flow(0), &set), Some(0));
    dir.build("libmine-1.10.so", "mine", "1.10", 1);
    assert_eq!(
        running.pick(&flow(0), &set),
        Some(0),
        "not before the reload"
    );
    assert_eq!(
        reload(&schedulers, "mine"),
        "mine: 1.10 (libmine-1.10.so) replaces 1.9 (libmine.so)"
    );
    assert_eq!(running.pick(&flow(0), &set), Some(1));
    assert_eq!(
        reload(&schedulers, "mine"),
        "mine: 1.10 (libmine-1.10.so) is the newest"
    );

    // Over the loaded file itself.
    dir.build("new", "mine", "1.10", 2);
    std::fs::copy(dir.path("new"), dir.path("libmine-1.10.so")).expect("copied");
    assert_eq!(
        running.pick(&flow(0), &set),
        Some(1),
        "the old code is untouched"
    );
    assert_eq!(
        reload(&schedulers, "mine"),
        "mine: 1.10 (libmine-1.10.so) replaces 1.10 (libmine-1.10.so)"
    );
    assert_eq!(running.pick(&flow(0), &set), Some(2));

    std::fs::remove_file(dir.path("libmine-1.10.so")).expect("removed");
    assert_eq!(
        reload(&schedulers, "mine"),
        "mine: 1.9 (libmine.so) replaces 1.10 (libmine-1.10.so)"
    );
    std::fs::write(dir.path("libmine-2.so"), "half a fi").expect("written");
    let said = reload(&schedulers, "mine");
    assert!(
        said.starts_with("mine: 1.9 (libmine.so) is the newest; refused: "),
        "{said}"
    );
    assert!(schedulers.reload(None).expect("reloaded")[0].refused);
    std::fs::remove_file(dir.path("libmine-2.so")).expect("removed");
    std::fs::remove_file(dir.path("libmine.so")).expect("removed");
    assert_eq!(
        reload(&schedulers, "mine"),
        "mine: 1.9 (libmine.so) goes on; it is in no file any more"
    );
    assert_eq!(running.pick(&flow(0), &set), Some(0));
}

#[test]
fn faults_are_listed_and_a_reload_is_another_try() {
    let dir = Dir::new();
    dir.build("libbad.so", "bad", "1.0", 7);
    let schedulers = dir.schedulers();
    schedulers.find("bad").expect("found");
    let mut running = schedulers
        .make("bad", &SchedulerParams::default())
        .expect("made");
    let set = backends(&[(1, 1), (2, 1)]);
    running.backends_changed(&set);
    let picked: Vec<_> = (0..4).map(|n| running.pick(&flow(n), &set)).collect();
    assert_eq!(
        picked,
        [Some(usize::MAX), Some(usize::MAX), Some(0), Some(1)],
        "two faults, then wrr"
    );
    let Loaded {
        faults,
        fallen_back,
        abi,
        ..
    } = schedulers.loaded().remove(0);
    assert_eq!(faults[1], ("wrong_index", 2));
    assert_eq!(
        (fallen_back.as_slice(), abi),
        (["TCP 192.0.2.1:80".to_owned()].as_slice(), 1)
    );
    let said = reload(&schedulers, "bad");
    assert_eq!(
        said,
        "bad: 1.0 (libbad.so) is the newest; tried again by TCP 192.0.2.1:80"
    );
    assert_eq!(running.pick(&flow(0), &set), Some(usize::MAX));
}
