//! `uvs ipvs-run --trace`: a program that no library reaches, its threads, its end, and a daemon that is not there.

use std::fs;

use uvs_lab::{Mode, Options, tools};

use crate::TRACE_WORDS;
use crate::stand::{PATIENCE, eventually, lab, run, serving};

/// Linked statically, it speaks netlink as Go's libraries do: by sendto and recvfrom with addresses, from many threads,
/// with 0 for its port in its messages.
const PROGRAM: &str = r#"
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define CHECK(holds) do { if (!(holds)) _exit(__LINE__); } while (0)

static int family(int s, int type, const void *payload, unsigned length, unsigned sequence)
{
    struct sockaddr_nl kernel = { .nl_family = AF_NETLINK }, own, from;
    socklen_t room = sizeof own;
    char message[128] = { 0 }, answer[8192];
    struct nlmsghdr *head = (void *)message;
    head->nlmsg_len = NLMSG_HDRLEN + length;
    head->nlmsg_type = type;
    head->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    head->nlmsg_seq = sequence;
    memcpy(NLMSG_DATA(head), payload, length);
    CHECK(sendto(s, message, head->nlmsg_len, 0, (void *)&kernel, sizeof kernel) == head->nlmsg_len);
    CHECK(getsockname(s, (void *)&own, &room) == 0);
    CHECK(room == sizeof own && own.nl_family == AF_NETLINK && own.nl_pid != 0);
    int id = 0;
    for (;;) {
        room = sizeof from;
        int got = recvfrom(s, answer, sizeof answer, 0, (void *)&from, &room);
        CHECK(got > 0 && room == sizeof from && from.nl_family == AF_NETLINK && from.nl_pid == 0);
        struct nlmsghdr *m = (void *)answer;
        for (; NLMSG_OK(m, got); m = NLMSG_NEXT(m, got)) {
            CHECK(m->nlmsg_seq == sequence && m->nlmsg_pid == own.nl_pid);
            if (m->nlmsg_type == NLMSG_ERROR) {
                CHECK(((struct nlmsgerr *)NLMSG_DATA(m))->error == 0);
                return id;
            }
            struct nlattr *a = (void *)((char *)NLMSG_DATA(m) + GENL_HDRLEN);
            while ((char *)a < (char *)m + m->nlmsg_len) {
                if (a->nla_type == CTRL_ATTR_FAMILY_ID && type == GENL_ID_CTRL)
                    id = *(unsigned short *)(a + 1);
                a = (void *)((char *)a + NLA_ALIGN(a->nla_len));
            }
        }
    }
}

static void *ask(void *nothing)
{
    struct timeval limit = { .tv_sec = 3 };
    struct sockaddr_nl any = { .nl_family = AF_NETLINK };
    char byte;
    int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
    CHECK(s >= 0 && bind(s, (void *)&any, sizeof any) == 0);
    CHECK(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    CHECK(family(s, GENL_ID_CTRL, "\3\1\0\0\xb\0\2\0nlctrl\0", 16, 1) == GENL_ID_CTRL);
    CHECK(family(s, GENL_ID_CTRL, "\3\1\0\0\x9\0\2\0IPVS\0\0\0", 16, 2) == 1000);
    for (unsigned n = 3; n < 53; n++)
        family(s, 1000, "\17\1\0\0", 4, n);
    limit.tv_sec = 0;
    limit.tv_usec = 1000;
    CHECK(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    CHECK(recvfrom(s, &byte, 1, 0, (void *)&any, &(socklen_t){ sizeof any }) < 0);
    return nothing;
}

int main(int count, char **words)
{
    pthread_t threads[8];
    for (int n = 0; n < 8; n++)
        CHECK(pthread_create(&threads[n], 0, ask, 0) == 0);
    for (int n = 0; n < 8; n++)
        CHECK(pthread_join(threads[n], 0) == 0);
    if (count > 1) {
        CHECK(write(1, "ready\n", 6) == 6);
        pause();
    }
    return 207;
}
"#;

/// The program's file.
fn program(lab: &uvs_lab::Lab) -> String {
    let source = lab.dir().join("static.c");
    fs::write(&source, PROGRAM).expect("written");
    let program = lab.dir().join("static");
    let words = ["-static", "-pthread", "-o"].map(String::from);
    let files = [&program, &source].map(|path| path.display().to_string());
    let mut compiler = tools::command("cc", words.iter().chain(&files)).expect("a compiler");
    let output = compiler.output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    program.display().to_string()
}

#[test]
fn a_static_program_is_carried_and_its_exit_code_is_handed_on() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let daemon = serving(&lab);
    let mut command = daemon.command(&format!("{TRACE_WORDS} {}", program(&lab)));
    let ended = lab.director.enter(|| command.output()).expect("entered");
    let ended = ended.expect("it runs");
    assert_eq!(
        ended.status.code(),
        Some(207),
        "{ended:?}\n{}",
        daemon.log()
    );
    daemon.stop().expect("it ends well");
}

#[test]
fn a_signal_is_handed_on_and_a_kill_takes_the_program_along() {
    use rustix::process::Signal;
    let (lab, _) = lab(Mode::Nat, Options::default());
    let daemon = serving(&lab);
    let program = program(&lab);
    for signal in [Signal::TERM, Signal::KILL] {
        let command = daemon.command(&format!("{TRACE_WORDS} {program} stay"));
        let log = lab.dir().join("static.log");
        let mut process = lab.director.spawn(command, &log).expect("it runs");
        let ready = process.wait_ready(PATIENCE, |p| p.log().contains("ready"));
        ready.unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()));
        process.signal(signal).expect("sent");
        eventually("its end", || !process.is_running() && !runs(&program));
    }
    daemon.stop().expect("it ends well");
}

/// The daemon would take what it says for root's.
#[test]
fn what_has_given_up_its_rights_is_left_to_the_kernel() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let daemon = serving(&lab);
    let before = daemon.ipvsadm("-Sn").expect("saved");
    let nobody = "/usr/bin/setpriv --reuid 65534 --regid 65534 --clear-groups";
    let line = format!("{TRACE_WORDS} {nobody} /usr/sbin/ipvsadm -C");
    let mut command = daemon.command(&line);
    let ended = lab.director.enter(|| command.output()).expect("entered");
    let ended = ended.expect("it runs");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("Can't initialize ipvs"), "{ended:?}");
    assert_eq!(daemon.ipvsadm("-Sn").expect("saved"), before);
    daemon.stop().expect("it ends well");
}

#[test]
fn where_no_daemon_is_a_traced_program_says_why() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let line = format!("uvs {TRACE_WORDS} /usr/sbin/ipvsadm -Ln");
    let ended = run(&lab, &shell, &line);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("start `uvs run`"), "{ended:?}");
    let ended = run(&lab, &shell, &format!("uvs {TRACE_WORDS} no-such-program"));
    assert_eq!(ended.code, Some(127), "{ended:?}");
}

/// Whether a program's file is some process's.
fn runs(program: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("read").flatten();
    let mut files = processes.filter_map(|process| fs::read_link(process.path().join("exe")).ok());
    files.any(|file| file.as_os_str() == program)
}
