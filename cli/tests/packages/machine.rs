//! A machine that packages are installed on: this one's Debian as an overlay, booted by systemd on a host of the lab.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::Signal;
use uvs_lab::process::{Process, output};
use uvs_lab::{Error, Host, Lab, tools};

use crate::stand::{PATIENCE, eventually, uvs};

/// Where the packages are: those of `$UVS_DEBS`, or what `packaging/deb.sh` makes of the program under test.
pub(crate) fn packages() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| match std::env::var_os("UVS_DEBS") {
        Some(directory) => directory.into(),
        None => make(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages")),
    })
}

/// Makes them.
pub(crate) fn make(directory: &Path) -> PathBuf {
    let _ = fs::remove_dir_all(directory);
    crate::stand::library();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/deb.sh");
    let built = uvs().parent().expect("a directory");
    let mut command = Command::new(script);
    command.arg(directory).arg(built);
    command.env("DEB_COMPRESSION", "gzip");
    output(command, "", PATIENCE * 3).expect("the packages are made");
    directory.to_owned()
}

/// A machine; gone when dropped.
pub(crate) struct Machine {
    process: Process,
    /// systemd's, as it is known here.
    first: String,
    cgroup: PathBuf,
}

impl Machine {
    /// Boots it in the host's network namespace.
    pub(crate) fn boot(lab: &Lab, host: &Host) -> Self {
        let name = format!("uvs-test-{}-{}", std::process::id(), host.name());
        let cgroup = cgroups().join(name);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packages/boot.sh");
        let root = lab.dir().join(format!("{}-machine", host.role()));
        let mut boot = tools::command("sh", [&script, &root, &cgroup]).expect("a shell");
        boot.arg(packages());
        let log = lab.dir().join(format!("{}-machine.log", host.role()));
        let process = host.spawn(boot, &log).expect("it is started");
        let children = format!("/proc/{0}/task/{0}/children", process.id());
        let mut machine = Self {
            process,
            first: String::new(),
            cgroup,
        };
        let Self { process, first, .. } = &mut machine;
        let booted = process.wait_ready(PATIENCE, |_| {
            *first = fs::read_to_string(&children).unwrap_or_default();
            let name = fs::read_to_string(format!("/proc/{}/comm", first.trim()));
            name.is_ok_and(|name| name == "systemd\n")
        });
        booted.expect("systemd is there");
        eventually("the machine is up", || {
            let state = machine.run("systemctl is-active basic.target");
            state.is_ok_and(|state| state == "active\n")
        });
        machine
    }

    /// Runs a script as its root, and returns what it printed; anything but success is an error.
    pub(crate) fn run(&self, script: &str) -> Result<String, Error> {
        let enter = ["-a", "-r", "-w", "-t", self.first.trim()];
        let shell = [
            "env",
            "-i",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL=C",
            "DEBIAN_FRONTEND=noninteractive",
            "sh",
            "-euc",
            script,
        ];
        let command = tools::command("nsenter", enter.into_iter().chain(shell))?;
        output(command, "", PATIENCE).map(|output| output.stdout + &output.stderr)
    }

    /// The same of a script that must succeed.
    pub(crate) fn succeed(&self, script: &str) -> String {
        self.run(script)
            .unwrap_or_else(|e| panic!("{e}\n{}", self.journal()))
    }

    /// The same of one that must not, and what is said.
    pub(crate) fn fail(&self, script: &str) -> String {
        match self.run(script) {
            Err(Error::Failed { output, .. }) => output,
            other => panic!("`{script}` is to fail: {other:?}"),
        }
    }

    /// Has systemd said so, of a unit's property?
    pub(crate) fn property(&self, unit: &str, property: &str) -> String {
        let said = self.succeed(&format!("systemctl show -P {property} {unit}"));
        said.trim().to_owned()
    }

    fn journal(&self) -> String {
        let said = self.run("journalctl -b --no-pager -n 80 -u uvs -u 'uvs-rs@*'");
        said.unwrap_or_else(|e| e.to_string())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its first process ends with it, and all others with that.
        let _ = self.process.signal(Signal::KILL);
        let procs = self.cgroup.join("cgroup.kill");
        let _ = fs::write(procs, "1");
        let end = std::time::Instant::now() + PATIENCE;
        while remove(&self.cgroup).is_err() && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// Removes a cgroup with those below it.
fn remove(cgroup: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(cgroup)?.flatten() {
        if entry.path().is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

/// Where cgroups of version 2 are.
fn cgroups() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
    let place = mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let place = words.nth(1)?;
        (words.next()? == "cgroup2").then(|| PathBuf::from(place))
    });
    place.expect("a cgroup2 file system: mount -t cgroup2 cgroup2 /sys/fs/cgroup")
}
