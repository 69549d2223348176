//! The commands in the prose of the pages, on a director of NAT whose servers must stay servers of NAT. Words in capitals
//! are a service here, a server, a client.
//!
//! Pages for who is called are gone through with all programs that they name; of the others the commands of ours, each once.

use std::collections::BTreeSet;

use uvs_lab::{Lab, Mode, Options};

use crate::desk::{Desk, Reader, lab};
use crate::elsewhere;
use crate::pages::{Page, Typed, pages};

/// Programs whose commands are run of the pages for who is called.
const PROGRAMS: [&str; 7] = ["curl", "echo", "ethtool", "ip", "ipvsadm", "tcpdump", "uvs"];
/// And of the others: what else they name is the host's own.
const OURS: [&str; 2] = ["uvs", "ipvsadm"];
const FOR_WHO_IS_CALLED: [&str; 2] = ["docs/alerts.md", "docs/troubleshooting.md"];

/// What a command that lacks something is answered with: it is named and not told to be typed. The parser's test reads it.
const LACKING: [&str; 6] = [
    "required arguments were not provided",
    "a value is required for",
    "\nCommands:\n",
    "You need to supply the",
    "--set option requires 3 timeout values",
    "Try `ipvsadm -h'",
];

/// Commands that need what there is not on this director, and who runs them.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "uvs run",
        "what was typed at the start is to be typed again",
    ),
    (
        "uvs kill",
        "refused without a filter: cli/tests/changes/verbs.rs",
    ),
    ("uvs lab up", "the lab that stays: cli/tests/lab_cli.rs"),
    ("uvs lab up --mode dr", "the same"),
    ("uvs lab up --mode nat", "the same"),
    ("uvs lab shell director", "the same"),
    ("uvs lab down", "the same"),
    (
        "uvs latency --seconds 60",
        "takes a minute: cli/tests/views/latency.rs",
    ),
    ("uvs guard down --pins DIR", "cli/tests/hook/life.rs"),
    (
        "ipvsadm -A -t VIP:PORT -s first",
        "takes a scheduler that is yet to be written",
    ),
    (
        "uvs plugin reload",
        "takes a plugin: cli/tests/plugins/traffic.rs",
    ),
    (
        "uvs plugin retry NAME",
        "takes a plugin: cli/tests/plugins/slow.rs",
    ),
    (
        "uvs plugin check FILE",
        "takes a plugin: cli/tests/plugins/check.rs",
    ),
];

/// Pages made from the program's own tables.
const RENDERED: &[(&str, &str)] = &[(
    "docs/doctor.md",
    "its commands mend what is broken first: cli/tests/doctor/",
)];

/// How the director is started.
const SERVE: &str = "run --config /etc/uvs/uvs.toml";

/// A director with NAT's services, and what words stand for there.
fn director(nat: &Lab) -> Desk<'_> {
    let mut desk = Desk::at(nat);
    let plan = &nat.plan;
    desk.write(
        "/etc/uvs/uvs.toml",
        include_str!("../../../examples/tutorial-nat.toml"),
    );
    let file = desk.host_file("/etc/uvs/uvs.toml").display().to_string();
    let server = plan.servers[0].ip().to_string();
    desk.words = vec![
        ("SERVER:PORT", plan.servers[0].to_string()),
        ("VIP:PORT", plan.vip.to_string()),
        ("CLIENT:PORT", format!("{}:4711", plan.client)),
        ("ADDRESS[:PORT]", server.clone()),
        ("VIP", plan.vip.ip().to_string()),
        ("CLIENT", plan.client.to_string()),
        ("SERVER", server.clone()),
        ("ADDRESS", server),
        ("NUMBER", "5".to_owned()),
        ("MARK", "1".to_owned()),
        ("NAME", "expire_nodest_conn".to_owned()),
        ("VALUE", "1".to_owned()),
        ("TCP TCPFIN UDP", "900 120 300".to_owned()),
        ("FILE", file),
        ("PEER", "eth0".to_owned()),
    ];
    desk.starts_with(SERVE);
    desk
}

/// Whether a command is for a reader and not for a shell.
fn is_elsewhere(typed: &Typed) -> bool {
    ELSEWHERE.iter().any(|(named, _)| typed.command == *named)
}

/// Types a command of the prose, with what it takes before and after.
fn types(desk: &mut Desk<'_>, typed: &Typed) {
    if typed.begins("uvs run") {
        runs(desk, typed);
    } else if typed.begins("uvs rs up") {
        on_a_server(desk, typed);
    } else if typed.command.contains("--mode dr") {
        on_a_server_of_dr(typed);
    } else if typed.command.contains("--live '") {
        desk.begins(typed, "live.log");
        while desk.has_running() {
            desk.answers(1);
        }
        let said = desk.finishes();
        assert!(said.contains("in fact      the same"), "{}", typed.at());
    } else if typed.begins("uvs guard") {
        // It is there where the hook is not.
        desk.starts_with(&format!("{SERVE} --hook off"));
        if typed.begins("uvs guard down") {
            desk.kills();
        }
        desk.types(typed);
        desk.starts_with(SERVE);
    } else if typed.begins("uvs doctor --config") {
        desk.stops();
        desk.types(typed);
        desk.starts_with(SERVE);
    } else if typed.begins("uvs upgrade") {
        desk.upgrades(typed);
    } else if typed.begins("tcpdump") {
        desk.begins(typed, "tcpdump.log");
        desk.says("listening on ");
        desk.interrupts();
    } else if typed.begins("ip addr add VIP") {
        let vip = desk.lab.plan.vip;
        desk.must(&format!("ip addr del {}/32 dev eth0", vip.ip()));
        desk.types(typed);
    } else {
        types_and_takes_back(desk, typed);
    }
}

