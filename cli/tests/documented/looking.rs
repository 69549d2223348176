//! Pages about looking at a director: traces, live views, the hook, doctor.

use std::net::TcpStream;

use uvs_lab::{Mode, Options};

use crate::desk::{Desk, Reader, lab};
use crate::pages::{Page, Typed};
use crate::shape;
use crate::stand::{ask_over, eventually};
use crate::terminal::Terminal;

/// A trace of a packet that is not sent. Which server the scheduler chooses depends on what it has chosen before: requests
/// are made until it is the page's.
pub(crate) fn traced(desk: &Desk<'_>, typed: &Typed) {
    let chosen = typed.shown.iter().find(|line| line.contains(" chooses "));
    if let Some(chosen) = chosen {
        eventually("the page's server is chosen", || {
            let said = desk.run(desk.at, &typed.command).stdout;
            said.lines().any(|line| line == chosen) || {
                desk.answers(1);
                false
            }
        });
    }
    desk.types(typed);
}

#[test]
pub(crate) fn trace() {
    let mut page = Reader::open("docs/trace.md");
    let nat = lab(Mode::Nat, Options::default());
    let mut desk = Desk::at(&nat);
    desk.starts_with("run --interface eth0 --interface eth1 --hook off");
    desk.fill();
    let never_came = page.section("A packet that never came");
    never_came.iter().for_each(|typed| traced(&desk, typed));

    desk.write(
        "/etc/uvs/uvs.toml",
        include_str!("../../../examples/tutorial-nat.toml"),
    );
    for typed in page.section("Packets of a capture file") {
        if typed.begins("tcpdump ") {
            desk.begins(&typed, "tcpdump.log");
            desk.says("listening on eth0");
            // What it has not written is lost when it ends.
            let file = desk.directory.join("web.pcap");
            eventually("packets are written", || {
                desk.answers(1);
                file.metadata().is_ok_and(|file| file.len() > 1000)
            });
            desk.interrupts();
        } else {
            let said = desk.types(&typed);
            assert!(
                said.contains("TCP SYN 172.16.254.100:"),
                "{}: {said}",
                typed.at()
            );
            assert!(
                said.contains("opened       a connection to"),
                "{}: {said}",
                typed.at()
            );
        }
    }

    for typed in page.section("Real packets") {
        live(&mut desk, &typed);
    }
    page.close();
}

/// A trace of real packets. It may begin amid a connection, and the scheduler may choose another server than the page's:
/// then another one is begun.
fn live(desk: &mut Desk<'_>, typed: &Typed) {
    let mut printed = String::new();
    let decisions: Vec<&String> = typed.shown.iter().take(4).collect();
    eventually("a connection is traced from its beginning", || {
        desk.begins(typed, "live.log");
        while desk.has_running() {
            desk.answers(1);
        }
        printed = desk.finishes();
        let begun = printed.lines().zip(decisions.iter().skip(1));
        printed.starts_with("TCP SYN ")
            && printed.contains(decisions[3].as_str())
            && begun.count() > 1
    });
    desk.must_be_shown(typed, &printed);
}

#[test]
pub(crate) fn live_views() {
    let mut page = Reader::open("docs/live-views.md");
    let nat = lab(Mode::Nat, Options::default());
    let mut desk = Desk::at(&nat);
    desk.starts_with("run --interface eth0 --interface eth1 --workers 1");
    desk.fill();
    desk.must(
        "ipvsadm -A -t 172.16.254.200:8080 -s wlc\n\
         ipvsadm -a -t 172.16.254.200:8080 -r 192.168.0.18:80 -m\n\
         ipvsadm -a -t 172.16.254.200:8080 -r 192.168.0.28:80 -m",
    );
    let vip = nat.plan.vip.ip();
    let connect = || nat.client.enter(|| TcpStream::connect((*vip, 8080)));
    let mut open: Vec<TcpStream> = (0..3)
        .map(|_| {
            connect()
                .expect("the client is there")
                .expect("a connection")
        })
        .collect();
    for stream in &mut open {
        ask_over(stream);
    }
    // Who forwards a connection depends on the kernel, and the order is the table's.
    let rows = |text: &str| {
        let mut rows: Vec<String> = text
            .lines()
            .map(|line| line.replace(" user ", " kernel "))
            .collect();
        rows[1..].sort_unstable_by_key(|line| shape::of(line));
        rows.join("\n")
    };
    for typed in page.section("`uvs show`") {
        let shown = Typed {
            shown: Vec::new(),
            ..typed.clone()
        };
        let printed = rows(&desk.types(&shown));
        let shown = rows(&typed.shown.join("\n"));
        let shown = shown.lines().map(str::to_owned).collect();
        desk.must_be_shown(&Typed { shown, ..typed }, &printed);
    }
    top(&desk, &page.page.block("uvs top   pid"));
    desk.answers(6);
    let once = desk.must("uvs top --once --interval 0.5");
    let shown = page.page.block("SERVICE / SERVER");
    assert_eq!(
        once.lines().next().map(shape::of),
        Some(shape::of(&shown[0]))
    );
    for line in &shown[1..] {
        let name = |line: &str| line.split("  ").find(|w| !w.is_empty()).map(str::to_owned);
        assert!(
            once.lines().any(|l| name(l) == name(line)),
            "{line:?} is not in\n{once}"
        );
    }
    latency(&desk, &page.page.block("6272 frames"));
    page.close();
}

