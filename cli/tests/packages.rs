//! The Debian packages, as an administrator meets them: on a machine that systemd boots they are installed, serve real traffic
//! by the unit that they bring, are upgraded under it, crash, are removed and purged. Needs root; without, namespaces have no
//! cgroups and no other users.

#[path = "packages/machine.rs"]
mod machine;
#[path = "support/stand.rs"]
mod stand;

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use machine::{Machine, packages};
use stand::{PATIENCE, ask, ask_over, eventually, lab, shares, uvs};
use uvs_lab::frames::Frames;
use uvs_lab::process::output;
use uvs_lab::{Lab, Mode, Options, tools};

/// What an outsider can see of a process may be as much as the unit lets: CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON and CAP_BPF.
const CAPABILITIES: u64 = 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;
/// What `systemd-analyze security` may say at most, of 10.
const EXPOSURE: f64 = 2.5;

fn is_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").expect("a map");
    let is_root =
        rustix::process::geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"]);
    if !is_root {
        println!("not tried without root: a user namespace has no other users");
    }
    is_root
}

/// The configuration of NAT's lab, with these weights.
fn configuration(lab: &Lab, first: u32, second: u32) -> String {
    let plan = &lab.plan;
    let (vip, servers) = (plan.vip, &plan.servers);
    format!(
        "interfaces = {:?}\n[[service]]\ntcp = \"{vip}\"\nscheduler = \"wrr\"\nmode = \"nat\"\n\
         [[service.server]]\naddress = \"{}\"\nweight = {first}\n\
         [[service.server]]\naddress = \"{}\"\nweight = {second}\n",
        plan.interfaces, servers[0], servers[1]
    )
}

/// Every file whose name has to do with UVS, what it has in the kernel, and Debian's ipvsadm.
fn traces(machine: &Machine) -> BTreeSet<String> {
    let found = machine.succeed(
        "find /etc /run /usr /var -xdev -name '*uvs*' ! -path '/var/lib/dpkg/*' ! -path '/var/cache/man/*'
         find /sys/fs/bpf -mindepth 1 ! -name '*.debug'
         nft list ruleset",
    );
    found.lines().map(str::to_owned).collect()
}

fn install(machine: &Machine) -> String {
    machine.succeed("dpkg -i /packages/*.deb")
}

#[test]
fn they_are_installed_serve_are_upgraded_under_traffic_and_leave_nothing() {
    if !is_root() {
        return;
    }
    let (lab, _) = lab(Mode::Nat, Options::default());
    let machine = Machine::boot(&lab, &lab.director);
    let before = traces(&machine);
    install(&machine);
    is_as_installed(&machine);
    has_what_plugins_are_built_with(&machine);
    configure(&machine, &configuration(&lab, 3, 1));
    machine.succeed("systemctl enable --now uvs");
    serves(&lab, 30, 10);
    confined(&machine);
    answers_to_ipvsadm(&machine);
    reloads(&lab, &machine);
    let mut stream = connected(&lab);
    is_upgraded(&lab, &machine, &mut stream);
    survives_its_death(&lab, &machine, &mut stream);
    let drops = machine.succeed("uvs show drops -o json");
    Frames::read(&drops).expect("every frame is accounted for");
    leaves_nothing(&machine, &before);
}

/// Nothing runs, and who starts it unconfigured is told what lacks.
fn is_as_installed(machine: &Machine) {
    for (asked, said) in [
        ("dpkg --verify uvs uvs-dev uvs-ipvsadm", ""),
        ("systemctl show -P ActiveState uvs", "inactive\n"),
        ("systemctl show -P UnitFileState uvs", "disabled\n"),
        ("readlink -f /usr/sbin/ipvsadm", "/usr/bin/uvs\n"),
        ("stat -c %U:%a /sys/fs/bpf/uvs", "uvs:700\n"),
        (
            "uvs ipvs-run -- sh -c 'echo $LD_PRELOAD'",
            "/usr/lib/uvs/libuvs_ipvs.so\n",
        ),
    ] {
        assert_eq!(machine.succeed(asked), said, "{asked}");
    }
    machine.fail("dpkg-query -W -f '${db:Status-Abbrev}' ipvsadm | grep -q ^ii");
    let plain = machine.succeed("uvs check /etc/uvs/uvs.toml");
    assert!(plain.contains("there is no [[service]]"), "{plain}");
    machine.fail("systemctl start uvs");
    let why = machine.succeed("journalctl -u uvs --no-pager");
    assert!(why.contains("no interface to run on"), "{why}");
}

