//! What a daemon has given up: capabilities, new privileges and system calls, in each of its threads and in those of its successor,
//! while it does all that a director does; and what becomes of a plugin that wants more. Needs `cc`, and root, or `make
//! test`.

#[path = "support/heir.rs"]
mod heir;
#[path = "plugins/project.rs"]
#[allow(dead_code, reason = "shared with the tests of plugins")]
mod project;
#[path = "support/stand.rs"]
mod stand;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use heir::{Heir, pid};
use project::c_plugin_with;
use stand::{ask, eventually, lab, must_serve, shares, uvs};
use uvs_lab::{Daemon, Lab, Mode, Options};

/// CAP_DAC_READ_SEARCH, CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON, CAP_BPF (linux/capability.h).
const KEPT: u64 = 1 << 2 | 1 << 10 | 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;

/// An address of the clients' network that nobody has.
const OWN: &str = "172.16.254.77";

/// What the kernel says of each thread of a process.
fn threads(pid: u64) -> Vec<BTreeMap<String, String>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let status = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("status")).ok()?;
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Some(
            fields
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect(),
        )
    };
    tasks.flatten().filter_map(status).collect()
}

fn set(thread: &BTreeMap<String, String>, name: &str) -> u64 {
    u64::from_str_radix(&thread[name], 16).expect("a set of capabilities")
}

/// Every thread of a daemon's is confined.
fn must_be_confined(pid: u64) {
    let threads = threads(pid);
    let names: BTreeSet<&str> = threads.iter().map(|t| t["Name"].as_str()).collect();
    for name in [
        "uvs-worker",
        "uvs-metrics",
        "uvs-log",
        "uvs-starter",
        "uvs-refusals",
    ] {
        assert!(names.contains(name), "{names:?}");
    }
    for thread in &threads {
        for name in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(set(thread, name), KEPT, "{name} of {thread:?}");
        }
        for name in ["CapInh", "CapAmb"] {
            assert_eq!(set(thread, name) & !KEPT, 0, "{name} of {thread:?}");
        }
        assert_eq!(thread["NoNewPrivs"], "1", "{thread:?}");
        assert_eq!(thread["Seccomp"], "2", "{thread:?}");
    }
}

/// A file for a NAT director with plugins, and with these lines at its top.
fn config(lab: &Lab, top: &str) {
    let plan = &lab.plan;
    let servers = [(0, 3), (1, 1)].map(|(server, weight)| {
        let address = plan.servers[server];
        format!("[[service.server]]\naddress = \"{address}\"\nweight = {weight}\n")
    });
    let text = format!(
        "interfaces = {:?}\n{top}\n[[service]]\ntcp = \"{}\"\nscheduler = \"wrr\"\nmode = \"nat\"\n{}
         [[service]]\ntcp = \"{OWN}:80\"\nmode = \"nat\"\n",
        plan.interfaces,
        plan.vip,
        servers.concat(),
    );
    fs::write(lab.dir().join("uvs.toml"), text).expect("written");
}

fn start<'lab>(lab: &'lab Lab, words: &str) -> Daemon<'lab> {
    let file = lab.dir().join("uvs.toml");
    let line = format!("run --config {}{words}", file.display());
    Daemon::start_with(lab, uvs(), &line).expect("uvs runs")
}

/// The line of `uvs show info` about it.
fn told(daemon: &Daemon<'_>) -> String {
    let info = daemon.uvs("show info").expect("told").stdout;
    let line = info.lines().find(|line| line.starts_with("confinement"));
    line.expect("a line").to_owned()
}

