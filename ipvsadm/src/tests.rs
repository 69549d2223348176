//! Recorded sessions of the real ipvsadm, replayed in this process against a table in memory, and
//! what UVS adds to them.

mod memory;

use std::net::Ipv4Addr;
use std::time::Duration;

use proptest::prelude::*;
use serde::Deserialize;
use uvs_control::protocol::MAX_BATCH;
use uvs_core::flow::{Addr, Protocol};

use self::memory::Memory;
use super::names::Names;
use super::names::tests::FewNames;
use super::{Io, run};

/// Recorded from Linux 6.1.176's IPVS and ipvsadm 1.31.
const KERNEL: &str = include_str!("../tests/golden/ipvsadm.json");
/// As [`KERNEL`], IPv6 and mixed families.
const KERNEL6: &str = include_str!("../tests/golden/ipvsadm6.json");
/// Recorded from ipvsadm 1.31 above a stand-in for the kernel: how it reads its words and prints them.
const USAGE: &str = include_str!("../tests/golden/usage.json");

#[derive(Deserialize)]
struct Book {
    sessions: Vec<Session>,
}

#[derive(Deserialize)]
struct Session {
    session: String,
    steps: Vec<Step>,
}

/// A command with its outcome, frames that are sent, or a wait; which, the fields tell.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Step {
    argv: Vec<String>,
    stdin: String,
    exit: u8,
    stdout: String,
    stderr: String,
    send: String,
    frame: String,
    wait: f32,
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    exit: u8,
    stdout: String,
    stderr: String,
}

#[test]
fn every_session_recorded_from_the_kernel_is_repeated_to_the_byte() {
    assert_eq!(replay(KERNEL, &FewNames), 259, "steps");
}

#[test]
fn every_session_recorded_from_the_kernel_in_ipv6_is_repeated_to_the_byte() {
    assert_eq!(replay(KERNEL6, &NoIpv6Names), 283, "steps");
}

#[test]
fn every_combination_of_options_is_taken_or_refused_as_recorded() {
    assert_eq!(replay(USAGE, &FewNames), 2050, "steps");
}

#[test]
fn fullnat_is_added_listed_saved_and_restored() {
    let mut daemon = Memory::default();
    let rules = "-A -t 10.0.1.100:80 -s rr --laddr 10.0.2.1,10.0.2.2\n\
        -a -t 10.0.1.100:80 -r 10.0.2.11:8080 --fullnat -w 3\n";
    assert_eq!(ipvsadm(&mut daemon, "-R", rules), ok(""));
    assert_eq!(ipvsadm(&mut daemon, "-S -n", ""), ok(rules));
    let list = ipvsadm(&mut daemon, "-Ln -t 10.0.1.100:80", "").stdout;
    let row = "  -> 10.0.2.11:8080               FullNat 3      0          0         \n";
    assert!(list.ends_with(row), "{list}");
    assert_eq!(
        daemon.table.services()[0].local,
        [[10, 0, 2, 1], [10, 0, 2, 2]].map(Addr::v4)
    );
}

#[test]
fn how_clients_are_introduced_is_saved_and_restored() {
    let rules = "-A -t 10.0.1.100:80 -s rr --proxy-protocol v1 --timestamps offset\n\
        -a -t 10.0.1.100:80 -r 10.0.2.11:8080 -m -w 3\n\
        -A -t 10.0.1.100:443 -s rr --proxy-protocol v2 --proxy-authority shop.example\n\
        -A -t 10.0.1.101:80 -s rr --toa 254\n\
        -A -t 10.0.1.101:81 -s rr --toa 200\n\
        -A -t 10.0.1.102:80 -s rr --timestamps strip\n\
        -A -u 10.0.1.100:53 -s rr --proxy-protocol v2\n";
    let mut daemon = Memory::default();
    assert_eq!(ipvsadm(&mut daemon, "-R", rules), ok(""));
    assert_eq!(ipvsadm(&mut daemon, "-S -n", ""), ok(rules));
    let edit = "-E -t 10.0.1.101:80 -s rr --proxy-protocol v2";
    assert_eq!(ipvsadm(&mut daemon, edit, ""), ok(""));
    let saved = ipvsadm(&mut daemon, "-S -n", "").stdout;
    assert!(
        saved.contains("10.0.1.101:80 -s rr --proxy-protocol v2\n"),
        "{saved}"
    );
}

