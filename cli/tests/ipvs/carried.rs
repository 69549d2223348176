//! The library in a program: what it carries, what it leaves alone, and what it does when the daemon goes.

use std::fs;
use std::process::Command;

use uvs_lab::process::Process;
use uvs_lab::{Daemon, Lab, Mode, Options, tools};

use crate::stand::{eventually, lab, run, serving, uvs};

/// Says what a program sees over sockets of its own, before and after the daemon is another.
const PROGRAM: &str = r#"
import errno, os, select, socket, struct, sys, time

def netlink():
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
    s.bind((0, 0))
    return s

def ask(s, kind, payload):
    port = s.getsockname()[0]
    s.send(struct.pack("=LHHLL", 16 + len(payload), kind, 5, 7, port) + payload)
    answers = b""
    for _ in range(2):
        select.select([s], [], [])
        answers += s.recv(65536)
    assert struct.unpack("=LL", answers[8:16]) == (7, port)
    return answers

def family(s, name):
    text = name + b"\0"
    attribute = struct.pack("=HH", 4 + len(text), 2) + text + bytes(-len(text) % 4)
    answer = ask(s, 16, b"\x03\x01\0\0" + attribute)
    at = answer.index(struct.pack("=HH", 6, 1))
    return struct.unpack("=H", answer[at + 4:at + 6])[0]

def info(s):
    return ask(s, 1000, b"\x0f\x01\0\0")[16] == 14

blocking, patient = netlink(), netlink()
patient.setblocking(False)
kernel = netlink()

def look(word):
    for s in blocking, patient:
        assert s.getsockname()[0] != 0
        assert info(s), word
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    version, size, services = struct.unpack("=LLL", raw.getsockopt(0, 1153, 12))
    assert (version, services) == (0x10201, 1), (version, services)
    try:
        raw.setsockopt(0, 1156, bytes(44))
        raise SystemExit("a service without a protocol was deleted")
    except OSError as e:
        assert e.errno == errno.EFAULT, e
    for name in "ip_vs", "ip_vs_conn", "ip_vs_stats":
        text = open("/proc/net/" + name).read()
        assert len(text) > 50, (name, text)
    print(word, flush=True)

# The controller's own family is the kernel's to answer.
assert ask(kernel, 16, b"\x03\x01\0\0\x0b\0\x02\0nlctrl\0\0")[4] == 16
for s in blocking, patient:
    assert family(s, b"IPVS") == 1000
look("begun")
child = os.fork()
if child == 0:
    look("a child")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
go_on = sys.argv[1]
while not os.path.exists(go_on):
    time.sleep(0.02)
look("begun again")
"#;

/// The program, when it has looked once.
fn looking(lab: &Lab, daemon: &Daemon<'_>, run: &str) -> Process {
    let script = lab.dir().join("look.py");
    fs::write(&script, PROGRAM).expect("written");
    let go_on = lab.dir().join("go-on");
    let words = format!(
        "{run} /usr/bin/python3 {} {}",
        script.display(),
        go_on.display()
    );
    let command = daemon.command(&words);
    let log = lab.dir().join("look.log");
    let mut process = lab.director.spawn(command, &log).expect("python3 runs");
    let ready = process.wait_ready(crate::stand::PATIENCE, |p| p.log().contains("a child"));
    ready.unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()));
    process
}

#[test]
fn a_program_goes_on_when_the_daemon_was_started_again() {
    goes_on(&crate::run_words());
}

#[test]
fn a_traced_program_goes_on_when_the_daemon_was_started_again() {
    goes_on(crate::TRACE_WORDS);
}

