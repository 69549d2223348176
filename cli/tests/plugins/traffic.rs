//! Plugins at work: real requests through the lab's director, one connection each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uvs_lab::share::{Share, compare, workers};
use uvs_lab::traffic::{Answers, requests};
use uvs_lab::{Daemon, Lab, Mode, Options};

use crate::project::{UVS, c_example, c_plugin, rust_example, rust_plugin};

/// More than enough for each of three servers to be drawn at least once.
const REQUESTS: u32 = 120;

/// A lab with a daemon whose plugin directory is empty at first.
pub(crate) struct Director<'lab> {
    lab: &'lab Lab,
    pub(crate) daemon: Daemon<'lab>,
    plugins: PathBuf,
}

/// One at a time on a small machine.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn lab(mode: Mode) -> Lab {
    let lab = Lab::build(mode, Options::default()).expect("the lab is built");
    lab.prepare_servers(Path::new(UVS)).expect("prepared");
    lab
}

impl<'lab> Director<'lab> {
    pub(crate) fn start(lab: &'lab Lab) -> Self {
        Self::start_with(lab, "")
    }

    /// With more words of `uvs run`, each after a space.
    pub(crate) fn start_with(lab: &'lab Lab, more: &str) -> Self {
        let plugins = lab.dir().join("plugins");
        std::fs::create_dir(&plugins).expect("made");
        let interfaces = lab.plan.interfaces.iter();
        let interfaces: String = interfaces
            .map(|name| format!(" --interface {name}"))
            .collect();
        let plugin_dir = plugins.display();
        let line = format!("run{interfaces} --plugin-dir {plugin_dir}{more}");
        let daemon = Daemon::start_with(lab, Path::new(UVS), &line).expect("uvs runs");
        Self {
            lab,
            daemon,
            plugins,
        }
    }