#[test]
fn servers_that_cannot_be_told_of_clients_are_refused_with_the_reason() {
    let mut daemon = Memory::default();
    let proxy = "-A -t 10.0.1.100:80 --proxy-protocol v2";
    assert_eq!(ipvsadm(&mut daemon, proxy, ""), ok(""));
    let direct = "-A -t 10.0.1.103:80\n-a -t 10.0.1.103:80 -r 10.0.2.11 -i\n";
    assert_eq!(ipvsadm(&mut daemon, "-R", direct), ok(""));
    for (words, exit, said) in [
        (
            "-a -t 10.0.1.100:80 -r 10.0.2.11",
            255,
            "the DR server 10.0.2.11:80 answers",
        ),
        ("-a -t 10.0.1.100:80 -r 10.0.2.11 -i", 255, "use NAT (-m)"),
        (
            "-E -t 10.0.1.103:80 --toa 254",
            255,
            "answers its clients past",
        ),
        (
            "-E -t 10.0.1.103:80 --timestamps strip",
            255,
            "answers its clients past",
        ),
        ("-A -t 10.0.1.101:80 --proxy-protocol v3", 2, "v1 or v2"),
        (
            "-A -t 10.0.1.101:80 --timestamps off",
            2,
            "keep, strip or offset",
        ),
        ("-A -t 10.0.1.101:80 --toa 256", 2, "illegal toa specified"),
        (
            "-A -t 10.0.1.101:80 --toa 8",
            255,
            "one of TCP's own options",
        ),
        (
            "-A -t 10.0.1.101:80 --proxy-authority a.example",
            255,
            "only version 2",
        ),
        (
            "-A -u 10.0.1.101:80 --proxy-protocol v1",
            255,
            "a UDP service can only have version 2",
        ),
        (
            "-A -t 10.0.1.101:80 --toa 254 --proxy-protocol v1",
            2,
            "conflicts with",
        ),
    ] {
        let refused = ipvsadm(&mut daemon, words, "");
        assert_eq!(
            (refused.exit, refused.stderr.contains(said)),
            (exit, true),
            "{refused:?}"
        );
    }
}

#[test]
fn fullnat_without_a_local_address_is_refused_in_our_own_words() {
    let mut daemon = Memory::default();
    assert_eq!(ipvsadm(&mut daemon, "-A -t 10.0.1.100:80", ""), ok(""));
    let refused = ipvsadm(
        &mut daemon,
        "-a -t 10.0.1.100:80 -r 10.0.2.11 --fullnat",
        "",
    );
    assert_eq!(
        (refused.exit, refused.stderr.contains("--laddr")),
        (255, true),
        "{refused:?}"
    );
    let bad = ipvsadm(&mut daemon, "-E -t 10.0.1.100:80 --laddr 10.0.2.1,x", "");
    assert_eq!(bad, failed(2, "illegal local address `x' specified\n"));
    let misplaced = ipvsadm(
        &mut daemon,
        "-a -t 10.0.1.100:80 -r 10.0.2.11 --laddr 10.0.2.1",
        "",
    );
    assert_eq!(
        misplaced,
        failed(2, "Illegal 'laddr' option with the 'add-server' command\n")
    );
}