fn has_what_plugins_are_built_with(machine: &Machine) {
    let said = machine.succeed(
        "cd \"$(mktemp -d)\"
         cp -r /usr/share/doc/uvs-dev/examples/c-wrandom .
         make -C c-wrandom >/dev/null
         uvs plugin check c-wrandom/libwrandom.so",
    );
    assert!(said.contains("wrandom"), "{said}");
}

/// By each of its three names.
fn answers_to_ipvsadm(machine: &Machine) {
    let saved = machine.succeed("ipvsadm-save -n");
    assert_eq!(saved.lines().count(), 3, "{saved}");
    machine.succeed(
        "ipvsadm-save -n >/run/rules; echo '# mine' >>/run/rules; ipvsadm-restore </run/rules",
    );
    assert_eq!(machine.succeed("ipvsadm -S -n"), saved);
    machine.fail("ipvsadm-save --all");
}

/// A changed file, and a wrong one.
fn reloads(lab: &Lab, machine: &Machine) {
    configure(machine, &configuration(lab, 1, 1));
    machine.succeed("systemctl reload uvs");
    serves(lab, 20, 20);
    configure(machine, "interfaces = [\n");
    machine.fail("systemctl reload uvs");
    serves(lab, 20, 20);
}

/// Another release comes under traffic: first one that cannot take over, as the file is wrong, then one that can.
fn is_upgraded(lab: &Lab, machine: &Machine, stream: &mut TcpStream) {
    let server = ask_over(stream);
    let pid = machine.property("uvs", "MainPID");
    let said = install(machine);
    assert!(said.contains("the running daemon goes on: "), "{said}");
    assert_eq!(machine.property("uvs", "MainPID"), pid);
    assert_eq!(ask_over(stream), server);

    configure(machine, &configuration(lab, 3, 1));
    machine.succeed("systemctl reload uvs");
    let said = install(machine);
    assert!(said.contains("has taken over; frames waited for"), "{said}");
    eventually("systemd knows the new one", || {
        machine.property("uvs", "MainPID") != pid
    });
    assert_eq!(ask_over(stream), server);
    serves(lab, 30, 10);
    let kept = machine.succeed("head -c 10 /etc/uvs/uvs.toml");
    assert_eq!(kept, "interfaces");
}

/// It is killed, and is there again; what is established goes on in the kernel all the while.
fn survives_its_death(lab: &Lab, machine: &Machine, stream: &mut TcpStream) {
    let server = ask_over(stream);
    let pid = machine.property("uvs", "MainPID");
    machine.succeed(&format!("kill -9 {pid}"));
    assert_eq!(ask_over(stream), server);
    eventually("it is there again", || {
        let is_new = machine.property("uvs", "MainPID") != pid;
        is_new && machine.property("uvs", "ActiveState") == "active"
    });
    serves(lab, 30, 10);
    assert_eq!(ask_over(stream), server);
}

/// A removal stops it and leaves what is the administrator's, a purge leaves the user alone.
fn leaves_nothing(machine: &Machine, before: &BTreeSet<String>) {
    // Whatever depends on ipvsadm here is another's.
    machine.succeed("dpkg --force-depends -r uvs-ipvsadm uvs-dev uvs");
    assert_eq!(machine.property("uvs", "ActiveState"), "inactive");
    let left = traces(machine);
    let own = |place: &&String| !place.starts_with("/var/lib/systemd/");
    let left: Vec<_> = left.difference(before).filter(own).collect();
    assert_eq!(
        left,
        [
            "/etc/systemd/system/multi-user.target.wants/uvs.service",
            "/etc/uvs",
            "/etc/uvs/uvs.toml",
            "/var/lib/uvs",
            "/var/log/uvs"
        ]
    );
    machine.succeed("dpkg -P uvs-ipvsadm uvs-dev uvs");
    let left = traces(machine);
    let left: Vec<_> = left.difference(before).collect();
    assert_eq!(left, [""; 0]);
}