    /// As `install -m 644` does it: a new file in the old one's place.
    pub(crate) fn install(&self, library: &Path, file: &str) {
        let beside = self.plugins.join("new");
        std::fs::copy(library, &beside).expect("copied");
        std::fs::set_permissions(&beside, std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .expect("permitted");
        std::fs::rename(beside, self.plugins.join(file)).expect("renamed");
    }

    /// The service with three servers of these weights.
    pub(crate) fn serve(&self, scheduler: &str, weights: [u32; 3]) {
        self.ipvsadm(&self.lab.plan.add_service(scheduler));
        for (server, weight) in weights.into_iter().enumerate() {
            self.ipvsadm(&self.lab.plan.add_server(server, weight));
        }
    }

    fn ipvsadm(&self, words: &str) -> String {
        self.daemon
            .ipvsadm(words)
            .unwrap_or_else(|e| panic!("{words}: {e}\n{}", self.daemon.log()))
    }

    pub(crate) fn uvs(&self, words: &str) -> String {
        self.daemon
            .uvs(words)
            .unwrap_or_else(|e| panic!("{words}: {e}\n{}", self.daemon.log()))
            .stdout
    }

    /// What is said of a command that must be refused.
    pub(crate) fn refused(&self, words: &str) -> String {
        self.daemon.uvs(words).expect_err("refused").to_string()
    }

    pub(crate) fn answers(&self, count: u32) -> Answers {
        requests(&self.lab.client, &self.lab.plan.url("/"), count)
            .unwrap_or_else(|e| panic!("{e}\n{}", self.daemon.log()))
    }
}

/// A page of the director's exporter.
pub(crate) fn page(lab: &Lab, name: &str) -> String {
    let url = format!("http://127.0.0.1:9650/{name}");
    let page = lab.director.run(&format!("curl -s {url}"));
    page.expect("served")
}

fn servers(answers: &Answers) -> BTreeSet<&str> {
    answers.keys().map(String::as_str).collect()
}

#[test]
fn both_examples_balance_real_traffic_in_a_daemon_that_runs_already() {
    let _alone = alone();
    let lab = lab(Mode::Nat);
    let director = Director::start(&lab);
    let plan = &lab.plan;
    let unknown = director.refused(&format!("ipvsadm {}", plan.add_service("hrw")));
    assert!(
        unknown.contains("Scheduler or persistence engine not found"),
        "{unknown}"
    );

    director.install(&rust_example(), "libhrw.so");
    director.serve("hrw -b flag-2", [3, 0, 2]);
    let answers = director.answers(REQUESTS);
    assert_eq!(
        servers(&answers),
        ["rs1", "rs3"].into(),
        "weight 0 gets nothing: {answers:?}"
    );
    director.ipvsadm(&plan.edit_server(1, 3));
    let answers = director.answers(REQUESTS);
    assert_eq!(
        servers(&answers),
        ["rs1", "rs2", "rs3"].into(),
        "{answers:?}"
    );

    director.install(&c_example(lab.dir()), "libwrandom.so");
    director.ipvsadm(&format!("-E -t {} -s wrandom", plan.vip));
    let answers = director.answers(REQUESTS);
    assert_eq!(
        servers(&answers),
        ["rs1", "rs2", "rs3"].into(),
        "{answers:?}"
    );

    // Without the flag the client's address alone counts, and there is one client.
    director.ipvsadm(&format!("-E -t {} -s hrw", plan.vip));
    let answers = director.answers(20);
    assert_eq!(answers.len(), 1, "{answers:?}");
    let listed = director.uvs("plugin list");
    let line = |name: &str| {
        let mut lines = listed.lines().filter(|line| line.starts_with(name));
        lines
            .next()
            .unwrap_or_else(|| panic!("{name}: {listed}"))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let directory = director.plugins.display();
    assert_eq!(
        line("hrw"),
        format!("hrw 0.1.0 1 {directory}/libhrw.so 0 TCP {}", plan.vip)
    );
    assert_eq!(
        line("wrandom"),
        format!("wrandom 0.1.0 1 {directory}/libwrandom.so 0")
    );
    let shown = director.ipvsadm("-ln");
    assert!(shown.contains(&format!("TCP  {} hrw", plan.vip)), "{shown}");
    director.daemon.stop().expect("a clean end");
}

#[test]
fn a_new_version_takes_over_by_a_reload() {
    let _alone = alone();
    let lab = lab(Mode::Dr);
    let director = Director::start(&lab);
    let only = |n: u32| format!("return count - {n};");
    let v1 = c_plugin(lab.dir(), "v1", "only", "1.0.0", &only(1));
    director.install(&v1, "libonly.so");
    // The server added last is the first of the set, so that the last one is the first added.
    director.serve("only", [1, 1, 1]);
    assert_eq!(director.answers(4), Answers::from([("rs1".to_owned(), 4)]));
    let v2 = c_plugin(lab.dir(), "v2", "only", "1.1.0", &only(2));
    director.install(&v2, "libonly-1.1.so");
    assert_eq!(director.answers(4), Answers::from([("rs1".to_owned(), 4)]));
    let said = director.uvs("plugin reload");
    assert_eq!(
        said,
        "only: 1.1.0 (libonly-1.1.so) replaces 1.0.0 (libonly.so)\n"
    );
    assert_eq!(director.answers(4), Answers::from([("rs2".to_owned(), 4)]));

    // `cp` over the file of the running version, which maps its bytes no more.
    let v3 = c_plugin(lab.dir(), "v3", "only", "1.2.0", &only(3));
    std::fs::copy(v3, director.plugins.join("libonly-1.1.so")).expect("copied");
    assert_eq!(director.answers(4), Answers::from([("rs2".to_owned(), 4)]));
    director.uvs("plugin reload only");
    assert_eq!(director.answers(4), Answers::from([("rs3".to_owned(), 4)]));
    let refused = director.refused("plugin reload other");
    assert!(
        refused.contains("no plugin \"other\" is loaded; loaded: only"),
        "{refused}"
    );
    director.daemon.stop().expect("a clean end");
}

#[test]
fn a_plugin_that_panics_costs_a_few_connections_and_then_its_job() {
    let _alone = alone();
    let lab = lab(Mode::Nat);
    let mut director = Director::start(&lab);
    // Every fourth pick panics: the client's SYN comes again and is picked for again.
    let library = rust_plugin(lab.dir(), "moody", |source| {
        source.replace(
            "let client = hash(",
            "static CALLS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);\n\
             let calls = CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);\n\
             assert!(calls % 4 != 3, \"in a bad mood\");\n\
             let client = hash(",
        )
    });
    director.install(&library, "libmoody.so");
    director.serve("moody -b flag-2", [1, 1, 1]);
    // Ten faults of each worker's instance, each a SYN that is dropped and sent again after a second; every request is answered.
    let faults = 10 * workers();
    let all_failed = format!("{faults} (panic {faults})");
    // Which worker a connection is of is by chance where there are several.
    let goes = if workers() == 1 { 1 } else { 10 };
    let listed = (0..goes).find_map(|_| {
        let answers = director.answers(42);
        assert_eq!(answers.values().sum::<u32>(), 42);
        Some(director.uvs("plugin list")).filter(|listed| listed.contains(&all_failed))
    });
    let listed = listed.unwrap_or_else(|| director.uvs("plugin list"));
    assert!(listed.contains(&all_failed), "{listed}");
    let vip = format!("TCP {}", lab.plan.vip);
    director
        .daemon
        .wait_log("falls back to wrr")
        .expect("said so");
    let log = director.daemon.log();
    assert!(
        log.contains("the scheduler plugin failed: it panicked"),
        "{log}"
    );
    assert!(log.contains(&format!("service=\"{vip}\"")), "{log}");
    assert!(
        listed.contains(&format!("moody: {vip} fell back to wrr")),
        "{listed}"
    );
    let drops = director.uvs("show drops");
    let dropped = drops
        .lines()
        .find(|line| line.starts_with("scheduler_fault"));
    let all_dropped = format!(" {faults}");
    assert!(
        dropped.is_some_and(|line| line.ends_with(&all_dropped)),
        "{drops}"
    );
    // wrr at equal weights: exact shares.
    let answers = director.answers(12);
    let shares = compare(
        &["rs1", "rs2", "rs3"].map(|rs| (rs.to_owned(), 1)),
        &answers,
    );
    assert!(shares.iter().all(Share::is_right), "{answers:?}");

    let said = director.uvs("plugin reload");
    assert!(
        said.contains(&format!("is the newest; tried again by {vip}")),
        "{said}"
    );
    assert!(!director.uvs("plugin list").contains("fell back"), "{said}");
    director.daemon.stop().expect("a clean end");
}

#[test]
fn a_refused_plugin_is_explained_where_it_is_named() {
    let _alone = alone();
    let lab = lab(Mode::Dr);
    let director = Director::start(&lab);
    let library = c_plugin(lab.dir(), "lib", "mine", "1", "return UVS_NONE;");
    director.install(&library, "libmine.so");
    let file = director.plugins.join("libmine.so");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .expect("changed");
    let add = format!("ipvsadm {}", lab.plan.add_service("mine"));
    let refused = director.refused(&add);
    assert!(
        refused.contains("libmine.so is writable by others than its owner (mode 666): chmod go-w"),
        "{refused}"
    );
    assert_eq!(director.ipvsadm("-Sn"), "", "nothing is half applied");
    let listed = director.uvs("plugin list");
    assert!(listed.contains("libmine.so: refused: "), "{listed}");
    // Nobody waits for a FIFO's writer, least of all the daemon.
    let fifo = director.plugins.join("libfifo.so");
    let made = rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, 0o644.into());
    made.expect("made");
    let add_fifo = format!("ipvsadm {}", lab.plan.add_service("fifo"));
    let refused = director.refused(&add_fifo);
    assert!(
        refused.contains("libfifo.so is not a shared library: it is not a regular file"),
        "{refused}"
    );
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .expect("changed");
    director.uvs(&add);
    director.daemon.stop().expect("a clean end");
}