/// Everything that `-S` prints, in its order; what it leaves out is not here.
const ROUND_TRIP: &str = "\
-A -t 10.0.1.100:0 -s rr -p 360
-A -t 10.0.1.100:80 -s wlc -p 60 -M 255.255.255.0 -b flag-2
-a -t 10.0.1.100:80 -r 10.0.2.11:80 -g -w 0
-a -t 10.0.1.100:80 -r 10.0.2.12:8080 -m -w 65535
-A -t 10.0.1.100:443 -s mh -b mh-fallback,mh-port
-a -t 10.0.1.100:443 -r 10.0.2.11:443 -i -w 1 --tun-type ipip
-a -t 10.0.1.100:443 -r 10.0.2.12:443 -i -w 2 --tun-type gue --tun-port 6080 --tun-nocsum
-a -t 10.0.1.100:443 -r 10.0.2.13:443 -i -w 3 --tun-type gue --tun-port 6080 --tun-remcsum
-a -t 10.0.1.100:443 -r 10.0.2.14:443 -i -w 4 --tun-type gre --tun-csum
-A -u 10.0.1.100:53 -s sh -o -b sh-fallback,sh-port
-A -u 10.0.1.100:5060 -s rr -p 300 --pe sip
-A --sctp-service 10.0.1.100:99 -s sed
-A -t [fd00::1]:80 -s rr -p 120 -M 64
-a -t [fd00::1]:80 -r [fd00::2]:80 -m -w 1
-a -t [fd00::1]:80 -r [fd00::3]:80 -i -w 1 --tun-type ipip
-A -f 1 -s nq
-a -f 1 -r 10.0.2.11:0 -g -w 1
-a -f 1 -r 10.0.2.12:80 -m -w 1
-A -f 7 -6 -s rr -p 60 -M 48
";

#[test]
fn what_is_saved_is_restored_in_every_form() {
    let mut daemon = Memory::default();
    assert_eq!(ipvsadm(&mut daemon, "-R", ROUND_TRIP), ok(""));
    let saved = ipvsadm(&mut daemon, "-S -n", "");
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&saved.stdout), sorted(ROUND_TRIP));
    let mut again = Memory::default();
    assert_eq!(ipvsadm(&mut again, "-R", &saved.stdout), ok(""));
    assert_eq!(ipvsadm(&mut again, "-S -n", ""), saved);
    // Thresholds are not saved, as in ipvsadm.
    let words = "-a -t 10.0.1.100:99 -r 10.0.2.11 -x 9 -y 3";
    assert_eq!(ipvsadm(&mut again, "-A -t 10.0.1.100:99", ""), ok(""));
    assert_eq!(ipvsadm(&mut again, words, ""), ok(""));
    let saved = ipvsadm(&mut again, "-S -n", "").stdout;
    assert!(saved.contains("-a -t 10.0.1.100:99 -r 10.0.2.11:99 -g -w 1\n"));
    let listed = ipvsadm(&mut again, "-Ln -t 10.0.1.100:99 --thresholds", "");
    let row = "  -> 10.0.2.11:99                 9          3          0          0         \n";
    assert!(listed.stdout.ends_with(row), "{listed:?}");
}

#[test]
fn many_rules_end_as_they_would_one_by_one() {
    let service = |n: usize| format!("-A -t 10.0.{}.{}:80 -s rr\n", n / 200, n % 200 + 1);
    let rules: String = (0..=2 * MAX_BATCH).map(service).collect();
    let mut daemon = Memory::default();
    assert_eq!(ipvsadm(&mut daemon, "-R", &rules), ok(""));
    assert_eq!(daemon.table.services().len(), 2 * MAX_BATCH + 1);
    assert_eq!(daemon.batches, 3);
    // What is listed between the rules is the table as it is there.
    let mut daemon = Memory::default();
    let mixed = ipvsadm(
        &mut daemon,
        "-R",
        &format!("{}-S -n\n{}", service(0), service(1)),
    );
    assert_eq!(mixed, ok(&service(0)));
    // A rule that cannot be read ends it behind those before; a refused one does not.
    let mut daemon = Memory::default();
    let refused = format!("{}{}{}", service(0), service(0), service(1));
    let outcome = ipvsadm(&mut daemon, "-R", &refused);
    assert_eq!(
        (outcome.exit, outcome.stderr.as_str()),
        (0, "Service already exists\n")
    );
    let unread = format!("{}{}-A -t bad\n{}", service(0), service(2), service(3));
    let outcome = ipvsadm(&mut daemon, "-R", &unread);
    let said = "Service already exists\nillegal virtual server address[:port] specified\n";
    assert_eq!(outcome, failed(2, said));
    assert_eq!(daemon.table.services().len(), 3);
}