/// A change does what it says, and is taken back.
fn types_and_takes_back(desk: &Desk<'_>, typed: &Typed) {
    if ["--confirmed", "--undo"]
        .iter()
        .any(|w| typed.command.ends_with(w))
    {
        desk.must("uvs reload --confirm 60s");
    }
    if typed.begins("uvs undrain") {
        desk.must(&desk.placed("uvs drain ADDRESS --no-wait"));
    }
    desk.types(typed);
    let weight = |weight: u32| {
        let table = desk.must("ipvsadm -Sn");
        let rule = format!("-r 192.168.0.18:80 -m -w {weight}\n");
        assert!(table.contains(&rule), "{}: {table}", typed.at());
    };
    match typed.command.split(' ').nth(1) {
        Some("drain") => weight(0),
        Some("undrain") => weight(1),
        Some("weight") => weight(5),
        _ => {}
    }
    if typed.command.contains("--confirm ") {
        desk.must("uvs reload --confirmed");
    }
    if typed.begins("uvs deny add") {
        desk.must(&desk.placed(&typed.command).replace(" add ", " del "));
    }
    if !typed.only_looks() {
        desk.must("uvs reload --exact");
    }
}

/// A daemon that is started by these words, where they are all that it takes, and by them beside the configuration else.
fn runs(desk: &mut Desk<'_>, typed: &Typed) {
    let is_whole = ["--interface", "--config"]
        .iter()
        .any(|w| typed.command.contains(w));
    let command = if is_whole {
        typed.command.clone()
    } else {
        format!("{} --config FILE", typed.command)
    };
    desk.starts(&Typed {
        command,
        ..typed.clone()
    });
    desk.starts_with(SERVE);
}

/// A command for a real server, which is one no more afterwards.
fn on_a_server(desk: &mut Desk<'_>, typed: &Typed) {
    desk.at = desk.server;
    desk.types(typed);
    let down = desk.placed(&typed.command).replace("rs up", "rs down");
    desk.must_on(desk.server, &down);
    desk.at = &desk.lab.director;
}

/// A command for another mode's server, which is prepared.
fn on_a_server_of_dr(typed: &Typed) {
    let dr = lab(Mode::Dr, Options::default());
    let mut desk = Desk::at(&dr);
    desk.at = desk.server;
    desk.words = vec![("VIP", dr.plan.vip.ip().to_string())];
    desk.types(typed);
}

/// Whether it lacks something, so that it is a name.
fn is_name(desk: &Desk<'_>, typed: &Typed) -> bool {
    if typed.begins("uvs run") {
        let last = typed.command.split(' ').next_back().unwrap_or_default();
        return last.starts_with("--");
    }
    if typed.begins("uvs doctor") {
        return false;
    }
    // What is whole is not to be done twice: it is tried on a host that has no part in this, without a daemon.
    let nowhere = format!("UVS_SOCKET=/nowhere {}", desk.placed(&typed.command));
    let tried = desk.run(&desk.lab.servers[2].host, &nowhere);
    let is_usage = matches!(tried.code, Some(2 | 255));
    is_usage && LACKING.iter().any(|words| tried.stdout.contains(words))
}

/// Goes through a page for who is called, in its order.
fn goes_through(name: &str) {
    let mut page = Reader::of_spans(name, &PROGRAMS);
    let nat = lab(Mode::Nat, Options::default());
    let mut desk = director(&nat);
    for typed in page.rest() {
        let is_ours = OURS.iter().any(|program| typed.begins(program));
        if is_elsewhere(&typed) || is_ours && is_name(&desk, &typed) {
            continue;
        }
        types(&mut desk, &typed);
    }
    desk.stops();
}

#[test]
fn alerts() {
    goes_through("docs/alerts.md");
}

#[test]
fn troubleshooting() {
    goes_through("docs/troubleshooting.md");
}

#[test]
fn all_other_pages() {
    let nat = lab(Mode::Nat, Options::default());
    let mut desk = director(&nat);
    let mut seen = BTreeSet::new();
    for page in pages() {
        let is_rendered = RENDERED.iter().any(|(name, _)| page.name == *name);
        if is_rendered || FOR_WHO_IS_CALLED.contains(&page.name.as_str()) {
            continue;
        }
        for typed in page.spans(&OURS) {
            let is_run = elsewhere::is_run(&typed) || is_elsewhere(&typed);
            if !is_run && seen.insert(typed.command.clone()) && !is_name(&desk, &typed) {
                types(&mut desk, &typed);
            }
        }
    }
    desk.stops();
    assert!(seen.len() > 80, "{} are too few to be all", seen.len());
}

#[test]
fn what_is_run_elsewhere_is_on_a_page() {
    let all: Vec<Page> = pages();
    for (command, what) in ELSEWHERE {
        let has = |page: &Page| page.spans(&OURS).iter().any(|t| t.command == *command);
        assert!(all.iter().any(has), "`{command}`, {what}");
    }
    for (name, _) in RENDERED {
        assert!(all.iter().any(|page| page.name == *name), "{name}");
    }
}