#[test]
fn all_that_a_director_does_is_done_without_what_it_has_given_up() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    config(&lab, "");
    let daemon = start(&lab, "");
    must_serve(&lab, &daemon);
    must_be_confined(daemon.id().into());

    // A reload that owns a VIP, a deny list, a drain, the host's firewall changed, which has nft started.
    config(
        &lab,
        "own_vips = [\"172.16.254.77\"]\ndeny = [\"192.0.2.0/24\"]",
    );
    daemon.uvs("reload").expect("reloaded");
    let info = daemon.uvs("show info").expect("told").stdout;
    let owned = info.lines().find(|line| line.starts_with("owned VIPs"));
    assert!(owned.is_some_and(|line| line.contains(OWN)), "{info}");
    let rules = "nft add table ip t && nft 'add chain ip t in { type filter hook input priority 0; }' && nft add rule ip t in ip saddr 198.51.100.0/24 drop";
    shell.succeed(&lab.director, rules).expect("added");
    eventually("the host's rule is followed", || {
        let list = daemon.uvs("deny").expect("listed").stdout;
        list.contains("198.51.100.0/24")
    });
    shell
        .succeed(&lab.director, "nft delete table ip t")
        .expect("gone");
    let drained = lab.plan.servers[1];
    daemon.uvs(&format!("drain {drained}")).expect("drained");
    assert_eq!(ask(&lab).expect("answers"), shares(40, 0));
    must_be_confined(daemon.id().into());

    let before = u64::from(daemon.id());
    daemon.uvs("upgrade").expect("another has taken over");
    let now = pid(&daemon);
    assert_ne!(now, before);
    let heir = Heir::of(now);
    assert_eq!(ask(&lab).expect("answers"), shares(40, 0));
    daemon.uvs("reload").expect("reloaded");
    let undrain = format!("undrain {drained}");
    daemon.uvs(&undrain).expect("it serves again");
    must_serve(&lab, &daemon);
    must_be_confined(now);
    // And one more, whose filters are as many.
    daemon.uvs("upgrade").expect("another has taken over");
    heir.ended();
    let last = pid(&daemon);
    must_be_confined(last);
    let filters: BTreeSet<String> = threads(last)
        .iter()
        .map(|t| t["Seccomp_filters"].clone())
        .collect();
    assert_eq!(filters, BTreeSet::from(["1".to_owned(), "2".to_owned()]));
    let line = told(&daemon);
    assert!(
        line.ends_with("no new privileges; seccomp on, 0 calls refused"),
        "{line}"
    );
    assert!(
        line.contains("CAP_NET_RAW") && !line.contains("CAP_SYS_ADMIN"),
        "{line}"
    );
    must_serve(&lab, &daemon);

    let socket = daemon.socket().to_owned();
    Heir::of(last).stop();
    assert!(!socket.exists(), "{} is left", socket.display());
    let rules = lab.director.run("nft list ruleset").expect("listed");
    assert_eq!(rules, "", "the guard is gone");
}

/// A body of `pick` that serves by rr where `tried` holds, and nobody where it does not.
fn plugin(lab: &Lab, tried: &str) {
    let directory = lab.dir().join("plugins");
    fs::create_dir_all(&directory).expect("made");
    let body = format!(
        "static unsigned turn; static int is_tried, held;
        if (!is_tried) {{ is_tried = 1; {tried} }}
        return held ? (int64_t)(turn++ % count) : UVS_NONE;"
    );
    let includes =
        "errno.h sched.h pthread.h time.h sys/ptrace.h sys/personality.h sys/mount.h sys/syscall.h";
    let includes = includes
        .split(' ')
        .map(|name| format!("#include <{name}>\n"));
    let before = format!(
        "#define _GNU_SOURCE\n{}__attribute__((unused)) static void *nothing(void *given) {{ return given; }}\n",
        includes.collect::<String>()
    );
    let built = c_plugin_with(&before, lab.dir(), "t.so", ("tries", "1.0.0"), &body);
    fs::copy(built, directory.join("libtries.so")).expect("copied");
}

fn serve_by_plugin(lab: &Lab, daemon: &Daemon<'_>) {
    let words = lab.plan.add_service("tries").replacen("-A", "-E", 1);
    daemon.ipvsadm(&words).expect("edited");
}