/// What is in the kernel, by pins or as a guard.
const LEFT: &str = "find /sys/fs/bpf -mindepth 1 ! -name '*.debug'; nft list ruleset";

/// A daemon that was killed and is not started again leaves the guard, or pins; a removal takes them away.
#[test]
fn a_removal_takes_away_what_a_killed_daemon_left() {
    if !is_root() {
        return;
    }
    let (lab, _) = lab(Mode::Nat, Options::default());
    let machine = Machine::boot(&lab, &lab.director);
    install(&machine);
    let nothing = machine.succeed(LEFT);
    machine.succeed(
        "mkdir -p /run/systemd/system/uvs.service.d
         printf '[Service]\\nRestart=no\\n' >/run/systemd/system/uvs.service.d/stays-dead.conf
         systemctl daemon-reload",
    );
    for hook in ["off", "tier"] {
        let text = format!("hook.mode = \"{hook}\"\n{}", configuration(&lab, 3, 1));
        configure(&machine, &text);
        machine.succeed("systemctl start uvs");
        serves(&lab, 30, 10);
        machine.succeed("systemctl kill -s KILL uvs");
        eventually("it is dead", || {
            machine.property("uvs", "ActiveState") == "failed"
        });
        let left = machine.succeed(LEFT);
        assert_ne!(left, nothing, "{hook}: there is something to take away");
        machine.succeed("dpkg --force-depends -r uvs-ipvsadm uvs");
        assert_eq!(machine.succeed(LEFT), "", "{hook}");
        install(&machine);
    }
}

/// The real server's unit, in both modes that need anything on the server itself.
#[test]
fn a_real_server_is_prepared_and_restored_by_its_unit() {
    if !is_root() {
        return;
    }
    for mode in [Mode::Dr, Mode::Ipip] {
        let lab = Lab::build(mode, Options::default()).expect("the lab is built");
        let machine = Machine::boot(&lab, &lab.servers[0].host);
        install(&machine);
        machine.fail("systemctl start uvs-rs@web");
        let vip = lab.plan.vip.ip();
        let words = format!("--mode {mode} --vip {vip}");
        machine.succeed(&format!("echo 'UVS_RS={words}' >/etc/uvs/rs/web.conf"));
        let settings = "ip -br address; sysctl -a 2>/dev/null | grep -E '[.](arp_ignore|arp_announce|rp_filter) '";
        let found = machine.succeed(settings);
        machine.succeed("systemctl start uvs-rs@web");
        let check = machine.run(&format!("uvs rs check {words}"));
        assert_eq!(check.expect("nothing to fix"), "fine: nothing to fix\n");

        let daemon = lab.start_daemon(uvs()).expect("uvs runs");
        for command in [lab.plan.add_service("rr"), lab.plan.add_server(0, 1)] {
            daemon.ipvsadm(&command).expect("carried out");
        }
        assert_eq!(ask(&lab).expect("answers"), shares(40, 0));
        daemon.stop().expect("it ends well");

        // By hand, and by the package that goes.
        machine.succeed(match mode {
            Mode::Dr => "systemctl stop uvs-rs@web",
            _ => "dpkg --force-depends -r uvs-ipvsadm uvs",
        });
        assert_eq!(machine.succeed(settings), found, "{mode}");
    }
}

fn configure(machine: &Machine, text: &str) {
    machine.succeed(&format!("cat >/etc/uvs/uvs.toml <<'END'\n{text}END\n"));
}

fn connected(lab: &Lab) -> TcpStream {
    let vip = SocketAddr::from(lab.plan.vip);
    let connect = || TcpStream::connect_timeout(&vip, PATIENCE);
    let stream = lab
        .client
        .enter(connect)
        .expect("entered")
        .expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}

fn serves(lab: &Lab, first: u32, second: u32) {
    assert_eq!(ask(lab).expect("answers"), shares(first, second));
}

