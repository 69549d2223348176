//! Network namespaces and veth pairs for the port's tests, removed when dropped.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Some namespaces.
pub(super) struct Net {
    prefix: String,
    namespaces: Vec<&'static str>,
}

impl Net {
    /// Makes one namespace for each of `namespaces`, with IPv6 off so that nothing speaks unasked.
    pub(super) fn new(namespaces: &[&'static str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("uvs-port-{}-{next}", std::process::id());
        let mut net = Self {
            prefix,
            namespaces: Vec::new(),
        };
        for &ns in namespaces {
            run(&format!("ip netns add {}", net.name(ns)));
            net.namespaces.push(ns);
            net.run(
                ns,
                "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1",
            );
            net.run(ns, "ip link set lo up");
        }
        net
    }

    /// Namespaces `a` and `b` joined by a veth pair `a0`-`b0`, 10.9.0.1 and 10.9.0.2.
    pub(super) fn pair() -> Self {
        let net = Self::new(&["a", "b"]);
        net.veth(("a", "a0"), ("b", "b0"));
        net.run("a", "ip address add 10.9.0.1/24 dev a0");
        net.run("b", "ip address add 10.9.0.2/24 dev b0");
        net
    }

    /// Joins two namespaces by a veth pair that is up.
    pub(super) fn veth(&self, (ns_a, dev_a): (&str, &str), (ns_b, dev_b): (&str, &str)) {
        let (a, b) = (self.name(ns_a), self.name(ns_b));
        run(&format!(
            "ip link add {dev_a} netns {a} type veth peer name {dev_b} netns {b}"
        ));
        self.run(ns_a, &format!("ip link set {dev_a} up"));
        self.run(ns_b, &format!("ip link set {dev_b} up"));
    }

    /// Runs a command in a namespace.
    pub(super) fn run(&self, ns: &str, command: &str) -> String {
        run(&format!("ip netns exec {} {command}", self.name(ns)))
    }

    /// An interface's MAC address.
    pub(super) fn mac(&self, ns: &str, dev: &str) -> [u8; 6] {
        let text = self.run(ns, &format!("cat /sys/class/net/{dev}/address"));
        let mut mac = [0; 6];
        for (byte, hex) in mac.iter_mut().zip(text.trim().split(':')) {
            *byte = u8::from_str_radix(hex, 16).expect("a MAC address");
        }
        mac
    }

    /// Runs `f` on a thread of its own inside a namespace; sockets it opens stay there.
    pub(super) fn inside<T: Send>(&self, ns: &str, f: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name(ns));
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let ns = File::open(path).expect("the namespace");
                move_into_link_name_space(ns.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("entering a namespace needs root");
                f()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn name(&self, ns: &str) -> String {
        format!("{}-{ns}", self.prefix)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for ns in &self.namespaces {
            let _ = Command::new("ip")
                .args(["netns", "delete", &self.name(ns)])
                .status();
        }
    }
}

fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let program = words.next().expect("a command");
    let output = Command::new(program)
        .args(words)
        .output()
        .expect("the command starts");
    assert!(
        output.status.success(),
        "`{command}` (needs root, iproute2 and ethtool): {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