fn goes_on(run: &str) {
    for kill in [false, true] {
        let (lab, _) = lab(Mode::Nat, Options::default());
        let mut daemon = serving(&lab);
        let mut process = looking(&lab, &daemon, run);
        if kill {
            daemon
                .process()
                .signal(rustix::process::Signal::KILL)
                .expect("killed");
            eventually("its end", || !daemon.process().is_running());
            drop(daemon);
        } else {
            daemon.stop().expect("it ends well");
            assert!(
                !lab.dir().join("ipvs.sock").exists(),
                "the socket goes with it"
            );
        }
        let daemon = serving(&lab);
        fs::write(lab.dir().join("go-on"), "").expect("written");
        let ended = process.wait(crate::stand::PATIENCE);
        ended.unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()));
        assert!(process.log().contains("begun again"), "{}", process.log());
        daemon.stop().expect("it ends well");
    }
}

/// Asks for all services without end, and reads no answer.
const GREEDY: &str = r#"
import socket, struct, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
s.setblocking(False)
dump = struct.pack("=LHHLL", 20, 1000, 0x305, 7, 1) + b"\x04\x01\0\0"
try:
    while True:
        s.send(dump * 3000)
except BlockingIOError:
    print("full", flush=True)
s.setblocking(True)
s.settimeout(60)
try:
    while True:
        time.sleep(0.1)
        s.send(dump)
except OSError:
    print("dropped", flush=True)
"#;

#[test]
fn a_program_that_reads_no_answer_holds_up_nobody_and_is_dropped() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let mut daemon = serving(&lab);
    let script = lab.dir().join("greedy.py");
    fs::write(&script, GREEDY).expect("written");
    let socket = lab.dir().join("ipvs.sock");
    let command = tools::command("python3", [&script, &socket]).expect("python3");
    let log = lab.dir().join("greedy.log");
    let mut greedy = lab.director.spawn(command, &log).expect("it runs");
    let full = greedy.wait_ready(crate::stand::PATIENCE, |p| p.log().contains("full"));
    full.expect("its requests wait");
    let line = format!("uvs {} /usr/sbin/ipvsadm -Ln", crate::run_words());
    let list = shell.succeed(&lab.director, &line).expect("listed");
    assert!(list.contains(&lab.plan.vip.to_string()), "{list}");
    daemon
        .wait_log("does not read its answer")
        .expect("dropped");
    greedy.wait(crate::stand::PATIENCE).expect("it ends");
    daemon.stop().expect("it ends well");
}

#[test]
fn where_no_daemon_is_a_program_says_why() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let words = crate::run_words();
    let ended = run(&lab, &shell, &format!("uvs {words} /usr/sbin/ipvsadm -Ln"));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("start `uvs run`"), "{ended:?}");
}

#[test]
fn the_socket_is_named_and_a_second_daemon_is_refused_by_name() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let socket = lab.dir().join("ipvs.sock");
    let info = daemon.uvs("show info").expect("shown").stdout;
    assert!(info.contains(&socket.display().to_string()), "{info}");
    let other = lab.dir().join("other.sock");
    let line = format!(
        "UVS_IPVS_SOCKET={} uvs run --interface {} --socket {}",
        socket.display(),
        lab.plan.interfaces[0],
        other.display()
    );
    let ended = run(&lab, &shell, &line);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for word in ["serves this socket already", "$UVS_IPVS_SOCKET"] {
        assert!(ended.stderr.contains(word), "{ended:?}");
    }
    daemon.stop().expect("it ends well");
}

#[test]
fn a_program_that_no_library_reaches_is_refused_by_name() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let source = lab.dir().join("static.c");
    fs::write(&source, "int main(void) { return 0; }\n").expect("written");
    let program = lab.dir().join("static");
    let mut compiler: Command = tools::command("cc", ["-static", "-o"]).expect("a compiler");
    let made = compiler
        .arg(&program)
        .arg(&source)
        .status()
        .expect("it runs");
    assert!(made.success(), "a program is linked statically");
    let words = crate::run_words();
    let ended = run(&lab, &shell, &format!("uvs {words} {}", program.display()));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("is linked statically"), "{ended:?}");
    let ended = run(&lab, &shell, &format!("uvs {words} no-such-program"));
    assert_eq!(ended.code, Some(127), "{ended:?}");
}