#[test]
fn a_person_is_told_at_once_what_no_packet_matches() {
    for (rule, said) in [
        ("-A -f 1 -s rr", "FWM 1: no packet has this mark yet"),
        (
            "-A -f 1 -6 -s rr",
            "FWM 1 IPv6: no packet has this mark yet",
        ),
        ("-A -t [fd00::1]:80 -s rr", ""),
        ("-A -t 10.0.1.100:80 -s rr", ""),
    ] {
        let words: Vec<String> = rule.split(' ').map(str::to_owned).collect();
        let told = execute_for(true, &mut Memory::default(), &words, "");
        assert_eq!((told.exit, told.stdout.as_str()), (0, ""));
        assert!(told.stderr.contains(said), "{told:?}");
        assert_eq!(told.stderr.is_empty(), said.is_empty(), "{told:?}");
        let restored = execute_for(
            true,
            &mut Memory::default(),
            &["-R".to_owned()],
            &format!("{rule}\n"),
        );
        assert_eq!(restored.stderr, told.stderr);
        // A program finds what ipvsadm says.
        assert_eq!(execute(&mut Memory::default(), &words, ""), ok(""));
    }
    let mut daemon = Memory::default();
    let to = "tcp 10.0.1.100:80".parse().expect("a destination");
    daemon.table.mark(1, &[to]).expect("marked");
    let words = ["-A", "-f", "1"].map(str::to_owned);
    assert_eq!(execute_for(true, &mut daemon, &words, ""), ok(""));
}

#[test]
fn a_person_is_told_which_vips_nobody_answers_for() {
    let [here, absent] = [[10, 0, 1, 100], [10, 0, 1, 101]].map(Addr::v4);
    let said = |interactive, words: &str, stdin: &str| {
        let mut daemon = Memory::default();
        daemon.absent_vips = vec![absent];
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        execute_for(interactive, &mut daemon, &words, stdin).stderr
    };
    let told = format!(
        "uvs: {absent} is on none of this host's interfaces, so UVS is silent about it, as a stand-by must be; to \
         serve it here: ip addr add {absent}/32 dev INTERFACE, or uvs run --own-vip {absent}\n"
    );
    assert_eq!(said(true, &format!("-A -t {absent}:80 -s rr"), ""), told);
    assert_eq!(said(true, &format!("-A -t {here}:80 -s rr"), ""), "");
    assert_eq!(said(false, &format!("-A -t {absent}:80 -s rr"), ""), "");
    let rules = format!("-A -t {here}:80\n-A -t {absent}:80\n-A -u {absent}:53\n");
    assert_eq!(said(true, "-R", &rules), told, "once");
}

