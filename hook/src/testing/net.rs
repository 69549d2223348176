//! Network namespaces with interfaces that stand for a director's, removed when dropped. They need root.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace that the test's thread is in.
pub struct Net {
    name: String,
}

/// Runs a test in a namespace of its own, on a thread of its own.
///
/// # Panics
/// Where the test does, or there can be no namespace.
pub fn inside(test: impl FnOnce(&Net) + Send) {
    let net = Net::new();
    let ran = thread::scope(|scope| {
        let run = scope.spawn(|| {
            let file = File::open(format!("/run/netns/{}", net.name)).expect("the namespace");
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter it");
            test(&net);
        });
        run.join()
    });
    drop(net);
    if let Err(panic) = ran {
        std::panic::resume_unwind(panic);
    }
}

impl Net {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("uvs-hook-{}-{next}", std::process::id());
        run("ip", &["netns", "add", &name]);
        Self { name }
    }

    /// Adds an interface with this MAC address, and its peer `NAME-peer`; its index.
    ///
    /// # Panics
    /// Where `ip` does not add it.
    pub fn interface(&self, name: &str, mac: &str) -> u32 {
        let peer = format!("{name}-peer");
        let add = ["link", "add", name, "address", mac, "type", "veth"];
        run("ip", &[&add[..], &["peer", "name", &peer]].concat());
        run("ip", &["link", "set", name, "up"]);
        run("ip", &["link", "set", &peer, "up"]);
        index(name)
    }
}

/// The index of an interface of the thread's namespace.
///
/// # Panics
/// Where there is none.
pub fn index(name: &str) -> u32 {
    let shown = run("ip", &["-o", "link", "show", "dev", name]);
    let (index, _) = shown.split_once(':').expect("INDEX: NAME");
    index.parse().expect("a number")
}

impl Drop for Net {
    fn drop(&mut self) {
        run("ip", &["netns", "delete", &self.name]);
    }
}

/// Runs a command, and gives its output.
///
/// # Panics
/// Where it fails.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect(program);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}
