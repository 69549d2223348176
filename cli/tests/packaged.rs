//! The static build, the image of it and the manifest for Kubernetes: that each runs and serves, and that what these files name is
//! there. Needs root, or `make test`; the static build `make test-static`, the image buildah besides.

#[path = "support/stand.rs"]
mod stand;

use std::fs::{self};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use stand::{ask, fill, lab, shares, uvs};
use uvs_lab::{Daemon, Mode, Options, install};

const CONTAINERFILE: &str = include_str!("../../packaging/container/Containerfile");
const MANIFEST: &str = include_str!("../../packaging/kubernetes/daemonset.yaml");

fn output(command: &mut Command) -> Output {
    let output = command.output();
    output.unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

fn succeed(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The program that `make static` has built, by `$UVS_STATIC`; `None` where nobody has.
fn static_program() -> Option<PathBuf> {
    let program = std::env::var_os("UVS_STATIC");
    if program.is_none() {
        println!("not tried: `make test-static` builds the program first");
    }
    program.map(PathBuf::from)
}

/// 40 real requests, and a listing, by a daemon that `program` starts.
fn must_serve(program: &Path) {
    let (lab, _shell) = lab(Mode::Nat, Options::default());
    let program = wrapped(lab.dir(), program);
    let daemon = lab.start_daemon_with(&program, "--hook auto");
    let daemon = daemon.expect("uvs runs");
    fill(&lab, &daemon);
    assert_eq!(ask(&lab).expect("answers"), shares(30, 10));
    let listed = daemon.ipvsadm("-Ln").expect("listed");
    assert!(listed.contains(&lab.plan.vip.to_string()), "{listed}");
    must_be_confined(&daemon);
    daemon.stop().expect("it ends well");
}

/// The program itself; or, of an image's files, a script that runs it there, as a runtime does: in their root, which is
/// read-only, with the manifest's capabilities.
fn wrapped(dir: &Path, program: &Path) -> PathBuf {
    if program.is_file() {
        return program.to_owned();
    }
    // To enter the image's root takes CAP_SYS_CHROOT, which the daemon gives up.
    let added = added_capabilities()
        .replace("CAP_", "")
        .to_lowercase()
        .replace(' ', ",+");
    let script = dir.join("contained");
    let text = format!(
        "#!/bin/sh\nexec unshare -m sh -c 'set -e; r={root}; d={dir}
        mount --bind $r $r; for n in proc sys dev run; do mkdir -p $r/$n; done; mkdir -p $r$d
        mount -o remount,ro,bind $r; mount --bind $d $r$d; mount --rbind /sys $r/sys; mount --bind /dev $r/dev; mount -t proc proc $r/proc
        exec setpriv --bounding-set=-all,+sys_chroot,+{added} --inh-caps=-all chroot $r {entry} \"$@\"' sh \"$@\"\n",
        root = program.display(),
        dir = dir.display(),
        entry = entry_point(),
    );
    install::script(&script, &text).expect("written");
    script
}

fn must_be_confined(daemon: &Daemon<'_>) {
    let info = daemon.uvs("show info").expect("told").stdout;
    let line = info.lines().find(|line| line.starts_with("confinement"));
    assert!(
        line.is_some_and(|l| l.ends_with("no new privileges; seccomp on, 0 calls refused")),
        "{info}"
    );
}

#[test]
fn the_static_program_serves_and_says_that_it_has_no_plugins() {
    let Some(program) = static_program() else {
        return;
    };
    let headers = succeed(Command::new("readelf").arg("-lW").arg(&program));
    assert!(!headers.contains("INTERP"), "{headers}");
    let none = "this build has no plugins";
    let listing = output(Command::new(&program).args(["plugin", "list"]));
    assert_eq!(listing.status.code(), Some(1), "{listing:?}");
    assert!(
        String::from_utf8_lossy(&listing.stderr).contains(none),
        "{listing:?}"
    );
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("uvs.toml");
    let check = |scheduler: &str| {
        let text = format!(
            "[[service]]\ntcp = \"192.0.2.1:80\"\nmode = \"nat\"\nscheduler = \"{scheduler}\"\n"
        );
        fs::write(&file, text).expect("written");
        output(Command::new(&program).arg("check").arg(&file))
    };
    assert_eq!(check("wrr").status.code(), Some(0));
    let refused = check("hrw");
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr).replace(['\n', ' '], "");
    assert!(said.contains(&none.replace(' ', "")), "{refused:?}");
    must_serve(&program);
}

#[test]
fn the_image_serves_in_a_root_that_cannot_be_written() {
    if Command::new("buildah").arg("--version").output().is_err() {
        println!("not tried: `apt install buildah` first");
        return;
    }
    let Some(program) = static_program() else {
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let context = dir.path().join("context");
    fs::create_dir(&context).expect("made");
    fs::copy(program, context.join("uvs")).expect("copied");
    let buildah = |words: &str| {
        let mut buildah = Command::new("buildah");
        for (option, name) in [("--root", "images"), ("--runroot", "run")] {
            buildah.arg(option).arg(dir.path().join(name));
        }
        buildah
            .args(["--storage-driver", "vfs"])
            .args(words.split(' '));
        succeed(&mut buildah)
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/container/Containerfile");
    let (file, context) = (file.display(), context.display());
    buildah(&format!(
        "bud --isolation chroot -f {file} --target static -t uvs {context}"
    ));
    let container = buildah("from --pull-never localhost/uvs");
    let container = container.trim();
    let root = buildah(&format!("mount {container}"));
    must_serve(Path::new(root.trim()));
    buildah(&format!("rm {container}"));
}

/// The words of a line of the manifest or of the Containerfile that begins so.
fn words_of<'a>(text: &'a str, begins: &str) -> Vec<Vec<&'a str>> {
    let lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix(begins));
    let words = |line: &'a str| {
        let between = |c: char| c.is_whitespace() || "[],\"".contains(c);
        line.split(between)
            .filter(|word| !word.is_empty())
            .collect()
    };
    lines.map(words).collect()
}