/// The daemon has another user, no more capabilities than the unit says, and the hook with its pins all the same.
fn confined(machine: &Machine) {
    let pid = machine.property("uvs", "MainPID");
    let status = machine.succeed(&format!("cat /proc/{pid}/status"));
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let line = line.unwrap_or_else(|| panic!("{name} in {status}"));
        line.split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let user = machine.succeed("id -u uvs");
    assert_eq!(value("Uid:"), user.trim());
    assert_eq!(value("NoNewPrivs:"), "1");
    assert_eq!(value("Seccomp:"), "2");
    for set in ["CapEff:", "CapPrm:", "CapBnd:", "CapAmb:"] {
        let set = u64::from_str_radix(&value(set), 16).expect("a set");
        assert_eq!(set & !CAPABILITIES, 0, "{status}");
    }
    follows_the_firewall(machine);
    let hook = machine.succeed("uvs show hook");
    assert!(hook.contains("tier (asked for: auto)"), "{hook}");
    assert!(hook.contains("/sys/fs/bpf/uvs/ns-"), "{hook}");
    assert_eq!(
        machine.succeed(
            "systemd-analyze verify uvs.service uvs-rs@web.service 2>&1 | grep uvs || true"
        ),
        ""
    );
    let said =
        machine.succeed("systemd-analyze security --offline=true /lib/systemd/system/uvs.service");
    let exposure = said
        .split("uvs.service: ")
        .nth(1)
        .and_then(|said| said.split(' ').next());
    let exposure: f64 = exposure
        .and_then(|said| said.parse().ok())
        .expect("a number");
    assert!(exposure <= EXPOSURE, "{exposure}: {said}");
}

/// The daemon runs `nft` for that, with what it is itself allowed.
fn follows_the_firewall(machine: &Machine) {
    machine.succeed(
        "nft add table ip site
         nft add chain ip site input '{ type filter hook input priority 0; }'
         nft add rule ip site input ip saddr 198.51.100.7 drop",
    );
    eventually("the firewall is followed", || {
        machine.succeed("uvs deny").contains("198.51.100.7")
    });
    machine.succeed("nft delete table ip site");
}

/// What a package holds, as `dpkg-deb --contents` lists it.
fn contents(package: &str) -> Vec<String> {
    let all = fs::read_dir(packages()).expect("packages").flatten();
    let prefix = format!("{package}_");
    let file = all.map(|e| e.path()).find(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
    });
    let file = file.unwrap_or_else(|| panic!("no {package}"));
    let listed = tools::command("dpkg-deb", ["--fsys-tarfile".as_ref(), file.as_os_str()]);
    let tar = Command::output(&mut listed.expect("dpkg-deb"))
        .expect("it runs")
        .stdout;
    let tarball = packages().join("contents.tar");
    fs::write(&tarball, tar).expect("written");
    let list = tools::command("tar", ["-tf".as_ref(), tarball.as_os_str()]).expect("tar");
    let list = output(list, "", PATIENCE).expect("listed").stdout;
    fs::remove_file(tarball).expect("removed");
    list.lines()
        .map(|line| line.trim_start_matches('.').to_owned())
        .collect()
}

#[test]
fn each_holds_what_it_is_for() {
    for (package, files) in [
        (
            "uvs",
            &[
                "/etc/uvs/uvs.toml",
                "/etc/uvs/rs/",
                "/lib/systemd/system/uvs.service",
                "/lib/systemd/system/uvs-rs@.service",
                "/usr/bin/uvs",
                "/usr/lib/sysusers.d/uvs.conf",
                "/usr/lib/tmpfiles.d/uvs.conf",
                "/usr/lib/uvs/libuvs_ipvs.so",
                "/usr/lib/uvs/schedulers/",
                "/usr/share/bash-completion/completions/uvs",
                "/usr/share/doc/uvs/changelog.Debian.gz",
                "/usr/share/doc/uvs/copyright",
                "/usr/share/doc/uvs/docs/operations.md",
                "/usr/share/doc/uvs/examples/tutorial-dr.toml",
                "/usr/share/doc/uvs/third-party.gz",
                "/usr/share/fish/vendor_completions.d/uvs.fish",
                "/usr/share/man/man5/uvs.toml.5.gz",
                "/usr/share/man/man8/uvs-run.8.gz",
                "/usr/share/man/man8/uvs.8.gz",
                "/usr/share/uvs/dashboards/uvs-overview.json",
                "/usr/share/uvs/rules/uvs.rules.yml",
                "/usr/share/zsh/vendor-completions/_uvs",
            ] as &[&str],
        ),
        (
            "uvs-ipvsadm",
            &[
                "/sbin/ipvsadm",
                "/sbin/ipvsadm-restore",
                "/sbin/ipvsadm-save",
                "/usr/share/man/man8/ipvsadm.8.gz",
                "/usr/share/man/man8/ipvsadm-restore.8.gz",
                "/usr/share/man/man8/ipvsadm-save.8.gz",
            ],
        ),
        (
            "uvs-dev",
            &[
                "/usr/include/uvs_scheduler.h",
                "/usr/share/doc/uvs-dev/examples/c-wrandom/wrandom.c",
                "/usr/share/doc/uvs-dev/examples/rust-hrw/src/lib.rs",
            ],
        ),
    ] {
        let held = contents(package);
        for file in files {
            assert!(
                held.iter().any(|held| held == file),
                "{package}: {file}\n{held:#?}"
            );
        }
    }
}