/// The first screen of `uvs top`: its head, the columns, and the services; below comes what the terminal has room for.
fn top(desk: &Desk<'_>, shown: &[String]) {
    let daemon = desk.daemon.as_ref().expect("it runs");
    let terminal = Terminal::open(desk.lab, daemon);
    terminal.top();
    let readme = Page::read("README.md").block("uvs top   pid");
    assert_eq!(shown[..readme.len()], readme, "README.md has the same");
    let head = shown[..readme.len()].iter().map(String::as_str);
    let head: Vec<&str> = head
        .chain(["…", "TCP 172.16.254.200:8080 …", "…"])
        .collect();
    terminal.until("the page's head", |screen| {
        let head = head.iter().copied();
        shape::difference(head, screen).is_none()
    });
    terminal.keys(&["q"]);
    terminal.must_be_restored(0);
}

/// What `uvs latency` prints: its first line, the percentiles, steps, and all of what it says of itself.
fn latency(desk: &Desk<'_>, shown: &[String]) {
    let printed = desk.must("uvs latency --since start");
    let is_step = |line: &&str| line.starts_with(' ') && line.contains('%');
    let of = |text: &mut dyn Iterator<Item = &str>| {
        let shapes: Vec<String> = text.filter(|line| !is_step(line)).map(shape::of).collect();
        shapes
    };
    let shown = of(&mut shown.iter().map(String::as_str));
    assert_eq!(of(&mut printed.lines()), shown, "{printed}");
    assert!(printed.lines().any(|line| is_step(&line)), "{printed}");
}

#[test]
pub(crate) fn hook() {
    let mut page = Reader::open("docs/hook.md");
    let nat = lab(Mode::Nat, Options::default());
    let desk = Desk::serving(&nat);
    desk.fill();
    desk.answers(6);
    for typed in page.section("Seeing it") {
        assert!(!desk.types(&typed).is_empty(), "{}", typed.at());
    }
    page.close();
}

/// Doctor has a note where a kernel lacks something for the hook, or the machine a CPU for a worker.
const WITHOUT_HOOK: &str = "run --config /etc/uvs/uvs.toml --hook off --workers 1";

#[test]
pub(crate) fn doctor() {
    let mut page = Reader::open("docs/doctor.md");
    let dr = lab(Mode::Dr, Options::default());
    let mut desk = Desk::at(&dr);
    desk.write(
        "/etc/uvs/uvs.toml",
        include_str!("../../../examples/tutorial-dr.toml"),
    );
    desk.must("ethtool -K eth0 gro on");
    desk.starts_with(WITHOUT_HOOK);
    let file = desk.host_file("/etc/uvs/uvs.toml").display().to_string();
    desk.words = vec![("FILE", file), ("ID", "rp_filter".to_owned())];
    let nat = lab(Mode::Nat, Options::default());
    let fullnat = lab(Mode::FullNat, Options::default());
    let mut is_spoilt = false;
    for typed in page.section("uvs doctor") {
        let behind = if typed.command.contains("--mode nat") {
            Some(&nat)
        } else if typed.command.contains("--mode fullnat") {
            Some(&fullnat)
        } else {
            None
        };
        if let Some(lab) = behind {
            let mut server = Desk::at(lab);
            server.at = &lab.servers[0].host;
            let plan = &lab.plan;
            let gateway = plan.gateway.expect("the director's").to_string();
            let local = plan
                .local
                .map(|local| local.to_string())
                .unwrap_or_default();
            server.words = vec![
                ("VIP", plan.vip.ip().to_string()),
                ("DIRECTOR", gateway),
                ("LOCAL", local),
            ];
            server.types(&typed);
        } else if typed.command.contains("--config") {
            desk.stops();
            desk.types(&typed);
            desk.starts_with(WITHOUT_HOOK);
        } else if typed.shown.is_empty() {
            desk.types(&typed);
        } else {
            if !std::mem::replace(&mut is_spoilt, true) {
                desk.must_on(
                    desk.server,
                    "for i in /proc/sys/net/ipv4/conf/*/arp_ignore; do echo 0 >$i; done",
                );
            }
            let critical = typed.command.contains("--nagios");
            desk.ends(&typed, if critical { 2 } else { 1 });
        }
    }
    page.close();
}