#[test]
fn sync_daemons_are_started_listed_and_stopped_as_in_the_kernel() {
    let mut daemon = Memory::default();
    let start = "--start-daemon master --mcast-interface m0 --syncid 255 --sync-maxlen 200 \
                 --mcast-group 224.0.0.99 --mcast-port 9999 --mcast-ttl 5";
    assert_eq!(ipvsadm(&mut daemon, start, ""), ok(""));
    let backup = "--start-daemon backup --mcast-interface m0 --mcast-group ff02::81";
    assert_eq!(ipvsadm(&mut daemon, backup, ""), ok(""));
    let listed = "master sync daemon (mcast=m0, syncid=255, maxlen=200, group=224.0.0.99, port=9999, ttl=5)\n\
                  backup sync daemon (mcast=m0, syncid=0, maxlen=1452, group=ff02::81, port=8848, ttl=1)\n";
    assert_eq!(ipvsadm(&mut daemon, "-L --daemon", ""), ok(listed));
    let refused = |daemon: &mut Memory, line: &str| {
        let outcome = ipvsadm(daemon, line, "");
        (outcome.exit, outcome.stderr)
    };
    let again = refused(&mut daemon, "--start-daemon backup --mcast-interface m0");
    assert_eq!(again, (255, "Daemon has already run\n".to_owned()));
    assert_eq!(ipvsadm(&mut daemon, "--stop-daemon master", ""), ok(""));
    let gone = refused(&mut daemon, "--stop-daemon master");
    assert_eq!(gone, (255, "No daemon is running\n".to_owned()));
    let nowhere = refused(
        &mut daemon,
        "--start-daemon master --mcast-interface nosuch0",
    );
    assert_eq!(nowhere, (255, "No such device\n".to_owned()));
}

#[test]
fn without_a_daemon_only_help_and_usage_are_answered() {
    let mut daemon = Memory::absent();
    for line in [
        "-Ln",
        "-A -t 10.0.1.100:80",
        "-S",
        "-C",
        "-Lnc",
        "-L --timeout",
    ] {
        let outcome = ipvsadm(&mut daemon, line, "");
        assert_eq!((outcome.exit, outcome.stdout.as_str()), (2, ""), "{line}");
        assert!(outcome.stderr.contains("uvs run"), "{line}: {outcome:?}");
        assert_eq!(
            outcome.stderr.matches('\n').count(),
            1,
            "{line}: {outcome:?}"
        );
    }
    assert_eq!(ipvsadm(&mut daemon, "-v", "").exit, 0);
    assert_eq!(ipvsadm(&mut daemon, "-A", "").exit, 2);
}

proptest! {
    #[test]
    fn no_words_bring_it_down(words in prop::collection::vec(word(), 0..8), stdin in ".{0,60}") {
        let mut daemon = Memory::default();
        execute(&mut daemon, &["-A".into(), "-t".into(), "10.0.1.100:80".into()], "");
        let outcome = execute(&mut daemon, &words, &stdin);
        prop_assert!(matches!(outcome.exit, 0 | 1 | 2 | 255));
        prop_assert_eq!(outcome.exit == 0, outcome.stderr.is_empty(), "{:?}", outcome);
    }
}

/// Words of the grammar, and any others.
fn word() -> impl Strategy<Value = String> {
    let known = "-A -E -D -a -e -d -L -S -R -Z -C --set -t -u -f -6 -s -p -M -b -o -r -m -i --fullnat \
        --laddr --pe -w -x -y -n -c --stats --rate --tun-info --tun-type gue --tun-port 10.0.1.100:80 \
        10.0.2.11:80 [fd00::1]:80 [ 1 rr sh-port";
    let known: Vec<String> = known.split_ascii_whitespace().map(str::to_owned).collect();
    prop_oneof![4 => prop::sample::select(known), 1 => "\\PC{0,12}"]
}

/// As the machine knew them on which [`KERNEL6`] was recorded.
struct NoIpv6Names;

impl Names for NoIpv6Names {
    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        FewNames.port(name, protocol)
    }

    fn service(&self, port: u16, protocol: Protocol) -> Option<String> {
        FewNames.service(port, protocol)
    }

    fn address(&self, host: &str) -> Option<Ipv4Addr> {
        FewNames.address(host)
    }

    fn host(&self, addr: Addr) -> Option<String> {
        FewNames.host(addr).filter(|_| addr.is_v4())
    }
}