#[test]
fn the_same_commit_makes_the_same_packages() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let [one, other] = ["once", "again"].map(|name| machine::make(&directory.join(name)));
    let mut seen = 0;
    for package in fs::read_dir(&one).expect("packages").flatten() {
        let twin = fs::read(other.join(package.file_name())).expect("the same name");
        let is_same = fs::read(package.path()).expect("read") == twin;
        assert!(is_same, "{:?} differs", package.file_name());
        seen += 1;
    }
    assert_eq!(seen, 3);
}

/// Where a program is that not every machine has; `make test-deb` installs it.
fn optional(program: &str) -> bool {
    let there = tools::find(program).is_ok();
    if !there {
        println!("not tried: there is no {program} here (lab/deps.sh deb)");
    }
    there
}

#[test]
fn lintian_has_nothing_to_say() {
    if !optional("lintian") {
        return;
    }
    let all = fs::read_dir(packages()).expect("packages").flatten();
    let files = all.map(|entry| entry.path().into_os_string());
    let words = [
        "--allow-root",
        "--fail-on",
        "warning",
        "--no-tag-display-limit",
    ]
    .map(Into::into);
    let lintian = tools::command("lintian", words.into_iter().chain(files)).expect("lintian");
    let said = output(lintian, "", PATIENCE * 5).expect("it is content");
    assert_eq!(said.stdout, "");
}

#[test]
fn shells_and_man_take_what_is_made_for_them() {
    let directory = tempfile::tempdir().expect("a directory");
    for shell in ["bash", "zsh", "fish"] {
        let said = Command::new(uvs()).args(["completions", shell]).output();
        let said = said.expect("uvs runs");
        assert!(said.status.success());
        let file = directory.path().join(shell);
        fs::write(&file, &said.stdout).expect("written");
        assert!(String::from_utf8_lossy(&said.stdout).contains("ipvs-run"));
        if shell == "bash" || optional(shell) {
            let check = tools::command(shell, ["-n".as_ref(), file.as_os_str()]).expect("found");
            output(check, "", PATIENCE).expect("it can be read");
        }
    }
    let pages = directory.path().join("man");
    let made = Command::new(uvs())
        .arg("man")
        .arg(&pages)
        .args(["--date", "2026-11-29"])
        .status();
    assert!(made.expect("uvs runs").success());
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/man");
    let has_mandoc = optional("mandoc");
    let mut seen = 0;
    for page in [pages, own]
        .iter()
        .flat_map(|dir| fs::read_dir(dir).expect("pages").flatten())
    {
        let page = page.path();
        let words = ["--warnings", "-E", "UTF-8", "-Tutf8", "-Z", "-l"].map(AsRef::as_ref);
        let man = tools::command("man", words.into_iter().chain([page.as_os_str()])).expect("man");
        assert_eq!(
            output(man, "", PATIENCE).expect("it is shown").stderr,
            "",
            "{}",
            page.display()
        );
        if has_mandoc {
            let words = ["-Tlint", "-Werror"].map(AsRef::as_ref);
            let lint = tools::command("mandoc", words.into_iter().chain([page.as_os_str()]));
            output(lint.expect("found"), "", PATIENCE).expect("no errors");
        }
        seen += 1;
    }
    assert!(seen > 25, "{seen}");
}
