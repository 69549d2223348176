//! Network namespaces for tests: made by the test, reached by file descriptor only, so that nothing is
//! left behind however the test ends. Needs root, and says so.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace that lives as long as this value.
pub(crate) struct Netns(File);

impl Netns {
    /// A new one, its loopback up.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("uvs-net-{}-{n}", std::process::id());
        run("ip", &["netns", "add", &name]);
        let file = File::open(format!("/run/netns/{name}")).expect("the namespace just made");
        // Without its name it goes with its last descriptor.
        run("ip", &["netns", "del", &name]);
        let ns = Self(file);
        ns.ip("link set lo up");
        ns
    }

    /// Runs a closure with this namespace as the thread's own: its sockets and children are inside.
    pub(crate) fn enter<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        let inside = || {
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("entering a network namespace needs root");
            f()
        };
        std::thread::scope(|s| match s.spawn(inside).join() {
            Ok(r) => r,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Runs `ip` with these arguments, separated by blanks.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        let arguments: Vec<_> = arguments.split_whitespace().collect();
        self.enter(|| run("ip", &arguments))
    }

    /// Sets a sysctl by its path under /proc/sys/net/ipv4.
    pub(crate) fn sysctl(&self, path: &str, value: &str) {
        let path = format!("/proc/sys/net/ipv4/{path}");
        self.enter(|| std::fs::write(&path, value).expect("a sysctl"));
    }

    /// A veth pair: `here` in this namespace, `there` in the other, both up.
    pub(crate) fn veth(&self, here: &str, other: &Self, there: &str) {
        let pid = std::process::id();
        let target = format!("/proc/{pid}/fd/{}", other.0.as_raw_fd());
        self.ip(&format!(
            "link add {here} type veth peer name {there} netns {target}"
        ));
        self.ip(&format!("link set {here} up"));
        other.ip(&format!("link set {there} up"));
    }
}

/// Runs a program to its end and returns what it printed; panics where it fails.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?} (as root?): {stderr}"
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