/// What the image starts.
fn entry_point() -> &'static str {
    words_of(CONTAINERFILE, "ENTRYPOINT")[0][0]
}

fn added_capabilities() -> String {
    words_of(MANIFEST, "add:")[0].join(" ")
}

#[test]
fn what_the_image_and_the_manifest_name_is_there() {
    let copies = words_of(CONTAINERFILE, "COPY");
    assert!(
        copies.iter().all(|copy| copy[1] == entry_point()),
        "{copies:?}"
    );
    let commands = words_of(CONTAINERFILE, "CMD");
    let args = words_of(MANIFEST, "args:");
    assert!(
        commands.iter().all(|command| *command == args[0]),
        "{commands:?} {args:?}"
    );
    let help = succeed(Command::new(uvs()).args(["help", args[0][0]]));
    assert!(help.contains(args[0][1]), "{help}");
    let mounts = words_of(MANIFEST, "mountPath:").concat();
    let (configuration, sockets) = (Path::new(args[0][2]), Path::new("/run/uvs/control.sock"));
    for place in [configuration, sockets] {
        let directory = place.parent().expect("a directory").to_str().expect("text");
        assert!(mounts.contains(&directory), "{directory}: {mounts:?}");
    }
    let doctor = succeed(Command::new(uvs()).args(["doctor", "--list"]));
    assert!(doctor.contains("confinement"), "{doctor}");
    for name in ["NET_RAW", "NET_ADMIN", "BPF", "PERFMON"] {
        assert!(
            added_capabilities().split(' ').any(|added| added == name),
            "{name}"
        );
    }
}

#[test]
fn the_manifests_configuration_is_one_and_its_probes_are_answered() {
    let (_, rest) = MANIFEST.split_once("uvs.toml: |\n").expect("a file");
    let (text, _) = rest.split_once("\n---").expect("its end");
    let (lab, _shell) = lab(Mode::Dr, Options::default());
    let file = lab.dir().join("uvs.toml");
    fs::write(&file, text).expect("written");
    succeed(Command::new(uvs()).arg("check").arg(&file));
    let line = format!("run --config {}", file.display());
    let daemon = Daemon::start_with(&lab, uvs(), &line).expect("uvs runs");
    let (host, ports, paths) = ("host:", "port:", "path: /");
    let host = words_of(MANIFEST, host)[0][0];
    let ports = words_of(MANIFEST, ports).concat();
    let probes: Vec<&str> = words_of(MANIFEST, paths).concat();
    let probes: Vec<&&str> = probes.iter().filter(|path| path.ends_with('z')).collect();
    assert_eq!((probes.len(), ports.len()), (2, 2), "{probes:?} {ports:?}");
    for (path, port) in probes.iter().zip(&ports) {
        let url = format!("http://{host}:{port}/{path}");
        let answer = lab.director.run(&format!("curl -s -S -f {url}"));
        let answer = answer.expect("served");
        assert!(
            ["ok\n", "ready\n"].contains(&answer.as_str()),
            "{url}: {answer}"
        );
    }
    daemon.stop().expect("it ends well");
}