#[test]
fn a_plugin_is_refused_what_no_scheduler_needs_and_the_director_serves_on() {
    let (lab, _shell) = lab(Mode::Nat, Options::default());
    config(&lab, "");
    plugin(
        &lab,
        "char *words[] = { \"true\", NULL };
        int programs = execv(\"/bin/true\", words) == -1 && errno == EPERM;
        int tracing = ptrace(PTRACE_TRACEME, 0, 0, 0) == -1 && errno == EPERM;
        int namespaces = unshare(CLONE_NEWUSER) == -1 && errno == EPERM;
        int mounting = mount(\"none\", \"/mnt\", \"tmpfs\", 0, 0) == -1 && errno == EPERM;
        int newer = syscall(0x3fff) == -1 && errno == ENOSYS;
        pthread_t thread; struct timespec now; void *memory = malloc(1 << 20);
        int allowed = memory && !clock_gettime(CLOCK_REALTIME, &now)
            && !pthread_create(&thread, NULL, nothing, NULL) && !pthread_join(thread, NULL);
        free(memory);
        held = programs && tracing && namespaces && mounting && newer && allowed;",
    );
    let mut daemon = start(
        &lab,
        &format!(" --plugin-dir {}", lab.dir().join("plugins").display()),
    );
    serve_by_plugin(&lab, &daemon);
    assert_eq!(ask(&lab).expect("answers"), shares(20, 20));
    daemon.wait_log("call=\"mount\"").expect("told");
    let log = daemon.log();
    for call in ["execve", "ptrace", "unshare", "mount"] {
        let line = log
            .lines()
            .find(|line| line.contains(&format!("call=\"{call}\"")));
        let line = line.unwrap_or_else(|| panic!("{call}: {log}"));
        assert!(
            line.contains("is refused (EPERM)") && line.contains("thread=\"uvs-worker"),
            "{line}"
        );
    }
    let line = told(&daemon);
    assert!(line.ends_with("seccomp on, 4 calls refused"), "{line}");
    daemon.stop().expect("it ends well");
}

#[test]
fn with_log_it_is_told_and_done_and_with_off_neither() {
    const PERSONALITY: &str = "held = personality(0xffffffff) != -1;";
    let (lab, _shell) = lab(Mode::Nat, Options::default());
    plugin(&lab, PERSONALITY);
    let words = format!(" --plugin-dir {}", lab.dir().join("plugins").display());
    config(&lab, "[confinement]\nseccomp = \"log\"");
    let mut daemon = start(&lab, &words);
    serve_by_plugin(&lab, &daemon);
    assert_eq!(ask(&lab).expect("answers"), shares(20, 20));
    daemon.wait_log("call=\"personality\"").expect("told");
    let line = told(&daemon);
    assert!(
        line.ends_with("seccomp log, 1 calls it would have refused"),
        "{line}"
    );
    daemon.stop().expect("it ends well");

    config(
        &lab,
        "[confinement]\nseccomp = \"off\"\ncapabilities = \"keep\"",
    );
    let daemon = start(&lab, &words);
    serve_by_plugin(&lab, &daemon);
    assert_eq!(ask(&lab).expect("answers"), shares(20, 20));
    for thread in threads(daemon.id().into()) {
        assert_ne!(set(&thread, "CapEff") & !KEPT, 0, "{thread:?}");
        assert_eq!(thread["Seccomp"], "0", "{thread:?}");
    }
    assert!(told(&daemon).ends_with("system calls not filtered"));
    // It holds for the life of the process.
    config(&lab, "");
    let refused = daemon.uvs("reload").expect_err("refused").to_string();
    assert!(
        refused.contains("confinement: differs from what the running daemon was started with"),
        "{refused}"
    );
    daemon.stop().expect("it ends well");
}

#[test]
fn root_is_told_what_it_may_not_write_any_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let others = dir.path().join("others");
    fs::create_dir(&others).expect("made");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("permitted");
    if chown(&others, Some(65534), None).is_err() {
        println!("not tried: this user namespace has no other user");
        return;
    }
    let said = run(&others.join("control.sock"), &[]);
    assert!(said.contains("given up CAP_DAC_OVERRIDE"), "{said}");
    assert!(
        said.contains("confinement.capabilities = \"keep\""),
        "{said}"
    );
}

/// What `uvs run` says that cannot start with this control socket.
fn run(socket: &Path, words: &[&str]) -> String {
    let mut command = std::process::Command::new(uvs());
    command
        .args(["run", "--interface", "lo", "--socket"])
        .arg(socket)
        .args(words);
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).expect("text")
}