/// Runs all sessions of a book and returns how many commands that were.
fn replay(book: &str, names: &dyn Names) -> usize {
    let book: Book = serde_json::from_str(book).expect("the recording is valid JSON");
    let mut commands = 0;
    for session in book.sessions {
        let mut daemon = Memory::default();
        for (n, step) in session.steps.into_iter().enumerate() {
            daemon.wait(Duration::from_secs_f32(step.wait));
            if !step.frame.is_empty() {
                daemon.receive(&step.send, &step.frame);
            }
            let Some(words) = step.argv.get(1..) else {
                continue;
            };
            let got = execute_with(names, false, &mut daemon, words, &step.stdin);
            let got = comparable(words, got);
            let Step {
                exit,
                stdout,
                stderr,
                ..
            } = step;
            let want = comparable(
                words,
                Outcome {
                    exit,
                    stdout,
                    stderr,
                },
            );
            let (got, want) = match session.session.as_str() {
                "v6 traffic" => (without_rates(words, got), without_rates(words, want)),
                _ => (got, want),
            };
            assert_eq!(got, want, "{:?}, step {n}: {words:?}", session.session);
            commands += 1;
        }
    }
    commands
}

/// Its rates are of a phase of the kernel's estimator that the recording does not tell.
fn without_rates(words: &[String], mut outcome: Outcome) -> Outcome {
    if words.iter().any(|w| w == "--rate") {
        let name = |line: &str| {
            line.split_whitespace()
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
        };
        outcome.stdout = outcome
            .stdout
            .lines()
            .map(name)
            .collect::<Vec<_>>()
            .join("\n");
    }
    outcome
}

/// What does not differ between two runs on the kernel: connections and unsorted services come in the
/// order of a hash table, and seconds pass.
fn comparable(words: &[String], mut outcome: Outcome) -> Outcome {
    let has = |names: &[&str]| words.iter().any(|w| names.contains(&w.as_str()));
    let connections = has(&["-Lnc", "-Lc", "-c"]);
    if connections || has(&["--nosort"]) {
        let mut lines: Vec<String> = outcome.stdout.lines().map(str::to_owned).collect();
        if connections {
            lines = lines.iter().map(|l| without_time(l)).collect();
        }
        lines.sort();
        outcome.stdout = lines.join("\n");
    }
    outcome
}

/// The line with `mm:ss` for its time.
fn without_time(line: &str) -> String {
    match (line.get(..4), line.get(9..)) {
        (Some(protocol), Some(rest)) if line.as_bytes()[6] == b':' => {
            format!("{protocol}mm:ss{rest}")
        }
        _ => line.to_owned(),
    }
}

fn ipvsadm(daemon: &mut Memory, line: &str, stdin: &str) -> Outcome {
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    execute(daemon, &words, stdin)
}

fn execute(daemon: &mut Memory, words: &[String], stdin: &str) -> Outcome {
    execute_for(false, daemon, words, stdin)
}

fn execute_for(interactive: bool, daemon: &mut Memory, words: &[String], stdin: &str) -> Outcome {
    execute_with(&FewNames, interactive, daemon, words, stdin)
}

fn execute_with(
    names: &dyn Names,
    interactive: bool,
    daemon: &mut Memory,
    words: &[String],
    stdin: &str,
) -> Outcome {
    let (mut stdin, mut stdout, mut stderr) = (stdin.as_bytes(), Vec::new(), Vec::new());
    let mut io = Io {
        stdin: &mut stdin,
        stdout: &mut stdout,
        stderr: &mut stderr,
        interactive,
        names,
    };
    let exit = run(words, daemon, &mut io);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Outcome {
        exit,
        stdout: text(stdout),
        stderr: text(stderr),
    }
}

fn ok(stdout: &str) -> Outcome {
    Outcome {
        exit: 0,
        stdout: stdout.to_owned(),
        stderr: String::new(),
    }
}

fn failed(exit: u8, stderr: &str) -> Outcome {
    Outcome {
        exit,
        stdout: String::new(),
        stderr: stderr.to_owned(),
    }
}
