//! Two network namespaces on one wire: a sender and a real server. They end with the test, and with them
//! whatever runs in them.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

/// The sender's address, also the director's.
pub(crate) const SENDER: &str = "10.9.0.2";
/// The real server's.
pub(crate) const SERVER: &str = "10.9.0.3";
/// A VIP in their network.
pub(crate) const VIP: &str = "10.9.0.100";
/// Another.
pub(crate) const VIP2: &str = "10.9.0.101";
/// The same in IPv6.
pub(crate) const SENDER6: &str = "2001:db8::2";
pub(crate) const SERVER6: &str = "2001:db8::3";
pub(crate) const VIP6: &str = "2001:db8::100";

/// A namespace.
pub(crate) struct Netns(String);

impl Netns {
    fn add(role: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let serial = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("uvs-rs-{}-{serial}-{role}", std::process::id());
        succeed(Command::new("ip").args(["netns", "add", &name]));
        let ns = Self(name);
        ns.ip("link set lo up");
        ns
    }

    /// Runs a shell line in it.
    pub(crate) fn sh(&self, line: &str) -> Output {
        self.command("sh")
            .args(["-c", line])
            .output()
            .expect("sh runs")
    }

    /// Runs `ip` in it, which must succeed, and returns what it prints.
    pub(crate) fn ip(&self, words: &str) -> String {
        succeed(
            Command::new("ip")
                .args(["-n", &self.0])
                .args(words.split_whitespace()),
        )
    }

    /// Sets `net.ipv4.conf.DEVICE.KEY`.
    pub(crate) fn set(&self, device: &str, key: &str, value: &str) {
        self.set_in("ipv4", device, key, value);
    }

    /// Sets `net.FAMILY.conf.DEVICE.KEY`.
    pub(crate) fn set_in(&self, family: &str, device: &str, key: &str, value: &str) {
        let done = self.sh(&format!(
            "echo {value} > /proc/sys/net/{family}/conf/{device}/{key}"
        ));
        assert!(done.status.success(), "{done:?}");
    }

    /// Reads `net.ipv4.conf.DEVICE.KEY`.
    pub(crate) fn get(&self, device: &str, key: &str) -> String {
        self.get_in("ipv4", device, key)
    }

    /// Reads `net.FAMILY.conf.DEVICE.KEY`.
    pub(crate) fn get_in(&self, family: &str, device: &str, key: &str) -> String {
        let path = format!("/proc/sys/net/{family}/conf/{device}/{key}");
        String::from_utf8(self.sh(&format!("cat {path}")).stdout)
            .expect("text")
            .trim()
            .to_owned()
    }

    /// Everything that `uvs rs` may change: devices, addresses, routes, sysctls.
    pub(crate) fn snapshot(&self) -> String {
        let sysctls = "cd /proc/sys/net && for k in arp_ignore arp_announce rp_filter; do grep . ipv4/conf/*/$k; done; \
             grep . ipv6/conf/*/disable_ipv6";
        let sysctls = String::from_utf8(self.sh(sysctls).stdout).expect("text");
        // Without the carrier's state, which follows the wire in its own time.
        let names = |links: String| -> Vec<String> {
            links
                .lines()
                .filter_map(|l| l.split_whitespace().next())
                .map(str::to_owned)
                .collect()
        };
        let links = names(self.ip("-br link show")).join(" ");
        let up = names(self.ip("-br link show up")).join(" ");
        let addresses = self.ip("-o address show");
        let of_all = ["-4", "-6"].map(|family| self.ip(&format!("{family} route show table all")));
        let routes = of_all.concat().replace(" linkdown", "");
        // What is link-local comes with the carrier, too.
        let is_local = |line: &&str| line.contains("ff00::/8") || line.contains("fe80::");
        let global = |lines: &str| -> String {
            let kept = lines.lines().filter(|line| !is_local(line));
            kept.collect::<Vec<_>>().join("\n")
        };
        [links, up, global(&addresses), global(&routes), sysctls].join("\n")
    }

    /// Runs `f` in a thread that is in the namespace; sockets made there stay there.
    pub(crate) fn enter<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(f)
            .join()
            .expect("the thread in the namespace ends well")
    }

    /// As [`Netns::enter`], in the background.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let ns = File::open(Path::new("/run/netns").join(&self.0)).expect("the namespace is there");
        thread::spawn(move || {
            move_into_link_name_space(ns.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns");
            f()
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]);
        command
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // A failed test leaves its decapsulator, which would keep the namespace alive.
        if let Ok(pids) = Command::new("ip").args(["netns", "pids", &self.0]).output() {
            for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
                let _ = Command::new("kill").args(["-9", pid]).output();
            }
        }
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

/// The pair: `s0` of the sender and `r0` of the server are the ends of one wire.
pub(crate) struct Pair {
    pub(crate) sender: Netns,
    pub(crate) server: Netns,
    pub(crate) state: TempDir,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let (sender, server) = (Netns::add("s"), Netns::add("r"));
        let veth = "link add s0 type veth peer name r0 netns";
        sender.ip(&format!("{veth} {}", server.0));
        for (ns, device, addr, addr6) in [
            (&sender, "s0", SENDER, SENDER6),
            (&server, "r0", SERVER, SERVER6),
        ] {
            for on in ["all", "default", device] {
                // No address is tentative first.
                for (key, value) in [("accept_dad", "0"), ("disable_ipv6", "0")] {
                    ns.set_in("ipv6", on, key, value);
                }
            }
            ns.ip(&format!("address add {addr}/24 dev {device}"));
            ns.ip(&format!("link set {device} up"));
            ns.ip(&format!("address add {addr6}/64 dev {device} nodad"));
            for on in ["all", "default", device, "lo"] {
                for key in ["arp_ignore", "arp_announce", "rp_filter"] {
                    ns.set(on, key, "0");
                }
            }
        }
        Self {
            sender,
            server,
            state: tempfile::tempdir().expect("a directory for state"),
        }
    }

    /// `uvs rs WORDS` on the server.
    pub(crate) fn rs(&self, words: &str) -> Ran {
        Ran::from(self.rs_command(&format!("uvs rs {words}")))
    }

    /// `uvs rs WORDS`, which must succeed; what it prints.
    pub(crate) fn rs_ok(&self, words: &str) -> String {
        let ran = self.rs(words);
        assert_eq!(ran.code, 0, "uvs rs {words}: {ran:?}");
        ran.out
    }

    /// A shell line on the server that finds `uvs` and its state.
    pub(crate) fn rs_command(&self, line: &str) -> Output {
        let uvs = Path::new(env!("CARGO_BIN_EXE_uvs"))
            .parent()
            .expect("it lies somewhere");
        let path = format!("{}:{}", uvs.display(), std::env::var("PATH").expect("PATH"));
        let mut command = self.server.command("sh");
        command
            .args(["-c", line])
            .env("PATH", path)
            .env("UVS_STATE_DIR", self.state.path());
        command.output().expect("sh runs")
    }

    /// The content of the one state file with this ending; none where there is none.
    pub(crate) fn state_file(&self, ending: &str) -> Option<String> {
        let files = std::fs::read_dir(self.state.path()).expect("the state directory is there");
        let mut paths = files.map(|f| f.expect("listed").path());
        let path = paths.find(|p| p.extension().is_some_and(|e| e == ending))?;
        std::fs::read_to_string(path).ok()
    }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("not killed"),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}
