//! The daemon is upgraded under programs that think they speak to the kernel: nothing that they ask for is lost, and
//! none of them is told of an error.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketType, accept, bind,
    connect, listen, recv, send, shutdown, socket,
};
use uvs_lab::{Daemon, Lab, Mode, Options};

use crate::heir::{Heir, pid};
use crate::keepalived::{Keepalived, link};
use crate::preloaded;
use crate::stand::{PATIENCE, lab, uvs};

const UPGRADES: usize = 2;

/// Upgrades a daemon, again and again; the last one that serves.
fn upgraded(daemon: &Daemon<'_>) -> Heir {
    let mut heir = None;
    for _ in 0..UPGRADES {
        daemon.uvs("upgrade").expect("upgraded");
        if let Some(before) = heir.replace(Heir::of(pid(daemon))) {
            before.ended();
        }
    }
    heir.expect("upgraded")
}

#[test]
fn keepalived_goes_on() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let mut keepalived = Keepalived::start(&lab, &daemon, &crate::run_words());
    keepalived.has("the servers are in", [Some(2), Some(1), None]);
    let heir = upgraded(&daemon);
    link(&lab, 0, "down");
    keepalived.has("a dead server is out", [None, Some(1), None]);
    link(&lab, 0, "up");
    keepalived.has("all is as it was", [Some(2), Some(1), None]);
    let log = keepalived.process.log();
    for complaint in ["ECONN", "onnection re", "etlink: error", "IPVS: "] {
        assert!(!log.contains(complaint), "{complaint}: {log}");
    }
    let ended = keepalived.process.stop().expect("ended");
    assert!(ended.success(), "{}", keepalived.process.log());
    let list = daemon.ipvsadm("-Ln").expect("listed");
    assert_eq!(list.lines().count(), 3, "only the head is left: {list}");
    heir.stop();
}

/// Ends the commands, also where an assertion fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn each_command_is_carried_out_once() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let is_over = AtomicBool::new(false);
    let (heir, commands) = thread::scope(|scope| {
        let commands = scope.spawn(|| command_after_command(&lab, &daemon, &is_over));
        let over = Over(&is_over);
        let heir = upgraded(&daemon);
        drop(over);
        (heir, commands.join().expect("no panic"))
    });
    println!("{commands} commands over {UPGRADES} upgrades");
    let list = daemon.ipvsadm("-Ln").expect("listed");
    assert_eq!(list.lines().count(), 3 + commands, "{list}");
    heir.stop();
}

/// Adds service after service by Debian's ipvsadm, and lists them; how many.
fn command_after_command(lab: &Lab, daemon: &Daemon<'_>, is_over: &AtomicBool) -> usize {
    let run = |words: &str| {
        let command = preloaded(daemon, &format!("/usr/sbin/ipvsadm {words}"));
        let ended = lab.director.output(command, PATIENCE);
        ended.unwrap_or_else(|e| panic!("{words}: {e}")).stdout
    };
    let mut commands = 0;
    while !is_over.load(Ordering::Relaxed) || commands == 0 {
        commands += 1;
        run(&format!("-A -t 192.0.2.1:{commands} -s rr"));
        let list = run("-Ln");
        assert_eq!(list.lines().count(), 3 + commands, "{list}");
    }
    commands
}

fn seqpacket() -> OwnedFd {
    socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("a socket")
}

/// Carries datagrams until one end has none any more; how many.
fn carry(from: &OwnedFd, to: &OwnedFd) -> usize {
    let mut buffer = vec![0; 1 << 16];
    let mut count = 0;
    while let Ok((length, _)) = recv(from, &mut buffer[..], RecvFlags::empty())
        && length > 0
        && send(to, &buffer[..length], SendFlags::NOSIGNAL).is_ok()
    {
        count += 1;
    }
    let _ = shutdown(to, Shutdown::Write);
    count
}

/// Stands between programs and the daemon: of each two connections the first ends unanswered, the one time after what was
/// asked is read, and the other before. Until nobody listens any more.
fn lets_down(listening: &OwnedFd, daemon: &SocketAddrUnix) {
    thread::scope(|scope| {
        for n in 0.. {
            let Ok(client) = accept(listening) else {
                return;
            };
            match n % 4 {
                0 => drop(recv(&client, &mut [0_u8; 1 << 12][..], RecvFlags::empty())),
                2 => drop(client),
                _ => drop(scope.spawn(move || {
                    let server = seqpacket();
                    connect(&server, daemon).expect("the daemon");
                    thread::scope(|both| {
                        both.spawn(|| carry(&client, &server));
                        carry(&server, &client);
                    });
                })),
            }
        }
    });
}

/// Ends a listening socket, also where an assertion fails.
struct Silent<'a>(&'a OwnedFd);

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        let _ = shutdown(self.0, Shutdown::Both);
    }
}

fn asks_again(run: &str) {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let at = |path: &Path| SocketAddrUnix::new(path).expect("a path");
    let between = lab.dir().join("between.sock");
    let listening = seqpacket();
    bind(&listening, &at(&between)).expect("bound");
    listen(&listening, 8).expect("listens");
    let real = at(&lab.dir().join("ipvs.sock"));
    let ask = |words: &str| {
        let mut command = daemon.command(&format!("{run} /usr/sbin/ipvsadm {words}"));
        command.env("UVS_IPVS_SOCKET", &between);
        let ended = lab.director.output(command, PATIENCE);
        ended.unwrap_or_else(|e| panic!("{words}: {e}")).stdout
    };
    thread::scope(|scope| {
        scope.spawn(|| lets_down(&listening, &real));
        let over = Silent(&listening);
        ask("-A -t 192.0.2.1:80 -s rr");
        let list = ask("-Ln");
        assert_eq!(list.matches("192.0.2.1:80 rr").count(), 1, "{list}");
        drop(over);
    });
    daemon.stop().expect("it ends well");
}

#[test]
fn what_a_daemon_has_not_answered_is_asked_of_the_next() {
    asks_again(&crate::run_words());
}

#[test]
fn what_a_daemon_has_not_answered_a_traced_program_is_asked_of_the_next() {
    asks_again(crate::TRACE_WORDS);
}
